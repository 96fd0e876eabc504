"""The bound on bytes read and not yet folded, alone and in a run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace

import msgspec
import pytest

from engines.base import EngineSpec, ScoreBatch
from operators.text import Score
from stream.base import CommitUnit, Output, Record, TopicSpec
from stream.config import Config
from stream.in_flight import InFlight
from stream.memory import MemoryLog
from stream.runner import Runner
from stream.system_clock import SystemClock
from stream.topology import build


def records(size: int, count: int = 1) -> list[Record]:
    return [Record(k, None, bytes(size), 0) for k in range(count)]


def test_a_step_waits_until_less_than_half_is_held() -> None:
    async def scene() -> None:
        room = InFlight(1_000)
        order: list[str] = []

        async def step() -> None:
            await room.room()
            order.append("in")

        async with room.holding(records(499)) as size:
            assert (size, room.held) == (499, 499)
            await step()
        waiting = []
        async with room.holding(records(500)):
            waiting = [asyncio.create_task(step()) for _ in range(2)]
            await asyncio.sleep(0)
            assert (order, room.paused) == (["in"], 2)
        await asyncio.gather(*waiting)
        assert (order, room.paused, room.held, room.most) == (["in"] * 3, 0, 0, 500)

    asyncio.run(scene())


def test_a_cancelled_wait_leaves_nothing_behind() -> None:
    async def scene() -> None:
        room = InFlight(10)
        async with room.holding(records(10)):
            waiting = asyncio.create_task(room.room())
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        assert (room.paused, room.held) == (0, 0)

    asyncio.run(scene())


@pytest.mark.parametrize(("largest", "count"), [(100, 50), (1_000, 5), (10**9, 1), (0, 64)])
def test_partitions_share_the_half_that_may_be_asked_for(largest: int, count: int) -> None:
    room = InFlight(20_000)
    for _ in range(2):
        room.entered()
    assert room.records(64, largest) == count


class Slow:
    """A model that takes its time, in whatever thread it is called."""

    elsewhere = False

    def __init__(self, score: Score, seconds: float) -> None:
        self._model = score._model
        self._seconds = seconds
        score._model = self

    @property
    def spec(self) -> EngineSpec:
        return self._model.spec

    def logits(self, texts: Sequence[str]) -> ScoreBatch:
        time.sleep(self._seconds)
        return replace(self._model.logits(texts), run_s=self._seconds)


def test_a_slow_model_pauses_partitions_within_the_bound_and_loses_nothing() -> None:
    """Posts of 100 kB on eight partitions, a bound of 1 MiB: what is read and not folded stays below it."""
    partitions, posts = 8, 96

    async def scene() -> None:
        log = MemoryLog()
        tree = {
            "engine": {"name": "stub"},
            "run": {"in_flight_mib": 1, "workers": 2, "language": False, "near_duplicates": False},
            "windows": {"sizes": ["1m"]},
        }
        config = msgspec.convert(tree, Config).check()
        await log.ensure([TopicSpec(config.topic, partitions)])
        at = 1_790_000_000_000
        body = [msgspec.json.encode({"id": f"p{k}", "text": "x" * 100_000, "created_at": at}) for k in range(posts)]
        outputs = [Output(config.topic, k % partitions, b"%d" % k, value, at) for k, value in enumerate(body)]
        await log.commit(CommitUnit("sender", outputs=outputs))
        topology = build(config, partitions, replay=True)
        Slow(topology.score, 0.01)
        runner = Runner(topology, log, SystemClock(), until_end=True)
        paused = 0
        running = asyncio.create_task(runner.run())
        while not running.done():
            paused = max(paused, runner.in_flight.paused)
            await asyncio.sleep(0.001)
        await running
        assert 0 < runner.in_flight.most <= runner.in_flight.limit
        assert paused > 0
        assert runner.in_flight.held == 0
        status = await runner.status()
        assert (status.consumed, status.applied, status.in_flight) == (posts, posts, 0)

    asyncio.run(scene())
