"""Reading from Kafka by offset: what the log asks for next is mostly here already, fetched and not yet unpacked.

A cursor is where somebody reads on in one partition: the offset asked for next, the batches fetched beyond it, and the
next fetch under way. Reads of several partitions at one moment go out as one request. Records of aborted transactions
and control records are left out.
"""

from __future__ import annotations

import asyncio
import struct
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from aiokafka.errors import CorruptRecordException, UnsupportedCodecError
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.record.control_record import ABORT_MARKER, ControlRecord
from aiokafka.record.memory_records import MemoryRecords

from stream.base import Record
from stream.errors import LogCorrupt, LogError
from stream.kafka_wire import Refused, Wire, expect

Place = tuple[str, int]

FETCH_BYTES = 1 << 20
"""Of one partition in one answer; a single larger batch comes whole."""

ANSWER_BYTES = 16 << 20
"""Of all partitions in one answer."""

READ_BYTES = 8 << 20
"""A read ends with the batch that passes this, however many records were asked for."""

MAX_CURSORS = 64
"""Cursors with something in hand, each at most two fetches; beyond, the one unused longest is dropped."""

COMMITTED_ONLY = 1
OUT_OF_RANGE = 1
EARLIEST, LATEST = -2, -1

# Layout of a record batch, for finding where the last one ends without unpacking any.
_BASE_AND_LENGTH, _LAST_DELTA = struct.Struct(">qi"), struct.Struct(">i")
_BEFORE_LENGTH, _MAGIC, _LAST_DELTA_AT, _HEAD = 12, 16, 23, 27


class _Fetched(NamedTuple):
    """An answer for one partition: raw batches, where to fetch next, and the offset behind the last readable record."""

    body: bytes
    through: int
    end: int
    aborted: list[tuple[int, int]]


@dataclass(slots=True)
class _Cursor:
    """`next`: offset its reader asks for next; `fetch_at`: where the next fetch begins; `end`: of the log, as heard."""

    next: int
    fetch_at: int
    end: int = 0
    unpacked: list[Record] = field(default_factory=list)
    at: int = 0
    batches: Iterator[list[Record]] | None = None
    ahead: asyncio.Task[_Fetched] | None = None

    def take(self, count: int, room: int) -> tuple[list[Record], int]:
        """Up to `count` records in hand and their bytes; ends with the batch that passes `room` bytes."""
        found: list[Record] = []
        size = 0
        while len(found) < count and size < room:
            part = self.unpacked[self.at : self.at + count - len(found)]
            self.at += len(part)
            found += part
            size += sum([len(record.value) for record in part])
            if self.at < len(self.unpacked):
                continue
            self.unpacked, self.at = [], 0
            if self.batches is None:
                break
            self.unpacked = next(self.batches, [])
            if not self.unpacked:
                self.batches = None
        if found:
            self.next = found[-1].offset + 1
        return found, size

    @property
    def holds(self) -> bool:
        return self.batches is not None or self.at < len(self.unpacked) or self.ahead is not None


class Reader:
    """Reads any partition at any offset. One event loop owns it."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._cursors: OrderedDict[tuple[Place, int], _Cursor] = OrderedDict()
        self._asked: dict[int, list[tuple[Place, int, asyncio.Future[_Fetched]]]] = {}
        self._asking: dict[int, asyncio.Task[None]] = {}

    async def read(self, place: Place, offset: int, max_records: int) -> list[Record]:
        """Up to `max_records` from `offset` on; fewer where the partition ends, and beyond `READ_BYTES`.

        A tombstone reads as b"".

        Raises:
            LogUnavailable, LogCorrupt, LogError.
        """
        offset = max(0, offset)
        cursor = self._cursors.pop((place, offset), None)
        if cursor is None:
            cursor = _Cursor(offset, offset)
        found: list[Record] = []
        size = 0
        while max_records > 0:
            taken, bytes_ = cursor.take(max_records - len(found), READ_BYTES - size)
            found += taken
            size += bytes_
            if len(found) >= max_records or size >= READ_BYTES or (found and cursor.fetch_at >= cursor.end):
                break
            fetched, cursor.ahead = await self._next(place, cursor), None
            self._feed(place, cursor, fetched)
            if not fetched.body and cursor.fetch_at >= cursor.end:
                break
        if found:
            self._keep(place, cursor)
        return found

    async def ends(self, topic: str, partitions: Sequence[int]) -> dict[int, tuple[int, int]]:
        """(first offset, next offset) of each of `partitions`."""

        async def one(node: int, which: int, asked: list[int]) -> dict[int, int]:
            request = OffsetRequest(-1, COMMITTED_ONLY, [(topic, [(p, which) for p in asked])])
            answer = await self._wire.ask(node, request)
            found: dict[int, int] = {}
            for _, lanes in answer.topics:
                for partition, code, _, offset in lanes:
                    expect(code, f"{topic}[{partition}]")
                    found[partition] = offset
            return found

        async def act() -> dict[int, tuple[int, int]]:
            by_leader: dict[int, list[int]] = {}
            for p in partitions:
                by_leader.setdefault(await self._wire.leader(topic, p), []).append(p)
            firsts: dict[int, int] = {}
            nexts: dict[int, int] = {}
            for node, asked in by_leader.items():
                firsts |= await one(node, EARLIEST, asked)
                nexts |= await one(node, LATEST, asked)
            return {p: (firsts[p], nexts[p]) for p in partitions}

        return await self._wire.steady(act, f"offsets of {topic}")

    async def close(self) -> None:
        for cursor in self._cursors.values():
            if cursor.ahead is not None:
                cursor.ahead.cancel()
        self._cursors.clear()
        for task in self._asking.values():
            task.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)

    def _keep(self, place: Place, cursor: _Cursor) -> None:
        if cursor.ahead is None and cursor.fetch_at < cursor.end:
            cursor.ahead = asyncio.create_task(self._fetch(place, cursor.fetch_at), name="kafka-ahead")
            cursor.ahead.add_done_callback(lambda task: task.cancelled() or task.exception())
        if cursor.holds:
            self._cursors[place, cursor.next] = cursor
            if len(self._cursors) > MAX_CURSORS:
                _, dropped = self._cursors.popitem(last=False)
                if dropped.ahead is not None:
                    dropped.ahead.cancel()

    async def _next(self, place: Place, cursor: _Cursor) -> _Fetched:
        if cursor.ahead is not None:
            return await cursor.ahead
        return await self._fetch(place, cursor.fetch_at)

    def _feed(self, place: Place, cursor: _Cursor, fetched: _Fetched) -> None:
        cursor.end = fetched.end
        cursor.fetch_at = max(cursor.fetch_at, fetched.through)
        if fetched.body:
            cursor.batches = _unpack(fetched, place, cursor.next)

    async def _fetch(self, place: Place, offset: int) -> _Fetched:
        """What lies at `offset` and beyond, or at the first offset there is; an empty body at the end."""

        async def act() -> _Fetched:
            node = await self._wire.leader(*place)
            future: asyncio.Future[_Fetched] = asyncio.get_running_loop().create_future()
            self._asked.setdefault(node, []).append((place, offset, future))
            if node not in self._asking or self._asking[node].done():
                self._asking[node] = asyncio.create_task(self._ask(node), name=f"kafka-fetch-{node}")
            return await future

        return await self._wire.steady(act, f"read {place[0]}[{place[1]}]")

    async def _ask(self, node: int) -> None:
        """Send what is asked of `node`, one request at a time, until nothing is."""
        while self._asked.get(node):
            now: dict[Place, tuple[int, asyncio.Future[_Fetched]]] = {}
            later: list[tuple[Place, int, asyncio.Future[_Fetched]]] = []
            for place, offset, future in self._asked.pop(node):
                if future.done():
                    continue
                if place in now:  # a partition can be named once in a request
                    later.append((place, offset, future))
                else:
                    now[place] = (offset, future)
            if later:
                self._asked[node] = later
            if not now:
                continue
            try:
                await self._ask_once(node, now)
            except asyncio.CancelledError:
                for _, future in now.values():
                    future.cancel()
                raise
            except Exception as error:
                for _, future in now.values():
                    if not future.done():
                        future.set_exception(error)

    async def _ask_once(self, node: int, now: dict[Place, tuple[int, asyncio.Future[_Fetched]]]) -> None:
        topics: dict[str, list[tuple[int, int, int]]] = {}
        for (topic, partition), (offset, _) in now.items():
            topics.setdefault(topic, []).append((partition, offset, FETCH_BYTES))
        answer = await self._wire.ask(node, FetchRequest(0, 0, ANSWER_BYTES, COMMITTED_ONLY, list(topics.items())))
        transactions = 5 if answer.API_VERSION >= 5 else 4
        for topic, lanes in answer.topics:
            for lane in lanes:
                offset, future = now.pop((topic, lane[0]))
                if future.done():
                    continue
                code = lane[1]
                if code == OUT_OF_RANGE:
                    future.set_result(await self._beyond((topic, lane[0]), offset))
                elif code:
                    future.set_exception(Refused(code, f"{topic}[{lane[0]}]"))
                else:
                    body = lane[-1] or b""
                    future.set_result(_Fetched(body, _through(body, offset), lane[3], lane[transactions] or []))
        for _, future in now.values():
            if not future.done():
                future.set_exception(Refused(7, "fetch", "a partition is missing in the answer"))

    async def _beyond(self, place: Place, offset: int) -> _Fetched:
        """The answer for an offset the log does not have: trimmed away (go on at its start), or not written yet."""
        topic, partition = place
        first, end = (await self.ends(topic, (partition,)))[partition]
        return _Fetched(b"", max(offset, first), max(offset, end), [])


def _through(body: bytes, offset: int) -> int:
    """The offset behind the last whole batch in `body`."""
    at, size = 0, len(body)
    while at + _HEAD <= size:
        base, length = _BASE_AND_LENGTH.unpack_from(body, at)
        if at + _BEFORE_LENGTH + length > size:
            break
        if body[at + _MAGIC] >= 2:
            offset = max(offset, base + _LAST_DELTA.unpack_from(body, at + _LAST_DELTA_AT)[0] + 1)
        else:
            offset = max(offset, base + 1)
        at += _BEFORE_LENGTH + length
    return offset


def _unpack(fetched: _Fetched, place: Place, first: int) -> Iterator[list[Record]]:
    """The batches of an answer as records from offset `first` on."""
    waiting = sorted(fetched.aborted, key=lambda pair: pair[1])
    aborted: set[int] = set()
    raw = MemoryRecords(fetched.body)
    try:
        while raw.has_next():
            batch: Any = raw.next_batch()
            if not batch.validate_crc():
                raise CorruptRecordException(f"checksum, base offset {batch.base_offset}")
            if batch.is_control_batch:
                for record in batch:
                    if ControlRecord.parse(record.key) == ABORT_MARKER:
                        aborted.discard(batch.producer_id)
                continue
            while waiting and waiting[0][1] <= batch.base_offset:
                aborted.add(waiting.pop(0)[0])
            if batch.is_transactional and batch.producer_id in aborted:
                continue
            found = [Record(r.offset, r.key, r.value or b"", r.timestamp) for r in batch]
            if found and found[0].offset < first:
                found = [record for record in found if record.offset >= first]
            if found:
                yield found
    except CorruptRecordException as error:
        raise LogCorrupt(
            f"topic {place[0]!r} partition {place[1]}: a batch at or after offset {first} cannot be read ({error}); "
            f"see the broker's disk, then skip it by hand"
        ) from error
    except UnsupportedCodecError as error:
        raise LogError(f"topic {place[0]!r}: {error}; run pip install affectstream[kafka]") from error
