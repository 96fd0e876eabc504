"""Opens what was published where it lies: a log, a file or a database."""

from __future__ import annotations

from engines.errors import MissingExtra
from stream.archive_base import Archive


def open_postgres(dsn: str) -> Archive:
    """The history tables of a database; connects at the first question.

    Raises:
        MissingExtra: psycopg is not installed.
    """
    try:
        from stream.postgres_archive import PostgresArchive  # psycopg is an extra
    except ImportError as missing:
        raise MissingExtra(f"{missing.name} is not installed: pip install 'affectstream[postgres]'") from None
    return PostgresArchive(dsn)
