"""What a GPU backend needs of a card and of a plan, as protocols of our own.

`engines/cuda_device.py` keeps the first with cuda-core, `engines/tensorrt.py` the second with TensorRT; the tests
keep both in numpy with an adversary that runs the streams in any order the rules allow. So what the engine does with
buffers, streams, graphs and errors can be tested where no card is.

Work on one stream is done in order; two streams know nothing of each other but what `wait` says. Nothing here uses the
default stream.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from engines.buckets import Bucket


class DeviceFacts(msgspec.Struct, frozen=True):
    """One card and its driver. `capability` as `9.0`, `driver` as `580.65.06`, `cuda`: what the driver speaks."""

    name: str
    capability: str
    multiprocessors: int
    memory: int
    driver: str
    cuda: str


class Event(Protocol):
    """A mark on a stream."""

    def sync(self) -> None:
        """Wait until everything before the mark is done. Raises EngineLost."""
        ...


class Memory(Protocol):
    """Bytes on the card (or pinned ones on the host), at a fixed address until `close`."""

    @property
    def address(self) -> int: ...

    @property
    def size(self) -> int: ...

    def close(self) -> None:
        """Free it. Idempotent. Nothing may still use it: sync before."""
        ...


class Pinned(Memory, Protocol):
    """Host memory that the card reads by itself."""

    def view(self) -> NDArray[np.uint8]:
        """The bytes themselves, valid until `close`."""
        ...


class Stream(Protocol):
    """A queue of work on the card."""

    @property
    def handle(self) -> int: ...

    def record(self) -> Event: ...

    def wait(self, event: Event) -> None:
        """What comes after waits for `event`; the host does not."""
        ...

    def sync(self) -> None: ...

    def close(self) -> None: ...


class Graph(Protocol):
    """Captured work, started at once. The addresses it was captured with must live as long as it does."""

    def launch(self, stream: Stream) -> None: ...

    def close(self) -> None: ...


class Device(Protocol):
    """One card. Every method may raise EngineLost."""

    @property
    def facts(self) -> DeviceFacts: ...

    def use(self) -> None:
        """Make this the card of the calling thread. An engine may be loaded in one thread and asked in another."""
        ...

    def stream(self) -> Stream:
        """A new stream that does not wait for the default stream."""
        ...

    def memory(self, size: int) -> Memory: ...

    def pinned(self, size: int) -> Pinned: ...

    def copy(self, to: Memory, source: Memory, stream: Stream) -> None:
        """Queue a copy of all of `source` to the start of `to`, which is at least as large."""
        ...

    def capture(self, stream: Stream, work: Callable[[], None]) -> Graph:
        """What `work` queues on `stream`, as a graph; nothing of it runs now."""
        ...

    def close(self) -> None: ...


class Context(Protocol):
    """One shape of a plan, ready to run on the addresses bound last."""

    def bind(self, name: str, address: int) -> None:
        """The tensor `name` lies at `address`. Raises EngineLost: no such tensor."""
        ...

    def enqueue(self, stream: int) -> None:
        """Queue one run on the stream of that handle. Raises EngineLost: refused."""
        ...

    def close(self) -> None: ...


class Plan(Protocol):
    """A plan that was read by the runtime that built it."""

    @property
    def ports(self) -> Mapping[str, np.dtype[np.generic]]:
        """Every input and output with its dtype."""
        ...

    @property
    def buckets(self) -> tuple[Bucket, ...]:
        """The shape of every optimisation profile, in order."""
        ...

    def context(self, profile: int, stream: Stream) -> Context:
        """A context fixed to that profile and its shape. Raises EngineLost."""
        ...

    def close(self) -> None: ...


class PlanRuntime(Protocol):
    """What reads plans."""

    def open(self, plan: bytes) -> Plan | None:
        """The plan, or None where this runtime cannot read it (another version, another card, damaged)."""
        ...
