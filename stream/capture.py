"""What a camera or microphone sends, and what of it arrived: framing, limits, gaps, and the sender's clock.

A message is one byte for the kind (1 picture, 2 sound), a sequence number of its kind (4 bytes) and the moment of
capture by the sender's clock (8 bytes, epoch milliseconds), all big-endian; then a JPEG, or signed 16-bit samples at
16 kHz. Everything is checked before a byte of it is decoded.
"""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal, NamedTuple

import msgspec

from operators.errors import Rejected

PICTURE: Final = 1
SOUND: Final = 2
PICTURE_MAX: Final = 256 << 10
SOUND_MAX: Final = 32_000
"""Bytes of a piece of sound: one second."""
LARGEST: Final = PICTURE_MAX + 64
MOST_PER_S: Final = {PICTURE: 10.0, SOUND: 20.0}
"""Messages of each kind a sender may send per second, twice as many at once; the rest is left undecoded, counted."""
LATEST: Final = 64
"""Messages the clock of a sender is judged by."""
_HEAD: Final = struct.Struct(">BIQ")


Short = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


class Ask(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an edge box asks for: a seat of a room, or to take its part back. `seat`: what the box calls it."""

    do: Literal["join", "withdraw"]
    room: Short
    seat: Short


class Told(msgspec.Struct, frozen=True):
    """What an edge box is told: it has its seat, and for how long frames are kept there (`kept`, "" = not at all);
    counts of its pieces; refused and why; its part was taken back; ask for a seat first (`join`); ask again in a moment
    (`wait`)."""

    type: Literal["seat", "counts", "refused", "withdrawn", "join", "wait"]
    why: str = ""
    modalities: tuple[str, ...] = ()
    counts: dict[str, int] = {}
    kept: str = ""


class Piece(NamedTuple):
    """One message, its body not decoded. `sent_ms`: by the sender's clock."""

    kind: int
    number: int
    sent_ms: int
    body: bytes


def piece_of(message: bytes) -> Piece:
    """Take a message apart.

    Raises:
        Rejected: `too_large`, or `not_a_piece`: too short, of no kind, or without a body.
    """
    if len(message) <= _HEAD.size:
        raise Rejected("not_a_piece", f"expected more than {_HEAD.size} bytes, got {len(message)}")
    kind, number, sent_ms = _HEAD.unpack_from(message)
    most = {PICTURE: PICTURE_MAX, SOUND: SOUND_MAX}.get(kind)
    if most is None:
        raise Rejected("not_a_piece", f"expected kind 1 (picture) or 2 (sound), got {kind}")
    if len(message) - _HEAD.size > most:
        raise Rejected("too_large", f"a body of {len(message) - _HEAD.size} bytes, at most {most} are taken")
    return Piece(kind, number, sent_ms, message[_HEAD.size :])


def message_of(piece: Piece) -> bytes:
    """The message of a piece."""
    return _HEAD.pack(piece.kind, piece.number, piece.sent_ms) + piece.body


@dataclass(slots=True)
class Passage:
    """What arrived of one kind from one sender.

    Attributes:
        taken, hurried: pieces taken; pieces beyond the rate (dropped). refused: those that could not be read.
        repeated: pieces with a number not above the last one's (dropped). missing: numbers that were jumped over; one
            that comes later counts as missing all the same: what is out of order is too late to be looked at.
    """

    kind: int
    taken: int = 0
    repeated: int = 0
    missing: int = 0
    hurried: int = 0
    refused: int = 0
    _last: int = -1
    _tokens: float = 0.0
    _filled_ms: int | None = None
    _delays: deque[int] = field(default_factory=lambda: deque(maxlen=LATEST))

    def take(self, piece: Piece, now_ms: int) -> int | None:
        """Take note of a piece that arrives now. When it was captured by our clock; None = it is to be dropped.

        The sender's clock is taken to be off by the least difference of arrival and stamp among the latest pieces:
        whatever came fastest was held up least (Cristian 1989).
        """
        rate = MOST_PER_S[self.kind]
        since = 1_000 if self._filled_ms is None else max(0, now_ms - self._filled_ms)
        self._tokens = min(2 * rate, self._tokens + rate * since / 1000) if self._filled_ms is not None else 2 * rate
        self._filled_ms = now_ms
        if piece.number <= self._last:
            self.repeated += 1
            return None
        self.missing += piece.number - self._last - 1 if self._last >= 0 else 0
        self._last = piece.number
        if self._tokens < 1:
            self.hurried += 1
            return None
        self._tokens -= 1
        self.taken += 1
        self._delays.append(now_ms - piece.sent_ms)
        return min(now_ms, piece.sent_ms + self.skew_ms)

    @property
    def skew_ms(self) -> int:
        """What our clock is ahead of the sender's, with the least delay; 0 before the first piece."""
        return min(self._delays, default=0)
