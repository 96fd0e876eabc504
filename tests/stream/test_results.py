"""Final rows: the newest of each window wins in any order, sorted; the file is whole or not there."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from operators.records import SignalRow
from stream.base import CommitUnit, Output, TopicSpec
from stream.errors import StreamError
from stream.memory import MemoryLog
from stream.results import FinalRows, write_lines
from stream.topics import SIGNALS
from stream.topology import build_codec


def row(signal: str = "market.joy", entity: str = "all:*", end: int = 60_000, **given: object) -> SignalRow:
    fields: dict[str, object] = {
        "domain": signal.split(".")[0], "window_start": end - 60_000, "value": 0.5, "lo": 0.4, "hi": 0.6, "n": 10,
        "n_eff": 9.5, "authors": 8, "buzz": 10.0, "status": "final", "revision": 0, "watermark": end, "model": "m",
        "ontology": "o",
    }  # fmt: skip
    return SignalRow(signal=signal, entity=entity, window_end=end, **{**fields, **given})  # type: ignore[arg-type]


def gathered(rows: FinalRows) -> list[SignalRow]:
    return [msgspec.json.decode(line, type=SignalRow) for line in rows.lines()]


def test_the_highest_revision_then_n_wins_in_any_order() -> None:
    versions = [row(n=n, revision=r) for r in range(3) for n in (10, 11, 15)]
    for seed in range(20):
        random.Random(seed).shuffle(versions)
        rows = FinalRows()
        for version in versions:
            rows.add([version])
        assert [(r.revision, r.n) for r in gathered(rows)] == [(2, 15)]


def test_of_equals_the_later_one_stays() -> None:
    rows = FinalRows()
    rows.add([row(status="provisional"), row(status="final")])
    assert gathered(rows)[0].status == "final"


def test_rows_come_sorted_by_signal_entity_and_window_as_numbers() -> None:
    made = [
        row(s, e, end)
        for s in ("market.joy", "market.fear")
        for e in ("b", "a")
        for end in (9_960_000, 60_000, 600_000)
    ]
    made.append(row("market.joy", "a", 600_000, window_start=0))
    random.Random(1).shuffle(made)
    rows = FinalRows()
    rows.add(made)
    keys = [(r.signal, r.entity, r.window_end, r.window_start) for r in gathered(rows)]
    assert keys == sorted(keys)
    assert len(keys) == len(rows) == 13


def test_an_earlier_life_is_read_back_by_domain() -> None:
    async def scene() -> FinalRows:
        log, codec, rows = MemoryLog(), build_codec(), FinalRows()
        await log.ensure([TopicSpec(SIGNALS)])
        made = [row(n=12), row("crisis.offer"), row(n=11), *(row(end=60_000 * k) for k in range(2, 6_002))]
        await log.commit(CommitUnit("g", outputs=[Output(SIGNALS, 0, b"k", codec.encode(r), 0) for r in made]))
        await rows.read(log, codec, "market")
        return rows

    rows = asyncio.run(scene())
    assert len(rows) == 6_001
    assert gathered(rows)[0] == row(n=12)


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    assert write_lines(out, [b"1", b"2"]) == 2
    assert out.read_bytes() == b"1\n2\n"

    def failing() -> Iterator[bytes]:
        yield b"3"
        raise ValueError("a row that cannot be made")

    with pytest.raises(ValueError, match="cannot be made"):
        write_lines(out, failing())
    assert out.read_bytes() == b"1\n2\n"
    assert [p.name for p in tmp_path.iterdir()] == ["rows.jsonl"]


def test_a_full_disk_is_one_line_that_names_the_file(tmp_path: Path) -> None:
    def failing() -> Iterator[bytes]:
        yield b"1"
        raise OSError(28, "No space left on device")

    with pytest.raises(StreamError, match=r"rows\.jsonl: cannot be written: No space left on device"):
        write_lines(tmp_path / "rows.jsonl", failing())
    assert list(tmp_path.iterdir()) == []
