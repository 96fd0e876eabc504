"""An edge box: sends what a camera and a microphone see and hear to `affect run`. The door of `zmq` on this floor.

Nothing is kept: what cannot leave at once is dropped, and shows as a gap in the numbers at the other end.
"""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Final, Literal

import msgspec

from engines.errors import MissingExtra
from engines.remote import read_keys
from operators.base import Clock
from stream.capture import Ask, Piece, Told, message_of
from stream.errors import StreamError, UsageError

try:
    import zmq
except ImportError as error:
    raise MissingExtra("an edge box needs pyzmq; install it with `pip install 'affectstream[remote]'`") from error

HIGH_WATER: Final = 16
"""Messages that wait for the wire; beyond, they are dropped."""
LINGER_MS: Final = 1_000
ASK_EVERY_S: Final = 1.0
MOST_TOLD: Final = 4_096
"""Bytes of an answer."""
HEARTBEAT_MS: Final = 2_000


class EdgeBox:
    """A connection to the capture door `to` (tcp://HOST:PORT) with the keys of a client's folder, for one seat.

    `counts`: sent and dropped by kind. `told`: what the other end last said of what arrived. `kept`: for how long it
    keeps frames in a log, such as 10 minutes; "" = it does not.

    Raises:
        UsageError: `to` is no address. ManifestInvalid: there are no keys in the folder.
    """

    def __init__(self, to: str, keys: Path, room: str, seat: str, clock: Clock) -> None:
        if not to.startswith("tcp://"):
            raise UsageError(f"--to: expected tcp://HOST:PORT, got {to!r}")
        if not 1 <= len(seat) <= 64 or not seat.isprintable():
            raise UsageError(f"--seat: expected 1 to 64 printable characters, got {len(seat)}")
        server, public, secret = read_keys(keys, "--keys")
        self._ask = Ask("join", room, seat)
        self._to, self._clock = to, clock
        self._numbers: Counter[int] = Counter()
        self.counts: Counter[str] = Counter()
        self.told: dict[str, int] = {}
        self.modalities: tuple[str, ...] = ()
        self.kept = ""
        self._asked_s = 0.0
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        for option, value in (
            (zmq.LINGER, LINGER_MS),
            (zmq.SNDHWM, HIGH_WATER),
            (zmq.RCVHWM, HIGH_WATER),
            (zmq.MAXMSGSIZE, MOST_TOLD),
            (zmq.IMMEDIATE, 1),  # without a connection nothing waits anywhere
            (zmq.RECONNECT_IVL, 100),
            (zmq.RECONNECT_IVL_MAX, 2_000),
            (zmq.HEARTBEAT_IVL, HEARTBEAT_MS),
            (zmq.IPV6, "[" in to),
        ):
            self._socket.set(option, value)
        self._socket.set(zmq.CURVE_SERVERKEY, server)
        self._socket.set(zmq.CURVE_PUBLICKEY, public)
        self._socket.set(zmq.CURVE_SECRETKEY, secret)
        try:
            self._socket.connect(to)
        except zmq.ZMQError as error:
            self.close()
            raise UsageError(f"--to: {to!r} is no address: {error.strerror}") from error

    def __enter__(self) -> EdgeBox:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connection; what is on its way has a second. Idempotent."""
        self._socket.close()
        self._context.term()

    def ask(self, do: Literal["join", "withdraw"], patience_s: float) -> None:
        """Ask for the seat, or take its part back, until the other end says that it is done.

        Raises:
            StreamError: nobody let us in, or it was refused.
        """
        self._ask = msgspec.structs.replace(self._ask, do=do)
        self._asked_s = 0.0
        until, why = time.monotonic() + patience_s, "nobody answers, or this box's key is not known there"
        while time.monotonic() < until:
            self._say_who()
            told = self._heard(0.1)
            if told is None:
                continue
            if told.type == "wait":
                why = told.why
            elif told.type == ("seat" if do == "join" else "withdrawn"):
                return
            else:
                self._obey(told)
        raise StreamError(f"{self._to}: {why}; keys are made there with `affect engine keys`")

    def send(self, kind: int, body: bytes, at_ms: int | None = None) -> None:
        """Send a picture or a sound, captured now or `at_ms`; where it cannot leave at once it is dropped."""
        self._numbers[kind] += 1
        stamp = self._clock.now_ms() if at_ms is None else at_ms
        self.counts["sent" if self._put(message_of(Piece(kind, self._numbers[kind], stamp, body))) else "dropped"] += 1

    def listen(self, wait_s: float) -> None:
        """Wait for a word of the other end, at most so long, and heed it.

        Raises:
            StreamError: it lets us in no more, or consent was taken back.
        """
        told = self._heard(wait_s)
        if told is not None:
            self._obey(told)

    def _obey(self, told: Told) -> None:
        if told.type == "withdrawn" and self._ask.do == "join":
            raise StreamError(f"{self._to}: this seat's part was taken back; nothing more is sent")
        if told.type == "refused":
            raise StreamError(f"{self._to}: {told.why}")
        if told.type in ("join", "wait"):  # the other end started anew, or we were away for long
            self._say_who()

    def _say_who(self) -> None:
        if time.monotonic() - self._asked_s >= ASK_EVERY_S and self._put(msgspec.json.encode(self._ask)):
            self._asked_s = time.monotonic()

    def _heard(self, wait_s: float) -> Told | None:
        if not self._socket.poll(max(0, int(wait_s * 1000))):
            return None
        try:
            told = msgspec.json.decode(self._socket.recv_multipart(zmq.NOBLOCK)[0], type=Told)
        except (zmq.Again, msgspec.MsgspecError):
            return None
        if told.type == "seat":
            self.modalities, self.kept = told.modalities, told.kept
        if told.type == "counts":
            self.told = told.counts
        return told

    def _put(self, message: bytes) -> bool:
        try:
            self._socket.send(message, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True
