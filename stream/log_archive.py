"""What was published, read back from the signal topic: as far as its retention reaches, provisional rows included."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import closing
from typing import TypeVar

from operators.codec import Codec
from operators.errors import Rejected
from stream.archive_base import PublishedRow, RowQuery, published
from stream.base import Record, Source
from stream.newest_rows import NewestRows
from stream.topics import SIGNALS

log_ = logging.getLogger("affect.archive")

T = TypeVar("T")

READ_ROWS = 4_000


async def _in_thread(act: Callable[..., T], *given: object) -> T:
    """The result of `act` in a thread. Cancelled, it still waits for the thread, so that nothing is closed under it."""
    task = asyncio.create_task(asyncio.to_thread(act, *given))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


class LogArchive:
    """`Archive` over a log. Decoding goes on in a thread, so that an event loop with other work is not held up.

    `codec` is used by that thread: give it one of its own. `rejected`: messages left out because they are no rows.
    """

    source = "log"

    def __init__(self, log: Source, codec: Codec) -> None:
        self._log = log
        self._codec = codec
        self.rejected = 0

    async def versions(self, query: RowQuery) -> AsyncIterator[list[PublishedRow]]:
        """See `Archive`. What is appended after the call is not looked at."""
        for partition, (at, end) in enumerate(await self._log.span(SIGNALS)):
            while at < end:
                records = await self._log.read(SIGNALS, partition, at, min(READ_ROWS, end - at))
                if not records:
                    break
                at = records[-1].offset + 1
                yield await _in_thread(self._wanted, records, query)

    async def newest(self, query: RowQuery, latest_first: bool = False) -> AsyncIterator[list[PublishedRow]]:
        """See `Archive`."""
        with closing(await _in_thread(NewestRows)) as rows:
            async for batch in self.versions(query):
                if batch:
                    await _in_thread(rows.add, batch)
                yield []
            found = rows.batches(READ_ROWS, latest_first)
            while batch := await _in_thread(next, found, []):
                yield batch

    async def reach_ms(self) -> int | None:
        """See `Archive`."""
        first = [
            records[0].timestamp_ms
            for partition, (begin, end) in enumerate(await self._log.span(SIGNALS))
            if begin < end and (records := await self._log.read(SIGNALS, partition, begin, 1))
        ]
        return min(first, default=None)

    def _wanted(self, records: Sequence[Record], query: RowQuery) -> list[PublishedRow]:
        found: list[PublishedRow] = []
        for record in records:
            if query.known_at_ms is not None and record.timestamp_ms > query.known_at_ms:
                continue
            if not query.may_want(record.key):
                continue
            try:
                row = self._codec.decode_signal(record.value)
            except Rejected as refused:
                self.rejected += 1
                if self.rejected == 1:
                    log_.warning("%s offset %d: %s; left out", SIGNALS, record.offset, refused)
                continue
            if query.wants(row):
                found.append(published(row, record.timestamp_ms))
        return found
