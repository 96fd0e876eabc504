"""How many bytes of input a process holds: read from the log and not yet folded. Bounded, over all its partitions.

Nothing is polled here, so a partition is paused by not asking for more. Heartbeats are sent elsewhere and go on.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import accumulate

from stream.base import Record

FIRST_GUESS = 1 << 12
"""Bytes a record is thought to have before the first one was seen."""


def size_of(record: Record) -> int:
    """Bytes of key and value."""
    return len(record.value) + (0 if record.key is None else len(record.key))


class InFlight:
    """The bound, shared by the loops of a process. One event loop owns it.

    A step begins only while less than half of `limit` is held, and all partitions together ask for the other half at
    most. What a log hands out by number and turns out to be more than asked for is cut, and read again later; a single
    record always passes.

    >>> room = InFlight(64_000)
    >>> room.entered()
    >>> room.records(1_000, largest=400), room.records(1_000, largest=10**6)
    (80, 1)

    Args:
        limit: bytes.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self.most = 0
        self.paused = 0
        self._loops = 0
        self._freed = asyncio.Event()

    def entered(self) -> None:
        """One more partition reads."""
        self._loops += 1

    def left(self) -> None:
        """One less."""
        self._loops -= 1

    def records(self, most: int, largest: int) -> int:
        """How many records to ask for, from 1 to `most`, where those before had some `largest` bytes each."""
        return max(1, min(most, self._share // max(1, largest)))

    def fitting(self, records: list[Record]) -> list[Record]:
        """The first of `records`: those that a step may take."""
        if sum(map(size_of, records)) <= self._share:
            return records
        ends = list(accumulate(map(size_of, records)))
        return records[: max(1, bisect_right(ends, self._share))]

    @property
    def _share(self) -> int:
        return self.limit // 2 // max(1, self._loops)

    async def room(self) -> None:
        """Wait until less than half of the bound is held."""
        if self.held * 2 < self.limit:
            return
        self.paused += 1
        try:
            while self.held and self.held * 2 >= self.limit:
                self._freed.clear()
                await self._freed.wait()
        finally:
            self.paused -= 1

    @asynccontextmanager
    async def holding(self, records: Sequence[Record]) -> AsyncIterator[int]:
        """Count `records` as held until the end of the block; yields their bytes."""
        size = sum(map(size_of, records))
        self.held += size
        self.most = max(self.most, self.held)
        try:
            yield size
        finally:
            self.held -= size
            self._freed.set()
