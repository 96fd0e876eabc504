"""Appending to Kafka: one batch at a time per partition, in order, each exactly once however often it is sent.

Every batch carries a producer id and a sequence number, so the broker drops what it already has. A batch whose fate is
unknown (no answer in time) keeps its bytes: sent again later it lands once. What follows on that partition goes under
a new producer id, for a refused batch poisons the old one there for good.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

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


@dataclass(slots=True)
class Parcel:
    """Records that go as one batch. `body` is fixed at the first sending; `limit`: bytes the topic takes in a batch."""

    topic: str
    partition: int
    entries: Sequence[Entry]
    limit: int
    body: bytes | None = None
    done: bool = False


@dataclass(slots=True)
class _Lane:
    """Who writes to a partition; `producer` None = a new id is needed."""

    producer: tuple[int, int] | None = None
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
            if lane.producer is None:
                given = await self._wire.ask_any(InitProducerIdRequest(None, 2**31 - 1))
                expect(given.error_code, "producer id")
                lane.producer, lane.sequence = (given.producer_id, given.producer_epoch), 0
            parcel.body = _build(parcel, lane.producer, lane.sequence)
            lane.sequence = (lane.sequence + len(parcel.entries)) % 2**31
        node = await self._wire.leader(parcel.topic, parcel.partition)
        timeout_ms = int(self._wire.patience_s * 1000)
        lanes = [(parcel.topic, [(parcel.partition, parcel.body)])]
        answer = await self._wire.ask(node, ProduceRequest(None, -1, timeout_ms, lanes))
        code = answer.topics[0][1][0][1]
        if code in (0, DUPLICATE):
            return
        about = f"{parcel.topic}[{parcel.partition}]"
        if code in POISONED:
            # The broker has lost or never had this producer's thread; it has none of these records (it would have said
            # "duplicate"), so they go again under a new id.
            lane.producer, parcel.body = None, None
            raise Refused(7, about, f"sequence refused [{code}]")
        if code == TOO_LARGE:
            detail = f"{len(parcel.entries)} records, {len(parcel.body)} bytes; raise the topic's max.message.bytes"
            raise Refused(code, about, detail)
        if code == BAD_TIMESTAMP:
            raise Refused(code, about, "see the topic's message.timestamp.before.max.ms and .after.max.ms")
        raise Refused(code, about)


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
