"""What was published, read back: from the log and from files, as of any moment, against a count by hand."""

from __future__ import annotations

import asyncio
import tracemalloc
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from published_rows import CODEC, MINUTE, by_hand, filled, gathered, row, run

from operators.records import SignalRow
from stream.archive_base import PublishedRow, RowQuery, published, row_id_parts
from stream.base import CommitUnit, Output
from stream.errors import UsageError
from stream.file_archive import FileArchive
from stream.log_archive import LogArchive
from stream.moments import moment
from stream.newest_rows import NewestRows
from stream.topics import SIGNALS

ROWS = st.builds(
    row,
    st.integers(1, 3).map(lambda k: k * MINUTE),
    entity=st.sampled_from(["ticker:A", "ticker:B|C", "all:*"]),
    signal=st.sampled_from(["market.joy", "market.fear"]),
    n=st.integers(1, 3),
    revision=st.integers(0, 2),
    status=st.sampled_from(["provisional", "final", "revised"]),
    watermark=st.integers(0, 3).map(lambda k: k * MINUTE),
)
TIMES = st.integers(0, 20)
QUERIES = st.builds(
    RowQuery,
    signals=st.sampled_from([frozenset(), frozenset({"market.joy"})]),
    entity=st.sampled_from([None, "ticker:B|C"]),
    from_ms=st.sampled_from([None, 2 * MINUTE]),
    to_ms=st.sampled_from([None, 3 * MINUTE]),
    known_at_ms=st.one_of(st.none(), TIMES),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(ROWS, TIMES), max_size=30), QUERIES)
def test_newest_and_as_of_equal_a_count_by_hand(rows: list[tuple[SignalRow, int]], query: RowQuery) -> None:
    async def look() -> None:
        archive = LogArchive(await filled(rows), CODEC)
        expected = by_hand(rows, query)
        assert await gathered(archive.newest(query)) == expected
        falling = await gathered(archive.newest(query, latest_first=True))
        assert falling == sorted(expected, key=lambda r: (-r.window_end, r.row_id))
        wanted = [published(r, at) for r, at in rows if query.wants(r)]
        known = [r for r in wanted if query.known_at_ms is None or (r.recorded_ms or 0) <= query.known_at_ms]
        assert await gathered(archive.versions(query)) == known
        assert await archive.reach_ms() == (rows[0][1] if rows else None)

    run(look())


HISTORY = [
    (row(n=10, status="provisional", watermark=30_000), 1_000),
    (row(n=40), 61_000),
    (row(n=41, revision=1, status="revised"), 95_000),
]


@pytest.mark.parametrize(
    ("at", "n"), [(999, None), (1_000, 10), (60_999, 10), (61_000, 40), (94_999, 40), (95_000, 41), (10**15, 41)]
)
def test_what_was_known_at_a_moment_is_what_was_out_by_then_and_nothing_later(at: int, n: int | None) -> None:
    async def look() -> list[PublishedRow]:
        return await gathered(LogArchive(await filled(HISTORY), CODEC).newest(RowQuery(known_at_ms=at)))

    assert [r.n for r in run(look())] == ([] if n is None else [n])


def test_future_rows_change_no_answer_about_the_past() -> None:
    async def look() -> None:
        log = await filled(HISTORY[:2])
        archive, query = LogArchive(log, CODEC), RowQuery(known_at_ms=61_000)
        before = await gathered(archive.newest(query))
        await filled([HISTORY[2], (row(n=99, revision=9), 61_001)], log)
        assert await gathered(archive.newest(query)) == before

    run(look())


def test_a_message_that_is_no_row_is_left_out_and_counted() -> None:
    async def look() -> None:
        log = await filled(HISTORY[:1])
        await log.commit(CommitUnit("test", outputs=[Output(SIGNALS, 0, None, b"rubbish", 5)]))
        await filled([(row(2 * MINUTE), 7)], log)
        archive = LogArchive(log, CODEC)
        assert len(await gathered(archive.versions(RowQuery()))) == 2
        assert archive.rejected == 1

    run(look())


@pytest.mark.parametrize("key", [b"", b"x", b"a|b|c|d", b"a|b|1", b"\xff|e|1|2", None])
def test_a_key_that_is_no_row_id_says_nothing_about_its_row(key: bytes | None) -> None:
    query = RowQuery(entity="ticker:A", window_ms=1)
    assert query.may_want(key) == (key != b"\xff|e|1|2")


@given(ROWS, QUERIES)
def test_a_key_never_hides_a_row_that_is_wanted(one: SignalRow, query: RowQuery) -> None:
    assert query.may_want(one.row_id.encode()) or not query.wants(one)
    assert row_id_parts(one.row_id) == (one.signal, one.entity, one.window_start, one.window_end)


def test_a_file_gives_the_same_and_knows_when_it_cannot_tell(tmp_path: Path) -> None:
    exported, bare = tmp_path / "exported.jsonl", tmp_path / "bare.jsonl"
    exported.write_bytes(b"".join(msgspec.json.encode(published(*one)) + b"\n" for one in HISTORY))
    bare.write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one, _ in HISTORY))
    query = RowQuery(known_at_ms=61_000)
    assert run(gathered(FileArchive(exported).newest(query))) == by_hand(HISTORY, query)
    assert run(FileArchive(exported).reach_ms()) == 1_000
    assert run(FileArchive(bare).reach_ms()) is None
    assert [r.n for r in run(gathered(FileArchive(bare).newest(RowQuery())))] == [41]
    with pytest.raises(UsageError, match="do not say when they were published; ask the log"):
        run(gathered(FileArchive(bare).newest(query)))
    bare.write_text(bare.read_text() + "{}\n")
    with pytest.raises(UsageError, match=r"bare\.jsonl: line 4: expected a signal row"):
        run(gathered(FileArchive(bare).newest(RowQuery())))


def test_a_row_written_before_a_field_was_added_is_read_with_its_default(tmp_path: Path) -> None:
    path, old = tmp_path / "old.jsonl", msgspec.to_builtins(row())
    added = [f.name for f in msgspec.structs.fields(SignalRow) if not f.required]
    path.write_bytes(msgspec.json.encode({name: old[name] for name in old if name not in added}) + b"\n")
    (found,) = run(gathered(FileArchive(path).newest(RowQuery())))
    assert found == published(row(), None)


def test_the_newest_of_very_many_windows_are_found_in_little_memory() -> None:
    """Twenty-four thousand versions of eight thousand windows: held as objects they would take about 15 MB."""
    tracemalloc.start()
    try:
        rows = NewestRows()
        for number in range(24):
            rows.add([published(row((1 + number % 8 * 1000 + k) * MINUTE, n=number), 0) for k in range(1000)])
        found = 0
        for batch in rows.batches(1000):
            assert all(r.n >= 16 for r in batch)
            found += len(batch)
        rows.close()
        assert found == 8_000
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


def test_a_scan_that_is_cancelled_leaves_no_thread_on_a_closed_file() -> None:
    async def look() -> None:
        log = await filled([(row((1 + k) * MINUTE), k) for k in range(9_000)])
        for wait in (0.0, 0.01, 0.03, 0.1):
            task: asyncio.Task[Any] = asyncio.create_task(gathered(LogArchive(log, CODEC).newest(RowQuery())))
            await asyncio.sleep(wait)
            task.cancel()
            await asyncio.wait({task})
        assert len(await gathered(LogArchive(log, CODEC).newest(RowQuery()))) == 9_000

    run(look())


@pytest.mark.parametrize(
    ("text", "ms"),
    [("0", 0), ("1709562600000", 1_709_562_600_000), ("2024-03-04T14:30", 1_709_562_600_000),
     ("2024-03-04 14:30", 1_709_562_600_000), ("2024-03-04T15:30+01:00", 1_709_562_600_000),
     ("2024-03-04T15:30 01:00", 1_709_562_600_000), ("2024-03-04", 1_709_510_400_000)],
)  # fmt: skip
def test_moments_are_read_as_people_and_query_strings_write_them(text: str, ms: int) -> None:
    assert moment(text) == ms


@pytest.mark.parametrize("text", ["", "yesterday", "-5", "9" * 30, "1e5", "2024-13-01", "٣"])
def test_what_is_no_moment_says_what_one_is(text: str) -> None:
    with pytest.raises(ValueError, match="expected epoch milliseconds or ISO 8601"):
        moment(text)
