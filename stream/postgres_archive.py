"""What was published, read back from the tables `affect sink postgres` fills: as far back as that sink has run.

The history holds final and revised rows, and provisional ones too where the sink ran with --every-row.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, LiteralString

import msgspec
import psycopg
from psycopg import AsyncConnection

from stream.archive_base import PublishedRow, RowQuery, row_id_parts
from stream.errors import LogError, LogUnavailable

FETCH = 4_000
STATEMENT_MS: Final = 120_000
_FIELDS: Final = {f.name for f in msgspec.structs.fields(PublishedRow)}
_ID: Final[LiteralString] = "signal || '|' || entity || '|' || window_start || '|' || window_end"
_KEY: Final[tuple[LiteralString, ...]] = ("signal", "entity", "window_start", "window_end")
_RISING: Final[LiteralString] = f'ORDER BY window_end, ({_ID}) COLLATE "C"'
_FALLING: Final[LiteralString] = f'ORDER BY window_end DESC, ({_ID}) COLLATE "C"'


class PostgresArchive:
    """`Archive` over one database. A connection lives for one answer.

    Args:
        dsn: libpq connection string or URL. Never shown.
    """

    source = "postgres"

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    async def versions(self, query: RowQuery) -> AsyncIterator[list[PublishedRow]]:
        """See `Archive`."""
        condition, values = _condition(query)
        if query.known_at_ms is not None:
            condition += " AND recorded_ms <= %s"
            values.append(query.known_at_ms)
        text: LiteralString = "SELECT * FROM signal_revisions WHERE " + condition + " ORDER BY recorded_ms, revision, n"
        async for batch in self._fetch(text, values):
            yield batch

    async def newest(self, query: RowQuery, latest_first: bool = False) -> AsyncIterator[list[PublishedRow]]:
        """See `Archive`."""
        condition, values = _condition(query)
        source: LiteralString = "signals"
        if query.known_at_ms is not None:
            source = "signals_as_of(%s)"
            values.insert(0, query.known_at_ms)
        order = _FALLING if latest_first else _RISING
        async for batch in self._fetch("SELECT * FROM " + source + " WHERE " + condition + " " + order, values):
            yield batch

    async def reach_ms(self) -> int | None:
        """See `Archive`."""
        async with self._connected() as connection:
            cursor = await connection.execute("SELECT min(recorded_ms) FROM signal_revisions")
            found = await cursor.fetchone()
        return None if found is None or found[0] is None else int(found[0])

    async def _fetch(self, text: LiteralString, values: list[object]) -> AsyncIterator[list[PublishedRow]]:
        async with self._connected() as connection, connection.cursor(name="affect_archive") as cursor:
            await cursor.execute(text, values)
            while rows := await cursor.fetchmany(FETCH):
                names = [column.name for column in cursor.description or ()]
                yield [
                    msgspec.convert({k: v for k, v in zip(names, row, strict=True) if k in _FIELDS}, PublishedRow)
                    for row in rows
                ]

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[AsyncConnection]:
        """A connection in a read-only transaction. Says in our words what is wrong with it."""
        try:
            async with await AsyncConnection.connect(self._dsn, connect_timeout=5) as connection:
                await connection.set_read_only(True)
                await connection.execute(f"SET statement_timeout = {STATEMENT_MS}")
                yield connection
        except psycopg.OperationalError as problem:
            raise LogUnavailable(f"PostgreSQL: {_said(problem)}") from None
        except psycopg.errors.UndefinedTable:
            raise LogError("PostgreSQL: no table signal_revisions; run `affect sink postgres` first") from None
        except psycopg.Error as problem:
            raise LogError(f"PostgreSQL: {_said(problem)}") from None


def _condition(query: RowQuery) -> tuple[LiteralString, list[object]]:
    parts: list[tuple[LiteralString, object]] = []
    if query.signals:
        parts.append(("signal = ANY(%s)", sorted(query.signals)))
    if query.entity is not None:
        parts.append(("entity = %s", query.entity))
    if query.domain is not None:
        parts.append(("domain = %s", query.domain))
    if query.row_id is not None:
        for name, value in zip(_KEY, row_id_parts(query.row_id), strict=True):
            parts.append((name + " = %s", value))
    if query.window_ms is not None:
        parts.append(("window_end - window_start = %s", query.window_ms))
    if query.from_ms is not None:
        parts.append(("window_end >= %s", query.from_ms))
    if query.to_ms is not None:
        parts.append(("window_end < %s", query.to_ms))
    text: LiteralString = " AND ".join([part for part, _ in parts]) if parts else "true"
    return text, [value for _, value in parts]


def _said(problem: psycopg.Error) -> str:
    return " ".join(str(problem).split())[:300] or type(problem).__name__
