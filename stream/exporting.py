"""Exports: rows of an archive through a format, to a file or to whoever takes bytes, in bounded memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from engines.errors import MissingExtra
from stream.archive_base import Archive, RowQuery
from stream.export_base import Csv, JsonLines, RowFormat
from stream.whole_file import whole_file

FORMATS: Final = ("csv", "jsonl", "parquet")


def row_format(name: str) -> RowFormat:
    """The format `name`, ready for one file.

    Raises:
        MissingExtra: it needs a package that is not installed.
    """
    if name == "csv":
        return Csv()
    if name == "jsonl":
        return JsonLines()
    assert name == "parquet", name
    try:
        from stream.export_parquet import Parquet  # half a second of imports
    except ImportError as missing:
        raise MissingExtra(f"parquet: {missing.name} is not installed: pip install 'affectstream[export]'") from None
    return Parquet()


class Export:
    """One export. `rows`: how many went out so far. `revisions`: every published version, not only the newest."""

    def __init__(self, archive: Archive, query: RowQuery, form: RowFormat, revisions: bool = False) -> None:
        self._archive, self._query, self._format, self._revisions = archive, query, form, revisions
        self.rows = 0

    async def parts(self) -> AsyncIterator[bytes]:
        """The bytes of the file, in order; some parts are empty, so that a taker that has gone is noticed.

        Raises:
            AffectError: the source cannot be read; what came before is no whole file.
        """
        read = self._archive.versions if self._revisions else self._archive.newest
        async for batch in read(self._query):
            self.rows += len(batch)
            yield await asyncio.to_thread(self._format.write, batch)
        yield await asyncio.to_thread(self._format.finish)

    async def to_file(self, path: Path) -> int:
        """Write `path` whole or not at all. Returns how many rows.

        Raises:
            StreamError: the folder cannot be written to, or is full; `path` is as it was.
        """
        with whole_file(path) as out:
            async for data in self.parts():
                out.write(data)
        return self.rows
