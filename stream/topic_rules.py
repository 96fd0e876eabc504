"""What every embedded log holds topics to: legal names, fixed partition counts, and when old records may go."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from stream.base import TopicSpec
from stream.errors import LogError, UnknownTopic

MAX_PARTITIONS = 4096
"""More would be a slip of the pen: every partition is a lane in every table."""

_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}")
_TRIM_AT_MOST_EVERY_MS = 60_000


def check_specs(wanted: Iterable[TopicSpec], existing: Mapping[str, TopicSpec]) -> list[TopicSpec]:
    """The topics of `wanted` that have to be written: new ones, and known ones whose retention or compaction changed.

    Raises:
        LogError: a name Kafka would refuse, no or too many partitions, or a known topic with another partition count.
    """
    known = dict(existing)
    changed: dict[str, TopicSpec] = {}
    for spec in wanted:
        if _NAME.fullmatch(spec.name) is None or spec.name in {".", ".."}:
            raise LogError(f"topic {spec.name!r}: expected 1 to 249 characters out of A-Z a-z 0-9 . _ -; rename it")
        if not 1 <= spec.partitions <= MAX_PARTITIONS:
            raise LogError(f"topic {spec.name!r}: expected 1 to {MAX_PARTITIONS} partitions, got {spec.partitions}")
        old = known.get(spec.name)
        if old is not None and old.partitions != spec.partitions:
            raise LogError(
                f"topic {spec.name!r} has {old.partitions} partitions, asked for {spec.partitions}; the count never "
                f"changes (keys would move): ask for {old.partitions}, or use a new topic"
            )
        if old != spec:
            known[spec.name] = changed[spec.name] = spec
    return list(changed.values())


def unknown_topic(topic: str, partition: int | None, existing: Mapping[str, TopicSpec]) -> UnknownTopic:
    """The error for a topic or partition that is not there, saying what is."""
    spec = existing.get(topic)
    if spec is None:
        return UnknownTopic(f"no topic {topic!r}; there are: {', '.join(sorted(existing)) or 'none yet (ensure them)'}")
    return UnknownTopic(f"topic {topic!r} has no partition {partition}; it has 0 to {spec.partitions - 1}")


def trim_due(retention_ms: int, last_ms: int | None, now_ms: int) -> bool:
    """Whether a topic is looked through for old batches now: at most each tenth of its retention, and each minute.

    Args:
        retention_ms: of the topic, -1 = for ever.
        last_ms: processing time of the last look, None = never.
        now_ms: processing time.
    """
    if retention_ms < 0:
        return False
    return last_ms is None or abs(now_ms - last_ms) >= min(_TRIM_AT_MOST_EVERY_MS, retention_ms // 10)
