"""The desk of an engine server: who asks, what waits, what is scored next. Plain logic; time is an argument."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from engines.base import TensorBatch
from engines.batching import check, kin, length
from engines.errors import EngineError, ShapeMismatch


class Refused(EngineError):
    """A request that is not taken in. `error` is the name that the client is told."""

    def __init__(self, error: str, text: str) -> None:
        super().__init__(text)
        self.error = error


@dataclass(frozen=True, slots=True)
class Terms:
    """What a server allows.

    Attributes:
        max_batch: rows scored at a time, and rows of a request. max_wait_s: how long a batch that is not full waits for
            more; 0 = not at all: what is queued is taken.
        max_rows: rows waiting, over all clients. max_bytes: bytes of their tensors.
        max_clients: known at once. credit: requests that each may have open.
        silence_s: a client that says nothing for so long, and has nothing open, is forgotten.
    """

    max_batch: int = 256
    max_wait_s: float = 0.0
    max_rows: int = 65_536
    max_bytes: int = 512 << 20
    max_clients: int = 1_024
    credit: int = 4
    silence_s: float = 120.0


@dataclass(frozen=True, slots=True, eq=False)
class Waiting:
    """A request in the queue. `due`, `since`: when its answer is of no use any more, and when it came."""

    client: bytes
    number: int
    batch: TensorBatch
    features: str
    due: float
    since: float
    size: int
    length: float
    kin: tuple[tuple[str, str, tuple[int, ...]], ...]


@dataclass(slots=True)
class _Client:
    open: int = 0
    heard: float = 0.0


@dataclass(slots=True)
class Desk:
    """Clients, their credit, and the queue, all bounded.

    A request ends in one place: `asked = answered + refused + waiting + running`, where `refused` counts by name.
    """

    terms: Terms
    clients: dict[bytes, _Client] = field(default_factory=dict)
    queue: list[Waiting] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    running: int = 0
    _rows: int = 0
    _bytes: int = 0

    def greet(self, client: bytes, now: float) -> None:
        """A client shows up, or shows a sign of life.

        Raises:
            Refused: `TooManyClients`.
        """
        known = self.clients.get(client)
        if known is None:
            if len(self.clients) >= self.terms.max_clients:
                self.forget_silent(now)
            if len(self.clients) >= self.terms.max_clients:
                raise Refused("TooManyClients", f"{len(self.clients)} clients are served already; try again later")
            known = self.clients[client] = _Client()
        known.heard = now

    def take_in(
        self, client: bytes, number: int, batch: TensorBatch, features: str, deadline_s: float, now: float
    ) -> None:
        """Put a request into the queue.

        Raises:
            Refused: `TooManyClients`, `NoCredit`, `QueueFull` or `ShapeMismatch`; the queue is as it was.
        """
        terms = self.terms
        self.counts["asked"] += 1
        try:
            self.greet(client, now)
            size = sum(t.nbytes for t in batch.tensors.values())
            if self.clients[client].open >= terms.credit:
                raise Refused("NoCredit", f"{terms.credit} requests of yours are open already; wait for an answer")
            if batch.rows > terms.max_batch:
                raise Refused("ShapeMismatch", f"{batch.rows} rows in a request; at most {terms.max_batch}")
            if self._rows + batch.rows > terms.max_rows or self._bytes + size > terms.max_bytes:
                raise Refused("QueueFull", f"{self._rows} rows of {self._bytes} bytes wait already; try again later")
            try:
                check(batch)
            except ShapeMismatch as error:
                raise Refused("ShapeMismatch", str(error)) from error
        except Refused as error:
            self.refused(error.error)
            raise
        self.clients[client].open += 1
        self._rows += batch.rows
        self._bytes += size
        self.queue.append(
            Waiting(client, number, batch, features, now + deadline_s, now, size, length(batch), kin(batch))
        )

    def refused(self, error: str) -> None:
        """One more request was refused for `error`."""
        self.counts[f"refused_{error}"] += 1

    def expired(self, now: float) -> list[Waiting]:
        """Take those whose deadline has passed out of the queue: they are to be refused."""
        late = [w for w in self.queue if w.due <= now]
        for waiting in late:
            self._leave(waiting)
            self._closed(waiting)
            self.refused("DeadlineExceeded")
        return late

    def foreign(self, features: str) -> list[Waiting]:
        """Take those made by another recipe than `features` out of the queue: they are to be refused."""
        others = [w for w in self.queue if w.features != features]
        for waiting in others:
            self._leave(waiting)
            self._closed(waiting)
            self.refused("WrongFeatures")
        return others

    def wait_s(self, now: float) -> float | None:
        """Seconds until something is to be done about the queue: 0 = a batch is ready; None = it is empty."""
        if not self.queue:
            return None
        terms = self.terms
        if terms.max_wait_s <= 0 or self.full:
            return 0.0
        oldest = min(w.since for w in self.queue) + terms.max_wait_s
        return max(0.0, min(oldest, min(w.due for w in self.queue)) - now)

    @property
    def full(self) -> bool:
        """The queue holds a whole batch, or more."""
        return self._rows >= self.terms.max_batch

    def choose(self) -> list[Waiting]:
        """Take the next batch out of the queue: the request with the earliest deadline, then, as long as they fit,
        those of its kin whose rows are nearest to it in length; of equals the earliest deadline."""
        if not self.queue:
            return []
        first = min(self.queue, key=lambda w: w.due)
        others = [w for w in self.queue if w is not first and w.kin == first.kin]
        others.sort(key=lambda w: (abs(w.length - first.length), w.due))
        chosen, rows = [first], first.batch.rows
        for waiting in others:
            if rows + waiting.batch.rows <= self.terms.max_batch:
                chosen.append(waiting)
                rows += waiting.batch.rows
        for waiting in chosen:
            self._leave(waiting)
        self.running += len(chosen)
        return chosen

    def answered(self, waiting: Waiting, error: str = "") -> None:
        """A request that was chosen is done with: answered, or refused for `error`."""
        self.running -= 1
        self._closed(waiting)
        if error:
            self.refused(error)
        else:
            self.counts["answered"] += 1
            self.counts["rows"] += waiting.batch.rows

    def lost(self, client: bytes) -> None:
        """A client has gone: what it has in the queue is of no use any more."""
        for waiting in [w for w in self.queue if w.client == client]:
            self._leave(waiting)
            self.refused("Gone")
        self.clients.pop(client, None)

    def forget_silent(self, now: float) -> None:
        """Forget clients that have nothing open and have said nothing for long."""
        limit = now - self.terms.silence_s
        for client in [c for c, known in self.clients.items() if known.open == 0 and known.heard < limit]:
            del self.clients[client]
            self.counts["forgotten"] += 1

    def _leave(self, waiting: Waiting) -> None:
        self.queue.remove(waiting)
        self._rows -= waiting.batch.rows
        self._bytes -= waiting.size

    def _closed(self, waiting: Waiting) -> None:
        known = self.clients.get(waiting.client)
        if known is not None:
            known.open = max(0, known.open - 1)
