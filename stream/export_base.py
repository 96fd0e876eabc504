"""Rows as bytes of a file: what an export format is, and the two that need nothing."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Protocol

import msgspec

from stream.archive_base import PublishedRow
from stream.row_columns import COLUMNS, Kind


class RowFormat(Protocol):
    """Makes one file. `write` and `finish` return the bytes that come next; nothing is kept that can be let go."""

    media: str

    def write(self, rows: Sequence[PublishedRow]) -> bytes:
        """The bytes of `rows`, or part of them; the first call has the head of the file."""
        ...

    def finish(self) -> bytes:
        """What is left, and the end of the file. Call once."""
        ...


class JsonLines:
    """One JSON object a line, as on the wire and in `affect replay`."""

    media = "application/x-ndjson"

    def __init__(self) -> None:
        self._encode = msgspec.json.Encoder().encode

    def write(self, rows: Sequence[PublishedRow]) -> bytes:
        """See `RowFormat`."""
        return b"".join(self._encode(row) + b"\n" for row in rows)

    def finish(self) -> bytes:
        """See `RowFormat`."""
        return b""


class Csv:
    """Comma-separated values with a line of names, RFC 4180. Unknown is empty; several texts are joined by `; `."""

    media = "text/csv"

    def __init__(self) -> None:
        self._out = io.StringIO(newline="")
        self._writer = csv.writer(self._out)
        self._writer.writerow(COLUMNS)

    def write(self, rows: Sequence[PublishedRow]) -> bytes:
        """See `RowFormat`."""
        self._writer.writerows([_cell(getattr(row, name), kind) for name, kind in COLUMNS.items()] for row in rows)
        return self._drained()

    def finish(self) -> bytes:
        """See `RowFormat`."""
        return self._drained()

    def _drained(self) -> bytes:
        text = self._out.getvalue()
        self._out.seek(0)
        self._out.truncate()
        return text.encode("utf-8", "replace")


def _cell(value: object, kind: Kind) -> object:
    if value is None:
        return ""
    if kind is Kind.TEXTS and isinstance(value, tuple | list):
        return _harmless("; ".join(value))
    if kind is Kind.TEXT:
        return _harmless(str(value))
    if kind is Kind.JSON:
        return msgspec.json.encode(value).decode()
    return value


def _harmless(text: str) -> str:
    # A cell a spreadsheet would run as a formula; names come from posts.
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
