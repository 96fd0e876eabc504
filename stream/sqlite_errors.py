"""SQLite's result codes in the words of our tree. Numbers only: sqlite3 itself has its one door in `sqlite_log`."""

from __future__ import annotations

from stream.errors import LogCorrupt, LogError, LogUnavailable

BUSY = 5
REMEDY = "restore the file from a backup, or start a new one and replay the input"


def translated(code: int | None, said: str, path: str) -> LogError:
    """The error to raise for a primary result code (see SQLite's "Result and Error Codes").

    Args:
        code: primary result code; None where SQLite saw nothing wrong, but what it returned cannot be.
        said: SQLite's own message.
        path: of the file.
    """
    match code:
        case 5 | 6:  # SQLITE_BUSY, SQLITE_LOCKED
            return LogUnavailable(f"{path}: file locked by another process ({said}); nothing was written, try again")
        case 13:  # SQLITE_FULL
            return LogUnavailable(f"{path}: disk full ({said}); nothing was written, free space and try again")
        case 10:  # SQLITE_IOERR
            return LogUnavailable(f"{path}: the disk refused ({said}); nothing was written, see its space and health")
        case 3 | 8 | 14 | 23:  # SQLITE_PERM, READONLY, CANTOPEN, AUTH
            return LogUnavailable(f"{path}: cannot be opened for writing ({said}); see its permissions")
        case None | 1 | 11 | 26:  # SQLITE_ERROR (a table or column of ours is gone), CORRUPT, NOTADB
            return LogCorrupt(f"{path}: damaged, or no log at all ({said}); {REMEDY}")
        case 18:  # SQLITE_TOOBIG
            return LogError(f"{path}: a value is too large for SQLite ({said}); nothing was written")
    return LogError(f"{path}: SQLite failed ({said}); nothing was written")
