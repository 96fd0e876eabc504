"""A live run on a log: statuses as time passes, late and future posts, idle partitions, a clean stop, a second life."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import msgspec
import pytest

from operators.records import SignalRow
from stream.base import CommitUnit, Log, Output
from stream.config import Config
from stream.feed import Feed
from stream.memory import MemoryLog
from stream.metrics import Metrics
from stream.runner import Runner
from stream.sqlite_log import SqliteLog
from stream.system_clock import SystemClock
from stream.topics import DEAD_LETTER, LATE
from stream.topology import build, build_codec

MINUTE = 60_000
ROW = ("market.buzz", "all:*")


def config(**more: object) -> Config:
    settings: dict[str, object] = {
        "input": {"partitions": 2},
        "engine": {"name": "stub"},
        "time": {"disorder": "0s", "lateness": "5m", "idle": "1s"},
        "run": {"workers": 1, "near_duplicates": False},
        "windows": {"sizes": ["1m"], "minimum": 2.0},
        **more,
    }
    return msgspec.convert(settings, Config).check()


class Live:
    """A running engine, posts for it, and the rows it told."""

    def __init__(self, log: Log, settings: Config, feed: Feed | None = None, metrics: Metrics | None = None) -> None:
        self.log, self.settings, self.clock = log, settings, SystemClock()
        self.base = self.clock.now_ms() // MINUTE * MINUTE - 30 * MINUTE
        self.rows: list[SignalRow] = []
        self.sent = 0
        topology = build(settings, settings.input.partitions)
        self.runner = Runner(
            topology, log, self.clock, until_end=False, feed=feed, metrics=metrics, on_rows=self.rows.extend
        )

    async def post(self, partition: int, times: Sequence[int], **fields: object) -> None:
        """Posts at `base` + each time."""
        outputs = []
        for at in times:
            self.sent += 1
            body = {"id": f"n{self.sent}", "text": f"buy {self.sent}", "created_at": self.base + at, **fields}
            value = msgspec.json.encode(body)
            outputs.append(Output(self.settings.topic, partition, b"k", value, self.clock.now_ms()))
        await self.log.commit(CommitUnit("sender", outputs=outputs))

    def latest(self, end: int) -> SignalRow | None:
        mine = [r for r in self.rows if (r.signal, r.entity) == ROW and r.window_end == self.base + end]
        return mine[-1] if mine else None

    async def until(self, holds: Callable[[], bool], what: str) -> None:
        for _ in range(600):
            if holds():
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"never: {what}; last rows {self.rows[-3:]}")

    async def until_told(self, end: int, status: str, n: int, revision: int) -> None:
        def told() -> bool:
            row = self.latest(end)
            return row is not None and (row.status, row.n, row.revision) == (status, n, revision)

        await self.until(told, f"{status} n={n} r{revision}")


def live(
    scene: Callable[[Live], Awaitable[None]], log: Log | None = None, settings: Config | None = None, **given: object
) -> None:
    async def whole() -> None:
        held = MemoryLog() if log is None else log
        made = Live(held, config() if settings is None else settings, **given)  # type: ignore[arg-type]
        running = asyncio.create_task(made.runner.run())
        try:
            async with asyncio.timeout(60):
                while not any(worker.scorers for worker in made.runner.workers):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                await scene(made)
                assert not running.done()
        finally:
            made.runner.stop()
            await running
        status = await made.runner.status()
        assert status.conserved
        await held.close()

    asyncio.run(whole())


def test_provisional_final_revised_late_and_future() -> None:
    async def scene(engine: Live) -> None:
        await engine.post(0, [1_000, 2_000, 3_000])
        await engine.until_told(MINUTE, "provisional", 3, 0)  # partition 1 has nothing: idle after a second
        await engine.post(0, [61_000])
        await engine.until_told(MINUTE, "final", 3, 0)
        await engine.post(0, [30_000])
        await engine.until_told(MINUTE, "revised", 4, 1)
        await engine.post(0, [31_000, 32_000])
        await engine.until_told(MINUTE, "revised", 6, 3)
        row = engine.latest(MINUTE)
        assert row is not None
        assert row.watermark == row.window_end
        watermark = engine.runner.windows.rolling.watermark_ms
        assert watermark == engine.base + 61_000

        # Ten minutes ahead of its arrival: rejected, and time does not move.
        await engine.post(0, [engine.clock.now_ms() - engine.base + 10 * MINUTE])
        # Its pane ended more than five minutes before the watermark: to the late output, by name.
        await engine.post(0, [-6 * MINUTE])
        codec = build_codec()
        await engine.until(lambda: sum(p.late for p in engine.runner.windows.rolling.progress.values()) == 1, "late")
        assert engine.runner.windows.rolling.watermark_ms == watermark
        (late,) = await engine.log.read(LATE, 0, 0, 10)
        told = codec.decode_late(late.value)
        assert (told.post_id, told.partition, told.offset) == ("n9", 0, 8)
        assert told.late_by_ms == 61_000 + 6 * MINUTE
        (dead,) = await engine.log.read(DEAD_LETTER, 0, 0, 10)
        assert codec.decode_dead_letter(dead.value).reason == "future_timestamp"
        status = await engine.runner.status()
        assert (status.consumed, status.applied, status.late, status.rejected) == (9, 7, 1, 1)

    live(scene)


def test_a_backlog_is_not_idleness_but_silence_is() -> None:
    """Partition 1 stands at second 5: until it has been silent for the idle time, no window closes."""

    async def scene(engine: Live) -> None:
        await engine.post(1, [5_000])
        await engine.post(0, [1_000, 90_000])
        await engine.until_told(MINUTE, "provisional", 2, 0)
        assert engine.runner.windows.rolling.watermark_ms <= engine.base + 5_000
        await engine.until_told(MINUTE, "final", 2, 0)
        assert engine.runner.windows.rolling.watermark_ms >= engine.base + MINUTE

    live(scene)


def test_more_workers_than_partitions_and_a_clean_stop() -> None:
    async def scene(engine: Live) -> None:
        await engine.post(0, [1_000, 2_000])
        await engine.until_told(MINUTE, "provisional", 2, 0)
        assert sorted(len(worker.scorers) for worker in engine.runner.workers) == [0, 1, 1]

    live(scene, settings=config(run={"workers": 3}))


def test_a_second_life_goes_on_where_the_first_stopped(tmp_path: Path) -> None:
    ends: dict[str, int] = {}

    async def first(engine: Live) -> None:
        await engine.post(0, [1_000, 2_000])
        await engine.until_told(MINUTE, "provisional", 2, 0)
        ends["base"] = engine.base

    async def second(engine: Live) -> None:
        engine.base, engine.sent = ends["base"], 100
        await engine.post(0, [3_000])
        await engine.until_told(MINUTE, "provisional", 3, 0)
        engine.sent = 0
        await engine.post(0, [1_000])  # id n1 again: known from the first life
        await engine.post(0, [65_000], id="later")
        await engine.until_told(MINUTE, "final", 3, 0)
        status = await engine.runner.status()
        assert (status.applied, status.duplicate) == (4, 1)

    live(first, SqliteLog(tmp_path / "log.db"))
    live(second, SqliteLog(tmp_path / "log.db"))


def test_feed_and_metrics_say_what_the_log_says() -> None:
    feed, metrics = Feed(), Metrics(process=False)

    async def scene(engine: Live) -> None:
        await engine.post(0, [1_000, 2_000, 3_000])
        await engine.log.commit(
            CommitUnit("sender", outputs=[Output(engine.settings.topic, 1, b"x", b"{", engine.clock.now_ms())])
        )
        await engine.until(lambda: feed.ops.applied == 3 and feed.ops.rejected == 1, "applied and rejected")
        assert feed.ops.ready
        assert feed.ops.conserved
        assert feed.ops.engine == "stub"
        text = metrics.exposition().decode()
        assert 'affect_records_total{outcome="applied"} 3.0' in text
        assert 'affect_dead_letters_total{reason="bad_json"} 1.0' in text
        assert "affect_commit_seconds_count" in text
        assert "affect_inference_rows_total 3.0" in text
        assert feed.history.keys()

    live(scene, feed=feed, metrics=metrics)


def test_a_replay_reads_what_was_added_since_the_last_one() -> None:
    """Partitions closed by the first run open again: nothing is left in flight."""

    async def scene() -> None:
        log, settings = MemoryLog(), config()
        for total in (3, 5):
            topology = build(settings, 2, replay=True)
            await log.ensure(topology.topics)
            posts = [
                Output(settings.topic, k % 2, b"k", b'{"id": "%d", "text": "t", "created_at": %d}' % (k, k), k)
                for k in range(total)
            ]
            begin = sum(end for _, end in await log.span(settings.topic))
            await log.commit(CommitUnit("sender", outputs=posts[begin:]))
            rows: list[SignalRow] = []
            runner = Runner(topology, log, SystemClock(), until_end=True, on_rows=rows.extend)
            async with asyncio.timeout(30):
                await runner.run()
            status = await runner.status()
            assert (status.consumed, status.applied, status.in_flight) == (total, total, 0)
            assert [r.n for r in rows if (r.signal, r.entity) == ROW] == [total]

    asyncio.run(scene())


class Rotten(MemoryLog):
    """Fails for good while posts are read."""

    async def commit(self, unit: CommitUnit) -> None:
        if unit.generation is not None:
            raise RuntimeError("a bug in a test")
        await super().commit(unit)


def test_an_error_that_does_not_pass_ends_the_run_with_it() -> None:
    async def scene() -> None:
        engine = Live(Rotten(), config())
        await engine.log.ensure(engine.runner._topology.topics)
        await engine.post(0, [1_000])
        async with asyncio.timeout(30):
            with pytest.raises(RuntimeError, match="a bug in a test"):
                await engine.runner.run()

    asyncio.run(scene())
