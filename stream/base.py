"""The words of the stream floor: records with offsets, the unit of commit, and the log that holds both.

`memory://`, `sqlite:///PATH` and `kafka://` are three siblings behind `Log`; one conformance suite runs over all.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import msgspec


class Record(msgspec.Struct, frozen=True, gc=False):
    """One message as the log holds it. `timestamp_ms`: append time (or what the producer gave), epoch milliseconds.

    A struct and no tuple: there is one for every message read, and it is made in a quarter of the time.
    """

    offset: int
    key: bytes | None
    value: bytes
    timestamp_ms: int


class Output(NamedTuple):
    """One message to append. `partition` is chosen by the caller (see `partition_of`)."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes
    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as it should be. `retention_ms` -1 = for ever. `compact` keeps the newest record of each key."""

    name: str
    partitions: int = 1
    retention_ms: int = -1
    compact: bool = False


@dataclass(frozen=True, slots=True)
class CommitUnit:
    """Everything one step of work changes; on embedded logs it is one atomic transaction.

    Attributes:
        group: consumer group the offsets and the state belong to.
        offsets: (topic, partition) -> next offset to read.
        state: key -> value, None deletes. Keys are the caller's, unique within the group.
        outputs: messages to append, in order.
        generation: the `Member.generation` the work was done under, None = not a group member. A stale one is `Fenced`.
    """

    group: str
    offsets: Mapping[tuple[str, int], int] = field(default_factory=dict)
    state: Mapping[str, bytes | None] = field(default_factory=dict)
    outputs: Sequence[Output] = ()
    generation: int | None = None


class Source(Protocol):
    """The reading half of a log."""

    async def read(
        self, topic: str, partition: int, offset: int, max_records: int, max_wait_s: float = 0.0
    ) -> list[Record]:
        """Records from `offset` on, in order, at most `max_records`; waits up to `max_wait_s` for the first one.

        Offsets below the log's start (trimmed) are skipped: the first record returned may lie beyond `offset`.
        Empty when nothing came in time.

        Raises:
            UnknownTopic, LogUnavailable, LogCorrupt.
        """
        ...

    async def span(self, topic: str) -> list[tuple[int, int]]:
        """(first offset, next offset) of each partition of `topic`, in partition order."""
        ...

    async def committed(self, group: str, topic: str) -> list[int]:
        """Next offset to read per partition as committed by `group`; 0 where nothing was."""
        ...

    async def restore(self, group: str, prefix: str) -> dict[str, bytes]:
        """All state of `group` whose key starts with `prefix`."""
        ...


class Sink(Protocol):
    """The writing half of a log."""

    async def commit(self, unit: CommitUnit) -> None:
        """Make `unit` durable: outputs appended, state and offsets stored, all or nothing on embedded logs.

        Raises:
            Fenced: `unit.generation` is stale; nothing was written.
            LogUnavailable: nothing was written; the same unit may be committed again later.
        """
        ...


class Listener(Protocol):
    """Told by the log when partitions come and go. `revoked` must drain and commit before it returns."""

    async def assigned(self, partitions: Sequence[int], generation: int) -> None: ...

    async def revoked(self, partitions: Sequence[int]) -> None: ...


class Member(Protocol):
    """One member of a consumer group: partitions of one topic, each owned by exactly one live member."""

    @property
    def generation(self) -> int: ...

    @property
    def partitions(self) -> tuple[int, ...]: ...

    async def leave(self) -> None:
        """Give the partitions back (`revoked` is called first), and let the others take them. Idempotent."""
        ...


class Log(Source, Sink, Protocol):
    """A partitioned, replayable log with consumer groups, offsets and state."""

    async def ensure(self, topics: Iterable[TopicSpec]) -> None:
        """Create missing topics; an existing one with another partition count is a `LogError` that names both."""
        ...

    async def join(self, group: str, topic: str, listener: Listener) -> Member:
        """Become a member of `group` on `topic`. Every live member is told of its change before this returns."""
        ...

    async def topics(self) -> list[TopicSpec]:
        """What exists, sorted by name."""
        ...

    async def close(self) -> None:
        """Release files and connections. Idempotent; a closed log raises LogError on use."""
        ...


def partition_of(key: bytes, partitions: int) -> int:
    """Partition for `key`: crc32 mod partitions. The same id always lands on the same partition."""

    return zlib.crc32(key) % partitions
