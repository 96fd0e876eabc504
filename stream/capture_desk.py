"""Cameras and microphones of a room: scored where they arrive. A picture or a sound is looked at and is gone.

What is read of it goes to the seat (`operators/seat_readings.py`), whose words the lesson says. No picture, sound or
crop reaches a log, a topic, a page or a file, and none is kept beyond the next; but where the settings ask for it and
the gate allows it (`capture.mode`), what arrives goes to a `Keeper`, and is scored once it was read back.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from engines.artefacts import Manifest
from engines.load_media import FACE, VOICE, load_face_model, load_voice_model, media_manifest
from engines.media import FaceModel, VoiceModel
from operators.base import Clock
from operators.circumplex import tones
from operators.detectors import Haar
from operators.errors import Rejected
from operators.eyes import Eyes
from operators.face import FACE_TASK, FaceReader
from operators.frame_wire import Frame
from operators.pictures import decode_grey
from operators.seat_readings import SeatReadings
from operators.sounds import from_pcm16
from operators.speech import VOICE_TASK, VoiceReader
from stream.capture import PICTURE, SOUND, Passage, Piece
from stream.capture_config import spelt
from stream.frame_record import LIMITS, SoundClock, frame_of
from stream.lesson import Event, Lesson, Seat
from stream.permits import declaration

if TYPE_CHECKING:
    from stream.config import Config

TOLD_EVERY_MS: Final = 5_000
"""A page hears so often what became of its pieces."""
SOUNDS: Final = 25
"""Pieces of sound of a seat that wait, of 100 or 200 ms; the oldest are overtaken."""


class Seats(Protocol):
    """What carries the lesson."""

    lesson: Lesson
    clock: Clock

    @property
    def ready(self) -> bool: ...

    def send(self, events: Sequence[Event]) -> None: ...


class Keeper(Protocol):
    """Where frames are kept: they are scored once they were read back. `retention`: for how long, such as 10m."""

    @property
    def retention(self) -> str: ...

    def put(self, frame: Frame) -> bool:
        """Take a frame; False = it was not taken: too much waits, or its seat's part was taken back."""
        ...


@dataclass(slots=True)
class Watch:
    """One seat's camera and microphone: the newest picture and the sounds that wait, what was read, what arrived."""

    seat: Seat
    faces: FaceReader | None
    voices: VoiceReader | None
    readings: SeatReadings
    passages: dict[int, Passage] = field(default_factory=lambda: {k: Passage(k) for k in (PICTURE, SOUND)})
    waiting: tuple[bytes, int] | None = None
    unheard: deque[tuple[bytes, int]] = field(default_factory=lambda: deque(maxlen=SOUNDS))
    overtaken: int = 0
    told_ms: int = 0
    sounds: SoundClock = field(default_factory=SoundClock)


class CaptureDesk:
    """The models of a room's cameras and microphones; None for what the deployment does not declare. `keeper`: takes
    what arrives; None = it is scored at once, and not kept."""

    def __init__(self, look: FaceModel | None, hear: VoiceModel | None, keeper: Keeper | None = None) -> None:
        self._look = look
        self._hear = hear
        self.keeper = keeper
        self._turn = asyncio.Semaphore(os.cpu_count() or 1)  # models and OpenCV let other threads run meanwhile

    @property
    def modalities(self) -> tuple[str, ...]:
        """What is taken: `face`, `voice`."""
        return tuple(n for n, model in (("face", self._look), ("voice", self._hear)) if model is not None)

    @property
    def kept(self) -> str:
        """For how long frames are kept on a log, such as "10 minutes"; "" = they are not."""
        return "" if self.keeper is None else spelt(self.keeper.retention)

    def watch(self, seat: Seat, now_ms: int) -> Watch:
        """Begin with a seat at a door. Where frames are kept, its readings are made from there, not here."""
        if self.keeper is not None:
            return Watch(seat, None, None, SeatReadings(), told_ms=now_ms)
        return self.reader(seat, now_ms)

    def reader(self, seat: Seat, now_ms: int) -> Watch:
        """Begin to read what a seat's camera and microphone send."""
        if seat.readings is None:
            seat.readings = SeatReadings()
        return Watch(
            seat,
            None if self._look is None else FaceReader(self._look, Haar(), eyes=Eyes()),
            None if self._hear is None else VoiceReader(self._hear),
            seat.readings,
            told_ms=now_ms,
        )

    def take(self, watch: Watch, piece: Piece, now_ms: int) -> None:
        """Take a piece that arrives. Sounds wait in order, of pictures the newest alone; nothing here takes long, so
        that a withdrawal is never behind a model."""
        at_ms = watch.passages[piece.kind].take(piece, now_ms)
        if at_ms is None:
            return
        if self.keeper is not None:
            self._keep(self.keeper, watch, piece, at_ms, now_ms)
        elif piece.kind == SOUND and watch.voices is not None:
            watch.overtaken += len(watch.unheard) == SOUNDS
            watch.unheard.append((piece.body, at_ms))
        elif piece.kind == PICTURE and watch.faces is not None:
            watch.overtaken += watch.waiting is not None
            watch.waiting = (piece.body, at_ms)

    def _keep(self, keeper: Keeper, watch: Watch, piece: Piece, at_ms: int, now_ms: int) -> None:
        passage, seat = watch.passages[piece.kind], watch.seat
        if (self._look if piece.kind == PICTURE else self._hear) is None:
            return
        try:
            frame = frame_of(seat.room, seat.name, piece, at_ms, now_ms, passage.skew_ms, watch.sounds)
        except Rejected:
            passage.refused += 1
            return
        watch.overtaken += not keeper.put(frame)

    async def hear(self, watch: Watch, sound: bytes, at_ms: int) -> Rejected | None:
        """Listen to a piece of sound. Returns why it could not be read; None = it was."""
        reader = watch.voices
        if reader is None:
            return None
        try:
            samples = from_pcm16(sound)
        except Rejected as why:
            watch.passages[SOUND].refused += 1
            return why
        async with self._turn:
            found = await asyncio.to_thread(reader.read, samples, at_ms)
        for reading in found:
            if reading.micro is not None:
                watch.readings.hear(reading.end_ms, tones(VOICE_TASK, reading.micro[None], reader.labels)[0])
        return None

    async def look(self, watch: Watch) -> Rejected | None:
        """Look at the newest picture that waits, if there is one. Returns why it could not be read; None = it was."""
        reader, waiting, watch.waiting = watch.faces, watch.waiting, None
        if reader is None or waiting is None:
            return None
        data, at_ms = waiting
        try:
            async with self._turn:
                found = await asyncio.to_thread(lambda: reader.read(decode_grey(data, LIMITS), at_ms))
        except Rejected as why:
            watch.passages[PICTURE].refused += 1
            return why
        # A seat is one person: the largest face that can be read stands for it, others in the picture do not count.
        read = next((one for one in found if one.micro is not None), None)
        if read is not None and read.micro is not None:
            shares = tones(FACE_TASK, read.micro[None], reader.labels)[0]
            watch.readings.look(at_ms, shares, away=False, eyes_open=read.eyes_open)
        else:
            away = not found or found[0].quality.flaw == "turned"
            watch.readings.look(at_ms, None, away=away, eyes_open=None)
        return None

    def counts(self, watch: Watch) -> dict[str, int]:
        """What became of the pieces of a seat, for its own page: nobody else is told."""
        held = list(watch.passages.values())
        return {
            "taken": sum(p.taken for p in held),
            "missing": sum(p.missing for p in held),
            "repeated": sum(p.repeated for p in held),
            "hurried": sum(p.hurried for p in held),
            "refused": sum(p.refused for p in held),
            "overtaken": watch.overtaken,
            "skew_ms": watch.passages[PICTURE].skew_ms or watch.passages[SOUND].skew_ms,
        }


async def glance(desk: CaptureDesk, seats: Seats, watch: Watch) -> dict[str, int] | None:
    """Listen to the sounds that wait, look at the newest picture. Returns what became of the seat's pieces, every
    `TOLD_EVERY_MS`."""
    while watch.unheard:
        await desk.hear(watch, *watch.unheard.popleft())
    await desk.look(watch)
    now_ms = seats.clock.now_ms()
    if now_ms - watch.told_ms < TOLD_EVERY_MS:
        return None
    watch.told_ms = now_ms
    return desk.counts(watch)


def captured_weights(config: Config) -> list[Manifest]:
    """Manifests of the models that look or listen, as the deployment declares its modalities; most declare none.

    Raises:
        ResearchOnly, UnknownModel, ManifestInvalid: one of them may not, or cannot, be loaded.
    """
    said, research = declaration(config).modalities, config.policy.research
    if config.domain != "classroom":
        return []
    faces = [media_manifest(FACE, "face", research=research)] if "face" in said else []
    return [*faces, *([media_manifest(VOICE, "voice", research=research)] if "voice" in said else [])]


def capture_desk(config: Config, keeper: Keeper | None = None) -> CaptureDesk | None:
    """The desk for what the deployment declares beyond participation; None where that is nothing.

    Raises:
        ResearchOnly, UnknownModel, ManifestInvalid, MissingExtra: a model may not, or cannot, be loaded.
    """
    said, research = declaration(config).modalities, config.policy.research
    if not {"face", "voice"} & set(said):
        return None
    look = load_face_model(research=research) if "face" in said else None
    return CaptureDesk(look, load_voice_model(research=research) if "voice" in said else None, keeper)
