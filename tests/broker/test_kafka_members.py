"""Members of a group in several processes on a real broker: who owns a partition, and who no longer does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import pytest

from stream.base import CommitUnit, TopicSpec
from stream.errors import Fenced
from stream.kafka import KafkaLog
from stream.kafka_wire import Access
from tests.broker.logs import in_the_end, posts, run, values

pytestmark = pytest.mark.broker


class Owner:
    """A listener that counts: it owns from `assigned` to the end of `revoked`, and commits as it lets go."""

    def __init__(self, log: KafkaLog) -> None:
        self.log = log
        self.owns: dict[int, int] = {}
        self.generation = 0

    async def assigned(self, partitions: Sequence[int], generation: int) -> None:
        self.generation = generation
        starts = await self.log.committed("g", "t")
        self.owns |= {p: starts[p] for p in partitions}

    async def revoked(self, partitions: Sequence[int]) -> None:
        await self.work(partitions)
        for p in partitions:
            del self.owns[p]

    async def work(self, partitions: Sequence[int]) -> None:
        for p in partitions:
            self.owns[p] += 1
        await self.log.commit(CommitUnit("g", {("t", p): self.owns[p] for p in partitions}, generation=self.generation))


async def settled(partitions: int, *owners: Owner) -> None:
    """Until every partition has one owner, and all have some."""
    deadline = time.monotonic() + 30
    while sorted(p for o in owners for p in o.owns) != list(range(partitions)) or not all(o.owns for o in owners):
        assert time.monotonic() < deadline, [o.owns for o in owners]
        await asyncio.sleep(0.05)


def test_partitions_move_between_processes_and_each_hand_over_carries_the_count_on(
    kafka_bootstrap: str, prefix: str
) -> None:
    async def test() -> None:
        logs = [KafkaLog(Access(kafka_bootstrap), prefix) for _ in range(3)]
        await logs[0].ensure([TopicSpec("t", 6)])
        a, b, c = (Owner(log) for log in logs)
        first = await logs[0].join("g", "t", a)
        await settled(6, a)
        old = a.generation
        await logs[1].join("g", "t", b)
        await settled(6, a, b)
        lost = min(b.owns)
        before = await logs[0].committed("g", "t")
        with pytest.raises(Fenced):
            await logs[0].commit(CommitUnit("g", {("t", lost): 99}, {"zombie": b"1"}, posts(["z"]), generation=old))
        assert await logs[2].committed("g", "t") == before
        await logs[2].join("g", "t", c)
        await settled(6, a, b, c)
        assert [len(o.owns) for o in (a, b, c)] == [2, 2, 2]
        await first.leave()
        await settled(6, b, c)
        for owner in (b, c):
            await owner.work(tuple(owner.owns))
        counts = await logs[2].committed("g", "t")
        assert counts == [owner.owns[p] for p in range(6) for owner in (b, c) if p in owner.owns]
        assert await logs[2].restore("g", "") == {}
        for log in logs:
            await log.close()

    run(test)


def test_a_process_the_broker_gave_up_on_is_fenced_before_it_writes_anything(kafka_bootstrap: str, prefix: str) -> None:
    async def test() -> None:
        silent = KafkaLog(Access(kafka_bootstrap), prefix, session_ms=1_500)
        other = KafkaLog(Access(kafka_bootstrap), prefix, session_ms=1_500)
        await silent.ensure([TopicSpec("t", 2)])
        a, b = Owner(silent), Owner(other)
        await silent.join("g", "t", a)
        await a.work([0, 1])
        # What a suspended process does: no heartbeat, no answer to a rebalance, and then it goes on where it was.
        coordinator = silent._places["g", "t"].membership._coordinator
        assert coordinator is not None
        await coordinator._stop_heartbeat_task()
        await other.join("g", "t", b)
        await settled(2, b)
        await b.work([0, 1])
        unit = CommitUnit("g", {("t", 0): 77}, {"k": b"zombie"}, posts(["zombie"]), generation=a.generation)
        with pytest.raises(Fenced, match="no longer knows this member"):
            await silent.commit(unit)
        part = CommitUnit("g", outputs=posts(["zombie"]), generation=a.generation)  # of a commit in several parts
        with pytest.raises(Fenced, match="no longer knows this member"):
            await silent.commit(part)
        assert await other.committed("g", "t") == [b.owns[0], b.owns[1]]
        assert await values(other) == []
        assert await other.restore("g", "") == {}
        await other.close()
        await silent.close()

    run(test)


def test_a_member_outlives_a_broker_that_dies(mortal: Any, prefix: str) -> None:
    async def test() -> None:
        log = KafkaLog(Access(mortal.bootstrap), prefix, patience_s=2.0)
        await log.ensure([TopicSpec("t", 3)])
        owner = Owner(log)
        await log.join("g", "t", owner)
        await owner.work([0, 1, 2])
        await asyncio.to_thread(mortal.nodes[0].kill)
        mortal.nodes[0].start()
        await asyncio.to_thread(mortal.nodes[0].wait, 30.0)

        async def again() -> None:
            await settled(3, owner)
            await log.commit(CommitUnit("g", {("t", p): 50 for p in range(3)}, generation=owner.generation))

        await in_the_end(again)
        assert await log.committed("g", "t") == [50, 50, 50]
        await log.close()

    run(test)
