"""The final row of every (signal, entity, window) on a log, sorted: what a replay leaves behind."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from operators.codec import Codec
from operators.records import SignalRow
from stream.base import Log
from stream.topics import SIGNALS

Key = tuple[str, str, int, int]


async def final_rows(log: Log, codec: Codec, domain: str) -> list[bytes]:
    """JSON of the newest row of every (signal, entity, window) of `domain`, sorted by signal, entity and window."""
    newest: dict[Key, tuple[int, int, bytes]] = {}
    encoder = msgspec.json.Encoder()
    at, end = (await log.span(SIGNALS))[0]
    while at < end:
        records = await log.read(SIGNALS, 0, at, 5_000)
        if not records:
            break
        at = records[-1].offset + 1
        for record in records:
            row = codec.decode_signal(record.value)
            if row.domain == domain:
                keep_newest(newest, row, encoder)
    return [newest[key][2] for key in sorted(newest)]


def keep_newest(newest: dict[Key, tuple[int, int, bytes]], row: SignalRow, encoder: msgspec.json.Encoder) -> None:
    """Put `row` where no newer one is: of two rows for a window the higher (revision, n) is newer."""
    key = (row.signal, row.entity, row.window_end, row.window_start)
    known = newest.get(key)
    if known is None or (row.revision, row.n) >= known[:2]:
        newest[key] = (row.revision, row.n, encoder.encode(row))


def write_lines(path: Path, lines: Iterable[bytes]) -> int:
    """Write lines to `path` whole or not at all (temporary file, fsync, rename). Returns how many."""
    count = 0
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    with part.open("wb") as out:
        for line in lines:
            out.write(line)
            out.write(b"\n")
            count += 1
        out.flush()
        os.fsync(out.fileno())
    part.replace(path)
    return count
