"""One source partition: records in, pane blocks out. The first half of the hot path.

    records -> decode -> event clock -> dedupe -> language -> link -> score -> panes -> commit unit

A pure fold over the partition's log: what it has done is a function of the offset it stands at.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from operators.arrivals import Arrival
from operators.base import Emit, Operator
from operators.cell_messages import block_message, progress_message
from operators.cells import PaneBlock, Progress
from operators.clock import BEGINNING, EventClock, Lateness
from operators.codec import Codec
from operators.dedupe import Dedupe
from operators.domain import Domain
from operators.panes import PaneStore
from operators.records import I64, Bools, DeadLetter, LatePost, PostBatch
from stream.base import CommitUnit, Output, Record
from stream.errors import StreamError
from stream.topics import DEAD_LETTER, LATE, PANES

Observer = Callable[[PostBatch], None]
Insist = Callable[[Operator, PostBatch], Awaitable[Emit]]
"""How a step of the chain is taken: `operator.process(batch)`, perhaps again and again until it can be done."""


async def simply(operator: Operator, batch: PostBatch) -> Emit:
    """The step, once."""
    return await operator.process(batch)


class Counts(msgspec.Struct):
    """What became of the records of a partition: `records = applied + duplicate + late + rejected`, always."""

    next_offset: int = 0
    records: int = 0
    applied: int = 0
    duplicate: int = 0
    late: int = 0
    rejected: int = 0
    newest_ms: int = BEGINNING


@dataclass(frozen=True, slots=True)
class Parts:
    """What all partitions of a worker share; everything is decided before the first record.

    `lane`: names this use of the topic (group, domain, topic) on the shared pane topic and in state keys.

    `chain`: operators after dedupe, in order (language, link, score). `dedupe_ms`: how long ids are remembered.
    `observe` sees scored batches (the page does).
    """

    topic: str
    partitions: int
    group: str
    lane: str
    domain: Domain
    codec: Codec
    arrival: Arrival
    lateness: Lateness
    chain: tuple[Operator, ...]
    dedupe_ms: int = 86_400_000
    near_duplicates: bool = True
    observe: Observer | None = None


class PartitionScorer:
    """Scores one source partition. Not shared between tasks.

    `process` only changes memory; `unit` says what to commit since the last `unit`. A unit that could not be committed
    must be committed again, unchanged, before the next is asked for. `insist` takes each step of the chain.
    """

    def __init__(self, parts: Parts, partition: int, insist: Insist = simply) -> None:
        self._parts = parts
        self._insist = insist
        self.partition = partition
        self.counts = Counts()
        self.dead_reasons: dict[str, int] = {}
        self._clock = EventClock(parts.lateness)
        self._dedupe = Dedupe(horizon_ms=parts.dedupe_ms, near=parts.near_duplicates)
        self._panes = PaneStore(partition, parts.domain, parts.lateness)
        self._side: list[Output] = []
        self._changed = False

    @property
    def _prefix(self) -> str:
        return f"{self._parts.lane}/{self.partition}/"

    def restore(self, state: dict[str, bytes], blocks: Sequence[PaneBlock]) -> int:
        """Take up where the last owner committed. Returns the offset to read from."""
        meta = state.get(self._prefix + "meta")
        if meta is not None:
            self.counts = msgspec.msgpack.decode(meta, type=Counts)
            self._clock = EventClock(self._parts.lateness, self.counts.newest_ms)
        chunks = self._prefix + "seen/"
        self._dedupe.restore({k[len(chunks) :]: v for k, v in state.items() if k.startswith(chunks)})
        for block in blocks:
            if block.partition == self.partition:
                self._panes.restore(block)
        self._panes.expire(self._clock.watermark_ms)
        return self.counts.next_offset

    async def process(self, records: Sequence[Record]) -> None:
        """Take in records in offset order, directly behind those taken in before."""
        if not records:
            return
        parts, counts = self._parts, self.counts
        batch, dead = parts.codec.decode_posts(parts.topic, self.partition, records, parts.arrival)
        now = records[-1].timestamp_ms
        self._reject(dead, now)
        marks, keep = self._clock.advance(batch.times_ms)
        late = int((~keep).sum())
        if late:
            self._too_late(batch, marks, keep, now)
        offsets, batch = batch.offsets, batch.take(keep)
        emit = await self._dedupe.process(batch)
        batch = emit.batch
        for operator in parts.chain:
            batch = (await self._insist(operator, batch)).batch
        if len(batch):
            self._panes.fold(batch, parts.domain.channels(batch), marks[np.searchsorted(offsets, batch.offsets)])
            if parts.observe is not None:
                parts.observe(batch)
        self._dedupe.advance(self._clock.watermark_ms)
        counts.records += len(records)
        counts.rejected += len(dead)
        counts.late += late
        counts.duplicate += emit.duplicates
        counts.applied += len(batch)
        counts.newest_ms = self._clock.newest_ms
        counts.next_offset = records[-1].offset + 1
        self._changed = True
        if counts.records != counts.applied + counts.duplicate + counts.late + counts.rejected:
            raise StreamError(f"{parts.topic}[{self.partition}]: records do not add up at {counts}; this is a bug")

    def _reject(self, dead: Sequence[DeadLetter], now_ms: int) -> None:
        for letter in dead:
            self.dead_reasons[letter.reason] = self.dead_reasons.get(letter.reason, 0) + 1
            key = f"{letter.topic}/{letter.partition}/{letter.offset}".encode()
            self._side.append(Output(DEAD_LETTER, 0, key, self._parts.codec.encode(letter), now_ms))

    def _too_late(self, batch: PostBatch, marks: I64, keep: Bools, now: int) -> None:
        for row in np.flatnonzero(~keep).tolist():
            post = LatePost(
                topic=self._parts.topic,
                partition=self.partition,
                offset=int(batch.offsets[row]),
                post_id=batch.ids[row],
                event_time_ms=int(batch.times_ms[row]),
                late_by_ms=int(marks[row] - batch.times_ms[row]),
            )
            key = f"{post.topic}/{post.partition}/{post.offset}".encode()
            self._side.append(Output(LATE, 0, key, self._parts.codec.encode(post), now))

    def progress(self, idle: bool, closed: bool) -> Progress:
        """Where the partition stands."""
        c = self.counts
        return Progress(
            partition=self.partition,
            partitions=self._parts.partitions,
            consumed=c.next_offset,
            applied=c.applied,
            duplicate=c.duplicate,
            late=c.late,
            rejected=c.rejected,
            watermark_ms=self._clock.watermark_ms,
            idle=idle,
            closed=closed,
        )

    @property
    def changed(self) -> bool:
        """True where something was processed since the last unit."""
        return self._changed

    def unit(self, now_ms: int, generation: int, idle: bool = False, closed: bool = False) -> CommitUnit:
        """Everything since the last unit: blocks of changed panes, side outputs, state, next offset."""
        parts, key = self._parts, self._prefix
        encode, domain = parts.codec.encode, parts.domain
        outputs = [
            Output(PANES, 0, f"{key}{b.pane_start}".encode(), encode(block_message(parts.lane, b, domain)), now_ms)
            for b in self._panes.drain(self.counts.next_offset - 1)
        ]
        mark = encode(progress_message(parts.lane, self.progress(idle, closed)))
        outputs.append(Output(PANES, 0, f"{key}progress".encode(), mark, now_ms))
        outputs += self._side
        self._side = []
        state: dict[str, bytes | None] = {f"{key}seen/{k}": v for k, v in self._dedupe.snapshot().items()}
        state[key + "meta"] = msgspec.msgpack.encode(self.counts)
        self._panes.expire(self._clock.watermark_ms)
        self._changed = False
        return CommitUnit(
            group=parts.group,
            offsets={(parts.topic, self.partition): self.counts.next_offset},
            state=state,
            outputs=outputs,
            generation=generation,
        )
