"""`kafka://HOST:PORT`: the log on an Apache Kafka cluster, through aiokafka.

A commit is not atomic over outputs, state and offsets: it goes outputs, then state (one batch), then offsets. A crash
in between leaves outputs that will be sent again; state never runs ahead of them, and says what comes next. So outputs
must be harmless when repeated: keyed rows, stamped pane blocks, ids. Before anything is written in the name of a
member, the broker is asked whether it still is one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from stream.base import CommitUnit, Listener, Member, Record, TopicSpec
from stream.batches import batches
from stream.errors import LogError, UnknownTopic
from stream.groups import GroupMember, Groups
from stream.kafka_members import Membership
from stream.kafka_offsets import NOBODY, Offsets, Standing
from stream.kafka_reader import Reader
from stream.kafka_state import STATE, States, parcels
from stream.kafka_topics import Settings, Topics, now_ms, wrong
from stream.kafka_wire import Access, Wire
from stream.kafka_writer import Entry, Parcel, Writer
from stream.topic_rules import check_specs, unknown_topic
from stream.wakeups import Wakeups

POLL_S = 0.05
"""How often a waiting reader looks for appends of other processes."""

FENCE_S = 1.0
"""A commit that took longer than this to get its outputs out asks again whether it is still a member."""

MAX_UNFINISHED = 256


class KafkaLog:
    """A `Log` on a Kafka cluster. One event loop owns it. Nothing is opened before the first call.

    Every call waits `patience_s` for a cluster that is away, then raises `LogUnavailable`; it works again by itself. A
    wrong password, an unknown authority or a missing access list entry is a `LogError` at once. After `LogUnavailable`
    the same unit, committed again, lands once (the same object; from another process: at least once).

    Args:
        access: where the cluster is and how one gets in.
        prefix: put before every topic and group name, so that several installations share a cluster.
        instance: static member id of this process, None = dynamic.
        replication: copies of new topics; default 3, or as many as there are brokers.
        session_ms: how long a silent process keeps its partitions.
    """

    def __init__(
        self,
        access: Access,
        prefix: str = "",
        instance: str | None = None,
        replication: int | None = None,
        patience_s: float = 10.0,
        session_ms: int = 10_000,
    ) -> None:
        self._prefix = prefix
        self._instance = instance
        self._session_ms = session_ms
        self._wire = Wire(access, patience_s)
        self._sending = Wire(access, patience_s)  # an append waiting for replicas does not hold up a read
        self._topics = Topics(self._wire, replication)
        self._reader = Reader(self._wire)
        self._writer = Writer(self._sending)
        self._offsets = Offsets(self._sending)
        self._states = States(self._reader, prefix + STATE.name)
        self._under_way: set[asyncio.Future[None]] = set()
        self._groups = Groups(self._landed)
        self._places: dict[tuple[str, str], _Place] = {}
        self._unfinished: dict[int, tuple[CommitUnit, list[Parcel], list[Parcel]]] = {}
        self._wakeups = Wakeups()

    @property
    def access(self) -> Access:
        """How one gets in, for clients of another kind."""
        return self._wire.access

    @property
    def prefix(self) -> str:
        return self._prefix

    @property
    def instance(self) -> str | None:
        return self._instance

    async def ensure(self, topics: Iterable[TopicSpec]) -> None:
        """Create missing topics, and the one the state lies on.

        Raises:
            LogError: an existing topic has another partition count, or a setting that would lose data; it names both.
        """
        wanted = list(topics)
        await self._wire.steady(self._wire.heard, "topics")
        counts = await self._counts()
        there = [spec.name for spec in (*wanted, STATE) if spec.name in counts]
        settings = await self._described(there)
        existing = {name: TopicSpec(name, counts[name], s.retention_ms, s.compact) for name, s in settings.items()}
        changed = check_specs([*wanted, STATE], existing)
        fresh = [spec for spec in changed if spec.name not in existing]
        longer = []
        for spec in changed:
            found = settings.get(spec.name)
            if found is None:
                continue
            if problem := wrong(spec.name, spec, found):
                raise LogError(f"{self._wire.where}: {problem}; alter the topic, or use another")
            if found.retention_ms >= 0 and (spec.retention_ms < 0 or spec.retention_ms > found.retention_ms):
                longer.append(spec)
        made = set(await self._topics.create(map(self._named, fresh)))
        for spec in longer:
            await self._topics.keep_longer(self._named(spec))
        others = [spec for spec in fresh if self._named(spec).name not in made]
        if others:  # somebody made them since we looked: they are checked as those that were there
            await self.ensure(others)

    async def topics(self) -> list[TopicSpec]:
        await self._wire.steady(self._wire.heard, "topics")
        counts = await self._counts()
        found = await self._described([name for name in counts if name != STATE.name])
        return sorted((TopicSpec(n, counts[n], s.retention_ms, s.compact) for n, s in found.items()), key=_name)

    async def read(
        self, topic: str, partition: int, offset: int, max_records: int, max_wait_s: float = 0.0
    ) -> list[Record]:
        await self._known(topic, partition)
        place = (self._prefix + topic, partition)

        async def look() -> list[Record]:
            self._wire.check_open()
            return await self._reader.read(place, offset, max_records)

        return await self._wakeups.poll((topic, partition), look, max_wait_s, POLL_S)

    async def span(self, topic: str) -> list[tuple[int, int]]:
        count = await self._known(topic, 0)
        ends = await self._reader.ends(self._prefix + topic, range(count))
        return [ends[p] for p in range(count)]

    async def committed(self, group: str, topic: str) -> list[int]:
        count = await self._known(topic, 0)
        return await self._offsets.committed(self._group(group, topic), self._prefix + topic, count)

    async def restore(self, group: str, prefix: str) -> dict[str, bytes]:
        self._wire.check_open()
        if await self._wire.count(self._prefix + STATE.name) is None:
            return {}
        return await self._states.restore(group, prefix)

    async def commit(self, unit: CommitUnit) -> None:
        """See `stream.base.Sink.commit`; here all or nothing holds for the state alone.

        Raises:
            Fenced: the membership is over; unless it ended during this very commit, nothing was written.
            LogUnavailable: what is missing is sent when the same unit is committed again.
        """
        self._wire.check_open()
        self._groups.check(unit)
        with self._counted():
            standings = {topic: self._standing(unit, topic) for topic in self._places_of(unit)}
            outputs, state = await self._prepared(unit)
            await self._still_members(unit, standings)
            began = time.monotonic()
            try:
                await self._writer.send(outputs)
                if state:
                    if time.monotonic() - began > FENCE_S:  # suspended meanwhile, perhaps
                        await self._still_members(unit, standings)
                    await self._writer.send(state)
                for topic in {topic for topic, _ in unit.offsets}:
                    offsets = {p: offset for (t, p), offset in unit.offsets.items() if t == topic}
                    await self._offsets.commit(
                        self._group(unit.group, topic), self._prefix + topic, offsets, standings[topic]
                    )
            except LogError as error:
                if error.retriable:
                    self._remember(unit, outputs, state)
                raise
            finally:
                self._wakeups.wake({(p.topic.removeprefix(self._prefix), p.partition) for p in outputs if p.done})

    async def join(self, group: str, topic: str, listener: Listener) -> Member:
        self._wire.check_open()
        await self._known(topic, 0)
        place = self._places.get((group, topic))
        if place is None:
            place = self._places[group, topic] = _Place(self._groups, group, topic, self._membership(group, topic))
        return await place.join(listener)

    async def close(self) -> None:
        self._groups.close()
        self._wire.closed = self._sending.closed = True
        self._wakeups.wake_all()
        self._states.close()
        places, self._places = list(self._places.values()), {}
        for place in places:
            await place.membership.stop()
        await self._reader.close()
        await self._sending.close()
        await self._wire.close()

    def _membership(self, group: str, topic: str) -> Membership:
        async def told(partitions: Sequence[int]) -> None:
            await self._groups.resize(group, topic, partitions)

        return Membership(
            self._wire, self._group(group, topic), self._prefix + topic, told, self._instance, self._session_ms
        )

    def _places_of(self, unit: CommitUnit) -> set[str]:
        """Topics whose membership the work was done under: those of the offsets, or all the group has here."""
        named = {topic for topic, _ in unit.offsets}
        if named or unit.generation is None:
            return named
        return {topic for group, topic in self._places if group == unit.group}

    def _standing(self, unit: CommitUnit, topic: str) -> Standing:
        """In whose name the offsets of `topic` are committed."""
        place = self._places.get((unit.group, topic))
        if unit.generation is None or place is None:
            return NOBODY
        place.membership.check()
        return place.membership.standing or NOBODY

    async def _still_members(self, unit: CommitUnit, standings: Mapping[str, Standing]) -> None:
        for topic, standing in standings.items():
            if standing != NOBODY:
                await self._offsets.check(self._group(unit.group, topic), standing)

    async def _prepared(self, unit: CommitUnit) -> tuple[list[Parcel], list[Parcel]]:
        """Outputs and state as parcels, all checked before the first is sent; those of a retried unit as they were."""
        kept = self._unfinished.pop(id(unit), None)
        if kept is not None:
            return kept[1], kept[2]
        for topic, partition in unit.offsets:
            await self._known(topic, partition)
        cut = list(batches(unit.outputs))
        for batch in cut:
            await self._known(batch.topic, batch.partition)
        now = now_ms()
        outputs: list[Parcel] = []
        for batch in cut:
            settings = await self._topics.settings(self._prefix + batch.topic)
            keyed, oldest = all(e[0] is not None for e in batch.entries), min(e[2] for e in batch.entries)
            settings.check(batch.topic, keyed, oldest, batch.newest_ms, now)
            outputs += _cut(self._prefix + batch.topic, batch.partition, batch.entries, settings)
        if unit.state and await self._wire.count(self._prefix + STATE.name) is None:
            await self._topics.create([self._named(STATE)])
        return outputs, parcels(self._prefix + STATE.name, unit.group, unit.state, now)

    def _remember(self, unit: CommitUnit, outputs: list[Parcel], state: list[Parcel]) -> None:
        if len(self._unfinished) >= MAX_UNFINISHED:
            del self._unfinished[next(iter(self._unfinished))]
        self._unfinished[id(unit)] = (unit, outputs, state)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """A commit under way, for those who have to wait until it landed or failed."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._under_way.add(done)
        try:
            yield
        finally:
            self._under_way.discard(done)
            done.set_result(None)

    async def _landed(self) -> None:
        if self._under_way:
            await asyncio.wait(set(self._under_way))

    async def _known(self, topic: str, partition: int) -> int:
        self._wire.check_open()
        count = await self._wire.count(self._prefix + topic, partition)
        if count is None or not 0 <= partition < count:
            raise await self._unknown(topic, partition)
        return count

    async def _unknown(self, topic: str, partition: int) -> UnknownTopic:
        counts = await self._counts()
        return unknown_topic(
            topic, partition, {name: TopicSpec(name, n) for name, n in counts.items() if name != STATE.name}
        )

    async def _counts(self) -> dict[str, int]:
        """Partitions by topic, our names."""
        counts = await self._wire.steady(self._wire.partitions, "topics")
        cut = len(self._prefix)
        return {name[cut:]: n for name, n in counts.items() if name.startswith(self._prefix) and name != self._prefix}

    async def _described(self, topics: list[str]) -> dict[str, Settings]:
        found = await self._topics.describe([self._prefix + topic for topic in topics])
        return {name[len(self._prefix) :]: settings for name, settings in found.items()}

    def _named(self, spec: TopicSpec) -> TopicSpec:
        return TopicSpec(self._prefix + spec.name, spec.partitions, spec.retention_ms, spec.compact)

    def _group(self, group: str, topic: str) -> str:
        return f"{self._prefix}{group}/{topic}"


class _Place:
    """The workers of this process in one group on one topic, behind one membership of the Kafka group."""

    def __init__(self, groups: Groups, group: str, topic: str, membership: Membership) -> None:
        self.membership = membership
        self._groups = groups
        self._group = group
        self._topic = topic
        self._entering = 0
        self._changing = asyncio.Lock()

    async def join(self, listener: Listener) -> Member:
        self._entering += 1
        try:
            async with self._changing:
                await self.membership.start()
            member = await self._groups.join(self._group, self._topic, None, listener)
        finally:
            self._entering -= 1
            await self.settle()
        return _KafkaMember(member, self)

    async def settle(self) -> None:
        """Give up the membership once nobody here is left, so that the cluster gives the partitions to others."""
        async with self._changing:
            if self._entering == 0 and self._groups.count(self._group, self._topic) == 0:
                await self.membership.stop()


class _KafkaMember:
    """A worker's membership: that of the process, shared."""

    def __init__(self, member: GroupMember, place: _Place) -> None:
        self._member = member
        self._place = place

    @property
    def generation(self) -> int:
        return self._member.generation

    @property
    def partitions(self) -> tuple[int, ...]:
        return self._member.partitions

    async def leave(self) -> None:
        try:
            await self._member.leave()
        finally:
            await self._place.settle()


def _cut(topic: str, partition: int, entries: Sequence[Entry], settings: Settings) -> Iterator[Parcel]:
    """Parcels small enough for the topic, by size before compression."""
    begin = size = 0
    for k, (key, value, _) in enumerate(entries):
        bytes_ = len(key or b"") + len(value or b"") + 64
        if k > begin and size + bytes_ > settings.max_bytes - 128:
            yield Parcel(topic, partition, entries[begin:k], settings.max_bytes)
            begin, size = k, 0
        size += bytes_
    yield Parcel(topic, partition, entries[begin:], settings.max_bytes)


def _name(spec: TopicSpec) -> str:
    return spec.name
