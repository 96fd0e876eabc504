"""One NVIDIA card through cuda-core, behind `engines.device.Device`. A door of `cuda`.

**Never executed**: no machine of ours has a card and cuda-core. The package has no types that mypy can see (it picks
its module at import), so what is used of it is spelled out here as protocols.

Memory comes from the card's pool in the order of one stream of our own; the default stream is never named.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engines.device import DeviceFacts, Event, Graph, Memory, Stream
from engines.errors import EngineLost, MissingExtra

try:
    import cuda.core as core
except ImportError as error:
    raise MissingExtra("cuda-core is not installed; install it with `pip install 'affectstream[gpu]'`") from error

_FIRST: Final = 0


def _try(what: str, act: Callable[[], Any]) -> Any:
    """Do something on the card; whatever it raises is EngineLost."""
    try:
        return act()
    except Exception as error:  # cuda-core raises its own kinds, which share no parent
        raise EngineLost(f"{what} failed: {error}") from error


class CudaEvent:
    """Implements `Event`."""

    def __init__(self, event: Any) -> None:
        self._event = event

    def sync(self) -> None:
        _try("waiting for the card", self._event.sync)


class CudaStream:
    """Implements `Stream`."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    @property
    def handle(self) -> int:
        return int(self.stream.handle)

    def record(self) -> CudaEvent:
        return CudaEvent(_try("marking a stream", self.stream.record))

    def wait(self, event: Event) -> None:
        if not isinstance(event, CudaEvent):
            raise TypeError(f"expected an event of this card, got {type(event).__name__}")
        _try("waiting for a mark", lambda: self.stream.wait(event._event))

    def sync(self) -> None:
        _try("waiting for the card", self.stream.sync)

    def close(self) -> None:
        _try("closing a stream", self.stream.close)


class CudaMemory:
    """Implements `Memory`."""

    def __init__(self, buffer: Any, size: int, stream: Any) -> None:
        self.buffer, self._size, self._stream = buffer, size, stream
        self._address = int(buffer.handle)

    @property
    def address(self) -> int:
        return self._address

    @property
    def size(self) -> int:
        return self._size

    def close(self) -> None:
        if not self.buffer.is_closed:
            _try("freeing memory", lambda: self.buffer.close(self._stream))


class CudaPinned(CudaMemory):
    """Implements `Pinned`."""

    def view(self) -> NDArray[np.uint8]:
        return np.frombuffer(memoryview((ctypes.c_uint8 * self.size).from_address(self.address)), np.uint8)


class CudaGraph:
    """Implements `Graph`."""

    def __init__(self, graph: Any) -> None:
        self._graph = graph

    def launch(self, stream: Stream) -> None:
        _try("starting a graph", lambda: self._graph.launch(_ours(stream)))

    def close(self) -> None:
        if not self._graph.is_closed:
            _try("freeing a graph", self._graph.close)


class CudaDevice:
    """Implements `Device` for card 0.

    Args:
        facts: what `engines.driver.probe` found; ask it first.

    Raises:
        EngineLost: the card cannot be used.
    """

    def __init__(self, facts: DeviceFacts) -> None:
        self.facts = facts
        self._device = _try("opening the card", lambda: core.Device(_FIRST))
        self.use()
        self._host = _try("pinned memory", core.LegacyPinnedMemoryResource)
        self._order = _try("making a stream", self._device.create_stream)

    def use(self) -> None:
        _try("opening the card", self._device.set_current)

    def stream(self) -> CudaStream:
        return CudaStream(_try("making a stream", self._device.create_stream))  # cuda-core's default is non-blocking

    def memory(self, size: int) -> CudaMemory:
        buffer = _try(f"taking {size} bytes of the card", lambda: self._device.allocate(size, stream=self._order))
        _try("waiting for the card", self._order.sync)  # the pool is ordered by stream; other streams may use it now
        return CudaMemory(buffer, size, self._order)

    def pinned(self, size: int) -> CudaPinned:
        return CudaPinned(_try(f"pinning {size} bytes", lambda: self._host.allocate(size)), size, self._order)

    def copy(self, to: Memory, source: Memory, stream: Stream) -> None:
        if not isinstance(to, CudaMemory) or not isinstance(source, CudaMemory):
            raise TypeError(f"expected memory of this card, got {type(to).__name__}, {type(source).__name__}")
        _try("copying", lambda: source.buffer.copy_to(to.buffer, stream=_ours(stream)))

    def capture(self, stream: Stream, work: Callable[[], None]) -> Graph:
        builder = _try("capturing a graph", lambda: _ours(stream).create_graph_builder())
        try:
            _try("capturing a graph", builder.begin_building)
            try:
                work()
            finally:
                _try("capturing a graph", builder.end_building)
            return CudaGraph(_try("capturing a graph", builder.complete))
        finally:
            with suppress(EngineLost):  # the graph stands by itself; a builder that failed says so above
                _try("capturing a graph", builder.close)

    def close(self) -> None:
        _try("closing a stream", self._order.close)


def _ours(stream: Stream) -> Any:
    if not isinstance(stream, CudaStream):
        raise TypeError(f"expected a stream of this card, got {type(stream).__name__}")
    return stream.stream
