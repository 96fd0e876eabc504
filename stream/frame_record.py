"""A piece of a camera or microphone as a record of a frames topic: what is asked of it before it is written, and again
after it was read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from engines.media import SOUND_RATE
from operators.errors import Rejected
from operators.frame_wire import Frame, FrameCodec
from operators.pictures import PictureLimits, picture_size
from operators.speech import SLICE_MS
from stream.capture import PICTURE, PICTURE_MAX, SOUND, SOUND_MAX, Piece
from stream.config import ROOM
from stream.topics import FRAMES

LIMITS: Final = PictureLimits(size_max=PICTURE_MAX, pixels_max=1_000_000)
"""Of a picture, before it is decoded."""
KIND_OF: Final[dict[str, int]] = {"jpeg": PICTURE, "png": PICTURE, "pcm16": SOUND}
TOPIC_OF: Final = {PICTURE: FRAMES[0], SOUND: FRAMES[1]}
MOST: Final = {FRAMES[0]: PICTURE_MAX, FRAMES[1]: SOUND_MAX}
"""Bytes of a body, by topic."""
LONGEST_SEAT: Final = 64
AHEAD_MS: Final = 5_000
"""How far after now a frame may claim to have arrived, and after its arrival to have been captured."""


@dataclass(slots=True)
class SoundClock:
    """When the pieces of one microphone began, by their samples: a run of pieces has one clock, that of its first.

    `VoiceReader` counts so too; with this in the records, reading may begin in the middle of a run and finds the same
    slices. A piece more than half a slice away from where the last one ended begins a run, there as here.
    """

    begun_ms: int = 0
    samples: int = 0

    def stamp(self, at_ms: int, samples: int) -> int:
        """When a piece of `samples` that was captured at `at_ms` begins by the clock of its run."""
        end_ms = self.begun_ms + self.samples * 1000 // SOUND_RATE
        if abs(at_ms - end_ms) > SLICE_MS // 2:
            self.begun_ms, self.samples, end_ms = at_ms, 0, at_ms
        self.samples += samples
        return end_ms


def frame_of(room: str, seat: str, piece: Piece, at_ms: int, now_ms: int, skew_ms: int, sounds: SoundClock) -> Frame:
    """The record of a piece that was captured at `at_ms` by our clock and arrived now.

    Raises:
        Rejected: its header says that it will not be read.
    """
    codec: FrameCodec = "pcm16"
    width = height = rate = None
    if piece.kind == PICTURE:
        width, height = picture_size(piece.body, LIMITS)
        codec = "png" if piece.body.startswith(b"\x89PNG") else "jpeg"
    else:
        rate = SOUND_RATE
        _check_sound(piece.body)
        at_ms = sounds.stamp(at_ms, len(piece.body) // 2)
    return Frame(
        room=room, seat=seat, number=piece.number, captured_ms=at_ms, arrived_ms=now_ms, skew_ms=skew_ms, codec=codec,
        width=width, height=height, rate=rate, body=piece.body,
    )  # fmt: skip


def check_frame(frame: Frame, topic: str, now_ms: int) -> int:
    """Ask of a record that was read from `topic` what was asked when it was written. Returns its kind.

    Raises:
        Rejected: `bad_frame` or what `picture_size` says; never a byte of its body is told.
    """
    kind = KIND_OF.get(frame.codec)
    if kind is None or TOPIC_OF[kind] != topic:
        raise Rejected("bad_frame", f"codec {frame.codec} does not belong on {topic}")
    if not (ROOM.fullmatch(frame.room) and 1 <= len(frame.seat) <= LONGEST_SEAT and frame.seat.isprintable()):
        raise Rejected("bad_frame", "expected a room and a seat as the engine names them")
    if frame.number < 0 or not 0 <= frame.captured_ms <= frame.arrived_ms + AHEAD_MS <= now_ms + 2 * AHEAD_MS:
        raise Rejected("bad_frame", f"number {frame.number}, captured and arrived at times that cannot be")
    if kind == PICTURE:
        if picture_size(frame.body, LIMITS) != (frame.width, frame.height):
            raise Rejected("bad_frame", f"said to be {frame.width} x {frame.height} pixels, its header says otherwise")
    elif frame.rate != SOUND_RATE:
        raise Rejected("bad_frame", f"sound at {frame.rate} samples a second, expected {SOUND_RATE}")
    else:
        _check_sound(frame.body)
    return kind


def _check_sound(body: bytes) -> None:
    if not body or len(body) % 2 or len(body) > SOUND_MAX:
        raise Rejected("not_a_sound", f"expected 2 to {SOUND_MAX} bytes, an even number, got {len(body)}")
