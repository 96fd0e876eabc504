"""Appending to Kafka: one batch at a time per partition, in order, each exactly once however often it is sent.

Every batch carries a producer id and a sequence number, so the broker drops what it already has. It forgets producers
by the timestamps of their records, though: after a restart it knows none whose posts are older than a day (measured).
So before a batch whose fate is unknown goes again, with the same bytes, the partition is looked through for it. What
follows on that partition goes under a new producer id, for a refused batch poisons the old one there for good.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import InitProducerIdRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from stream.errors import LogError
from stream.kafka_wire import Refused, Wire, expect

Entry = tuple[bytes | None, bytes | None, int]
"""(key, value, timestamp in ms); value None = a tombstone."""
Place = tuple[str, int]

ZSTD = 4
TOO_LARGE, BAD_TIMESTAMP, POISONED = 10, 32, (45, 47, 49, 59)
DUPLICATE = 46
OUT_OF_RANGE = 1
LATEST = -1
LOOK_BYTES = 4 << 20

# Where a record batch says what it is: base offset and length, last offset delta, who sent it as which.
_BASE_AND_LENGTH, _LAST_DELTA, _SENDER = struct.Struct(">qi"), struct.Struct(">i"), struct.Struct(">qhi")
_BEFORE_LENGTH, _LAST_DELTA_AT, _SENDER_AT, _HEAD = 12, 23, 43, 61


@dataclass(slots=True)
class Parcel:
    """Records that go as one batch. `limit`: bytes the topic takes in a batch.

    `body` is fixed at the first sending, with its `sender`; it can lie nowhere before offset `since`.
    """

    topic: str
    partition: int
    entries: Sequence[Entry]
    limit: int
    body: bytes | None = None
    sender: tuple[int, int, int] = (-1, -1, -1)
    since: int = 0
    doubtful: bool = False
    done: bool = False


@dataclass(slots=True)
class _Lane:
    """Who writes to a partition; `producer` None = a new id is needed. `end`: what we write next lies no earlier."""

    producer: tuple[int, int] | None = None
    end: int | None = None
    sequence: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Writer:
    """Sends parcels. Parcels of one partition go in order, and those of one call follow each other directly."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._lanes: dict[Place, _Lane] = {}

    async def send(self, parcels: Iterable[Parcel]) -> None:
        """Returns once every parcel is acknowledged by all in-sync replicas. May be called again with the same parcels.

        Raises:
            LogUnavailable: some may be there and some not; the same parcels sent again land once.
            LogError: a parcel was refused.
        """
        lanes: dict[Place, list[Parcel]] = {}
        for parcel in parcels:
            lanes.setdefault((parcel.topic, parcel.partition), []).append(parcel)
        if len(lanes) == 1:
            ((place, waiting),) = lanes.items()
            await self._send_in_order(place, waiting)
            return
        results = await asyncio.gather(*(self._send_in_order(p, w) for p, w in lanes.items()), return_exceptions=True)
        for result in results:
            if result is not None:
                raise result

    async def _send_in_order(self, place: Place, parcels: list[Parcel]) -> None:
        lane = self._lanes.setdefault(place, _Lane())
        async with lane.lock:
            for parcel in parcels:
                if not parcel.done:
                    await self._send(lane, parcel)

    async def _send(self, lane: _Lane, parcel: Parcel) -> None:
        what = f"append to {parcel.topic}[{parcel.partition}]"
        try:
            await self._wire.steady(lambda: self._try(lane, parcel), what)
        except BaseException as error:
            lane.producer = None
            if isinstance(error, LogError) and not error.retriable:
                parcel.body = None  # refused: its sequence number was never used
            raise
        parcel.done = True

    async def _try(self, lane: _Lane, parcel: Parcel) -> None:
        if parcel.body is None:
            await self._address(lane, parcel)
        elif parcel.doubtful and await self._landed(parcel):
            return
        assert parcel.body is not None
        node = await self._wire.leader(parcel.topic, parcel.partition)
        timeout_ms = int(self._wire.patience_s * 1000)
        lanes = [(parcel.topic, [(parcel.partition, parcel.body)])]
        parcel.doubtful = True
        answer = await self._wire.ask(node, ProduceRequest(None, -1, timeout_ms, lanes))
        code, base = answer.topics[0][1][0][1:3]
        if code in (0, DUPLICATE):
            lane.end = max(lane.end or 0, base + len(parcel.entries))
            return
        about = f"{parcel.topic}[{parcel.partition}]"
        if code in POISONED:
            # The broker has lost or never had this producer's thread; it has none of these records (it would have said
            # "duplicate"), so they go again under a new id.
            lane.producer, parcel.body, parcel.doubtful = None, None, False
            raise Refused(7, about, f"sequence refused [{code}]")
        if code == TOO_LARGE:
            detail = f"{len(parcel.entries)} records, {len(parcel.body)} bytes; raise the topic's max.message.bytes"
            raise Refused(code, about, detail)
        if code == BAD_TIMESTAMP:
            raise Refused(code, about, "see the topic's message.timestamp.before.max.ms and .after.max.ms")
        raise Refused(code, about)

    async def _address(self, lane: _Lane, parcel: Parcel) -> None:
        """Give a parcel its producer id and sequence number, and build its bytes."""
        if lane.producer is None:
            given = await self._wire.ask_any(InitProducerIdRequest(None, 2**31 - 1))
            expect(given.error_code, "producer id")
            lane.producer, lane.sequence = (given.producer_id, given.producer_epoch), 0
        if lane.end is None:
            node = await self._wire.leader(parcel.topic, parcel.partition)
            asked = [(parcel.topic, [(parcel.partition, LATEST)])]
            _, code, _, offset = (await self._wire.ask(node, OffsetRequest(-1, 0, asked))).topics[0][1][0]
            expect(code, f"{parcel.topic}[{parcel.partition}]")
            lane.end = offset
        parcel.body = _build(parcel, lane.producer, lane.sequence)
        parcel.sender, parcel.since = (*lane.producer, lane.sequence), lane.end
        lane.sequence = (lane.sequence + len(parcel.entries)) % 2**31

    async def _landed(self, parcel: Parcel) -> bool:
        """Whether a parcel sent before lies in its partition."""
        at = parcel.since
        while True:
            node = await self._wire.leader(parcel.topic, parcel.partition)
            asked = [(parcel.topic, [(parcel.partition, at, LOOK_BYTES)])]
            answer = await self._wire.ask(node, FetchRequest(0, 0, LOOK_BYTES, 0, asked))
            lane = answer.topics[0][1][0]
            if lane[1] == OUT_OF_RANGE:  # trimmed up to there, or lost with its leader: nothing to find
                return False
            expect(lane[1], f"{parcel.topic}[{parcel.partition}]")
            body, start = lane[-1] or b"", at
            place = 0
            while place + _HEAD <= len(body):
                base, length = _BASE_AND_LENGTH.unpack_from(body, place)
                if _SENDER.unpack_from(body, place + _SENDER_AT) == parcel.sender:
                    return True
                at = max(at, base + _LAST_DELTA.unpack_from(body, place + _LAST_DELTA_AT)[0] + 1)
                place += _BEFORE_LENGTH + length
            if at == start or at >= lane[2]:
                return False


def _build(parcel: Parcel, producer: tuple[int, int], sequence: int) -> bytes:
    builder = DefaultRecordBatchBuilder(2, ZSTD, 0, producer[0], producer[1], sequence, 2**31 - 1)
    append = builder.append
    for k, (key, value, timestamp_ms) in enumerate(parcel.entries):
        append(k, timestamp_ms, key, value, [])
    body = bytes(builder.build())
    if len(body) > parcel.limit:
        raise LogError(
            f"topic {parcel.topic!r} partition {parcel.partition}: {len(parcel.entries)} record(s) make a batch of "
            f"{len(body)} bytes, the topic takes {parcel.limit} (max.message.bytes); nothing of it was sent"
        )
    return body
