"""A picture or a piece of sound as it travels on a frames topic, field for field as `schemas/frame.avsc`."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

FrameCodec = Literal["unknown", "jpeg", "png", "pcm16"]
AROUND: Final = 1_024
"""Bytes that a message may have beside its body."""


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """One frame of one seat, not decoded.

    Attributes:
        seat: random name, made when the page or box joined; nothing leads from it to a person.
        number: of its kind, by the sender; rising.
        captured_ms: epoch milliseconds by the engine's clock; of sound, when its first sample was heard, counted by the
            samples of its run (`stream/frame_record.py`).
        arrived_ms: epoch milliseconds at the engine's door.
        skew_ms: what the engine's clock was taken to be ahead of the sender's.
        width, height: pixels of a picture. rate: samples a second of sound.
    """

    room: str
    seat: str
    number: int
    captured_ms: int
    arrived_ms: int
    skew_ms: int = 0
    codec: FrameCodec = "unknown"
    width: int | None = None
    height: int | None = None
    rate: int | None = None
    body: bytes = b""
