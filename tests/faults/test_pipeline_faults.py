"""The whole pipeline while the log is away, while single commits fail, and while partitions change hands."""

from __future__ import annotations

import asyncio
import logging
import random
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from rough_file import Rough, write_rough

from stream.base import CommitUnit, Log, Output, TopicSpec
from stream.config import Config
from stream.errors import LogUnavailable
from stream.feed import Feed
from stream.ingest import IngestPlan, ingest
from stream.memory import MemoryLog
from stream.metrics import Metrics
from stream.results import FinalRows
from stream.runner import Runner
from stream.sqlite_log import SqliteLog
from stream.system_clock import SystemClock
from stream.topology import Topology, build
from stream.web import LiveServer
from stream.worker import Pulse, ScoreWorker

pytestmark = pytest.mark.faults
PARTITIONS = 4


def config(workers: int = 2, batch_size: int = 50, lateness: str = "24h") -> Config:
    return msgspec.convert(
        {
            "log": {"retention": "36500d"},
            "input": {"partitions": PARTITIONS, "group": "test"},
            "engine": {"name": "stub"},
            "time": {"lateness": lateness},
            "run": {"workers": workers, "batch_size": batch_size, "commit_interval": "1s"},
            "windows": {"sizes": ["1m", "5m/1m"]},
        },
        Config,
    ).check()


@pytest.fixture(scope="module")
def rough(tmp_path_factory: pytest.TempPathFactory) -> Rough:
    return write_rough(tmp_path_factory.mktemp("rough") / "posts.jsonl", 800)


def plan_of(rough: Rough) -> IngestPlan:
    return IngestPlan(rough.path, config().topic, PARTITIONS, None, b"key", SystemClock().now_ms())


async def filled(log: Log, rough: Rough) -> Topology:
    """The file on the log, and what to run over it."""
    await log.ensure([TopicSpec(config().topic, PARTITIONS)])
    await ingest(log, plan_of(rough))
    return build(config(), PARTITIONS, replay=True)


async def rows_of(log: Log, topology: Topology, beside: Callable[[Runner], asyncio.Task[None]] | None = None) -> bytes:
    """Run to the end, with something else going on beside it; the final rows."""
    rows = FinalRows()
    runner = Runner(topology, log, SystemClock(), until_end=True, on_rows=rows.add)
    pace = replace(runner._pace, commit_interval_s=0.0)  # a commit after every step: more moments to fail at
    for loop in (*runner.workers, runner._windows):
        loop._pace = pace
    task = beside(runner) if beside is not None else None
    async with asyncio.timeout(60):
        await runner.run()
    if task is not None:
        await task
    status = await runner.status()
    assert status.conserved
    assert status.in_flight == 0
    return b"\n".join(rows.lines())


@pytest.fixture(scope="module")
def reference(rough: Rough) -> bytes:
    async def whole() -> bytes:
        log = MemoryLog()
        return await rows_of(log, await filled(log, rough))

    rows = asyncio.run(whole())
    assert rows.count(b"\n") > 300
    return rows


class Failing(MemoryLog):
    """Refuses the commits whose number is in `refuse`, counted from 1, as a broker that is away does."""

    def __init__(self) -> None:
        super().__init__()
        self.refuse: frozenset[int] = frozenset()
        self.asked = 0

    async def commit(self, unit: CommitUnit) -> None:
        self.asked += 1
        if self.asked in self.refuse:
            raise LogUnavailable(f"commit {self.asked}: refused by the test; nothing was written")
        await super().commit(unit)


@pytest.mark.parametrize("n", range(1, 11))
def test_any_commit_may_fail_and_is_made_again_unchanged(n: int, rough: Rough, reference: bytes) -> None:
    async def scene() -> None:
        log = Failing()
        topology = await filled(log, rough)
        log.asked, log.refuse = 0, frozenset({n, n + 1})
        assert await rows_of(log, topology) == reference
        assert log.asked > 12

    asyncio.run(scene())


def test_a_refused_append_of_the_file_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """Chunks of 2 000 lines: whichever is refused, every line lies on the log once."""
    rough = write_rough(tmp_path / "posts.jsonl", 7_000)

    async def scene() -> None:
        for n in (1, 2, 4):
            log = Failing()
            await log.ensure([TopicSpec(config().topic, PARTITIONS)])
            log.refuse = frozenset({n})
            with pytest.raises(LogUnavailable):
                await ingest(log, plan_of(rough))
            assert await ingest(log, plan_of(rough)) == (rough.lines - (n - 1) * 2_000, (n - 1) * 2_000)
            assert await ingest(log, plan_of(rough)) == (0, rough.lines)
            assert sum(end for _, end in await log.span(config().topic)) == rough.lines

    asyncio.run(scene())


class Away(MemoryLog):
    """Every call fails while `away`."""

    away = False

    def _open(self) -> None:
        if self.away:
            raise LogUnavailable("the log is away: a test says so")
        super()._open()


def test_a_log_that_goes_away_and_comes_back_changes_no_row(rough: Rough, reference: bytes) -> None:
    async def scene() -> None:
        log = Away()
        topology = await filled(log, rough)

        async def switch(runner: Runner) -> None:
            while not all(worker.scorers for worker in runner.workers):  # noqa: ASYNC110
                await asyncio.sleep(0)
            for _ in range(3):
                log.away = True
                await asyncio.sleep(0.15)
                log.away = False
                await asyncio.sleep(0.02)

        assert await rows_of(log, topology, lambda runner: asyncio.create_task(switch(runner))) == reference

    asyncio.run(scene())


@pytest.mark.parametrize("seed", range(3))
def test_members_that_come_and_go_in_mid_run_change_no_row(seed: int, rough: Rough, reference: bytes) -> None:
    """Three more members join and leave at random while the replay runs; partitions change hands each time."""
    moves: list[int] = []

    async def scene() -> None:
        log = MemoryLog()
        topology = await filled(log, rough)
        topology = build(config(batch_size=10), PARTITIONS, replay=True)

        def crowd(runner: Runner) -> asyncio.Task[None]:
            async def guest(k: int) -> None:
                rng = random.Random(10 * seed + k)
                for _ in range(4):
                    await asyncio.sleep(rng.uniform(0.0, 0.05))
                    worker = ScoreWorker(log, topology.parts, runner._pace, SystemClock(), Pulse())
                    await worker.start()
                    moves.append(len(worker.scorers))
                    await asyncio.sleep(rng.uniform(0.0, 0.05))
                    await worker.stop()

            async def guests() -> None:
                await asyncio.gather(*(guest(k) for k in range(3)))

            return asyncio.create_task(guests())

        assert await rows_of(log, topology, crowd) == reference

    asyncio.run(scene())
    assert sum(moves) >= 3


def answer(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


async def readyz(server: LiveServer, wanted: int, seconds: float = 8.0) -> str:
    """Ask /readyz until it answers `wanted`; what it said."""
    status, body = 0, ""
    for _ in range(int(seconds / 0.05)):
        status, body = await asyncio.to_thread(answer, server.url + "readyz")
        if status == wanted:
            return body
        await asyncio.sleep(0.05)
    raise AssertionError(f"/readyz never said {wanted}; last: {status} {body}")


def post(k: int, at: int) -> Output:
    body = {"id": f"x{k}", "text": f"buy $AAPL {k}", "created_at": at, "author": f"a{k}"}
    return Output(config().topic, k % PARTITIONS, b"%d" % k, msgspec.json.encode(body), at)


def test_a_locked_file_is_waited_for_said_once_and_shown_by_readyz(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "affect.worker")

    async def scene() -> None:
        clock, feed = SystemClock(), Feed()
        log = SqliteLog(tmp_path / "log.db", busy_timeout_s=0.2)
        await log.ensure([TopicSpec(config().topic, PARTITIONS)])
        server = LiveServer(feed, Metrics(process=False), port=0)
        await server.start()
        runner = Runner(build(config(workers=1), PARTITIONS), log, clock, until_end=False, feed=feed)
        running = asyncio.create_task(runner.run())
        await readyz(server, 200)
        now = clock.now_ms()
        await log.commit(CommitUnit("sender", outputs=[post(4 * k, now) for k in range(200)]))
        other = sqlite3.connect(tmp_path / "log.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        started = asyncio.get_running_loop().time()
        said = await readyz(server, 503)
        assert "log.db" in said
        assert "locked" in said
        await asyncio.sleep(max(0.0, 2.0 - (asyncio.get_running_loop().time() - started)))
        other.execute("ROLLBACK")
        other.close()
        await readyz(server, 200)
        async with asyncio.timeout(10):
            while (await runner.status()).applied < 200:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        status = await runner.status()
        assert (status.consumed, status.applied, status.in_flight, status.problem) == (200, 200, 0, None)
        runner.stop()
        await running
        await server.stop()
        await log.close()

    asyncio.run(scene())
    said = [record.getMessage() for record in caplog.records]
    topic = config().topic
    assert len([line for line in said if line.startswith(f"commit {topic}[0]:") and "retrying" in line]) == 1
    assert len([line for line in said if line.startswith(f"commit {topic}[0]: works again")]) == 1
    assert len([line for line in said if "retrying" in line]) == len([line for line in said if "works again" in line])


def test_the_status_goes_on_while_the_log_cannot_be_asked() -> None:
    """A log that fails every call leaves /readyz at 503 with the reason, and comes back by itself."""

    async def scene() -> None:
        feed, log = Feed(), Away()
        await log.ensure([TopicSpec(config().topic, PARTITIONS)])
        server = LiveServer(feed, Metrics(process=False), port=0)
        await server.start()
        runner = Runner(build(config(workers=1), PARTITIONS), log, SystemClock(), until_end=False, feed=feed)
        running = asyncio.create_task(runner.run())
        await readyz(server, 200)
        log.away = True
        assert "a test says so" in await readyz(server, 503)
        log.away = False
        await readyz(server, 200)
        runner.stop()
        await running
        await server.stop()

    asyncio.run(scene())
