"""What was published, read back from a file of JSON lines: of `affect replay`, `affect sink jsonl` or an export."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import msgspec

from stream.archive_base import PublishedRow, RowQuery
from stream.errors import UsageError
from stream.ingest import open_lines
from stream.newest_rows import NewestRows

BATCH = 4_000


class FileArchive:
    """`Archive` over a file of rows, plain or .gz. Only exports note when a row was published."""

    source = "file"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._decode = msgspec.json.Decoder(PublishedRow).decode

    async def versions(self, query: RowQuery) -> AsyncIterator[list[PublishedRow]]:
        """See `Archive`.

        Raises:
            UsageError: the file cannot be read, or a line of it is no signal row.
        """
        batch: list[PublishedRow] = []
        with open_lines(self._path) as lines:
            number = 1
            try:
                for line in lines:
                    row = self._decode(line)
                    if query.wants(row) and self._known(row, query):
                        batch.append(row)
                    if len(batch) >= BATCH:
                        yield batch
                        batch = []
                    number += 1
            except (msgspec.DecodeError, UnicodeDecodeError) as problem:
                raise UsageError(f"{self._path}: line {number}: expected a signal row, got: {problem}") from None
            except (OSError, EOFError) as problem:
                raise UsageError(f"{self._path}: broken at line {number}: {problem}") from None
        yield batch

    async def newest(self, query: RowQuery, latest_first: bool = False) -> AsyncIterator[list[PublishedRow]]:
        """See `Archive`."""
        with closing(NewestRows()) as rows:
            async for batch in self.versions(query):
                rows.add(batch)
                yield []
            for batch in rows.batches(BATCH, latest_first):
                yield batch

    async def reach_ms(self) -> int | None:
        """See `Archive`."""
        async for batch in self.versions(RowQuery()):
            if batch:
                return batch[0].recorded_ms
        return None

    def _known(self, row: PublishedRow, query: RowQuery) -> bool:
        if query.known_at_ms is None:
            return True
        if row.recorded_ms is None:
            raise UsageError(f"{self._path}: its rows do not say when they were published; ask the log they came from")
        return row.recorded_ms <= query.known_at_ms
