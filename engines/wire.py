"""What an engine server and its clients say to each other: one header, then a frame for each tensor. No pickle.

    frame 0     b"aff" + version byte + MessagePack of one of the messages below
    frame 1...  raw little-endian tensors, one a frame, in the order of the header's `tensors`

Nothing is believed: a header is bounded in bytes, a tensor in its name, kind, dimensions and rows, and its frame must
have exactly the bytes its shape says. Tensors are views of the frames: a shape allocates nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, TypeVar

import msgspec
import numpy as np

from engines.base import AnyArray, EngineSpec, Recipe
from engines.errors import EngineError

MAGIC: Final = b"aff"
VERSION: Final = 1
KINDS: Final = ("<i4", "<i8", "<f4", "<f8", "|u1")
"""Element types that travel."""
MAX_HEADER: Final = 4 << 20
"""Bytes of a header: a vocabulary of a hundred thousand pieces fits."""
MAX_ASK_HEADER: Final = 4096
"""Bytes of a header that a server reads."""
MAX_TENSORS: Final = 16
MAX_DIMENSIONS: Final = 4
MAX_ROWS: Final = 65_536
MAX_FRAME: Final = 64 << 20
"""Bytes of one frame: libzmq cuts off whoever sends a longer one."""
MAX_DEADLINE_MS: Final = 3_600_000


class Garbage(EngineError):
    """Bytes that are no message of ours. Dropped and counted; there is nobody to answer."""


class WrongVersion(EngineError):
    """A message of another version of this format."""


class BadMessage(EngineError):
    """A message of ours with a tensor, number or word out of bounds. `asked`: its number, 0 = not known."""

    asked: int = 0


class Tensor(msgspec.Struct, frozen=True):
    """What the frame at the same place holds."""

    name: str
    kind: str
    shape: tuple[int, ...]


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """Client: who are you? The answer is `Ready` with the recipe."""


class Ask(msgspec.Struct, frozen=True, tag="ask"):
    """Client: score these rows.

    Attributes:
        number: chosen by the client, above 0; the answer carries it.
        model: `name@version` that is wanted, "" = any. features: digest of the recipe the tensors were made by.
        deadline_ms: of what use an answer is only so long from now. attempt: 1, and higher where it was asked before.
    """

    number: int
    rows: int
    features: str
    tensors: tuple[Tensor, ...]
    deadline_ms: int
    model: str = ""
    attempt: int = 1


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """Server: what scores from now on, and the terms. `recipe` only where it was asked for by `Hello`.

    `credit`: requests a client may have open at once. `beat_ms`: a sign of life comes at least so often.
    """

    spec: EngineSpec
    features: str
    credit: int
    beat_ms: int
    recipe: Recipe | None = None


class Beat(msgspec.Struct, frozen=True, tag="beat"):
    """Server: alive. `waiting`: requests in its queue."""

    waiting: int = 0


class Answer(msgspec.Struct, frozen=True, tag="answer"):
    """Server: logits float64 [rows, labels] by task, in `tensors`; the version that scored; backend seconds."""

    number: int
    model: str
    run_s: float
    tensors: tuple[Tensor, ...]


class Refusal(msgspec.Struct, frozen=True, tag="refusal"):
    """Server: no, and why. `error`: a name of `REFUSALS`. `number` 0: about no request of yours in particular."""

    number: int
    error: str
    text: str


REFUSALS: Final = {
    "ShapeMismatch": False,
    "WrongVersion": False,
    "BadMessage": False,
    "WrongModel": True,
    "WrongFeatures": True,
    "DeadlineExceeded": True,
    "QueueFull": True,
    "NoCredit": True,
    "TooManyClients": True,
    "EngineLost": True,
    "Stopping": True,
}
"""Errors by name, and whether the same request may succeed later."""

FromClient = Hello | Ask
FromServer = Ready | Beat | Answer | Refusal
Message = TypeVar("Message")

_ASKS: Final = msgspec.msgpack.Decoder(FromClient)
_ANSWERS: Final = msgspec.msgpack.Decoder(FromServer)


def pack(message: FromClient | FromServer, tensors: Sequence[AnyArray] = ()) -> list[bytes | memoryview]:
    """The frames of a message; a message with `tensors` must have been made by `described` of the same ones.

    The frames are views of the tensors: they must not change until they are sent.
    """
    head = MAGIC + bytes((VERSION,)) + msgspec.msgpack.encode(message)
    return [head, *(np.ascontiguousarray(t, np.dtype(_kind(t))).reshape(-1).view(np.uint8).data for t in tensors)]


def described(tensors: Mapping[str, AnyArray]) -> tuple[Tensor, ...]:
    """What a header says of `tensors`.

    Raises:
        BadMessage: one of them is of a kind that does not travel.
    """
    return tuple(Tensor(name, _kind(t), t.shape) for name, t in tensors.items())


def _kind(tensor: AnyArray) -> str:
    kind = tensor.dtype.newbyteorder("<").str
    if kind not in KINDS:
        raise BadMessage(f"a tensor of {tensor.dtype} does not travel; expected one of {', '.join(KINDS)}")
    return kind


def read_ask(frames: Sequence[bytes | memoryview]) -> tuple[FromClient, dict[str, AnyArray]]:
    """What a client said, with the tensors of an `Ask`, read-only views of the frames.

    Raises:
        Garbage, WrongVersion, BadMessage: see there; nothing was allocated beyond the header.
    """
    message = _decoded(_ASKS, _body(frames, MAX_ASK_HEADER))
    if isinstance(message, Ask):
        try:
            return message, _asked(message, frames)
        except BadMessage as error:
            error.asked = max(0, message.number)
            raise
    if len(frames) != 1:
        raise Garbage(f"a greeting of {len(frames)} frames; expected one")
    return message, {}


def _asked(ask: Ask, frames: Sequence[bytes | memoryview]) -> dict[str, AnyArray]:
    if not 0 < ask.number < 2**63 or not 0 <= ask.rows <= MAX_ROWS or not 0 < ask.deadline_ms <= MAX_DEADLINE_MS:
        raise BadMessage(
            f"expected a number from 1, 0 to {MAX_ROWS} rows and 1 to {MAX_DEADLINE_MS} ms, got {ask.number},"
            f" {ask.rows} and {ask.deadline_ms}"
        )
    return tensors_of(ask.tensors, frames[1:])


def read_answer(frames: Sequence[bytes | memoryview]) -> tuple[FromServer, dict[str, AnyArray]]:
    """What a server said, with the logits of an `Answer`.

    Raises:
        Garbage, WrongVersion, BadMessage: as `read_ask`.
    """
    message = _decoded(_ANSWERS, _body(frames, MAX_HEADER))
    return message, tensors_of(message.tensors, frames[1:]) if isinstance(message, Answer) else {}


def _decoded(decoder: msgspec.msgpack.Decoder[Message], body: memoryview) -> Message:
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Garbage(f"a header that is no message: {error}") from error


def _body(frames: Sequence[bytes | memoryview], bound: int) -> memoryview:
    """The MessagePack of frame 0."""
    head = memoryview(frames[0]) if frames else memoryview(b"")
    if len(head) < 5 or bytes(head[:3]) != MAGIC:
        raise Garbage(f"no message of an engine client or server: {len(head)} bytes")
    if head[3] != VERSION:
        raise WrongVersion(
            f"message of format version {head[3]}; expected {VERSION}: run the same release at both ends"
        )
    if len(head) > bound:
        raise BadMessage(f"header of {len(head)} bytes; at most {bound}")
    return head[4:]


def tensors_of(heads: Sequence[Tensor], frames: Sequence[bytes | memoryview]) -> dict[str, AnyArray]:
    """The tensors behind a header, as views of their frames.

    Raises:
        BadMessage: too many, named twice, of an unknown kind, or a frame of other bytes than its shape says.
    """
    if len(heads) != len(frames) or len(heads) > MAX_TENSORS:
        raise BadMessage(f"{len(heads)} tensors in {len(frames)} frames; expected as many, at most {MAX_TENSORS}")
    found: dict[str, AnyArray] = {}
    for head, frame in zip(heads, frames, strict=True):
        if head.kind not in KINDS or not 0 < len(head.name) <= 64 or head.name in found:
            raise BadMessage(f"tensor {head.name[:64]!r} of kind {head.kind[:8]!r}; expected {', '.join(KINDS)}, once")
        if len(head.shape) > MAX_DIMENSIONS or not all(0 <= n <= MAX_FRAME for n in head.shape):
            raise BadMessage(f"tensor {head.name!r}: shape out of bounds: {str(head.shape)[:80]}")
        size = math.prod(head.shape) * np.dtype(head.kind).itemsize
        if size != len(frame):
            raise BadMessage(
                f"tensor {head.name!r}: {head.kind}{list(head.shape)} has {size} bytes, its frame {len(frame)}"
            )
        found[head.name] = np.frombuffer(frame, head.kind).reshape(head.shape)
    return found
