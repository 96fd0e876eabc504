"""Kafka topics as they should be: made with the right settings, and found out where somebody made them otherwise.

What a setting can do to the data: `retention.ms` counts from a record's timestamp, so under CreateTime a post of last
year is deleted the moment it is written; a topic compacted by mistake keeps one record of each key.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from aiokafka.protocol.admin import AlterConfigsRequest, CreateTopicsRequest, DescribeConfigsRequest

from stream.base import TopicSpec
from stream.errors import LogError
from stream.kafka_wire import Refused, Wire, expect

TOPIC = 2
"""Kafka's number for a resource that is a topic."""

DYNAMIC = 1
"""Config source: set on this very topic."""

EXISTS, NOT_ALLOWED = 36, 29
FOR_EVER = 2**63 - 1
WEEK_MS = 7 * 86_400_000
MAX_MESSAGE_BYTES = 16 << 20
COMPACT_SEGMENT_BYTES = 32 << 20
"""The open segment is never compacted, and a restart reads it: kept small."""

NAMES = (
    "cleanup.policy",
    "retention.ms",
    "max.message.bytes",
    "message.timestamp.type",
    "message.timestamp.before.max.ms",
    "message.timestamp.after.max.ms",
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What a topic does to its records. `before_ms`, `after_ms`: how far from now a given timestamp may lie."""

    compact: bool = False
    retention_ms: int = -1
    max_bytes: int = 1_048_588
    append_time: bool = False
    before_ms: int = FOR_EVER
    after_ms: int = FOR_EVER

    def check(self, topic: str, keys: bool, oldest_ms: int, newest_ms: int, now_ms: int) -> None:
        """Refuse what the broker would: a refused batch costs its producer.

        Args:
            keys: every record has a key.
            oldest_ms, newest_ms: of the records' timestamps.
        """
        if self.compact and not keys:
            raise LogError(f"topic {topic!r} is compacted (cleanup.policy): every record needs a key, one has none")
        if self.append_time:
            return
        if newest_ms - now_ms > self.after_ms:
            raise LogError(
                f"topic {topic!r}: a record is stamped {newest_ms - now_ms} ms in the future, the topic takes "
                f"{self.after_ms} (message.timestamp.after.max.ms)"
            )
        if now_ms - oldest_ms > self.before_ms:
            raise LogError(
                f"topic {topic!r}: a record is stamped {now_ms - oldest_ms} ms in the past, the topic takes "
                f"{self.before_ms} (message.timestamp.before.max.ms)"
            )


def configs(spec: TopicSpec) -> dict[str, str]:
    """The settings `spec` is made with."""
    found = {"retention.ms": str(spec.retention_ms), "max.message.bytes": str(MAX_MESSAGE_BYTES)}
    keeps = spec.retention_ms < 0
    found["cleanup.policy"] = ("compact" if keeps else "compact,delete") if spec.compact else "delete"
    if keeps:
        # Kept for ever: event times may be as old or as odd as they like, and never begin a new file.
        found |= {"message.timestamp.type": "CreateTime", "message.timestamp.after.max.ms": str(FOR_EVER)}
        found["segment.ms"] = str(FOR_EVER)
    else:
        found["message.timestamp.type"] = "LogAppendTime"
        found["segment.ms"] = str(min(WEEK_MS, max(60_000, spec.retention_ms)))  # only whole segments are deleted
    if spec.compact:
        found["segment.bytes"] = str(COMPACT_SEGMENT_BYTES)
        found["min.cleanable.dirty.ratio"] = "0.2"
    return found


def wrong(name: str, spec: TopicSpec, found: Settings) -> str | None:
    """What is dangerous about an existing topic, naming the setting; None where it will do."""
    if found.compact != spec.compact:
        policy = "compact" if found.compact else "delete"
        return f"topic {name!r}: cleanup.policy is {policy}, expected {configs(spec)['cleanup.policy']}"
    if not found.append_time and found.retention_ms >= 0:
        return (
            f"topic {name!r}: retention.ms is {found.retention_ms} with message.timestamp.type CreateTime: records "
            f"with old event times are deleted at once; expected retention.ms -1, or LogAppendTime"
        )
    return None


class Topics:
    """Makes, describes and checks topics; remembers their settings."""

    def __init__(self, wire: Wire, replication: int | None = None) -> None:
        self._wire = wire
        self._replication = replication
        self._settings: dict[str, Settings] = {}

    async def settings(self, topic: str) -> Settings:
        """Of an existing topic; Kafka's defaults where we may not look."""
        found = self._settings.get(topic)
        if found is None:
            found = (await self.describe([topic])).get(topic, Settings(after_ms=3_600_000))
            self._settings[topic] = found
        return found

    async def describe(self, topics: Iterable[str]) -> dict[str, Settings]:
        """The settings of existing topics; those we may not look at are left out."""
        raw = await self._wire.steady(lambda: self._describe(list(topics)), "describe topics")
        return {topic: _settings(values) for topic, (values, _) in raw.items()}

    async def create(self, specs: Iterable[TopicSpec]) -> list[str]:
        """Make topics that are not there; those somebody else made meanwhile are left. Returns the names made."""
        wanted = list(specs)
        if not wanted:
            return []
        made = await self._wire.steady(lambda: self._create(wanted), "create topics")
        asked = {spec.name: spec.partitions for spec in wanted if spec.name in made}
        others = [spec.name for spec in wanted if spec.name not in made]
        await self._wire.steady(lambda: self._led(asked, others), "create topics")
        return made

    async def keep_longer(self, spec: TopicSpec) -> None:
        """Raise the retention of an existing topic, the only change ever made to one: it loses no data."""

        async def act() -> None:
            _, own = (await self._describe([spec.name]))[spec.name]
            # The request replaces all settings of the topic, so those that stay go along.
            values = sorted((own | {"retention.ms": str(spec.retention_ms)}).items())
            answer = await self._wire.ask_controller(AlterConfigsRequest([(TOPIC, spec.name, values)]))
            code, detail, _, _ = answer.resources[0]
            expect(code, f"topic {spec.name!r}", detail)

        await self._wire.steady(act, f"alter topic {spec.name}")
        self._settings.pop(spec.name, None)

        async def seen() -> None:
            if (await self.describe([spec.name]))[spec.name].retention_ms != spec.retention_ms:
                raise Refused(7, f"topic {spec.name!r}", "the new retention.ms is not visible yet")

        await self._wire.steady(seen, f"alter topic {spec.name}")

    async def _describe(self, topics: list[str]) -> dict[str, tuple[Mapping[str, str], dict[str, str]]]:
        """Per topic: the values of NAMES, and everything that is set on the topic itself."""
        found: dict[str, tuple[Mapping[str, str], dict[str, str]]] = {}
        if not topics:
            return found
        answer = await self._wire.ask_any(DescribeConfigsRequest([(TOPIC, topic, None) for topic in topics]))
        for code, detail, _, topic, entries in answer.resources:
            if code == NOT_ALLOWED:
                continue
            expect(code, f"topic {topic!r}", detail)
            values = {entry[0]: entry[1] for entry in entries if entry[0] in NAMES}
            found[topic] = (values, {entry[0]: entry[1] for entry in entries if entry[3] == DYNAMIC})
        return found

    async def _create(self, wanted: list[TopicSpec]) -> list[str]:
        copies = self._replication or min(3, await self._wire.brokers())
        extra = {"min.insync.replicas": str(copies - 1)} if copies >= 3 else {}
        nowhere: list[tuple[int, list[int]]] = []  # the cluster chooses the brokers
        asked = [
            (spec.name, spec.partitions, copies, nowhere, sorted((configs(spec) | extra).items())) for spec in wanted
        ]
        answer = await self._wire.ask_controller(CreateTopicsRequest(asked, 30_000, False))
        made = []
        for topic, code, *detail in answer.topic_errors:
            if code != EXISTS:
                expect(code, f"topic {topic!r}", detail[0] if detail else None)
                made.append(topic)
        return made

    async def _led(self, made: Mapping[str, int], others: Sequence[str]) -> None:
        """Every partition has a leader that we know of; of the topics somebody else made, as many as there are."""
        await self._wire.heard()
        there = await self._wire.partitions()
        for topic in others:
            if topic not in there:
                raise Refused(5, f"topic {topic!r}", "somebody else made it and it is not visible yet")
        for topic, partitions in {**made, **{topic: there[topic] for topic in others}}.items():
            for partition in range(partitions):
                await self._wire.leader(topic, partition)


def _settings(values: Mapping[str, str]) -> Settings:
    return Settings(
        compact="compact" in values["cleanup.policy"],
        retention_ms=max(-1, int(values["retention.ms"])) if "delete" in values["cleanup.policy"] else -1,
        max_bytes=int(values["max.message.bytes"]),
        append_time=values["message.timestamp.type"] == "LogAppendTime",
        before_ms=int(values.get("message.timestamp.before.max.ms", FOR_EVER)),
        after_ms=int(values.get("message.timestamp.after.max.ms", FOR_EVER)),
    )


def now_ms() -> int:
    """The machine's time, as brokers compare timestamps with."""
    return time.time_ns() // 1_000_000
