"""From a log's address to the log: the one place that knows which logs there are."""

from __future__ import annotations

from urllib.parse import parse_qsl

from stream.base import Log
from stream.errors import UsageError
from stream.memory import MemoryLog
from stream.sqlite_log import SqliteLog

FORMS = "memory://, sqlite:///RELATIVE.db, sqlite:////ABSOLUTE.db (sqlite also with ?synchronous=NORMAL)"


def open_log(url: str) -> Log:
    """The log at `url`. Files are opened at the first call, so that is where a bad path or a full disk shows.

    `sqlite:///state.db` lies in the current folder, `sqlite:////var/state.db` (four slashes) at `/var/state.db`.

    Raises:
        UsageError: no such kind of log, or a malformed address; one line that names the accepted forms.
    """
    scheme, separator, rest = url.partition("://")
    if separator and scheme == "memory" and not rest:
        return MemoryLog()
    if separator and scheme == "kafka":
        raise UsageError(f"log {url!r}: kafka:// comes with the kafka extra, not in this version; expected {FORMS}")
    if separator and scheme == "sqlite" and rest.startswith("/"):
        path, _, query = rest[1:].partition("?")
        options = dict(parse_qsl(query, keep_blank_values=True))
        synchronous = options.pop("synchronous", "FULL").upper()
        if path and path != ":memory:" and not path.endswith("/") and not options:
            if synchronous == "FULL":
                return SqliteLog(path)
            if synchronous == "NORMAL":
                return SqliteLog(path, "NORMAL")
    raise UsageError(f"log {url!r}: expected one of {FORMS}")
