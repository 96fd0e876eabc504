"""The door to pyarrow: rows as a Parquet file, column by column, a row group at a time."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Final

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from stream.archive_base import PublishedRow
from stream.row_columns import COLUMNS, Kind

GROUP_ROWS = 65_536
"""Rows of a row group: what is held in memory, about ten MiB, before it is written."""

TYPES: Final = {
    Kind.TEXT: pa.string(),
    Kind.WHOLE: pa.int64(),
    Kind.NUMBER: pa.float64(),
    Kind.FLAG: pa.bool_(),
    Kind.MOMENT: pa.timestamp("ms", tz="UTC"),
    Kind.TEXTS: pa.list_(pa.string()),
    Kind.JSON: pa.string(),
}
SCHEMA: Final = pa.schema([(name, TYPES[kind]) for name, kind in COLUMNS.items()])


class Parquet:
    """`RowFormat`. Times are timestamps (milliseconds, UTC), unknown is null, several texts are a list."""

    media = "application/vnd.apache.parquet"

    def __init__(self) -> None:
        self._out = _Pipe()
        self._writer = pq.ParquetWriter(self._out, SCHEMA, compression="zstd")
        self._held: list[pa.RecordBatch] = []
        self._count = 0

    def write(self, rows: Sequence[PublishedRow]) -> bytes:
        """See `RowFormat`."""
        if rows:
            columns = [
                pa.array([_cell(getattr(row, name), kind) for row in rows], TYPES[kind])
                for name, kind in COLUMNS.items()
            ]
            self._held.append(pa.RecordBatch.from_arrays(columns, schema=SCHEMA))
            self._count += len(rows)
        if self._count >= GROUP_ROWS:
            self._write_group()
        return self._out.drained()

    def finish(self) -> bytes:
        """See `RowFormat`."""
        self._write_group()
        self._writer.close()
        return self._out.drained()

    def _write_group(self) -> None:
        if self._held:
            self._writer.write_table(pa.Table.from_batches(self._held, SCHEMA), row_group_size=self._count)
        self._held, self._count = [], 0


class _Pipe(io.RawIOBase):
    """A file that is only written: what was written is taken out, and it knows how much there was."""

    def __init__(self) -> None:
        self._waiting = bytearray()
        self._at = 0

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        taken = bytes(memoryview(data))  # type: ignore[arg-type]
        self._waiting += taken
        self._at += len(taken)
        return len(taken)

    def tell(self) -> int:
        return self._at

    def drained(self) -> bytes:
        """What was written since the last call."""
        taken = bytes(self._waiting)
        self._waiting.clear()
        return taken


def _cell(value: object, kind: Kind) -> object:
    return msgspec.json.encode(value).decode() if kind is Kind.JSON and value is not None else value
