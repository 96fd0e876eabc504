"""What only the SQLite log promises: it outlives processes, shares its file, and keeps strangers out."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from stream.base import CommitUnit, Log, Output, TopicSpec
from stream.errors import LogCorrupt, LogError, LogUnavailable
from stream.memory import MemoryLog
from stream.sqlite_log import SqliteLog

T0 = 1_700_000_000_000


class Idle:
    """A listener with nothing to do."""

    async def assigned(self, partitions: Sequence[int], generation: int) -> None:
        return None

    async def revoked(self, partitions: Sequence[int]) -> None:
        return None


class HandClock:
    """A clock turned by hand."""

    def __init__(self) -> None:
        self.ms = T0

    def now_ms(self) -> int:
        return self.ms


def on(path: Path, test: Callable[[SqliteLog], Awaitable[None]], **options: float) -> None:
    async def body() -> None:
        log = SqliteLog(path, **options)  # type: ignore[arg-type]
        try:
            await test(log)
        finally:
            await log.close()

    asyncio.run(body())


async def append(log: Log, *texts: str, ms: int = T0) -> None:
    await log.commit(CommitUnit("w", outputs=[Output("t", 0, None, text.encode(), ms) for text in texts]))


def child(code: str, *args: object) -> subprocess.Popen[str]:
    """A process that runs `code` (in `async def main`) with `log` open on argv[1]; argv follow."""
    lines = "\n".join(f"    {line}" for line in code.splitlines())
    program = (
        "import asyncio, sys\nfrom stream.base import *\nfrom stream.sqlite_log import SqliteLog\n"
        f"async def main():\n    log = SqliteLog(sys.argv[1])\n{lines}\nasyncio.run(main())\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, args)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


JOINER = """
class L:
    async def assigned(self, partitions, generation): print("has", len(partitions), flush=True)
    async def revoked(self, partitions): pass
await log.join("g/1", "t", L())
sys.stdin.readline()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A log with topic `t`, two partitions."""

    async def made(log: SqliteLog) -> None:
        await log.ensure([TopicSpec("t", 2)])

    on(tmp_path / "log.db", made)
    return tmp_path / "log.db"


def test_everything_committed_is_there_after_reopening(path: Path) -> None:
    async def written(log: SqliteLog) -> None:
        await append(log, "a", "b")
        await log.commit(CommitUnit("g", {("t", 0): 2}, {"k": b"v"}))

    async def read(log: SqliteLog) -> None:
        assert [r.value for r in await log.read("t", 0, 0, 9)] == [b"a", b"b"]
        assert await log.committed("g", "t") == [2, 0]
        assert await log.restore("g", "") == {"k": b"v"}
        await append(log, "c")
        assert await log.span("t") == [(0, 3), (0, 0)]

    on(path, written)
    on(path, read)


def test_a_batch_is_one_row_not_a_row_a_record(path: Path) -> None:
    async def written(log: SqliteLog) -> None:
        await append(log, *map(str, range(500)))

    on(path, written)
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*), sum(count) FROM batch").fetchone() == (1, 500)
    db.close()


def test_full_is_the_default_and_normal_an_option(path: Path) -> None:
    async def level(log: SqliteLog) -> int:
        found: int = await log._writer.run(lambda db: db.execute("PRAGMA synchronous").fetchone()[0])
        await log.close()
        return found

    assert asyncio.run(level(SqliteLog(path))) == 2
    assert asyncio.run(level(SqliteLog(path, "NORMAL"))) == 1
    with pytest.raises(LogError, match="FULL or NORMAL"):
        SqliteLog(path, "OFF")  # type: ignore[arg-type]


def test_another_process_may_append_and_a_waiting_reader_sees_it(path: Path) -> None:
    async def test(log: SqliteLog) -> None:
        reading = asyncio.create_task(log.read("t", 0, 0, 9, max_wait_s=20))
        await asyncio.sleep(0.05)
        other = child(
            "await log.commit(CommitUnit('w', outputs=[Output('t', 0, None, b'x', 1)]))\nawait log.close()", path
        )
        assert [r.value for r in await reading] == [b"x"]
        other.communicate(timeout=20)

    on(path, test)


def test_one_process_runs_a_group_until_it_dies(path: Path) -> None:
    async def refused(log: SqliteLog) -> None:
        with pytest.raises(LogUnavailable, match=rf"another process \(pid {other.pid}\) runs group 'g/1' on .*log\.db"):
            await log.join("g/1", "t", Idle())
        await (await log.join("g/2", "t", Idle())).leave()
        await append(log, "still works")

    async def taken_over(log: SqliteLog) -> None:
        member = await log.join("g/1", "t", Idle())
        assert member.partitions == (0, 1)
        second = SqliteLog(path)
        with pytest.raises(LogUnavailable, match="this process already runs group"):
            await second.join("g/1", "t", Idle())
        await member.leave()
        assert (await second.join("g/1", "t", Idle())).partitions == (0, 1)
        await second.close()
        assert (await log.join("g/1", "t", Idle())).partitions == (0, 1)

    other = child(JOINER, path)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "has 2\n"
        on(path, refused)
    finally:
        other.kill()
        other.communicate(timeout=20)
    on(path, taken_over)


def test_opening_a_new_file_from_many_sides_at_once_is_fine(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    commit = "await log.commit(CommitUnit('w', outputs=[Output('t', 0, None, b'x', 1)]))"
    code = f"await log.ensure([TopicSpec('t', 2)])\n{commit}"
    others = [child(code, path) for _ in range(3)]
    assert [other.wait(60) for other in others] == [0, 0, 0]
    for other in others:
        other.communicate()

    async def counted(log: SqliteLog) -> None:
        assert await log.span("t") == [(0, 3), (0, 0)]

    on(path, counted)


def test_a_newer_schema_is_refused(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()

    async def test(log: SqliteLog) -> None:
        with pytest.raises(LogError, match=r"newer affectstream \(schema 99"):
            await log.topics()

    on(path, test)


def test_a_stranger_s_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    foreign, noise = tmp_path / "foreign.db", tmp_path / "noise.db"
    with sqlite3.connect(foreign) as db:
        db.execute("CREATE TABLE theirs (x)")
    db.close()
    noise.write_bytes(b"not a database at all, " * 500)
    before = foreign.read_bytes(), noise.read_bytes()

    async def refused(log: SqliteLog) -> None:
        with pytest.raises(LogError, match="not an affectstream log") as caught:
            await log.ensure([TopicSpec("t")])
        assert "foreign.db" in str(caught.value)

    async def corrupt(log: SqliteLog) -> None:
        with pytest.raises(LogCorrupt, match=r"noise\.db"):
            await log.ensure([TopicSpec("t")])

    on(foreign, refused)
    on(noise, corrupt)
    assert (foreign.read_bytes(), noise.read_bytes()) == before


def test_a_missing_folder_is_named_and_may_appear_later(tmp_path: Path) -> None:
    async def test(log: SqliteLog) -> None:
        with pytest.raises(LogUnavailable, match=r"no folder .*missing"):
            await log.topics()
        (tmp_path / "missing").mkdir()
        assert await log.topics() == []

    on(tmp_path / "missing" / "log.db", test)


def test_values_that_cannot_be_stored_are_refused_in_our_words(path: Path) -> None:
    async def test(log: SqliteLog) -> None:
        for unit in (CommitUnit("g", {("t", 0): 2**70}), CommitUnit("g", state={"\ud800": b""})):
            with pytest.raises(LogError, match="does not fit"):
                await log.commit(unit)
        assert await log.committed("g", "t") == [0, 0]

    on(path, test)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_retention_drops_whole_old_batches_and_keeps_offsets(tmp_path: Path, kind: str) -> None:
    async def body() -> None:
        clock = HandClock()
        log: Log = MemoryLog(clock) if kind == "memory" else SqliteLog(tmp_path / "log.db", clock=clock)
        await log.ensure([TopicSpec("t", 1, retention_ms=10_000), TopicSpec("kept", 1)])
        for k in range(5):
            await append(log, f"{k}a", f"{k}b", ms=clock.ms)
            await log.commit(CommitUnit("w", outputs=[Output("kept", 0, None, b"x", 0)]))
            clock.ms += 4_000
        # now T0 + 20 s: the last look was at +16 s, so what is older than +6 s went: the batches of +0 and +4 s
        assert await log.span("t") == [(4, 10)]
        assert [r.value for r in await log.read("t", 0, 0, 2)] == [b"2a", b"2b"]
        assert [r.offset for r in await log.read("t", 0, 3, 9)] == [4, 5, 6, 7, 8, 9]
        clock.ms += 60_000
        await append(log, "new", ms=clock.ms)
        assert await log.span("t") == [(10, 11)]
        assert await log.span("kept") == [(0, 5)]
        await append(log, "old", ms=0)
        clock.ms += 60_000
        await append(log, "older", ms=0)
        assert await log.span("t") == [(13, 13)]
        assert await log.read("t", 0, 0, 9) == []
        await append(log, "next", ms=clock.ms)
        assert [(r.offset, r.value) for r in await log.read("t", 0, 0, 9)] == [(13, b"next")]
        await log.close()

    asyncio.run(body())


def test_reading_does_not_wait_for_a_write_of_another_process(path: Path) -> None:
    async def test(log: SqliteLog) -> None:
        await append(log, "a")
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        begin = time.monotonic()
        assert [r.value for r in await log.read("t", 0, 0, 9)] == [b"a"]
        assert time.monotonic() - begin < 1
        with pytest.raises(LogUnavailable, match="file locked"):
            await append(log, "b")
        other.execute("ROLLBACK")
        other.close()
        await append(log, "b")
        assert await log.span("t") == [(0, 2), (0, 0)]

    on(path, test, busy_timeout_s=0.2)
