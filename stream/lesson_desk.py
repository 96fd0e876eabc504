"""The lesson at work: what seats do goes on the log, chat is scored on the way, marks and audit entries are kept."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Sequence
from functools import partial

import msgspec
import numpy as np

from engines.base import EngineSpec
from operators.base import Clock
from operators.circumplex import tones
from operators.classroom import TASK
from operators.participation import chat
from operators.policy import biometric
from operators.records import F64, I32, MICRO, PostBatch, SignalRow
from stream.audit import Audit
from stream.base import CommitUnit, Log, Output, partition_of
from stream.capture_config import spelt
from stream.capture_desk import CaptureDesk
from stream.config import Config
from stream.frame_strand import FrameStrand
from stream.lesson import Event, Lesson, Mark, Refused, Seat
from stream.permits import declaration
from stream.topology import Topology
from stream.worker import Pulse, commit, steadily

GROUP = "affect-lesson"
TICK_S = 0.2
MOST_WAITING = 10_000
"""Events waiting for the log; pages are told to come again beyond."""
WATCHED = "classroom.engagement"
"""The signal whose gaps are noted: the k-seat rule takes all of a room away at once."""


class LessonDesk:
    """Carries a `Lesson` on a log.

    Args:
        config: of the classroom domain. audit: where consent counts and windows withheld are noted; None = nowhere.
    """

    def __init__(self, config: Config, clock: Clock, audit: Audit | None = None) -> None:
        self.config = config
        self._frames: tuple[FrameStrand, CaptureDesk] | None = None
        self.clock = clock
        self._audit = audit
        size = config.window_specs[0].size_ms
        late = config.lateness
        settle = late.disorder_ms + late.allowed_ms + late.pane_ms
        self.lesson = Lesson(config.classroom.rooms, size, settle, self._consent)
        self._waiting: list[Event] = []
        self._topology: Topology | None = None
        self._log: Log | None = None
        self._task: asyncio.Task[None] | None = None
        self._partitions = 1

    @property
    def ready(self) -> bool:
        """Whether events reach the log."""
        return self._task is not None and not self._task.done()

    @property
    def k(self) -> int:
        """Seats below which nothing is told."""
        return self.config.classroom.seats

    @property
    def watched(self) -> bool:
        """Whether cameras or microphones are declared."""
        return biometric(declaration(self.config).modalities)

    @property
    def kept(self) -> str:
        """For how long frames are kept on the log, such as "10 minutes"; "" = they are not."""
        return spelt(self.config.capture.retention) if self.config.capture.mode == "topics" else ""

    def carry(self, strand: FrameStrand, looks: CaptureDesk) -> None:
        """Let frames go over the log too, from `start` on: `looks` reads them back."""
        self._frames = strand, looks
        self.lesson.withdrew = strand.frames.forget

    async def start(self, log: Log, topology: Topology) -> None:
        """Begin to carry events; marks of an earlier life come back."""
        self._log, self._topology = log, topology
        pulse = Pulse()
        await steadily(partial(log.ensure, topology.topics), pulse, "topic of the lesson")
        self._partitions = len(await steadily(partial(log.span, self.config.topic), pulse, "topic of the lesson"))
        kept = await steadily(partial(log.restore, GROUP, "marks/"), pulse, "marks of the lesson")
        for key, held in kept.items():
            room = self.lesson.rooms.get(key.removeprefix("marks/"))
            if room is not None:
                room.marks = msgspec.json.decode(held, type=list[Mark])
        if self._frames is not None:  # before anything newer is said: what was left unread is not late yet
            await self._frames[0].start(log, self._frames[1], self._partitions)
        self._task = asyncio.create_task(self._carry(), name="lesson")

    async def stop(self) -> None:
        """Carry what waits, then stop. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
            await self._flush()
        if self._frames is not None:
            await self._frames[0].stop()

    def send(self, events: Sequence[Event]) -> None:
        """Queue events for the log. Raises Refused: too many wait, as the log is away."""
        if len(self._waiting) + len(events) > MOST_WAITING:
            raise Refused("the engine is busy; try again in a moment")
        self._waiting += events

    async def say(self, seat: Seat, text: str) -> list[Event]:
        """A chat line as an event: its scores, never its text. Raises Refused: no model yet."""
        topology = self._topology
        if topology is None:
            raise Refused("the engine is starting")
        scored = (await topology.score.process(_line(text))).batch.scores[TASK]
        shares, confusion = _read(topology.model.spec, scored)
        now_ms = self.clock.now_ms()
        if seat.readings is not None:
            seat.readings.say(now_ms, shares, confusion / MICRO)
        valence = round(float(shares[2] - shares[0]) * MICRO)
        return [Event(seat.room, seat.name, chat(valence, confusion), now_ms)]

    async def keep_marks(self, room: str, marks: Sequence[Mark]) -> None:
        """Keep the marks of a room with the log."""
        if self._log is not None:
            unit = CommitUnit(GROUP, state={f"marks/{room}": msgspec.json.encode(marks)})
            await commit(self._log, unit, Pulse(), "keep marks")

    def note(self, act: str, room: str) -> None:
        """Note what a teacher did."""
        if self._audit is not None:
            self._audit.note("admin", act=act, room=room)

    def see(self, rows: Sequence[SignalRow]) -> None:
        """Note the windows of which nothing was told."""
        if self._audit is None:
            return
        for row in rows:
            if row.signal == WATCHED and row.value is None:
                room, why = row.entity.removeprefix("room:"), row.reasons[-1]
                self._audit.note("suppressed", room=room, window_end=row.window_end, why=why)

    def _consent(self, room: str, given: int, withdrawn: int, seats: int) -> None:
        if self._audit is not None:
            self._audit.note("consent", room=room, given=given, withdrawn=withdrawn, seats=seats)

    async def _carry(self) -> None:
        while True:
            self._waiting += self.lesson.tick(self.clock.now_ms())
            await self._flush()
            await asyncio.sleep(TICK_S)

    async def _flush(self) -> None:
        log, events = self._log, self._waiting
        if log is None or not events:
            return
        self._waiting = []
        outputs = [self._output(event) for event in events]
        await commit(log, CommitUnit(GROUP, outputs=outputs), Pulse(), "append the lesson")

    def _output(self, event: Event) -> Output:
        key, value = event.message(secrets.token_hex(8))
        return Output(self.config.topic, partition_of(key, self._partitions), key, value, self.clock.now_ms())


def _line(text: str) -> PostBatch:
    """A batch of one text, to be scored."""
    none = np.zeros(1, np.bool_)
    return PostBatch(
        partition=0,
        offsets=np.zeros(1, np.int64),
        ids=[""],
        texts=[text],
        times_ms=np.zeros(1, np.int64),
        authors=np.zeros(1, np.uint64),
        langs=[""],
        tickers=[None],
        places=[None],
        events=[None],
        reposts=none,
        near=none,
    )


def _read(spec: EngineSpec, scored: I32) -> tuple[F64, int]:
    """Negative, neutral and positive share, float64 [3], and P(confusion), millionths, of a scored line."""
    head = spec.head(TASK)
    labels = () if head is None else head.labels
    return tones(TASK, scored, labels)[0], int(scored[0, labels.index("confusion")])
