"""What the SQLite log does with records that are over their retention: dropped, and overwritten where that is short."""

from __future__ import annotations

import contextlib
import sqlite3

from stream import sqlite_schema as sql

SHORT_MS = 86_400_000
"""Topics kept no longer than this hold what must be gone when it is gone, such as frames."""


def trim(db: sqlite3.Connection, topic: int, partitions: int, before_ms: int) -> None:
    """Drop leading batches that hold nothing as young as `before_ms`; offsets go on from where they are."""
    for partition in range(partitions):
        place = (topic, partition)
        keep: int | None = None
        for base, count, newest_ms in db.execute(sql.BATCH_AGES, place):
            if newest_ms >= before_ms:
                break
            keep = base + count
        if keep is not None:
            db.execute("DELETE FROM batch WHERE topic = ? AND partition = ? AND base < ?", (*place, keep))
            db.execute("UPDATE part SET first = ? WHERE topic = ? AND partition = ?", (keep, *place))


def let_go(db: sqlite3.Connection) -> None:
    """Empty the write-ahead log, so that what was dropped is not in it either; where a reader holds it, next time.

    Called after a commit, which stands whatever happens here.
    """
    (wait_ms,) = db.execute("PRAGMA busy_timeout").fetchone()
    db.execute("PRAGMA busy_timeout = 0")
    with contextlib.suppress(sqlite3.OperationalError):  # held by a reader
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    db.execute(f"PRAGMA busy_timeout = {wait_ms}")
