"""The signal plane: a Faust app on the signal topic. With `agents` the door to `faust`.

Faust brings the consumer group, agents, changelogged tables, the web server and the way to the worker that has the
tables. Delivery is ours: an agent takes rows in batches, its duty says what came of them, outputs are acknowledged by
the cluster before the state that knows them, and that before the rows are acknowledged to Faust. So at least once:
whatever is cut short is read again, and an alert or row sent again has the id it had. (Faust's own table writes are
buffered and may still be under way when it commits the offsets.)

The signal topic has one partition, so one worker has the tables and the others stand by and pass questions on to it.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
import tempfile
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, cast

import faust
from faust.exceptions import FaustError
from faust.types import TP, EventT, StreamT

from operators.base import Clock
from operators.codec import Codec
from operators.errors import Rejected
from operators.records import DeadLetter, SignalRow
from stream.errors import StreamError
from stream.kafka import KafkaLog
from stream.kafka_wire import Access
from stream.signal_duties import Duty, Message
from stream.topics import DEAD_LETTER, PLANE, SIGNALS
from stream.worker import Pulse, steadily

log_ = logging.getLogger("affect.signals")

BATCH = 500
WITHIN_S = 0.1
"""A batch is full, or this old. Rows of many entities come at once when a window closes: they roll up as one."""

SESSION_S = 10.0
"""A worker silent for so long has lost its partition."""

REQUEST_S = 30.0
RETRY_S = 0.5
REMEMBERED = 4_096
"""Rows decoded and perhaps still wanted by another agent."""

_STAMP = struct.Struct(">q")
_OFFSET = b"@offset"
"""Key whose stamp is the last row done with. It is written after the state of its batch."""

Event = EventT[Any]


class StampedTable(faust.Table):  # type: ignore[type-arg]  # keys and values are bytes
    """A table whose values begin with the offset of the row they come from; a restore keeps the highest.

    So what a worker wrote after it had lost its partition turns nothing back.
    """

    @property
    def held(self) -> dict[bytes, bytes]:
        """Key -> stamped value."""
        return cast(dict[bytes, bytes], self.data.data)

    def apply_changelog_batch(self, batch: Iterable[Event]) -> None:
        """Take in records of the changelog, in order."""
        held = self.held
        for event in batch:
            key, value = event.message.key, event.message.value
            if key is None:
                continue
            if value is None:
                held.pop(key, None)
            elif key not in held or _stamp(held[key]) <= _stamp(value):
                held[key] = value


class Plane:
    """The app with its duties. Make it in the loop it runs in, its topics made before.

    Args:
        log: names the cluster; a client of its own for reading alerts and the end of the topic.
        duties: each becomes an agent and a table.
        web_host, web_port: of Faust's web server; no port 0: workers find each other by it.
    """

    def __init__(
        self, log: KafkaLog, duties: Sequence[Duty], codec: Codec, clock: Clock, pulse: Pulse,
        web_host: str, web_port: int, session_s: float = SESSION_S,
    ) -> None:  # fmt: skip
        _hush()
        self.log, self.codec, self.clock, self.pulse = log, codec, clock, pulse
        self._folder = tempfile.TemporaryDirectory(prefix="affect-signals-")  # Faust insists on one
        self.app = faust.App(
            log.prefix + PLANE,
            **connection(log.access),
            datadir=self._folder.name,
            Table=StampedTable,
            consumer_group_instance_id=log.instance,
            broker_session_timeout=session_s,
            broker_heartbeat_interval=session_s / 5,
            broker_commit_interval=1.0,
            table_standby_replicas=0,
            stream_wait_empty=False,  # rows of a batch cut short are never acknowledged: it would wait for ever
            producer_request_timeout=REQUEST_S,
            topic_partitions=1,
            web_bind=web_host,
            web_port=web_port,
            web_host=socket.gethostname() if web_host in ("0.0.0.0", "::", "") else web_host,
            web_stats_enabled=False,
            web_tables_enabled=False,
        )
        self.signals = _raw(self.app, log.prefix + SIGNALS)
        self._topics: dict[str, Any] = {}
        self._place = TP(log.prefix + SIGNALS, 0)
        self._rows: dict[int, tuple[bytes, SignalRow | Rejected]] = {}
        self.desks = [_Desk(self, duty, letters=k == 0) for k, duty in enumerate(duties)]
        told: Any = self.app  # a handler is called in another form than the types of Faust say
        told.on_partitions_revoked.connect(self._revoked)
        told.on_partitions_assigned.connect(self._assigned)
        self._stopping = False

    @property
    def ready(self) -> bool:
        """The tables are here and restored."""
        return not self._stopping and all(desk.ready for desk in self.desks)

    @property
    def offset(self) -> int | None:
        """Rows before it are done with; None before the first."""
        known = [desk.offset for desk in self.desks if desk.offset is not None]
        return min(known) if len(known) == len(self.desks) else None

    def owner(self) -> str | None:
        """Address of the worker that has the tables, None where none is known or it is this one."""
        table = self.desks[0].table
        hosts = self.app.router.table_metadata(table.name)
        url = next((host for host, topics in hosts.items() if any(topics.values())), None)
        return None if url is None or url == str(self.app.conf.canonical_url) else url.rstrip("/")

    async def start(self) -> None:
        """Join the group and answer requests.

        Raises:
            StreamError: Faust cannot run here, and why.
        """
        try:
            await self.app.start()
        except (RuntimeError, OSError, FaustError) as error:  # Kafka's errors are RuntimeErrors
            raise StreamError(f"signals: Faust did not start: {type(error).__name__}: {error}") from error

    def check(self) -> None:
        """Raises StreamError: Faust has stopped by itself."""
        if self.app.crashed:
            reason = self.app.crash_reason
            raise StreamError(f"signals: Faust stopped: {type(reason).__name__}: {reason}; start this worker again")

    async def stop(self) -> None:
        """Finish the batches in hand, commit, leave the group. Idempotent."""
        if not self._stopping:
            self._stopping = True
            if not self.app.crashed:
                await asyncio.wait([asyncio.create_task(desk.idle.wait()) for desk in self.desks], timeout=5.0)
            await self.app.stop()
            self._folder.cleanup()

    def owns(self) -> bool:
        """Whether the signal topic is this worker's."""
        return not self._stopping and self._place in self.app.consumer.assignment()

    def decoded(self, offset: int, raw: bytes) -> SignalRow | Rejected:
        """The row at an offset, decoded once for all agents."""
        known = self._rows.get(offset)
        if known is not None and known[0] == raw:
            return known[1]
        try:
            row: SignalRow | Rejected = self.codec.decode_signal(raw)
        except Rejected as refused:
            row = refused
        if len(self._rows) >= REMEMBERED:
            del self._rows[next(iter(self._rows))]
        self._rows[offset] = (raw, row)
        return row

    async def send(self, messages: Sequence[Message]) -> None:
        """Send messages in order, and wait until the cluster has them; as long as it takes."""
        topics = [self._topics.setdefault(m.topic, _raw(self.app, self.log.prefix + m.topic)) for m in messages]
        await self.sent([(topic, m.key, m.value) for topic, m in zip(topics, messages, strict=True)])

    async def sent(self, messages: Sequence[tuple[Any, bytes | None, bytes | None]]) -> None:
        """As `send`, (Faust topic, key, value). What is tried again goes again as a whole, in order."""
        complained = False
        while True:
            try:
                futures = [await topic.send(key=k, value=v, partition=0) for topic, k, v in messages]
                for future in futures:
                    await future
            except (RuntimeError, OSError, FaustError) as error:
                cause = error.__cause__ or error
                if not getattr(cause, "retriable", isinstance(cause, OSError)):
                    raise StreamError(f"signals: cannot write: {type(cause).__name__}: {cause}") from error
                if not complained:
                    log_.warning("signals: write: %s: %s; retrying", type(cause).__name__, cause)
                complained = True
                await asyncio.sleep(RETRY_S)
            else:
                return

    async def _revoked(self, app: Any, revoked: Any, *_: Any, **__: Any) -> None:
        for desk in self.desks:
            desk.close()

    async def _assigned(self, app: Any, assigned: Any, *_: Any, **__: Any) -> None:
        if self._place not in set(assigned):
            for desk in self.desks:
                desk.forget()


class _Desk:
    """One duty at work: an agent and a table. `offset`: rows before it are done with. `letters`: sends dead letters."""

    def __init__(self, plane: Plane, duty: Duty, letters: bool) -> None:
        self._plane, self.duty, self._letters = plane, duty, letters
        self.ready = False
        self.offset: int | None = None
        self.rejected = 0
        self.idle = asyncio.Event()
        self.idle.set()
        self._life = 0
        table = plane.app.Table(duty.table, partitions=1, key_type=bytes, value_type=bytes, on_recover=self._recovered)
        self.table = cast(StampedTable, table)
        plane.app.agent(plane.signals, name=duty.table)(self.run)

    def close(self) -> None:
        """The partition may go: nothing more is done until the table is restored."""
        self.ready = False
        self._life += 1

    def forget(self) -> None:
        """The partition went: the table is another worker's now."""
        self.table.held.clear()
        self.duty.restore({})
        self.offset = None

    async def _recovered(self) -> None:
        if not self._plane.owns():
            return
        held = self.table.held
        self.offset = _stamp(held[_OFFSET]) + 1 if _OFFSET in held else None
        state = {key.decode(): value[_STAMP.size :] for key, value in held.items() if key != _OFFSET}
        try:
            self.duty.restore(state)
        except Exception as error:  # Faust would go on with an empty table
            self._failed(error)
            raise
        self.ready = True

    async def run(self, stream: StreamT[Any]) -> None:
        """The agent."""
        batches = cast(faust.Stream[Any], stream)
        async for events in batches.noack_take(BATCH, within=WITHIN_S):
            self.idle.clear()
            try:
                await self._step(stream, events)
            except Exception as error:  # Faust would drop the batch and go on
                self._failed(error)
                await asyncio.Event().wait()
            finally:
                self.idle.set()

    async def _step(self, stream: StreamT[Any], events: Sequence[Event]) -> None:
        """One batch. Rows of a partition that went meanwhile are left alone: whoever has it now reads them again."""
        life, plane = self._life, self._plane
        if not self.ready or not plane.owns():
            return
        last = events[-1].message.offset
        unread = await self._unread(events)
        if life != self._life:
            return
        letters = []
        for offset, raw in unread:
            row = plane.decoded(offset, raw)
            if isinstance(row, SignalRow):
                self.duty.feed(row)
            elif self._letters:
                letters.append(self._letter(offset, raw, row))
        settled = self.duty.settle()
        await plane.send([*settled.outputs, *letters])
        if life != self._life:
            return
        stamp = _STAMP.pack(max(last, (self.offset or 0) - 1))
        changes = {key.encode(): None if v is None else stamp + v for key, v in settled.state.items()}
        changes[_OFFSET] = stamp
        await plane.sent([(self.table.changelog_topic, key, value) for key, value in changes.items()])
        if life != self._life:
            return
        held = self.table.held
        for key, value in changes.items():
            if value is None:
                held.pop(key, None)
            else:
                held[key] = value
        self.offset = max(self.offset or 0, last + 1)
        for event in events:
            await stream.ack(event)

    async def _unread(self, events: Sequence[Event]) -> list[tuple[int, bytes]]:
        """(offset, value) of every row from where this desk stands to the last of `events`, each once, in order.

        Faust drops what it holds when a partition goes and comes back, and may go on behind it: what it did not hand
        over is read from the log. Rows done with before are left out.
        """
        rows: list[tuple[int, bytes]] = []
        at = self.offset or 0
        for event in events:
            until = event.message.offset
            while at < until:
                read = partial(self._plane.log.read, SIGNALS, 0, at, BATCH)
                found = [r for r in await steadily(read, self._plane.pulse, "read signals") if r.offset < until]
                if not found:  # the log keeps no more of them
                    break
                rows += [(r.offset, r.value) for r in found]
                at = found[-1].offset + 1
            if until >= at:
                rows.append((until, event.message.value or b""))
                at = until + 1
        return rows

    def _letter(self, offset: int, raw: bytes, refused: Rejected) -> Message:
        self.rejected += 1
        letter = DeadLetter(
            topic=SIGNALS, partition=0, offset=offset, reason=refused.reason,
            detail=refused.detail[:240], size_bytes=len(raw), time_ms=self._plane.clock.now_ms(),
        )  # fmt: skip
        return Message(DEAD_LETTER, None, self._plane.codec.encode(letter))

    def _failed(self, error: BaseException) -> None:
        log_.error("signals: %s at offset %s: %s", self.duty.table, self.offset, error)
        self._plane.pulse.error = self._plane.pulse.error or error
        self._plane.pulse.ended.set()


def connection(access: Access) -> dict[str, Any]:
    """What every app of ours is made with: where the cluster is, memory tables, and topics that are made before."""
    found: dict[str, Any] = {
        "broker": [f"kafka://{server}" for server in access.bootstrap.split(",")],
        "store": "memory://",
        "topic_allow_declare": False,
        "topic_disable_leader": True,
        "autodiscover": False,
    }
    options = access.options()
    context = options.get("ssl_context")
    if access.security.startswith("SASL"):
        found["broker_credentials"] = faust.SASLCredentials(
            mechanism=access.mechanism, username=access.user, password=access.password, ssl_context=context
        )
    elif context is not None:
        found["broker_credentials"] = faust.SSLCredentials(context)
    return found


def _hush() -> None:
    """Keep Faust's lines back unless `--verbose`: every trouble again and again, with its trace. Ours say it once."""
    for name in ("faust", "mode"):
        if logging.getLogger(name).level == logging.NOTSET and not log_.isEnabledFor(logging.INFO):
            logging.getLogger(name).setLevel(logging.CRITICAL)


def _raw(app: Any, topic: str) -> Any:
    return app.topic(
        topic, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw", allow_empty=True
    )


def _stamp(value: bytes) -> int:
    return int(_STAMP.unpack_from(value)[0])
