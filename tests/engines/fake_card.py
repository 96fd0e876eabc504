"""A card and a runtime in numpy, of the protocols in `engines.device`, with an adversary for a scheduler.

Nothing runs when it is queued. When somebody waits, queued work is done in a random order that the rules allow (each
stream in order, marks respected), and as little of it as will do. So a wait that is missing, memory that is freed or
written too early, or a graph whose memory has gone shows as a wrong number or an error here. What was never freed is
counted.
"""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable, Mapping

import numpy as np

from engines.base import AnyArray, TextModel
from engines.buckets import Bucket, Buckets
from engines.device import DeviceFacts, Event, Memory, Stream
from engines.errors import EngineLost
from engines.plan_engine import PlanEngine
from engines.wordpieces import WordPieces
from tests.engines import tiny

FACTS = DeviceFacts("Fake H1", "9.0", 132, 80 << 30, "580.65.06", "13.0")
Net = Callable[[AnyArray, AnyArray], AnyArray]
"""(ids, mask) of one row [length] -> logits [outputs]."""


class FakeEvent:
    def __init__(self, card: FakeCard) -> None:
        self.card, self.done = card, False

    def sync(self) -> None:
        self.card.run_until(lambda: self.done)


class FakeStream:
    def __init__(self, card: FakeCard, handle: int) -> None:
        self.card, self._handle = card, handle
        self.queue: deque[tuple[Callable[[], bool], Callable[[], None]]] = deque()
        self.capturing: list[Callable[[], None]] | None = None
        self.closed = False

    @property
    def handle(self) -> int:
        return self._handle

    def put(self, act: Callable[[], None], ready: Callable[[], bool] = lambda: True) -> None:
        assert self.card.user == threading.get_ident(), "the card is not this thread's"
        if self.closed:
            raise EngineLost("the stream is closed")
        if self.capturing is not None:
            self.capturing.append(act)
        else:
            self.queue.append((ready, act))

    def record(self) -> FakeEvent:
        event = FakeEvent(self.card)
        self.put(lambda: setattr(event, "done", True))
        return event

    def wait(self, event: Event) -> None:
        assert isinstance(event, FakeEvent)
        self.put(lambda: None, lambda: event.done)

    def sync(self) -> None:
        self.card.run_until(lambda: not self.queue)

    def close(self) -> None:
        self.closed = True


class FakeMemory:
    """Filled with rubbish at first, so that what was not copied shows."""

    def __init__(self, card: FakeCard, address: int, size: int) -> None:
        self.card, self._address, self._size = card, address, size
        self.bytes: np.ndarray = np.full(size, 0xA5, np.uint8)
        self.closed = False

    @property
    def address(self) -> int:
        return self._address

    @property
    def size(self) -> int:
        return self._size

    def view(self) -> np.ndarray:
        return self.bytes

    def close(self) -> None:
        if not self.closed:
            assert not any(s.queue for s in self.card.streams), "memory is freed while work that may use it is queued"
            self.closed = True
            self.card.live.remove(self)
            self.bytes[:] = 0x5A


class FakeGraph:
    def __init__(self, card: FakeCard, acts: list[Callable[[], None]]) -> None:
        self.card, self._acts, self.closed = card, acts, False
        card.graphs += 1

    def launch(self, stream: Stream) -> None:
        assert isinstance(stream, FakeStream)
        assert not self.closed
        for act in self._acts:
            stream.put(act)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.card.graphs -= 1


class FakeCard:
    """Implements `Device`. `fail_after`: the so-manieth piece of work on the card raises EngineLost, and all after
    it.
    """

    def __init__(self, seed: int = 0, fail_after: int | None = None) -> None:
        self.facts = FACTS
        self.streams: list[FakeStream] = []
        self.live: list[FakeMemory] = []
        self.graphs = 0
        self.done = 0
        self.closed = False
        self._random = random.Random(seed)
        self._fail_after = fail_after
        self._address = 1 << 20
        self.user = threading.get_ident()

    def use(self) -> None:
        self.user = threading.get_ident()

    def stream(self) -> FakeStream:
        self.streams.append(FakeStream(self, len(self.streams) + 7))
        return self.streams[-1]

    def memory(self, size: int) -> FakeMemory:
        self.live.append(FakeMemory(self, self._address, size))
        self._address += size + 4096
        return self.live[-1]

    pinned = memory

    def copy(self, to: Memory, source: Memory, stream: Stream) -> None:
        assert isinstance(to, FakeMemory)
        assert isinstance(source, FakeMemory)
        assert isinstance(stream, FakeStream)
        assert to.size == source.size

        def act() -> None:
            assert not to.closed
            assert not source.closed
            to.bytes[:] = source.bytes

        stream.put(act)

    def capture(self, stream: Stream, work: Callable[[], None]) -> FakeGraph:
        assert isinstance(stream, FakeStream)
        assert not stream.queue, "work is queued when the capture begins"
        stream.capturing = []
        try:
            work()
            return FakeGraph(self, stream.capturing)
        finally:
            stream.capturing = None

    def close(self) -> None:
        self.closed = True

    def at(self, address: int, size: int) -> np.ndarray:
        """The live bytes at an address."""
        for memory in self.live:
            if memory.address <= address and address + size <= memory.address + memory.size:
                return memory.bytes[address - memory.address : address - memory.address + size]
        raise AssertionError(f"nothing live at {address}")

    def run_until(self, enough: Callable[[], bool]) -> None:
        while not enough():
            able = [s for s in self.streams if s.queue and s.queue[0][0]()]
            assert able, "a wait for something that never comes"
            act = self._random.choice(able).queue.popleft()[1]
            self.done += 1
            if self._fail_after is not None and self.done >= self._fail_after:
                for stream in self.streams:
                    stream.queue.clear()
                raise EngineLost("an illegal address was met")
            act()


class FakeContext:
    def __init__(self, plan: FakePlan, bucket: Bucket) -> None:
        self._plan, self._bucket, self.addresses = plan, bucket, dict[str, int]()
        self.closed = False
        plan.contexts += 1

    def bind(self, name: str, address: int) -> None:
        if name not in self._plan.ports:
            raise EngineLost(f"no tensor {name!r}")
        self.addresses[name] = address

    def enqueue(self, stream: int) -> None:
        assert not self.closed
        assert stream != 0, "the default stream"
        card, plan, bucket = self._plan.card, self._plan, self._bucket
        where = dict(self.addresses)
        (queue,) = (s for s in card.streams if s.handle == stream)

        def act() -> None:
            def read(name: str, columns: int) -> AnyArray:
                kind = plan.ports[name]
                return (
                    card.at(where[name], bucket.rows * columns * kind.itemsize).view(kind).reshape(bucket.rows, columns)
                )

            ids, mask, out = read("ids", bucket.length), read("mask", bucket.length), read("logits", plan.columns)
            for row in range(bucket.rows):
                out[row] = plan.net(ids[row], mask[row])

        queue.put(act)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._plan.contexts -= 1


class FakePlan:
    """Implements `Plan`: runs `net` on every row, padding and all."""

    def __init__(
        self,
        card: FakeCard,
        buckets: tuple[Bucket, ...],
        net: Net,
        columns: int,
        kinds: Mapping[str, str] | None = None,
    ) -> None:
        self.card, self.net, self.columns = card, net, columns
        self.ports = {n: np.dtype(k) for n, k in (kinds or {"ids": "i8", "mask": "f4", "logits": "f4"}).items()}
        self.buckets = buckets
        self.contexts = 0
        self.closed = False
        self.refuses: Bucket | None = None

    def context(self, profile: int, stream: Stream) -> FakeContext:
        if self.buckets[profile] == self.refuses:
            raise EngineLost(f"no memory for profile {profile}")
        return FakeContext(self, self.buckets[profile])

    def close(self) -> None:
        assert self.contexts == 0, "a plan must outlive its contexts"
        self.closed = True


def tensorrt_model(seed: int = 0) -> TextModel:
    """The tiny encoder through the plan engine on this card; each row of a batch by numpy, padding and all."""
    weights = tiny.weights()
    pieces = WordPieces(tiny.VOCABULARY, 24)
    buckets = Buckets((8, 16, 32), (1, 4), steady=4)

    def net(ids: AnyArray, mask: AnyArray) -> AnyArray:
        return tiny.by_hand(weights, ids[: int(mask.sum())])

    card = FakeCard(seed)
    plan = FakePlan(card, buckets.all(), net, tiny.OUTPUTS)
    return TextModel(pieces.featurize, PlanEngine(tiny.spec(), plan, card, buckets, pieces.size))
