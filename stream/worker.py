"""Workers: own partitions, read them in order, commit, and hand over cleanly. The loops of the hot path."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from operators.base import Clock
from operators.cell_messages import read_message
from operators.cells import PaneBlock
from operators.records import SignalRow
from stream.base import CommitUnit, Log, Member
from stream.errors import LogError
from stream.scoring import PartitionScorer, Parts
from stream.topics import PANES
from stream.windowing import WindowStage

T = TypeVar("T")
log_ = logging.getLogger("affect.worker")

READ_PANES = 2_000
RETRY_S = (0.1, 0.2, 0.5, 1.0, 2.0)


@dataclass(slots=True)
class Pulse:
    """What the loops tell the outside: problems (for /readyz), timings, and a hook after each commit."""

    problem: str | None = None
    on_commit: Callable[[float], None] | None = None
    on_dead: Callable[[str, int], None] | None = None
    on_rows: Callable[[Sequence[SignalRow]], None] | None = None
    tally: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pace:
    """How a loop is paced. `until_end`: stop when the input that exists is read, and close the partition."""

    batch_size: int
    commit_interval_s: float
    idle_s: float
    until_end: bool


async def steadily(act: Callable[[], Awaitable[T]], pulse: Pulse, what: str) -> T:
    """Call `act` until it raises no retriable LogError; one log line when trouble starts and one when it ends."""
    attempt = 0
    while True:
        try:
            result = await act()
        except LogError as error:
            if not error.retriable:
                raise
            if attempt == 0:
                log_.warning("%s: %s; retrying", what, error)
            pulse.problem = f"{what}: {error}"
            await asyncio.sleep(RETRY_S[min(attempt, len(RETRY_S) - 1)])
            attempt += 1
            continue
        if attempt:
            log_.warning("%s: works again after %d tries", what, attempt)
            pulse.problem = None
        return result


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
                block = read_message(parts.codec.decode_panes(record.value))
                if isinstance(block, PaneBlock):
                    known = newest.get(block.pane_start)
                    if known is None or known.stamp < block.stamp:
                        newest[block.pane_start] = block
    return list(newest.values())


class ScoreWorker:
    """A member of the scoring group: one task per partition it owns.

    Listener of the log: `assigned` restores a partition and starts its task, `revoked` lets it finish its step, commits
    and forgets it.
    """

    def __init__(self, log: Log, parts: Parts, pace: Pace, clock: Clock, pulse: Pulse) -> None:
        self._log = log
        self._parts = parts
        self._pace = pace
        self._clock = clock
        self._pulse = pulse
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._stop: dict[int, asyncio.Event] = {}
        self._member: Member | None = None
        self._generation = 0
        self.scorers: dict[int, PartitionScorer] = {}

    async def start(self) -> None:
        """Join the group; partitions arrive by `assigned`."""
        self._member = await self._log.join(self._parts.group, self._parts.topic, self)

    async def assigned(self, partitions: Sequence[int], generation: int) -> None:
        """Restore the partitions and start reading them."""
        self._generation = generation
        for partition in partitions:
            scorer = PartitionScorer(self._parts, partition)
            prefix = f"{self._parts.lane}/{partition}/"
            state = await steadily(lambda p=prefix: self._log.restore(self._parts.group, p), self._pulse, "restore")  # type: ignore[misc]
            blocks = await read_blocks(self._log, self._parts, partition) if state else []
            offset = scorer.restore(state, blocks)
            self.scorers[partition] = scorer
            self._stop[partition] = asyncio.Event()
            self._tasks[partition] = asyncio.create_task(self._loop(scorer, offset), name=f"score-{partition}")

    async def revoked(self, partitions: Sequence[int]) -> None:
        """Finish the step in hand, commit, forget."""
        for partition in partitions:
            self._stop[partition].set()
        for partition in partitions:
            task = self._tasks.pop(partition)
            with contextlib.suppress(asyncio.CancelledError):
                await task
            self.scorers.pop(partition, None)
            self._stop.pop(partition, None)

    async def stop(self) -> None:
        """Leave the group; what is in hand is committed first."""
        if self._member is not None:
            await self._member.leave()

    async def finished(self) -> None:
        """Wait until every partition's loop ended (`until_end`), or one failed: its error is raised."""
        while self._tasks:
            done, _ = await asyncio.wait(self._tasks.values(), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            if all(task.done() for task in self._tasks.values()):
                return

    async def _loop(self, scorer: PartitionScorer, offset: int) -> None:
        topic, partition, pace = self._parts.topic, scorer.partition, self._pace
        stop = self._stop[partition]
        last_commit = last_record = time.monotonic()
        idle = False
        while not stop.is_set():
            wait = 0.0 if pace.until_end else 0.1
            at = offset
            records = await steadily(
                lambda at=at, wait=wait: self._log.read(topic, partition, at, pace.batch_size, wait),  # type: ignore[misc]
                self._pulse,
                f"read {topic}[{partition}]",
            )
            now = time.monotonic()
            if records:
                idle, last_record = False, now
                await scorer.process(records)
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


async def run_windows(log: Log, stage: WindowStage, group: str, pace: Pace, clock: Clock, pulse: Pulse) -> None:
    """Fold the pane topic into rows until every partition closed (`until_end`) or the task is cancelled."""
    position = (await log.committed(group, PANES))[0]
    while stage.offset < position:
        records = await log.read(PANES, 0, stage.offset, min(READ_PANES, position - stage.offset))
        if not records:
            break
        stage.ingest(records)
    if position:
        stage.skip()
    last = time.monotonic()
    while True:
        at = stage.offset
        records = await steadily(lambda at=at: log.read(PANES, 0, at, READ_PANES, 0.2), pulse, "read panes")  # type: ignore[misc]
        stage.ingest(records)
        now = time.monotonic()
        if records and (now - last >= pace.commit_interval_s or stage.done or not pace.until_end):
            rows = stage.emit(provisional=not pace.until_end)
            await commit(log, stage.unit(rows, clock.now_ms()), pulse, "commit signals")
            last = now
            if pulse.on_rows is not None and rows:
                pulse.on_rows(rows)
        if pace.until_end and stage.done and not records:
            return
