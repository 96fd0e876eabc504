"""The door to PostgreSQL: newest row of every window in `signals`, every published row in `signal_revisions`.

Rows are copied into a temporary table and folded in with one upsert each, in one transaction. What is newer is decided
by the rows alone, so replays, stale rows and two writers at once change nothing.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from importlib.resources import files
from typing import Final, LiteralString, TypeVar

import psycopg
from psycopg import AsyncConnection, conninfo

from stream.errors import LogError, LogUnavailable, UsageError
from stream.sink_base import Published

T = TypeVar("T")

KEY: Final[LiteralString] = "signal, entity, window_start, window_end"
REST: Final[tuple[LiteralString, ...]] = (
    "domain", "value", "lo", "hi", "n", "n_eff", "authors", "buzz", "status", "revision", "watermark", "model",
    "ontology", "reasons", "recorded_ms", "capped", "sampled", "corrected", "corrected_lo", "corrected_hi",
)  # fmt: skip
COLUMNS: Final[LiteralString] = KEY + ", " + ", ".join(REST)
TYPES: Final = (
    "text text int8 int8 text float8 float8 float8 int8 float8 int8 float8 text int8 int8 text text text[] int8 "
    "float8 float8 float8 float8 float8"
).split()

STAGE: Final[LiteralString] = (
    "CREATE TEMPORARY TABLE IF NOT EXISTS affect_incoming ON COMMIT DELETE ROWS "
    f"AS SELECT {COLUMNS} FROM signals LIMIT 0"
)
COPY: Final[LiteralString] = f"COPY affect_incoming ({COLUMNS}) FROM STDIN (FORMAT BINARY)"
KEEP: Final[LiteralString] = (
    f"INSERT INTO signal_revisions ({COLUMNS}) SELECT {COLUMNS} FROM affect_incoming "
    "WHERE %s::bool OR status <> 'provisional' ON CONFLICT DO NOTHING"
)
# Among rows of equal (revision, n) a closed one is newer than a provisional one, and a later watermark than an earlier.
FOLD: Final[LiteralString] = (
    f"INSERT INTO signals AS s ({COLUMNS}) SELECT DISTINCT ON ({KEY}) {COLUMNS} FROM affect_incoming "
    f"ORDER BY {KEY}, revision DESC, n DESC, (status <> 'provisional') DESC, watermark DESC "
    f"ON CONFLICT ({KEY}) DO UPDATE SET " + ", ".join(f"{c} = EXCLUDED.{c}" for c in REST) + " "
    "WHERE (EXCLUDED.revision, EXCLUDED.n, EXCLUDED.status <> 'provisional', EXCLUDED.watermark) "
    "> (s.revision, s.n, s.status <> 'provisional', s.watermark)"
)

VERSIONS: Final[LiteralString] = (
    "CREATE TABLE IF NOT EXISTS affect_schema_version "
    "(version int PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
)

LOCK: Final = 0x61666665
"""Advisory lock of the migrations: two starting sinks take turns."""

DEFAULTS: Final = {
    "connect_timeout": "5",
    "keepalives_idle": "15",
    "tcp_user_timeout": "30000",
    "application_name": "affectstream",
}
"""Connection settings unless the DSN says otherwise: a server that vanishes is noticed within half a minute."""

STATEMENT_S: Final = 60.0
"""Longest a statement may take; a batch takes well under a second."""

_PASSING = re.compile("57P|08|53|40|55P03|57014|58|25006")
"""SQLSTATEs that a later try may not meet: shutdown, connection, resources, deadlock, time-out, i/o, standby."""

_NOT_YET = re.compile("starting up|shutting down|recovery|too many|remaining connection slots|not yet accepting|crash")
_NEVER = re.compile(
    "FATAL:|no password supplied|does not support SSL|certificate|invalid .*option|authentication method"
)


class PostgresSink:
    """The signal tables of one database. One event loop owns it; connects at the first call, and again when lost.

    Args:
        dsn: libpq connection string or URL; what is missing comes from PGHOST, PGPASSWORD and so on. Never shown.
        every_row: keep provisional rows in `signal_revisions` too, not only final and revised ones.

    Raises:
        UsageError: not a connection string.
    """

    def __init__(self, dsn: str, every_row: bool = False) -> None:
        try:
            given = conninfo.conninfo_to_dict(dsn)
        except psycopg.ProgrammingError:
            raise UsageError("dsn: expected postgresql://... or host=... dbname=..., got neither") from None
        self._dsn = conninfo.make_conninfo(dsn, **{k: v for k, v in DEFAULTS.items() if k not in given})
        shown = {k: v for k, v in given.items() if k in ("host", "port", "dbname", "user") and v is not None}
        self._where = "PostgreSQL " + " ".join(f"{k}={v}" for k, v in sorted(shown.items()))
        self._every_row = every_row
        self._lock = asyncio.Lock()
        self._connection: AsyncConnection | None = None

    async def open(self) -> int:
        """Connect, bring the tables up to date, and return their version.

        Raises:
            LogUnavailable: the server is away.
            LogError: it will never let us in, or its tables are of a newer version.
        """
        async with self._lock:
            return await self._guarded(self._migrate)

    async def write(self, rows: Sequence[Published]) -> None:
        """See `RowSink`. At most a few thousand rows at a time; one transaction."""
        async with self._lock:
            if self._connection is None:
                await self._guarded(self._migrate)
            await self._guarded(lambda c: self._fold(c, rows))

    async def close(self) -> None:
        """Close the connection. Idempotent."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _guarded(self, act: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Run `act` on the connection, which is made if there is none and dropped if anything goes wrong."""
        try:
            async with asyncio.timeout(STATEMENT_S + 30):
                if self._connection is None:
                    self._connection = await AsyncConnection.connect(self._dsn, autocommit=True)
                return await act(self._connection)
        except (psycopg.Error, OSError, TimeoutError) as problem:
            await self.close()
            raise self._meaning(problem) from None
        except BaseException:  # cancelled half-way: the connection is in no state to be used again
            await self.close()
            raise

    def _meaning(self, problem: BaseException) -> LogError:
        code = getattr(problem, "sqlstate", None) or ""
        said = " ".join(str(problem).split())[:300] or type(problem).__name__
        text = f"{self._where}: {said}"
        if code:
            if _PASSING.match(code):
                return LogUnavailable(text)
            right = "; give the user CREATE on the schema and ownership of the tables" if code == "42501" else ""
            return LogError(f"{text} ({code}){right}")
        if isinstance(problem, psycopg.Error) and _NEVER.search(said) and not _NOT_YET.search(said):
            return LogError(f"{text}; check user, password, database and sslmode of the DSN (or PGPASSWORD, ~/.pgpass)")
        if isinstance(problem, psycopg.Error) and not isinstance(problem, psycopg.OperationalError):
            return LogError(text)
        return LogUnavailable(text)

    async def _migrate(self, connection: AsyncConnection) -> int:
        await connection.execute(f"SET statement_timeout = {int(STATEMENT_S * 1000)}")
        await connection.execute("SET client_min_messages = warning")
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
            await connection.execute(VERSIONS)
            found = await (
                await connection.execute("SELECT coalesce(max(version), 0) FROM affect_schema_version")
            ).fetchone()
            assert found is not None
            steps = migrations()
            version, newest = int(found[0]), max(steps)
            if version > newest:
                raise LogError(
                    f"{self._where}: its tables are of version {version}, this program knows {newest}; "
                    "install a newer one"
                )
            for number in range(version + 1, newest + 1):
                name, script = steps[number]
                await connection.execute(script.encode())
                await connection.execute(
                    "INSERT INTO affect_schema_version (version, name) VALUES (%s, %s)", (number, name)
                )
        await connection.execute(STAGE)
        return newest

    async def _fold(self, connection: AsyncConnection, rows: Sequence[Published]) -> None:
        async with connection.transaction(), connection.cursor() as cursor:
            async with cursor.copy(COPY) as copy:
                copy.set_types(TYPES)
                for one in rows:
                    await copy.write_row(_values(one))
            await cursor.execute(KEEP, (self._every_row,))
            await cursor.execute(FOLD)


def migrations() -> dict[int, tuple[str, str]]:
    """Version -> (file name, script), from `stream/sql/NNNN_name.sql`; versions are 1, 2, 3 ..."""
    found = sorted((f.name, f) for f in files("stream").joinpath("sql").iterdir() if f.name.endswith(".sql"))
    steps = {int(name[:4]): (name, script.read_text("utf-8")) for name, script in found}
    assert list(steps) == list(range(1, len(steps) + 1)), sorted(steps)
    return steps


def _values(one: Published) -> tuple[object, ...]:
    row = one.row
    return (
        _text(row.signal), _text(row.entity), row.window_start, row.window_end,
        _text(row.domain), row.value, row.lo, row.hi, row.n, row.n_eff, row.authors, row.buzz, row.status, row.revision,
        row.watermark, _text(row.model), _text(row.ontology), [_text(r) for r in row.reasons], one.recorded_ms,
        row.capped, row.sampled, row.corrected, row.corrected_lo, row.corrected_hi,
    )  # fmt: skip


def _text(given: str) -> str:
    # PostgreSQL text holds no NUL; entity names come from posts.
    return given.replace("\0", "\ufffd") if "\0" in given else given
