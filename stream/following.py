"""Follows a topic as a member of a group of its own and hands every partition's records to one step, in order.

For what stands at the end of the stream: sinks and deliveries. A step commits what it has done; a crash in between
does it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from functools import partial
from typing import NamedTuple, Protocol, TypeVar

from stream.base import Log, Member, Record
from stream.worker import Pulse, steadily

T = TypeVar("T")

READ_ROWS = 4_000
WAIT_S = 0.25


class Owned(NamedTuple):
    """A partition in hand. `generation`: for its commits. `stop`: set when it is to be given back."""

    partition: int
    generation: int
    stop: asyncio.Event


class Step(Protocol):
    """Does something with records and commits."""

    async def __call__(self, owned: Owned, records: Sequence[Record]) -> int:
        """The offset to go on from; less than the end of `records` only after `owned.stop` was set.

        Raises:
            AffectError: a fault that retrying does not cure; the follower ends with it.
        """
        ...


class Follower:
    """Member of `group` on `topic`, and its listener: partitions come and go.

    Args:
        until_end: end when what was there at the start is done.
        most: records handed to a step at a time.
    """

    def __init__(
        self, log: Log, topic: str, group: str, step: Step, until_end: bool, pulse: Pulse, most: int = READ_ROWS
    ) -> None:
        self._log, self._topic, self._group, self._step = log, topic, group, step
        self._until_end, self._pulse, self._most = until_end, pulse, most
        self._generation = 0
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._stop: dict[int, asyncio.Event] = {}
        self._open: set[int] = set()
        self._member: Member | None = None

    async def run(self) -> None:
        """Join, follow until `pulse.ended` is set, leave. What is in hand is committed first.

        Raises:
            AffectError: a fault that retrying does not cure.
        """
        self._open = set(range(len(await self._log.span(self._topic))))
        # A group another process holds is waited for: this one stands by.
        join = steadily(partial(self._log.join, self._group, self._topic, self), self._pulse, f"join {self._group}")
        self._member = await unless_stopped(join, self._pulse)
        if self._member is not None:
            try:
                await self._pulse.ended.wait()
            finally:
                await self._member.leave()
        if self._pulse.error is not None:
            raise self._pulse.error

    async def assigned(self, partitions: Sequence[int], generation: int) -> None:
        """Go on from the committed offsets."""
        self._generation = generation
        for partition in partitions:
            self._stop[partition] = asyncio.Event()
            task = asyncio.create_task(self._loop(partition), name=f"{self._group}-{partition}")
            task.add_done_callback(self._pulse.watch)
            self._tasks[partition] = task

    async def revoked(self, partitions: Sequence[int]) -> None:
        """Finish the step in hand and commit; a step that waits for what is away is given up."""
        for partition in partitions:
            self._stop[partition].set()
        for partition in partitions:
            await _ended(self._tasks.pop(partition), self._pulse)
            self._stop.pop(partition)

    async def _loop(self, partition: int) -> None:
        log, pulse, topic, stop = self._log, self._pulse, self._topic, self._stop[partition]
        owned = Owned(partition, self._generation, stop)
        what = f"{topic}[{partition}]"
        committed = await steadily(partial(log.committed, self._group, topic), pulse, f"offset of {what}")
        begin, end = (await steadily(partial(log.span, topic), pulse, f"span of {what}"))[partition]
        offset = max(begin, committed[partition])
        while not stop.is_set():
            read = partial(log.read, topic, partition, offset, self._most, WAIT_S)
            records = await steadily(read, pulse, f"read {what}")
            if records:
                offset = await self._step(owned, records)
            if self._until_end and offset >= end and not stop.is_set():
                self._open.discard(partition)
                if not self._open:
                    pulse.ended.set()
                return


async def unless_stopped(act: Coroutine[None, None, T], pulse: Pulse) -> T | None:
    """The result of `act`; None if `pulse.ended` was set meanwhile and `act` was only waiting for better times."""
    task = asyncio.create_task(act)
    stopped = asyncio.create_task(pulse.ended.wait())
    await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    await _ended(task, pulse)
    return None if task.cancelled() else task.result()


async def _ended(task: asyncio.Task[T], pulse: Pulse) -> None:
    """Wait for `task`, but not for what it tries again and again: then it is cancelled."""
    while not task.done():
        if pulse.problem is not None:
            task.cancel()
        await asyncio.wait({task}, timeout=0.1)
