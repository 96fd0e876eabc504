"""Workers: own partitions, read them in order, commit, and hand over cleanly. The loops of the hot path."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from engines.errors import EngineAway
from operators.base import Clock, Emit, Operator
from operators.cell_messages import read_message
from operators.cells import PaneBlock
from operators.records import PostBatch, SignalRow
from stream.base import CommitUnit, Log, Member, Record
from stream.errors import Fenced, LogError
from stream.in_flight import FIRST_GUESS, InFlight
from stream.scoring import PartitionScorer, Parts
from stream.topics import PANES
from stream.windowing import WindowStage

T = TypeVar("T")
log_ = logging.getLogger("affect.worker")

READ_PANES = 2_000
IN_FLIGHT_BYTES = 64 << 20
RETRY_S = (0.1, 0.2, 0.5, 1.0, 2.0)
HAND_OVER_S = 45.0
"""A step in hand is waited for so long when its partition goes to somebody else, then given up: it is read again."""
STOP_S = 8.0
"""The same when the process is asked to stop."""


@dataclass(slots=True)
class Pulse:
    """What the loops tell the outside: problems (for /readyz), timings, hooks after each commit, and how they ended.

    `ended` is set when there is nothing more to do or `error` says why a loop stopped. `troubles`: what each loop is
    trying again just now.
    """

    troubles: dict[str, str] = field(default_factory=dict)
    error: BaseException | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    on_commit: Callable[[float], None] | None = None
    on_dead: Callable[[str, int], None] | None = None
    on_rows: Callable[[Sequence[SignalRow]], None] | None = None

    @property
    def problem(self) -> str | None:
        """The oldest trouble that still lasts, None where all is well."""
        return next(iter(self.troubles.values()), None)

    def watch(self, task: asyncio.Task[None]) -> None:
        """Done-callback of every loop: one that raised ends the run; one that was fenced only loses its partition."""
        if task.cancelled() or (error := task.exception()) is None:
            return
        if isinstance(error, Fenced):
            log_.warning("%s: %s; the partition is let go", task.get_name(), error)
            return
        self.error = self.error or error
        self.troubles[task.get_name()] = str(error)
        self.ended.set()


@dataclass(frozen=True, slots=True)
class Pace:
    """How a loop is paced. `until_end`: stop when the input that exists is read, and close the partition."""

    batch_size: int
    commit_interval_s: float
    idle_s: float
    until_end: bool


async def steadily(act: Callable[[], Awaitable[T]], pulse: Pulse, what: str) -> T:
    """Call `act` until the log and the engine server it needs are there; one log line when trouble starts and one when
    it ends.

    Where several loops are in trouble, the first to get into it and the last to get out are heard (`--verbose`: all).
    """
    attempt = 0
    try:
        while True:
            try:
                result = await act()
            except (LogError, EngineAway) as error:
                if not error.retriable:
                    raise
                if attempt == 0:
                    log_.log(logging.INFO if pulse.troubles else logging.WARNING, "%s: %s; retrying", what, error)
                pulse.troubles[what] = f"{what}: {error}"
                await asyncio.sleep(RETRY_S[min(attempt, len(RETRY_S) - 1)])
                attempt += 1
                continue
            if attempt:
                pulse.troubles.pop(what, None)
                level = logging.INFO if pulse.troubles else logging.WARNING
                log_.log(level, "%s: works again after %d tries", what, attempt)
            return result
    finally:
        pulse.troubles.pop(what, None)


async def unless(act: Coroutine[None, None, T], *stops: asyncio.Event) -> T | None:
    """The result of `act`; None where one of `stops` is set before it comes: then it is given up."""
    task = asyncio.create_task(act)
    stopped = [asyncio.create_task(stop.wait()) for stop in stops]
    try:
        await asyncio.wait({task, *stopped}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for waiting in (task, *stopped):
            waiting.cancel()
        await asyncio.wait({task})
    return None if task.cancelled() else task.result()


async def finish(tasks: Iterable[asyncio.Task[None]], patience_s: float) -> None:
    """Wait for loops that were told to stop; after `patience_s` they are given up, with what they did not commit."""
    left = {task for task in tasks if not task.done()}
    if not left:
        return
    _, late = await asyncio.wait(left, timeout=patience_s)
    for task in late:
        log_.warning("%s: gives up a step after %.0f s; it will be done again", task.get_name(), patience_s)
        task.cancel()
    if late:
        await asyncio.wait(late)


async def read_blocks(log: Log, parts: Parts, partition: int) -> list[PaneBlock]:
    """The newest block of every pane that `partition` has sent, from the pane topic: its state before a restart."""
    newest: dict[int, PaneBlock] = {}
    begin, end = (await log.span(PANES))[0]
    while begin < end:
        records = await log.read(PANES, 0, begin, READ_PANES)
        if not records:
            break
        begin = records[-1].offset + 1
        mine = f"{parts.lane}/{partition}/".encode()
        for record in records:
            if record.key is not None and record.key.startswith(mine) and not record.key.endswith(b"progress"):
                block = read_message(parts.codec.decode_panes(record.value), parts.domain)
                if isinstance(block, PaneBlock):
                    known = newest.get(block.pane_start)
                    if known is None or known.stamp < block.stamp:
                        newest[block.pane_start] = block
    return list(newest.values())


class ScoreWorker:
    """A member of the scoring group: one task per partition it owns.

    Listener of the log: `assigned` starts a partition's task, which restores it and reads on; `revoked` lets it finish
    its step, commits and forgets it.

    Args:
        in_flight: bound on the bytes held, shared with the other workers of the process.
    """

    def __init__(
        self, log: Log, parts: Parts, pace: Pace, clock: Clock, pulse: Pulse, in_flight: InFlight | None = None
    ) -> None:
        self._log = log
        self._parts = parts
        self._pace = pace
        self._clock = clock
        self._pulse = pulse
        self._in_flight = InFlight(IN_FLIGHT_BYTES) if in_flight is None else in_flight
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._stop: dict[int, asyncio.Event] = {}
        self._member: Member | None = None
        self._generation = 0
        self._patience_s = HAND_OVER_S
        self.scorers: dict[int, PartitionScorer] = {}

    async def start(self) -> None:
        """Join the group; partitions arrive by `assigned`."""
        join = partial(self._log.join, self._parts.group, self._parts.topic, self)
        self._member = await steadily(join, self._pulse, f"join {self._parts.group}")

    async def assigned(self, partitions: Sequence[int], generation: int) -> None:
        """Start the partitions' tasks. Not waited for: a restore may take as long as the log is away."""
        self._generation = generation
        for partition in partitions:
            insist = partial(self._insist, partition)
            scorer = self.scorers[partition] = PartitionScorer(self._parts, partition, insist)
            self._stop[partition] = asyncio.Event()
            task = asyncio.create_task(self._loop(scorer), name=f"score-{partition}")
            task.add_done_callback(self._pulse.watch)
            self._tasks[partition] = task

    async def revoked(self, partitions: Sequence[int]) -> None:
        """Finish the step in hand, commit, forget."""
        for partition in partitions:
            self._stop[partition].set()
        await finish([self._tasks.pop(partition) for partition in partitions], self._patience_s)
        for partition in partitions:
            self.scorers.pop(partition, None)
            self._stop.pop(partition, None)

    async def stop(self) -> None:
        """Leave the group; what is in hand is committed first."""
        self._patience_s = STOP_S
        if self._member is not None:
            await self._member.leave()

    async def _restore(self, scorer: PartitionScorer) -> int:
        """Take up where the last owner committed; the offset to read from."""
        parts, what = self._parts, f"restore {self._parts.topic}[{scorer.partition}]"
        restore = partial(self._log.restore, parts.group, f"{parts.lane}/{scorer.partition}/")
        state = await steadily(restore, self._pulse, what)
        sent: Callable[[], Awaitable[list[PaneBlock]]] = partial(read_blocks, self._log, parts, scorer.partition)
        blocks = await steadily(sent, self._pulse, what) if state else []
        # Millions of ids take seconds, and heartbeats go out meanwhile.
        return await asyncio.to_thread(scorer.restore, state, blocks)

    async def _insist(self, partition: int, operator: Operator, batch: PostBatch) -> Emit:
        """One step of the chain. While an engine server is away the partition holds here: it is still ours, its
        heartbeats go out, and nothing is read beyond what is in hand."""
        what = f"score {self._parts.topic}[{partition}]"
        return await steadily(partial(operator.process, batch), self._pulse, what)

    async def _loop(self, scorer: PartitionScorer) -> None:
        self._in_flight.entered()
        try:
            await self._score(scorer, await self._restore(scorer), self._stop[scorer.partition])
        finally:
            self._in_flight.left()

    async def _score(self, scorer: PartitionScorer, offset: int, stop: asyncio.Event) -> None:
        pace, in_flight = self._pace, self._in_flight
        last_commit = last_record = time.monotonic()
        idle = False
        largest = FIRST_GUESS
        while not stop.is_set():
            await in_flight.room()
            found = await self._read(scorer.partition, offset, in_flight.records(pace.batch_size, largest))
            records = in_flight.fitting(found)
            now = time.monotonic()
            if records:
                async with in_flight.holding(records) as size:
                    await scorer.process(records)
                largest = max(size // len(records), largest * 3 // 4)
                idle, last_record = False, now
                offset = records[-1].offset + 1
            elif pace.until_end:
                break
            turned_idle = not records and not idle and now - last_record >= pace.idle_s
            idle = idle or turned_idle
            if turned_idle or (scorer.changed and (not records or now - last_commit >= pace.commit_interval_s)):
                await self._commit(scorer, idle=idle, closed=False)
                last_commit = time.monotonic()
            await asyncio.sleep(0)
        ended = pace.until_end and not stop.is_set()
        if scorer.changed or ended:
            await self._commit(scorer, idle=False, closed=ended)

    async def _read(self, partition: int, offset: int, count: int) -> list[Record]:
        topic, wait = self._parts.topic, 0.0 if self._pace.until_end else 0.1
        read = partial(self._log.read, topic, partition, offset, count, wait)
        return await steadily(read, self._pulse, f"read {topic}[{partition}]")

    async def _commit(self, scorer: PartitionScorer, idle: bool, closed: bool) -> None:
        unit = scorer.unit(self._clock.now_ms(), self._generation, idle, closed)
        await commit(self._log, unit, self._pulse, f"commit {self._parts.topic}[{scorer.partition}]")
        for reason, count in scorer.dead_reasons.items():
            if self._pulse.on_dead is not None:
                self._pulse.on_dead(reason, count)
        scorer.dead_reasons.clear()


async def commit(log: Log, unit: CommitUnit, pulse: Pulse, what: str) -> None:
    """Commit `unit`, again and again while the log is away; never a changed unit."""
    started = time.monotonic()
    await steadily(lambda: log.commit(unit), pulse, what)
    if pulse.on_commit is not None:
        pulse.on_commit(time.monotonic() - started)


class WindowWorker:
    """The member that owns the pane topic and turns it into rows; of several processes one has it, the others stand by.

    Listener of the log: `assigned` rebuilds the stage by reading the pane topic up to the committed offset, without
    emitting again what was emitted; `revoked` lets it finish its step and commit.

    Args:
        make_stage: a fresh stage. group: consumer group.
    """

    def __init__(
        self, log: Log, make_stage: Callable[[], WindowStage], group: str, pace: Pace, clock: Clock, pulse: Pulse
    ) -> None:
        self._log = log
        self._make_stage = make_stage
        self._group = group
        self._pace = pace
        self._clock = clock
        self._pulse = pulse
        self._generation = 0
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._member: Member | None = None
        self._ends: tuple[int, ...] = ()
        self._patience_s = HAND_OVER_S
        self._leaving = False
        self.stage = make_stage()

    @property
    def stands_by(self) -> bool:
        """Another process has the windows."""
        return self._member is not None and not self._member.partitions and not self._leaving

    async def start(self, ends: Sequence[int] = ()) -> None:
        """Join the group. `ends`: offsets at which the input partitions end for a run that is to stop there."""
        self._ends = tuple(ends)
        join = partial(self._log.join, self._group, PANES, self)
        self._member = await steadily(join, self._pulse, f"join {self._group}")

    async def assigned(self, partitions: Sequence[int], generation: int) -> None:
        """Rebuild the stage and go on from the committed offset, in a task of its own."""
        self._generation = generation
        self._stop = asyncio.Event()
        self._task = asyncio.create_task(self._loop(self._stop), name="windows")
        self._task.add_done_callback(self._pulse.watch)

    async def _rebuild(self) -> None:
        self.stage = self._make_stage()
        kept = await self._log.restore(self._group, self.stage.kept)
        await asyncio.to_thread(self.stage.restore, kept)
        position = (await self._log.committed(self._group, PANES))[0]
        while self.stage.offset < position:
            wanted = min(READ_PANES, position - self.stage.offset)
            records = await self._log.read(PANES, 0, self.stage.offset, wanted)
            if not records:
                break
            await asyncio.to_thread(self.stage.ingest, records)
        if position:
            await asyncio.to_thread(self.stage.skip)

    async def revoked(self, partitions: Sequence[int]) -> None:
        """Finish the step in hand and commit; another process has the windows then."""
        self._stop.set()
        if self._task is not None:
            await finish([self._task], self._patience_s)
        if not self._leaving:
            self.stage = self._make_stage()

    async def stop(self) -> None:
        """Leave the group; what is in hand is committed first."""
        self._leaving, self._patience_s = True, STOP_S
        if self._member is not None:
            await self._member.leave()

    async def _loop(self, stop: asyncio.Event) -> None:
        pace, pulse = self._pace, self._pulse
        await steadily(self._rebuild, pulse, "rebuild windows")
        stage = self.stage
        last = time.monotonic()
        while not stop.is_set():
            at = stage.offset
            records = await steadily(lambda at=at: self._log.read(PANES, 0, at, READ_PANES, 0.2), pulse, "read panes")  # type: ignore[misc]
            # In a thread: thousands of rows take longer than some sessions last, and heartbeats go out meanwhile.
            if records:
                await asyncio.to_thread(stage.ingest, records)
            now = time.monotonic()
            if records and (now - last >= pace.commit_interval_s or stage.done or not pace.until_end):
                units = iter(stage.units(not pace.until_end, self._clock.now_ms(), self._generation))
                while (made := await asyncio.to_thread(next, units, None)) is not None:
                    rows, unit = made
                    await commit(self._log, unit, pulse, "commit signals")
                    if pulse.on_rows is not None and rows:
                        pulse.on_rows(rows)
                last = now
            if pace.until_end and stage.done and not records and self._all_read(stage):
                pulse.ended.set()
                return

    def _all_read(self, stage: WindowStage) -> bool:
        """Whether every partition stands at its end: an earlier run may have closed them before the input grew."""
        progress = stage.rolling.progress
        return all(k in progress and progress[k].consumed >= end for k, end in enumerate(self._ends))
