"""Reads the signal topic and feeds a sink: as a member of a group of its own, or from a position the sink keeps."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial

from operators.codec import Codec
from operators.errors import Rejected
from stream.base import CommitUnit, Log, Record
from stream.errors import UsageError
from stream.following import READ_ROWS, WAIT_S, Follower, Owned
from stream.jsonl import JsonLinesFile
from stream.sink_base import Published, RowSink
from stream.topics import SIGNALS
from stream.worker import Pulse, commit, steadily

log_ = logging.getLogger("affect.sink")


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
    """Feeds a `RowSink` from the signal topic.

    Offsets are committed after the sink has the rows; a crash in between writes them again, which changes nothing.

    Args:
        group: consumer group; several processes of one group share the partitions, the others stand by.
        until_end: end when what was there at the start is written.
    """

    def __init__(self, log: Log, sink: RowSink, codec: Codec, group: str, until_end: bool, pulse: Pulse) -> None:
        self._log, self._sink, self._group, self._pulse = log, sink, group, pulse
        self._follower = Follower(log, SIGNALS, group, self._write, until_end, pulse)
        self.reader = RowReader(codec)

    async def run(self) -> None:
        """Join, write until `pulse.ended` is set, leave. What is in hand is committed first.

        Raises:
            AffectError: a fault that retrying does not cure.
        """
        await self._follower.run()

    async def _write(self, owned: Owned, records: Sequence[Record]) -> int:
        rows = self.reader.read(owned.partition, records)
        await steadily(partial(self._sink.write, rows), self._pulse, "write rows")
        offset = records[-1].offset + 1
        unit = CommitUnit(self._group, {(SIGNALS, owned.partition): offset}, generation=owned.generation)
        await commit(self._log, unit, self._pulse, f"commit {SIGNALS}[{owned.partition}]")
        return offset


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
