"""The final row of every (signal, entity, window), sorted: what a replay leaves behind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from operators.codec import Codec
from operators.records import SignalRow
from stream.base import Log
from stream.topics import SIGNALS
from stream.whole_file import whole_file

Key = tuple[str, str, int, int]


class FinalRows:
    """Gathers rows and keeps, per (signal, entity, window), the newest: the one with the higher (revision, n)."""

    def __init__(self) -> None:
        self._newest: dict[Key, tuple[int, int, bytes]] = {}
        self._encode = msgspec.json.Encoder().encode

    def __len__(self) -> int:
        return len(self._newest)

    def add(self, rows: Sequence[SignalRow]) -> None:
        """Take in rows, in any order."""
        newest, encode = self._newest, self._encode
        for row in rows:
            key = (row.signal, row.entity, row.window_end, row.window_start)
            known = newest.get(key)
            if known is None or (row.revision, row.n) >= known[:2]:
                newest[key] = (row.revision, row.n, encode(row))

    async def read(self, log: Log, codec: Codec, domain: str) -> None:
        """Take in what an earlier life left on the signal topic."""
        at, end = (await log.span(SIGNALS))[0]
        while at < end:
            records = await log.read(SIGNALS, 0, at, 5_000)
            if not records:
                break
            at = records[-1].offset + 1
            rows = [codec.decode_signal(record.value) for record in records]
            self.add([row for row in rows if row.domain == domain])

    def lines(self) -> Iterator[bytes]:
        """JSON of every row, sorted by signal, entity, window end and window start."""
        for key in sorted(self._newest):
            yield self._newest[key][2]


def write_lines(path: Path, lines: Iterable[bytes]) -> int:
    """Write lines to `path` whole or not at all, see `whole_file`. Returns how many.

    Raises:
        StreamError: the folder cannot be written to, or is full; `path` is as it was.
    """
    count = 0
    with whole_file(path) as out:
        for line in lines:
            out.write(line + b"\n")
            count += 1
    return count
