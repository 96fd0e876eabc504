"""The words of the operator floor: `Operator`, what it emits, and the clock it is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from operators.records import DeadLetter, LatePost, PostBatch


@dataclass(frozen=True, slots=True)
class Emit:
    """What an operator hands on: the batch, and what left it by a named side output (never silently)."""

    batch: PostBatch
    late: tuple[LatePost, ...] = ()
    rejected: tuple[DeadLetter, ...] = ()
    duplicates: int = 0


class Operator(Protocol):
    """Records in, records out, a batch at a time. The one async method below `stream/`.

    Called with batches of one partition in offset order. The result must not depend on where batches are cut.
    """

    async def process(self, batch: PostBatch) -> Emit:
        """Return the batch with this operator's columns filled; rows it drops appear in the side outputs."""
        ...


class KeyedState(Protocol):
    """The one piece of state an operator may own, kept per partition.

    `snapshot` says what changed since the last call, as key -> bytes (None = deleted); `restore` takes all of it back.
    A snapshot says what comes next: after `restore` the record at the committed offset is the first one processed.
    """

    def snapshot(self) -> dict[str, bytes | None]: ...

    def restore(self, parts: dict[str, bytes]) -> None: ...


class Clock(Protocol):
    """Time is an argument: processing time in epoch milliseconds."""

    def now_ms(self) -> int: ...
