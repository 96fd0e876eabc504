"""Our encoder in torch on a card, FP16 with captured graphs, behind the protocols of `engines.device`. A door of
`torch`.

The GPU path where TensorRT cannot be had: the same `engines.plan_engine` drives it, with the same buckets, rings and
graphs; what TensorRT's plan does there, a forward pass over bound memory does here. **Not yet run on a card**:
`device="cpu"` (float32, no graphs, streams that are always done) runs the same code in the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engines.buckets import Bucket
from engines.device import DeviceFacts, Event, Graph, Memory, Stream
from engines.encoder_weights import EncoderWeights
from engines.errors import EngineLost, MissingExtra

try:
    import torch
    from torch.nn import functional
except ImportError as error:
    raise MissingExtra("torch is not installed; install it with `pip install 'affectstream[train]'`") from error

LOW: Final = -1e4
"""Added to the scores of padding: fits float16, and its exponential is 0."""


def refusal() -> str:
    """Why torch cannot use a card here; empty where it can."""
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA"
    if not torch.cuda.is_available():
        return f"torch {torch.__version__} finds no card"
    return ""


class TorchEvent:
    """Implements `Event`; on the CPU it is always done."""

    def __init__(self, event: Any) -> None:
        self.event = event

    def sync(self) -> None:
        if self.event is not None:
            _try("waiting for the card", self.event.synchronize)


class TorchStream:
    """Implements `Stream`. On the CPU work is done when it is queued."""

    def __init__(self, stream: Any, handle: int) -> None:
        self.stream, self._handle = stream, handle

    @property
    def handle(self) -> int:
        return self._handle

    def record(self) -> TorchEvent:
        return TorchEvent(None if self.stream is None else _try("marking a stream", self.stream.record_event))

    def wait(self, event: Event) -> None:
        if not isinstance(event, TorchEvent):
            raise TypeError(f"expected an event of this card, got {type(event).__name__}")
        if self.stream is not None:
            _try("waiting for a mark", lambda: self.stream.wait_event(event.event))

    def sync(self) -> None:
        if self.stream is not None:
            _try("waiting for the card", self.stream.synchronize)

    def close(self) -> None:
        """torch keeps its streams."""


class TorchMemory:
    """Implements `Memory`, and `Pinned` where the tensor lies on the host."""

    def __init__(self, device: TorchDevice, tensor: Any) -> None:
        self._device, self.tensor = device, tensor
        self._address = int(tensor.data_ptr())

    @property
    def address(self) -> int:
        return self._address

    @property
    def size(self) -> int:
        return int(self.tensor.numel())

    def view(self) -> NDArray[np.uint8]:
        seen: NDArray[np.uint8] = self.tensor.numpy()
        return seen

    def close(self) -> None:
        self._device.forget(self)


class TorchGraph:
    """Implements `Graph`; on the CPU the work is done anew."""

    def __init__(self, device: TorchDevice, graph: Any, work: Callable[[], None]) -> None:
        self._device, self._graph, self._work = device, graph, work

    def launch(self, stream: Stream) -> None:
        if self._graph is None:
            self._work()
            return
        with self._device.on(stream.handle):
            _try("starting a graph", self._graph.replay)

    def close(self) -> None:
        self._graph, self._work = None, _nothing


class TorchDevice:
    """Implements `Device` on torch.

    Args:
        kind: `cuda`, or `cpu` for the tests.

    Raises:
        EngineLost: no card; the message is that of `refusal`.
    """

    def __init__(self, facts: DeviceFacts, kind: str = "cuda") -> None:
        if kind == "cuda" and refusal():
            raise EngineLost(refusal())
        self.facts, self.kind = facts, kind
        self._streams: dict[int, TorchStream] = {}
        self._live: dict[int, TorchMemory] = {}

    def use(self) -> None:
        if self.kind == "cuda":
            _try("opening the card", lambda: torch.cuda.set_device(0))

    def stream(self) -> TorchStream:
        if self.kind == "cpu":
            made = TorchStream(None, len(self._streams) + 1)
        else:
            stream = _try("making a stream", torch.cuda.Stream)
            made = TorchStream(stream, int(stream.cuda_stream))
        self._streams[made.handle] = made
        return made

    def memory(self, size: int) -> TorchMemory:
        return self._keep(lambda: torch.empty(size, dtype=torch.uint8, device=self.kind))

    def pinned(self, size: int) -> TorchMemory:
        return self._keep(lambda: torch.empty(size, dtype=torch.uint8, pin_memory=self.kind == "cuda"))

    def copy(self, to: Memory, source: Memory, stream: Stream) -> None:
        if not isinstance(to, TorchMemory) or not isinstance(source, TorchMemory):
            raise TypeError(f"expected memory of this card, got {type(to).__name__}, {type(source).__name__}")
        with self.on(stream.handle):
            _try("copying", lambda: to.tensor.copy_(source.tensor, non_blocking=True))

    def capture(self, stream: Stream, work: Callable[[], None]) -> Graph:
        if self.kind == "cpu":
            return TorchGraph(self, None, work)
        graph = _try("making a graph", torch.cuda.CUDAGraph)

        def captured() -> None:
            with torch.cuda.graph(graph, stream=self._streams[stream.handle].stream, capture_error_mode="thread_local"):
                work()

        _try("capturing a graph", captured)
        return TorchGraph(self, graph, work)

    def close(self) -> None:
        self._live.clear()

    def forget(self, memory: TorchMemory) -> None:
        """Drop the last reference that is ours."""
        self._live.pop(memory.address, None)

    def on(self, handle: int) -> Any:
        """What queues on the stream of that handle inside."""
        return nullcontext() if self.kind == "cpu" else torch.cuda.stream(self._streams[handle].stream)

    def at(self, address: int, shape: tuple[int, int], kind: Any) -> Any:
        """The memory at an address as a tensor of that shape and type. It stays while the tensor does.

        Raises:
            EngineLost: nothing live is there.
        """
        size = shape[0] * shape[1] * kind.itemsize
        for memory in self._live.values():
            at = address - memory.address
            if at >= 0 and at + size <= memory.size:
                return memory.tensor[at : at + size].view(kind).view(shape)
        raise EngineLost(f"nothing live at address {address}")

    def _keep(self, make: Callable[[], Any]) -> TorchMemory:
        memory = TorchMemory(self, _try("taking memory", make))
        self._live[memory.address] = memory
        return memory


class TorchPlan:
    """Implements `Plan`: the encoder's weights on the card, any of the given shapes.

    FP16 on a card, float32 on the CPU; the norms add in float32 inside torch, mean and head are float32.
    """

    def __init__(self, device: TorchDevice, weights: EncoderWeights, buckets: tuple[Bucket, ...]) -> None:
        self._device, self._weights, self._buckets = device, weights, buckets
        self._half = torch.float16 if device.kind == "cuda" else torch.float32
        whole = ("head.weight", "head.bias")
        self._on_card: dict[str, Any] = {
            name: torch.tensor(array, dtype=torch.float32 if name in whole else self._half, device=device.kind)
            for name, array in weights.arrays.items()
        }

    @property
    def ports(self) -> Mapping[str, np.dtype[np.generic]]:
        return {"ids": np.dtype(np.int64), "mask": np.dtype(np.float32), "logits": np.dtype(np.float32)}

    @property
    def buckets(self) -> tuple[Bucket, ...]:
        return self._buckets

    def context(self, profile: int, stream: Stream) -> TorchContext:
        return TorchContext(self, self._device, self._buckets[profile])

    def close(self) -> None:
        self._on_card.clear()

    def forward(self, ids: Any, mask: Any) -> Any:
        """Logits float32 [rows, outputs] of ids int64 and mask float32 [rows, length]."""
        w, size = self._on_card, self._weights
        x = self._norm(w["pieces.weight"][ids] + w["positions.weight"][: ids.shape[1]], "norm")
        bias = ((1.0 - mask) * LOW).to(self._half)[:, None, None, :]
        rows, length, width = x.shape
        for k in range(size.blocks):
            name = f"blocks.{k}"
            split = self._linear(x, f"{name}.qkv").view(rows, length, 3, size.heads, width // size.heads)
            q, key, v = split.permute(2, 0, 3, 1, 4)
            share = torch.softmax(q @ key.transpose(-1, -2) + bias, -1)
            mixed = (share @ v).transpose(1, 2).reshape(rows, length, width)
            x = self._norm(x + self._linear(mixed, f"{name}.out"), f"{name}.norm1")
            up = functional.gelu(self._linear(x, f"{name}.up"))
            x = self._norm(x + self._linear(up, f"{name}.down"), f"{name}.norm2")
        mean = (x.float() * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
        return functional.linear(mean, w["head.weight"], w["head.bias"])

    def _linear(self, x: Any, name: str) -> Any:
        return functional.linear(x, self._on_card[f"{name}.weight"], self._on_card[f"{name}.bias"])

    def _norm(self, x: Any, name: str) -> Any:
        w = self._on_card
        return functional.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], self._weights.epsilon)


class TorchContext:
    """Implements `Context`: one shape of the forward pass, on bound addresses."""

    def __init__(self, plan: TorchPlan, device: TorchDevice, bucket: Bucket) -> None:
        self._plan, self._device, self._bucket = plan, device, bucket
        self._bound: dict[str, Any] = {}
        self._outputs = plan._weights.outputs

    def bind(self, name: str, address: int) -> None:
        if name not in self._plan.ports:
            raise EngineLost(f"the encoder has no tensor {name!r}")
        columns = self._outputs if name == "logits" else self._bucket.length
        kind = torch.int64 if name == "ids" else torch.float32
        self._bound[name] = self._device.at(address, (self._bucket.rows, columns), kind)

    def enqueue(self, stream: int) -> None:
        def run() -> None:
            with torch.no_grad(), self._device.on(stream):
                self._bound["logits"].copy_(self._plan.forward(self._bound["ids"], self._bound["mask"]))

        _try("the forward pass", run)

    def close(self) -> None:
        self._bound.clear()


def _try(what: str, act: Callable[[], Any]) -> Any:
    """Do something on the card; whatever torch raises is EngineLost."""
    try:
        return act()
    except RuntimeError as error:  # torch's own errors are kinds of it
        raise EngineLost(f"{what} failed: {error}") from error


def _nothing() -> None:
    """What a closed graph does."""
