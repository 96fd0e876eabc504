"""`memory://`: the log without a disk, for tests and examples. Behaves like the SQLite log; nothing survives it."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field

from operators.base import Clock
from stream.base import CommitUnit, Listener, Member, Record, TopicSpec
from stream.batches import batches, records
from stream.errors import LogError
from stream.groups import Groups
from stream.system_clock import SystemClock
from stream.topic_rules import check_specs, trim_due, unknown_topic
from stream.wakeups import Wakeups

_POLL_S = 3600.0  # nobody else can append: every append wakes its readers


@dataclass(slots=True)
class _Partition:
    """`bases[k]` is the offset of the first record of `held[k]`; `newest_ms[k]` the largest timestamp in it."""

    first: int = 0
    end: int = 0
    bases: list[int] = field(default_factory=list)
    held: list[list[Record]] = field(default_factory=list)
    newest_ms: list[int] = field(default_factory=list)

    def trim(self, before_ms: int) -> None:
        """Drop leading batches that hold nothing as young as `before_ms`."""
        keep = next((k for k, newest in enumerate(self.newest_ms) if newest >= before_ms), len(self.held))
        if keep:
            self.first = self.bases[keep] if keep < len(self.bases) else self.end
            del self.bases[:keep], self.held[:keep], self.newest_ms[:keep]


class MemoryLog:
    """A `Log` in this process's memory. One event loop owns it.

    Args:
        clock: processing time for retention; default the machine's.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock: Clock = SystemClock() if clock is None else clock
        self._specs: dict[str, TopicSpec] = {}
        self._partitions: dict[str, list[_Partition]] = {}
        self._offsets: dict[tuple[str, str, int], int] = {}
        self._state: dict[str, dict[str, bytes]] = {}
        self._trimmed_ms: dict[str, int] = {}
        self._groups = Groups()
        self._wakeups = Wakeups()
        self._closed = False

    async def ensure(self, topics: Iterable[TopicSpec]) -> None:
        self._open()
        for spec in check_specs(topics, self._specs):
            self._specs[spec.name] = spec
            self._partitions.setdefault(spec.name, [_Partition() for _ in range(spec.partitions)])

    async def topics(self) -> list[TopicSpec]:
        self._open()
        return sorted(self._specs.values(), key=lambda spec: spec.name)

    async def read(
        self, topic: str, partition: int, offset: int, max_records: int, max_wait_s: float = 0.0
    ) -> list[Record]:
        async def look() -> list[Record]:
            await asyncio.sleep(0)  # a reader that never waits would keep the loop to itself
            return self._look(topic, partition, offset, max_records)

        return await self._wakeups.poll((topic, partition), look, max_wait_s, _POLL_S)

    async def span(self, topic: str) -> list[tuple[int, int]]:
        self._open()
        self._known(topic, 0)
        return [(p.first, p.end) for p in self._partitions[topic]]

    async def committed(self, group: str, topic: str) -> list[int]:
        self._open()
        self._known(topic, 0)
        return [self._offsets.get((group, topic, p), 0) for p in range(self._specs[topic].partitions)]

    async def restore(self, group: str, prefix: str) -> dict[str, bytes]:
        self._open()
        return {k: v for k, v in self._state.get(group, {}).items() if k.startswith(prefix)}

    async def commit(self, unit: CommitUnit) -> None:
        await asyncio.sleep(0)
        # No await from here on: that is the transaction. All checks come before the first change.
        self._open()
        self._groups.check(unit)
        for topic, partition in unit.offsets:
            self._known(topic, partition)
        cut = list(batches(unit.outputs))
        for batch in cut:
            self._known(batch.topic, batch.partition)
        for batch in cut:
            lane = self._partitions[batch.topic][batch.partition]
            lane.bases.append(lane.end)
            lane.held.append(records(batch.entries, lane.end))
            lane.newest_ms.append(batch.newest_ms)
            lane.end += len(batch.entries)
        self._offsets.update({(unit.group, t, p): offset for (t, p), offset in unit.offsets.items()})
        state = self._state.setdefault(unit.group, {})
        for key, value in unit.state.items():
            if value is None:
                state.pop(key, None)
            else:
                state[key] = value
        places = {(batch.topic, batch.partition) for batch in cut}
        self._trim({topic for topic, _ in places} | {topic for topic, _ in unit.offsets})
        self._wakeups.wake(places)

    async def join(self, group: str, topic: str, listener: Listener) -> Member:
        self._open()
        self._known(topic, 0)
        return await self._groups.join(group, topic, self._specs[topic].partitions, listener)

    async def close(self) -> None:
        self._closed = True
        self._groups.close()
        self._wakeups.wake_all()

    def _look(self, topic: str, partition: int, offset: int, max_records: int) -> list[Record]:
        self._open()
        self._known(topic, partition)
        lane = self._partitions[topic][partition]
        at = max(offset, lane.first)
        found: list[Record] = []
        for k in range(max(0, bisect_right(lane.bases, at) - 1), len(lane.held)):
            if len(found) >= max_records:
                break
            found += lane.held[k][max(0, at - lane.bases[k]) :]
        return found[:max_records]

    def _trim(self, topics: Iterable[str]) -> None:
        now_ms = self._clock.now_ms()
        for topic in topics:
            keep_ms = self._specs[topic].retention_ms
            if trim_due(keep_ms, self._trimmed_ms.get(topic), now_ms):
                self._trimmed_ms[topic] = now_ms
                for lane in self._partitions[topic]:
                    lane.trim(now_ms - keep_ms)

    def _known(self, topic: str, partition: int) -> None:
        spec = self._specs.get(topic)
        if spec is None or not 0 <= partition < spec.partitions:
            raise unknown_topic(topic, partition, self._specs)

    def _open(self) -> None:
        if self._closed:
            raise LogError("memory:// log is closed; open a new one")
