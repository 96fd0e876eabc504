"""The SQLite log on a full disk, behind a lock, on damaged pages, and under kill -9."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from stream.base import CommitUnit, Output, TopicSpec
from stream.errors import LogCorrupt, LogError, LogUnavailable
from stream.sqlite_log import SqliteLog

pytestmark = pytest.mark.faults


def on(path: Path, test: Callable[[SqliteLog], Awaitable[None]], busy_timeout_s: float = 5.0) -> None:
    async def body() -> None:
        log = SqliteLog(path, busy_timeout_s=busy_timeout_s)
        try:
            await test(log)
        finally:
            await log.close()

    asyncio.run(body())


def counted(n: int, size: int = 0) -> CommitUnit:
    """The unit that carries `n` in its offset, its state and its one output."""
    value = str(n).encode().ljust(size, b" ")
    return CommitUnit("g", {("t", 0): n}, {"n": str(n).encode()}, [Output("t", 0, b"k", value, n)])


async def count_of(log: SqliteLog) -> int:
    """How many counted units the log holds; offset, state and outputs must agree."""
    (offset,) = await log.committed("g", "t")
    state = await log.restore("g", "")
    ((first, end),) = await log.span("t")
    values = [int(r.value) for r in await log.read("t", 0, 0, 10**6)]
    assert (first, end) == (0, offset)
    assert values == list(range(1, offset + 1))
    assert state == ({"n": str(offset).encode()} if offset else {})
    return offset


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder with room for 2 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small tmpfs needs root")
    if (done := subprocess.run(mount, capture_output=True, text=True)).returncode != 0:
        pytest.skip(f"mounting a small tmpfs is not permitted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_stops_commits_and_space_lets_the_same_unit_through(small_disk: Path) -> None:
    async def test(log: SqliteLog) -> None:
        await log.ensure([TopicSpec("t")])
        done = 0
        for _ in range(2):
            ballast = small_disk / "ballast"
            free = os.statvfs(small_disk)
            ballast.write_bytes(bytes(max(0, free.f_bavail * free.f_frsize - 150_000)))
            for _ in range(30):
                try:
                    await log.commit(counted(done + 1, size=20_000))
                except LogUnavailable:
                    break
                done += 1
            with pytest.raises(LogUnavailable, match=r"log\.db: .*disk.*nothing was written"):
                await log.commit(counted(done + 1, size=20_000))
            assert await count_of(log) == done
            ballast.unlink()
            await log.commit(counted(done + 1, size=20_000))
            done += 1
            assert await count_of(log) == done

    async def reopened(log: SqliteLog) -> None:
        assert await count_of(log) >= 2

    on(small_disk / "log.db", test)
    on(small_disk / "log.db", reopened)


def test_a_disk_full_from_the_start_is_unavailable_and_recovers(small_disk: Path) -> None:
    async def test(log: SqliteLog) -> None:
        ballast = small_disk / "ballast"
        with pytest.raises(OSError, match="No space left"):
            ballast.write_bytes(bytes(4 << 20))
        with pytest.raises(LogUnavailable, match=r"log\.db"):
            await log.ensure([TopicSpec("t")])
        ballast.unlink()
        await log.ensure([TopicSpec("t")])
        await log.commit(counted(1))
        assert await count_of(log) == 1

    on(small_disk / "log.db", test)


def test_a_read_only_disk_is_unavailable(small_disk: Path) -> None:
    async def made(log: SqliteLog) -> None:
        await log.ensure([TopicSpec("t")])

    async def refused(log: SqliteLog) -> None:
        with pytest.raises(LogUnavailable, match=r"log\.db"):
            await log.commit(counted(1))
        with pytest.raises(LogUnavailable, match="lock file"):
            log._lock.hold("g")

    on(small_disk / "log.db", made)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    on(small_disk / "log.db", refused)


@pytest.mark.parametrize("mode", ["IMMEDIATE", "EXCLUSIVE"])
def test_a_file_locked_by_somebody_else_is_unavailable_and_then_free(tmp_path: Path, mode: str) -> None:
    async def test(log: SqliteLog) -> None:
        await log.ensure([TopicSpec("t")])
        await log.commit(counted(1))
        other = sqlite3.connect(tmp_path / "log.db", isolation_level=None)
        other.execute(f"BEGIN {mode}")
        begin = time.monotonic()
        with pytest.raises(LogUnavailable, match="locked"):
            await log.commit(counted(2))
        assert 0.2 < time.monotonic() - begin < 3
        other.execute("ROLLBACK")
        other.close()
        await log.commit(counted(2))
        assert await count_of(log) == 2

    on(tmp_path / "log.db", test, busy_timeout_s=0.3)


def test_damaged_bytes_are_found_and_named_wherever_they_lie(tmp_path: Path) -> None:
    """Copies with a few flipped bytes each: what is read is right, or an error of ours that names the file."""
    commits = 20

    async def made(log: SqliteLog) -> None:
        await log.ensure([TopicSpec("t")])
        for n in range(1, commits + 1):
            await log.commit(counted(n, size=150))

    async def used(log: SqliteLog) -> None:
        assert [int(r.value) for r in await log.read("t", 0, 0, 1000)] == list(range(1, commits + 1))
        await log.restore("g", "")
        await log.committed("g", "t")
        await log.commit(counted(commits + 1))

    on(tmp_path / "log.db", made)
    good = (tmp_path / "log.db").read_bytes()
    written = [at for at, byte in enumerate(good) if byte]  # most of a small file is empty pages
    rng = random.Random(7)
    found: list[str] = []
    for k in range(200):
        bad = bytearray(good)
        begin = rng.choice(written)
        for at in range(begin, min(len(bad), begin + rng.choice((1, 8, 64)))):
            bad[at] ^= rng.randrange(1, 256)
        path = tmp_path / f"bad{k}.db"
        path.write_bytes(bad)
        try:
            on(path, used)
        except LogError as error:
            found.append(str(error))
            if f"bad{k}.db" not in str(error):
                raise
    assert len(found) > 120


def test_a_file_deleted_while_in_use_is_unavailable_until_it_is_put_back(tmp_path: Path) -> None:
    path, aside = tmp_path / "log.db", tmp_path / "aside.db"

    async def test(log: SqliteLog) -> None:
        await log.ensure([TopicSpec("t")])
        await log.commit(counted(1))
        path.rename(aside)
        for _ in range(2):
            with pytest.raises(LogUnavailable, match="deleted or moved while in use"):
                await log.commit(counted(2))
            with pytest.raises(LogUnavailable, match="deleted or moved while in use"):
                await log.read("t", 0, 0, 10)
        assert not path.exists()  # no second log was begun in its place
        aside.rename(path)
        await log.commit(counted(2))
        assert await count_of(log) == 2

    on(path, test)


def test_another_file_put_there_while_in_use_is_no_log_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "log.db"

    async def test(log: SqliteLog) -> None:
        await log.ensure([TopicSpec("t")])
        await log.commit(counted(1))
        path.rename(tmp_path / "aside.db")
        path.write_bytes(b"")
        with pytest.raises(LogCorrupt, match="another file was put there"):
            await log.commit(counted(2))

    on(path, test)


def test_a_truncated_file_is_corrupt(tmp_path: Path) -> None:
    async def made(log: SqliteLog) -> None:
        await log.ensure([TopicSpec("t")])
        for n in range(1, 200):
            await log.commit(counted(n, size=700))

    async def used(log: SqliteLog) -> None:
        with pytest.raises(LogCorrupt, match=r"log\.db.*restore the file from a backup"):
            await log.read("t", 0, 0, 1000)

    on(tmp_path / "log.db", made)
    os.truncate(tmp_path / "log.db", 64 * 1024)
    on(tmp_path / "log.db", used)


WRITER = """
import asyncio, sys
from stream.base import *
from stream.sqlite_log import SqliteLog

class L:
    async def assigned(self, partitions, generation): self.generation = generation
    async def revoked(self, partitions): pass

async def main():
    log, l = SqliteLog(sys.argv[1]), L()
    await log.join("g", "t", l)
    (n,) = await log.committed("g", "t")
    print(n, flush=True)
    while True:
        n += 1
        out = [Output("t", 0, b"k", str(n).encode(), n)]
        await log.commit(CommitUnit("g", {("t", 0): n}, {"n": str(n).encode()}, out, l.generation))
        print(n, flush=True)

asyncio.run(main())
"""


def test_kill_9_between_and_within_commits_leaves_offsets_state_and_outputs_in_step(tmp_path: Path) -> None:
    path = tmp_path / "log.db"

    async def made(log: SqliteLog) -> None:
        await log.ensure([TopicSpec("t")])

    async def checked(log: SqliteLog) -> None:
        totals.append(await count_of(log))

    on(path, made)
    totals = [0]
    rng = random.Random(11)
    for _ in range(10):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        assert int(writer.stdout.readline()) == totals[-1]  # it goes on where the last one was killed
        time.sleep(rng.uniform(0.01, 0.12))
        writer.send_signal(signal.SIGKILL)
        told = writer.communicate(timeout=20)[0].splitlines(keepends=True)
        acknowledged = max((int(line) for line in told if line.endswith("\n")), default=totals[-1])
        on(path, checked)
        assert acknowledged <= totals[-1] <= acknowledged + 1  # what was acknowledged is there, at most one more
    assert totals[-1] > 10
