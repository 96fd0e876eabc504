"""Runs a plan: buckets, contexts, captured graphs, pinned rings, two streams. Knows a card and TensorRT as protocols
alone.

One *lane* a bucket that is used: one context and one graph, both fixed to the lane's own addresses, and a ring of
`RING` slots of pinned and staged memory. A run of one padded batch in slot s:

    copy stream      pinned in s -> staged s                                     event `staged`
    compute stream   wait staged; staged s -> the lane's input; graph; the lane's output -> pinned out s    event `done`

so the next batch is copied while this one computes. A slot is written again only after its `done`; the lane's input
only by the compute stream, in order. At most `hot` lanes live at once; the one used longest ago is closed when it is
idle. The default stream is never used.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from engines.base import F64, EngineSpec, ScoreBatch, TensorBatch
from engines.buckets import Bucket, Buckets, fill
from engines.device import Device, Event, Memory, Pinned, Plan, Stream
from engines.errors import EngineError, EngineLost
from engines.token_rows import I64, by_task, outputs, token_rows

_log = logging.getLogger(__name__)

RING: Final = 2
"""Batches of one bucket in flight: one computes, one is copied. More would only wait."""
HOT: Final = 8
"""Lanes that live at once: posts of one language fill four or five lengths."""
ALIGN: Final = 256
_PORTS: Final = {"ids", "mask", "logits"}


class _Closes(Protocol):
    def close(self) -> None: ...


Held = TypeVar("Held", bound=_Closes)


class PlanEngine:
    """Implements `Engine` for `ids` / `offsets` on a card.

    Args:
        spec: heads in the order of the outputs.
        plan: with one profile for every shape of `buckets`.
        pieces: size of the vocabulary.
        hot: lanes kept; >= 1.

    Raises:
        EngineLost: the plan has other tensors or profiles than the model.
    """

    def __init__(
        self, spec: EngineSpec, plan: Plan, device: Device, buckets: Buckets, pieces: int, hot: int = HOT
    ) -> None:
        if set(plan.ports) != _PORTS:
            raise EngineLost(f"model {spec.name!r}: the plan has {sorted(plan.ports)}, expected {sorted(_PORTS)}")
        lacking = [str(b) for b in buckets.all() if b not in plan.buckets]
        if lacking:
            raise EngineLost(f"model {spec.name!r}: the plan has no profile for {', '.join(lacking)}; build it anew")
        self.spec = spec
        self._plan, self._device, self._buckets, self._pieces, self._hot = plan, device, buckets, pieces, hot
        self._lanes: OrderedDict[Bucket, Lane] = OrderedDict()
        self._closed = False
        self._copying = device.stream()
        self._computing = device.stream()

    @property
    def lanes(self) -> tuple[Bucket, ...]:
        """The shapes that are warm, used longest ago first."""
        return tuple(self._lanes)

    def warm_up(self) -> None:
        """Make the lanes of the first `hot` shapes now instead of when they are first met."""
        self._device.use()
        for bucket in self._buckets.all()[: self._hot]:
            self._lane(bucket)

    def infer(self, batch: TensorBatch) -> ScoreBatch:
        """Logits of every row. What shape a row runs in: see `engines.buckets`.

        Raises:
            ShapeMismatch: the tensors do not fit, or a row is longer than the longest bucket.
            EngineLost: closed, or the card failed; the engine is then closed, load it again.
        """
        if self._closed:
            raise EngineLost(f"engine {self.spec.model_id!r} is closed; load it again")
        start = time.perf_counter()
        ids, offsets = token_rows(self.spec, batch, self._pieces)
        runs = list(self._buckets.split(np.diff(offsets)))
        logits = np.empty((batch.rows, outputs(self.spec)))
        try:
            self._device.use()
            self._run(runs, ids, offsets, logits)
        except EngineError as error:
            self.close()
            raise EngineLost(f"engine {self.spec.model_id!r}: the card failed: {error}; load it again") from error
        return ScoreBatch(by_task(self.spec, logits), time.perf_counter() - start)

    def close(self) -> None:
        """Wait for what runs, then free everything, even where the card fails meanwhile. Idempotent."""
        if self._closed:
            return
        self._closed = True
        for act in (self._device.use, self._copying.sync, self._computing.sync):
            _quietly(act)
        for lane in self._lanes.values():
            lane.close()
        self._lanes.clear()
        for act in (self._copying.close, self._computing.close, self._plan.close, self._device.close):
            _quietly(act)

    def _run(self, runs: list[tuple[Bucket, I64]], ids: I64, offsets: I64, logits: F64) -> None:
        flying: deque[tuple[Slot, I64]] = deque()
        for bucket, chosen in runs:
            if bucket not in self._lanes:  # a lane may have to be closed: nothing may fly then
                while flying:
                    _land(*flying.popleft(), logits)
            lane = self._lane(bucket)
            slot = lane.slot()
            while any(s is slot for s, _ in flying):
                _land(*flying.popleft(), logits)
            fill(ids, offsets, chosen, slot.ids, slot.mask)
            lane.start(slot, self._copying, self._computing)
            flying.append((slot, chosen))
        while flying:
            _land(*flying.popleft(), logits)

    def _lane(self, bucket: Bucket) -> Lane:
        lane = self._lanes.get(bucket)
        if lane is None:
            while len(self._lanes) >= self._hot:
                oldest, old = self._lanes.popitem(last=False)
                self._computing.sync()
                old.close()
                _log.debug("lane %s closed for %s", oldest, bucket)
            lane = Lane(bucket, self._plan, self._device, self._computing, outputs(self.spec))
            self._lanes[bucket] = lane
        self._lanes.move_to_end(bucket)
        return lane


@dataclass(slots=True)
class Slot:
    """Host and staging memory of one batch, the views into it, and the event after which it may be used again."""

    pinned: Pinned
    staged: Memory
    out: Pinned
    ids: I64
    mask: NDArray[np.floating]
    logits: NDArray[np.floating]
    done: Event | None = None


class Lane:
    """One bucket: context, graph and memory at addresses that stay.

    Raises:
        EngineLost: the card or the plan refuses; what was made until then is freed.
    """

    def __init__(self, bucket: Bucket, plan: Plan, device: Device, stream: Stream, columns: int) -> None:
        self.bucket = bucket
        self._owned: list[_Closes] = []
        self._next = 0
        try:
            self._make(plan, device, stream, columns)
        except BaseException:
            _quietly(stream.sync)
            self.close()
            raise

    def slot(self) -> Slot:
        """The slot whose turn it is; it may still fly."""
        self._next = (self._next + 1) % RING
        return self._slots[self._next]

    def start(self, slot: Slot, copying: Stream, computing: Stream) -> None:
        """Queue one run of what lies in the slot; `slot.done` marks its end."""
        self._device.copy(slot.staged, slot.pinned, copying)
        computing.wait(copying.record())
        self._device.copy(self._input, slot.staged, computing)
        self._graph.launch(computing)
        self._device.copy(slot.out, self._output, computing)
        slot.done = computing.record()

    def close(self) -> None:
        """Graph and context first, then the memory they refer to. Nothing may fly. Idempotent."""
        while self._owned:
            _quietly(self._owned.pop().close)

    def _make(self, plan: Plan, device: Device, stream: Stream, columns: int) -> None:
        rows, length = self.bucket
        self._device = device
        kinds = plan.ports
        ids_size = rows * length * kinds["ids"].itemsize
        mask_at = -(-ids_size // ALIGN) * ALIGN
        size = mask_at + rows * length * kinds["mask"].itemsize
        out_size = rows * columns * kinds["logits"].itemsize
        self._input, self._output = self._own(device.memory(size)), self._own(device.memory(out_size))
        self._slots = []
        for _ in range(RING):
            pinned, staged = self._own(device.pinned(size)), self._own(device.memory(size))
            out = self._own(device.pinned(out_size))
            host = pinned.view()
            ids = host[:ids_size].view(kinds["ids"]).reshape(rows, length)
            mask = host[mask_at:size].view(kinds["mask"]).reshape(rows, length)
            logits = out.view()[:out_size].view(kinds["logits"]).reshape(rows, columns)
            ids[:] = 0
            mask[:] = 1
            self._slots.append(Slot(pinned, staged, out, ids, mask, logits))
        context = self._own(plan.context(plan.buckets.index(self.bucket), stream))
        context.bind("ids", self._input.address)
        context.bind("mask", self._input.address + mask_at)
        context.bind("logits", self._output.address)
        device.copy(self._input, self._slots[0].pinned, stream)
        context.enqueue(stream.handle)  # once before the capture: the first run allocates and picks kernels
        stream.sync()
        self._graph = self._own(device.capture(stream, lambda: context.enqueue(stream.handle)))

    def _own(self, thing: Held) -> Held:
        self._owned.append(thing)
        return thing


def _land(slot: Slot, chosen: I64, logits: F64) -> None:
    """Wait for a slot and take its rows."""
    done, slot.done = slot.done, None
    if done is not None:
        done.sync()
    logits[chosen] = slot.logits[: len(chosen)]


def _quietly(act: Callable[[], None]) -> None:
    """Free or sync on the way out: a card that failed fails here too, and the first error is the one to tell."""
    try:
        act()
    except EngineError as error:
        _log.debug("while closing: %s", error)
