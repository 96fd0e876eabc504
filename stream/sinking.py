"""Reads the signal topic and feeds a sink: as a member of a group of its own, or from a position the sink keeps."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from functools import partial
from typing import TypeVar

from operators.codec import Codec
from operators.errors import Rejected
from stream.base import CommitUnit, Log, Member, Record
from stream.errors import UsageError
from stream.jsonl import JsonLinesFile
from stream.sink_base import Published, RowSink
from stream.topics import SIGNALS
from stream.worker import Pulse, commit, steadily

T = TypeVar("T")
log_ = logging.getLogger("affect.sink")

READ_ROWS = 4_000
WAIT_S = 0.25


class RowReader:
    """Turns records of the signal topic into rows; one that cannot be read is told of and counted, never silent."""

    def __init__(self, codec: Codec) -> None:
        self._decode = codec.decode_signal
        self.rows = 0
        self.rejected = 0

    def read(self, partition: int, records: Sequence[Record]) -> list[Published]:
        """The rows of `records`, in order."""
        out: list[Published] = []
        for record in records:
            try:
                out.append(Published(self._decode(record.value), record.timestamp_ms))
            except Rejected as refused:
                self.rejected += 1
                if self.rejected == 1:
                    log_.warning("%s[%d] offset %d: %s; left out", SIGNALS, partition, record.offset, refused)
        self.rows += len(out)
        return out


class SinkWorker:
    """Feeds a `RowSink` from the signal topic. Listener of the log: partitions come and go.

    Offsets are committed after the sink has the rows; a crash in between writes them again, which changes nothing.

    Args:
        group: consumer group; several processes of one group share the partitions, the others stand by.
        until_end: end when what was there at the start is written.
    """

    def __init__(self, log: Log, sink: RowSink, codec: Codec, group: str, until_end: bool, pulse: Pulse) -> None:
        self._log, self._sink, self._group = log, sink, group
        self._until_end, self._pulse = until_end, pulse
        self._generation = 0
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._stop: dict[int, asyncio.Event] = {}
        self._open: set[int] = set()
        self._member: Member | None = None
        self.reader = RowReader(codec)

    async def run(self) -> None:
        """Join, write until `pulse.ended` is set, leave. What is in hand is committed first.

        Raises:
            AffectError: a fault that retrying does not cure.
        """
        self._open = set(range(len(await self._log.span(SIGNALS))))
        # A group another process holds is waited for: this one stands by.
        join = steadily(partial(self._log.join, self._group, SIGNALS, self), self._pulse, f"join {self._group}")
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
            task = asyncio.create_task(self._loop(partition), name=f"sink-{partition}")
            task.add_done_callback(self._pulse.watch)
            self._tasks[partition] = task

    async def revoked(self, partitions: Sequence[int]) -> None:
        """Finish the step in hand and commit; a step that waits for a sink that is away is given up."""
        for partition in partitions:
            self._stop[partition].set()
        for partition in partitions:
            await _ended(self._tasks.pop(partition), self._pulse)
            self._stop.pop(partition)

    async def _loop(self, partition: int) -> None:
        log, pulse, stop = self._log, self._pulse, self._stop[partition]
        what = f"{SIGNALS}[{partition}]"
        committed = await steadily(partial(log.committed, self._group, SIGNALS), pulse, f"offset of {what}")
        begin, end = (await steadily(partial(log.span, SIGNALS), pulse, f"span of {what}"))[partition]
        offset = max(begin, committed[partition])
        while not stop.is_set():
            read = partial(log.read, SIGNALS, partition, offset, READ_ROWS, WAIT_S)
            records = await steadily(read, pulse, f"read {what}")
            if records:
                rows = self.reader.read(partition, records)
                await steadily(partial(self._sink.write, rows), pulse, "write rows")
                offset = records[-1].offset + 1
                unit = CommitUnit(self._group, {(SIGNALS, partition): offset}, generation=self._generation)
                await commit(log, unit, pulse, f"commit {what}")
            if self._until_end and offset >= end:
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


async def write_jsonl(log: Log, out: JsonLinesFile, reader: RowReader, until_end: bool, pulse: Pulse) -> None:
    """Append the signal topic to `out` from where it stopped, until `pulse.ended` is set (or the end is reached).

    Raises:
        UsageError: the log is not the one the file was written from.
        AffectError: a fault that retrying does not cure.
    """
    spans = await log.span(SIGNALS)
    offsets = {p: max(begin, out.offsets.get(p, 0)) for p, (begin, _) in enumerate(spans)}
    for partition, (_, end) in enumerate(spans):
        if offsets[partition] > end:
            raise UsageError(
                f"the file stands at offset {offsets[partition]} of {SIGNALS}[{partition}], the log ends at {end}; "
                "the log was made anew: choose another file"
            )
    while not pulse.ended.is_set():
        for partition in offsets:
            wait = 0.0 if until_end else WAIT_S / len(offsets)
            read = partial(log.read, SIGNALS, partition, offsets[partition], READ_ROWS, wait)
            records = await steadily(read, pulse, f"read {SIGNALS}[{partition}]")
            if records:
                rows = [one.row for one in reader.read(partition, records)]
                after = {partition: records[-1].offset + 1}
                await steadily(partial(asyncio.to_thread, out.append, rows, after), pulse, "write rows")
                offsets.update(after)
        if until_end and all(offsets[p] >= end for p, (_, end) in enumerate(spans)):
            break
        await asyncio.sleep(0)
