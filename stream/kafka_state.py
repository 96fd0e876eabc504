"""State of groups on Kafka: a compacted topic, one record a key, one batch a commit.

A batch is appended as a whole or not at all, so the state of one commit is never half there; only beyond
`BATCH_BYTES` it goes as several. A value has `MARK` before it; without, the key is deleted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from stream.base import Record, TopicSpec
from stream.errors import LogError
from stream.kafka_reader import Reader
from stream.kafka_topics import MAX_MESSAGE_BYTES
from stream.kafka_writer import Entry, Parcel

STATE = TopicSpec("affect.state.v1", 1, -1, compact=True)
BATCH_BYTES = MAX_MESSAGE_BYTES - (1 << 16)
READ = 4_096
MARK = b"="
KEEP_S = 60.0
"""How long the state read for a restore is kept, so that partitions coming together read it once."""


def parcels(topic: str, group: str, state: Mapping[str, bytes | None], now_ms: int) -> list[Parcel]:
    """The state of a commit as records for `topic`."""
    found: list[Parcel] = []
    entries: list[Entry] = []
    size = 0
    for key, value in state.items():
        name = _key(group, key)
        bytes_ = len(name) + (0 if value is None else len(value)) + 32
        if bytes_ > BATCH_BYTES:
            raise LogError(
                f"state {key!r} of group {group!r} has {bytes_} bytes, at most {BATCH_BYTES}; nothing was written"
            )
        if entries and size + bytes_ > BATCH_BYTES:
            found.append(Parcel(topic, 0, entries, MAX_MESSAGE_BYTES))
            entries, size = [], 0
        entries.append((name, None if value is None else MARK + value, now_ms))
        size += bytes_
    if entries:
        found.append(Parcel(topic, 0, entries, MAX_MESSAGE_BYTES))
    return found


def _key(group: str, key: str) -> bytes:
    try:
        return f"{group}\0{key}".encode()
    except UnicodeEncodeError as error:
        raise LogError(f"state key {key!r} of group {group!r} is not text: {error}; nothing was written") from error


class States:
    """Reads the state topic to its end, and only what is new the next time."""

    def __init__(self, reader: Reader, topic: str) -> None:
        self._reader = reader
        self._topic = topic
        self._lock = asyncio.Lock()
        self._held: dict[str, dict[str, bytes]] = {}
        self._at = 0
        self._forget: asyncio.TimerHandle | None = None

    async def restore(self, group: str, prefix: str) -> dict[str, bytes]:
        """All state of `group` whose key starts with `prefix`, as of now."""
        async with self._lock:
            self._later(None)
            _, end = (await self._reader.ends(self._topic, (0,)))[0]
            while self._at < end:
                records = await self._reader.read((self._topic, 0), self._at, READ)
                if not records:
                    break
                for record in records:
                    self._apply(record)
                self._at = records[-1].offset + 1
            self._later(self._drop)
            return {k: v for k, v in self._held.get(group, {}).items() if k.startswith(prefix)}

    def close(self) -> None:
        self._later(None)
        self._drop()

    def _apply(self, record: Record) -> None:
        group, _, key = (record.key or b"").decode().partition("\0")
        if record.value.startswith(MARK):
            self._held.setdefault(group, {})[key] = record.value[len(MARK) :]
        else:
            self._held.get(group, {}).pop(key, None)

    def _drop(self) -> None:
        self._held, self._at, self._forget = {}, 0, None

    def _later(self, act: Callable[[], None] | None) -> None:
        if self._forget is not None:
            self._forget.cancel()
        self._forget = None if act is None else asyncio.get_running_loop().call_later(KEEP_S, act)
