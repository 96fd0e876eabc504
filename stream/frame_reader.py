"""Reads frames back from their topics and makes of them, seat by seat, the words that private mode makes at the door.

Records of all frames topics are taken in the order of their arrival at the engine. A slot of a seat is told once
everything that arrived before its time was read, and holds what arrived by then: what is told depends on the records
alone, not on when or in which portions they were read. So a process that was killed is followed by one that reads a
little of the past anew (`REWIND_MS`, for what the readers of faces and voices keep in memory) and tells the same words,
each under an id of its own, so that one told twice counts once.

`read = scored + repeated + withdrawn + rejected + missed` (over their retention before they were read); what cannot be
scored is dead-lettered without a byte of it.
"""

from __future__ import annotations

import hashlib
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, NamedTuple

import msgspec

from operators.base import Clock
from operators.codec import Codec
from operators.errors import Rejected
from operators.frame_wire import Frame
from operators.records import DeadLetter
from stream.base import CommitUnit, Log, Output, partition_of
from stream.capture import PICTURE
from stream.capture_desk import CaptureDesk, Watch
from stream.frame_log import FrameLog
from stream.frame_record import MOST, check_frame
from stream.lesson import AWAY_MS, Event, Seat
from stream.topics import DEAD_LETTER
from stream.worker import Pulse, commit, steadily

log_ = logging.getLogger("affect.capture")

GROUP: Final = "affect-frames-read"
REWIND_MS: Final = 30_000
"""What is read anew: the slots that are open (8 s), and before them the ten seconds of sound and the window of two that
`VoiceReader` remembers. `FaceReader` remembers a second."""
STEP_MS: Final = 5_000
"""Arrival time of one step, at most: between two commits never more of it passes than `REWIND_MS` can make up for."""
READ: Final = 64
"""Records of a partition read at once."""
COMMIT_MS: Final = 1_000
DETAIL: Final = 160
OUTCOMES: Final = ("scored", "repeated", "withdrawn", "rejected", "missed")
Lane = tuple[str, int]


class Standing(msgspec.Struct):
    """How far it all is, as it is kept. `told_ms`: slots that were over then are told. `done`: per TOPIC/PARTITION, the
    offset after the last record that was counted. `counts`: what became of these."""

    told_ms: int = 0
    done: dict[str, int] = {}
    counts: dict[str, int] = {}


class _Item(NamedTuple):
    """A record of a lane. `arrived_ms`: never below that of the one before it. `why`: it is none."""

    offset: int
    arrived_ms: int
    frame: Frame | None
    kind: int
    why: DeadLetter | None


@dataclass(slots=True)
class _LaneState:
    """One partition. `marks`: (offset, arrival) of what was read lately, oldest first: where to start anew."""

    next: int = 0
    arrived_ms: int = 0
    held: deque[_Item] = field(default_factory=deque)
    marks: deque[tuple[int, int]] = field(default_factory=deque)


@dataclass(slots=True)
class _Reading:
    """A seat that is being read. `last`: number of its last record, by kind."""

    watch: Watch
    last: dict[int, int] = field(default_factory=dict)
    arrived_ms: int = 0


class FrameReader:
    """Reads the frames topics of one log; one process does.

    Args:
        desk: looks and listens, as in private mode. frames: what is on its way, and whose part was taken back.
        topic: where words go, that of the lesson. rooms: those of the lesson.
    """

    def __init__(
        self, desk: CaptureDesk, frames: FrameLog, codec: Codec, clock: Clock, topic: str, rooms: Sequence[str]
    ) -> None:
        self._desk, self._frames, self._codec, self._clock = desk, frames, codec, clock
        self._topic, self._rooms = topic, frozenset(rooms)
        self._log: Log | None = None
        self._partitions = 1
        self._lanes: dict[Lane, _LaneState] = {}
        self._seats: dict[str, _Reading] = {}
        self._outputs: list[Output] = []
        self._committed_ms = 0
        self._told_before_ms = 0
        self.standing = Standing()

    @property
    def counts(self) -> Mapping[str, int]:
        """What became of the records, this process and those before it: `read`, and its parts, `OUTCOMES`."""
        held = self.standing.counts
        return {"read": sum(self.standing.done.values()), **{name: held.get(name, 0) for name in OUTCOMES}}

    async def open(self, log: Log, lanes: Sequence[Lane], partitions: int) -> None:
        """Take up where the last process left off. `partitions`: of the lesson's topic."""
        self._log, self._partitions = log, partitions
        kept = (await log.restore(GROUP, "standing")).get("standing")
        if kept is not None:
            self.standing = msgspec.json.decode(kept, type=Standing)
        self._told_before_ms = self._frames.read_ms = self.standing.told_ms
        for topic, partition in lanes:
            first = (await log.span(topic))[partition][0]
            position = (await log.committed(GROUP, topic))[partition]
            self._lanes[topic, partition] = _LaneState(next=max(first, position))
            key = f"{topic}/{partition}"
            gone = first - self.standing.done.get(key, 0)
            if gone > 0:
                log_.warning("%s[%d]: %d frames were trimmed before they were read", topic, partition, gone)
                self.standing.done[key] = first
                self._count("missed", gone)

    async def catch_up(self) -> None:
        """Read until everything that has arrived by now is told."""
        while not await self.step():
            pass
        await self.commit()

    async def step(self) -> bool:
        """Read on, at most `STEP_MS` of arrival time; commit after a second. True = nothing more is there."""
        settled_ms = self._frames.settled_ms()
        begun_ms: int | None = None
        dry: set[Lane] = set()  # whatever arrived before `settled_ms` was there when they were found so
        while True:
            item, lane = await self._next(settled_ms, dry)
            if item is None or lane is None:
                break
            begun_ms = item.arrived_ms if begun_ms is None else begun_ms
            if item.arrived_ms - begun_ms >= STEP_MS:
                settled_ms = item.arrived_ms
                self._lanes[lane].held.appendleft(item)
                break
            await self._take(lane, item)
        ended = item is None
        self._tell(settled_ms)
        if not ended or settled_ms - self._committed_ms >= COMMIT_MS:
            await self.commit()
        return ended

    async def commit(self) -> None:
        """Keep what was told and how far it is, in one unit."""
        log = self._log
        if log is None:
            return
        outputs, self._outputs = self._outputs, []
        self._committed_ms = self.standing.told_ms
        unit = CommitUnit(
            GROUP,
            offsets={lane: self._start_of(state) for lane, state in self._lanes.items()},
            state={"standing": msgspec.json.encode(self.standing)},
            outputs=outputs,
        )
        await commit(log, unit, Pulse(), "tell what frames show")

    def _start_of(self, state: _LaneState) -> int:
        """Where to start anew: the first record that arrived within `REWIND_MS` of what is told."""
        least = self.standing.told_ms - REWIND_MS
        while state.marks and state.marks[0][1] < least:
            state.marks.popleft()
        if state.marks:
            return state.marks[0][0]
        return state.held[0].offset if state.held else state.next

    async def _next(self, settled_ms: int, dry: set[Lane]) -> tuple[_Item | None, Lane | None]:
        """The record that arrived first of those that arrived before `settled_ms`, taken out of its lane."""
        best: Lane | None = None
        for lane, state in self._lanes.items():
            if not state.held and lane not in dry:
                await self._fill(lane, state)
                if not state.held:
                    dry.add(lane)
            if state.held and (best is None or state.held[0].arrived_ms < self._lanes[best].held[0].arrived_ms):
                best = lane
        if best is None or self._lanes[best].held[0].arrived_ms >= settled_ms:
            return None, None
        return self._lanes[best].held.popleft(), best

    async def _fill(self, lane: Lane, state: _LaneState) -> None:
        log = self._log
        if log is None:
            return
        topic, partition = lane
        read = partial(log.read, topic, partition, state.next, READ)
        for record in await steadily(read, Pulse(), f"read {topic}[{partition}]"):
            frame, kind, why = None, 0, None
            try:
                frame = self._codec.decode_frame(record.value, MOST[topic])
                kind = check_frame(frame, topic, self._clock.now_ms())
                if frame.room not in self._rooms:
                    raise Rejected("bad_frame", "expected a room of this run")
                state.arrived_ms = max(state.arrived_ms, frame.arrived_ms)
            except Rejected as refused:
                frame, why = None, _letter(lane, record.offset, record.value, record.timestamp_ms, refused)
            state.held.append(_Item(record.offset, state.arrived_ms, frame, kind, why))
            state.next = record.offset + 1

    async def _take(self, lane: Lane, item: _Item) -> None:
        """Score one record, or say why not; one that was counted before is only read for what comes after it."""
        state, key = self._lanes[lane], f"{lane[0]}/{lane[1]}"
        state.marks.append((item.offset, item.arrived_ms))
        fresh = item.offset >= self.standing.done.get(key, 0)
        outcome, why = await self._scored(lane, item)
        self._frames.read_ms = max(self._frames.read_ms or 0, item.arrived_ms)
        if fresh:
            self._count("missed", item.offset - self.standing.done.get(key, 0))
            self.standing.done[key] = item.offset + 1
            self._count(outcome, 1)
            if why is not None:
                value = self._codec.encode(why)
                self._outputs.append(Output(DEAD_LETTER, 0, None, value, self._clock.now_ms()))

    async def _scored(self, lane: Lane, item: _Item) -> tuple[str, DeadLetter | None]:
        frame = item.frame
        if frame is None:
            return "rejected", item.why
        if frame.seat in self._frames.withdrawn:
            return "withdrawn", None
        held = self._seats.get(frame.seat)
        if held is None:
            held = self._seats[frame.seat] = self._begin(frame)
        if frame.number <= held.last.get(item.kind, -1):
            return "repeated", None
        held.last[item.kind], held.arrived_ms = frame.number, item.arrived_ms
        self._say(held, item.arrived_ms)
        if item.kind == PICTURE:
            held.watch.waiting = (frame.body, frame.captured_ms)
            refused = await self._desk.look(held.watch)
        else:
            refused = await self._desk.hear(held.watch, frame.body, frame.captured_ms)
        if refused is None:
            return "scored", None
        return "rejected", _letter(lane, item.offset, frame.body, frame.arrived_ms, refused)

    def _begin(self, frame: Frame) -> _Reading:
        seat = Seat(frame.seat, frame.room, frame.arrived_ms, frame.arrived_ms)
        held = _Reading(self._desk.reader(seat, frame.arrived_ms))
        held.watch.readings.words(self._told_before_ms)  # slots that an earlier process has told are closed
        return held

    def _tell(self, settled_ms: int) -> None:
        """Tell the slots that are over, now that everything which arrived before `settled_ms` was read."""
        # Not what an earlier process has told: that would close what is only being read anew.
        for name, held in list(self._seats.items()):
            if name in self._frames.withdrawn:
                del self._seats[name]
                continue
            self._say(held, settled_ms)
            if settled_ms - held.arrived_ms > AWAY_MS:
                del self._seats[name]
        self.standing.told_ms = self._frames.read_ms = max(settled_ms, self.standing.told_ms)

    def _say(self, held: _Reading, now_ms: int) -> None:
        seat = held.watch.seat
        for at_ms, word in held.watch.readings.words(now_ms):
            if seat.name in self._frames.withdrawn:
                continue
            number = hashlib.sha256(f"{seat.name} {at_ms} {word.split()[0]}".encode()).hexdigest()[:16]
            key, value = Event(seat.room, seat.name, word, at_ms).message(number)
            where = partition_of(key, self._partitions)
            self._outputs.append(Output(self._topic, where, key, value, self._clock.now_ms()))

    def _count(self, outcome: str, more: int) -> None:
        self.standing.counts[outcome] = self.standing.counts.get(outcome, 0) + more


def _letter(lane: Lane, offset: int, raw: bytes, time_ms: int, why: Rejected) -> DeadLetter:
    """Why a record is not scored: its place, digest and size, and nothing of what it holds."""
    digest = hashlib.sha256(raw).hexdigest()
    return DeadLetter(
        topic=lane[0], partition=lane[1], offset=offset, reason=why.reason,
        detail=f"sha256 {digest}: {why.detail[:DETAIL]}", size_bytes=len(raw), time_ms=time_ms,
    )  # fmt: skip
