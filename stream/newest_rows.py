"""The newest version of every window out of any number of versions, in little memory: most lies in a temporary file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence

import msgspec

from stream.archive_base import PublishedRow
from stream.errors import StreamError

CACHE_KIB = 16_384
"""Memory before SQLite spills: about forty thousand windows. The file has no name and goes with the connection."""

_TABLE = (
    "CREATE TABLE newest (row_id TEXT PRIMARY KEY, revision INT, n INT, closed INT, watermark INT, window_end INT, "
    "body BLOB)"
)
_FOLD = (
    "INSERT INTO newest VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (row_id) DO UPDATE SET revision = excluded.revision, "
    "n = excluded.n, closed = excluded.closed, watermark = excluded.watermark, body = excluded.body "
    "WHERE (excluded.revision, excluded.n, excluded.closed, excluded.watermark) >= (revision, n, closed, watermark)"
)


class NewestRows:
    """Takes versions in publication order, gives the newest of each window. Use it from one thread at a time.

    Of equal ones the later stays.

    >>> NewestRows().head(10)
    []
    """

    def __init__(self) -> None:
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(PublishedRow).decode
        try:
            self._rows = sqlite3.connect("", check_same_thread=False, isolation_level=None)
            for setting in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{CACHE_KIB}"):
                self._rows.execute(f"PRAGMA {setting}")
            self._rows.execute(_TABLE)
        except sqlite3.Error as problem:
            raise _no_room(problem) from None

    def add(self, rows: Sequence[PublishedRow]) -> None:
        """Take in versions.

        Raises:
            StreamError: no room for the temporary file.
        """
        values = (
            (r.row_id, r.revision, r.n, r.status != "provisional", r.watermark, r.window_end, self._encode(r))
            for r in rows
        )
        try:
            self._rows.execute("BEGIN")
            self._rows.executemany(_FOLD, values)
            self._rows.execute("COMMIT")
        except sqlite3.Error as problem:
            raise _no_room(problem) from None

    def batches(self, size: int, latest_first: bool = False) -> Iterator[list[PublishedRow]]:
        """Everything held by window end (rising, unless `latest_first`) and row id, `size` at a time."""
        order = "DESC" if latest_first else "ASC"
        try:
            found = self._rows.execute(f"SELECT body FROM newest ORDER BY window_end {order}, row_id")
            while batch := found.fetchmany(size):
                yield [self._decode(body) for (body,) in batch]
        except sqlite3.Error as problem:
            raise _no_room(problem) from None

    def head(self, count: int) -> list[PublishedRow]:
        """The first `count` by window end, latest first."""
        return next(self.batches(count, latest_first=True), [])

    def close(self) -> None:
        """Let the temporary file go. Idempotent."""
        self._rows.close()


def _no_room(problem: sqlite3.Error) -> StreamError:
    return StreamError(f"temporary file of rows: {problem}; make room in the folder TMPDIR (or SQLITE_TMPDIR) names")
