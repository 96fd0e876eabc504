"""Readers that wait for the next record of one partition, and the commit that wakes them."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable

from stream.base import Record

Place = tuple[str, int]


class Wakeups:
    """Waiting readers by (topic, partition). One event loop owns it; a commit wakes only the readers it concerns."""

    def __init__(self) -> None:
        self._appends: Counter[Place] = Counter()
        self._waiting: defaultdict[Place, set[asyncio.Future[None]]] = defaultdict(set)

    def wake(self, places: Iterable[Place]) -> None:
        """Something was appended to each of `places`."""
        for place in places:
            self._appends[place] += 1
            for waiter in self._waiting.pop(place, ()):
                if not waiter.done():
                    waiter.set_result(None)

    def wake_all(self) -> None:
        """Wake every reader, so that each sees the log was closed."""
        self.wake(list(self._waiting))

    async def poll(
        self, place: Place, look: Callable[[], Awaitable[list[Record]]], max_wait_s: float, poll_s: float
    ) -> list[Record]:
        """What `look` finds, waiting up to `max_wait_s` for the first record.

        Args:
            look: one look at the log; called at least once.
            poll_s: longest time between two looks, for appends that wake nobody here (another process).
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + max_wait_s
        while True:
            # Counted before the look: an append that lands during it is not slept through.
            seen = self._appends[place]
            found = await look()
            left = deadline - loop.time()
            if found or left <= 0:
                return found
            if self._appends[place] == seen:
                await self._sleep(place, min(left, poll_s))

    async def _sleep(self, place: Place, timeout_s: float) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiting[place].add(waiter)
        try:
            await asyncio.wait((waiter,), timeout=timeout_s)
        finally:
            self._waiting[place].discard(waiter)
            if not self._waiting[place]:
                del self._waiting[place]
