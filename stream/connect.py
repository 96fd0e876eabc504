"""From a log's address to the log: the one place that knows which logs there are."""

from __future__ import annotations

import os
import re
from urllib.parse import parse_qsl

from engines.errors import MissingExtra
from stream.base import Log
from stream.errors import UsageError
from stream.memory import MemoryLog
from stream.sqlite_log import SqliteLog

FORMS = (
    "memory://, sqlite:///RELATIVE.db, sqlite:////ABSOLUTE.db (sqlite also with ?synchronous=NORMAL), "
    "kafka://HOST:PORT[,HOST:PORT] (also with ?security=SASL_SSL&mechanism=SCRAM-SHA-512&cafile=PATH&prefix=NAME."
    "&instance=ID&replication=N&patience=SECONDS&session=SECONDS; "
    "user and password: AFFECT_KAFKA_USER, AFFECT_KAFKA_PASSWORD)"
)

_SERVER = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")


def open_log(url: str) -> Log:
    """The log at `url`. Files are opened at the first call, so that is where a bad path or a full disk shows.

    `sqlite:///state.db` lies in the current folder, `sqlite:////var/state.db` (four slashes) at `/var/state.db`.

    Raises:
        UsageError: no such kind of log, or a malformed address; one line that names the accepted forms.
        MissingExtra: kafka:// without aiokafka.
    """
    scheme, separator, rest = url.partition("://")
    if separator and scheme == "memory" and not rest:
        return MemoryLog()
    if separator and scheme == "kafka":
        return _kafka(url, rest)
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


def open_existing(url: str) -> Log:
    """As `open_log`, for commands that only read: a mistyped file name makes no new file.

    Raises:
        UsageError: also where there is no such file.
    """
    log = open_log(url)
    if isinstance(log, SqliteLog) and not os.path.exists(log.path):
        raise UsageError(f"log {url!r}: there is no file {log.path}; `affect run`, `replay --log` or `send` make one")
    return log


def _kafka(url: str, rest: str) -> Log:
    if "@" in rest:
        raise UsageError(
            f"log kafka://...: no user or password in the address (it shows in process lists); expected {FORMS}"
        )
    servers, _, query = rest.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    unknown = set(options) - {
        "security",
        "mechanism",
        "cafile",
        "prefix",
        "instance",
        "replication",
        "patience",
        "session",
    }
    for server in servers.rstrip("/").split(","):
        found = _SERVER.fullmatch(server)
        if found is None or not 1 <= int(found[2]) <= 65535:
            raise UsageError(f"log {url!r}: {server!r} is no HOST:PORT; expected one of {FORMS}")
    if unknown:
        raise UsageError(f"log {url!r}: unknown option {', '.join(sorted(unknown))}; expected one of {FORMS}")
    replication, patience = options.get("replication", ""), options.get("patience", "10")
    if replication and not re.fullmatch("[1-9][0-9]?", replication):
        raise UsageError(f"log {url!r}: replication: expected a number from 1, got {replication!r}; forms: {FORMS}")
    if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]+)?", patience):
        raise UsageError(f"log {url!r}: patience: expected seconds, got {patience!r}; forms: {FORMS}")
    session = options.get("session", "10")
    if not re.fullmatch(r"[1-9][0-9]{0,2}(\.[0-9]+)?", session):
        raise UsageError(f"log {url!r}: session: expected seconds from 1, got {session!r}; forms: {FORMS}")
    if not re.fullmatch(r"[A-Za-z0-9._-]{0,100}", options.get("prefix", "")):
        raise UsageError(f"log {url!r}: prefix: expected up to 100 of A-Z a-z 0-9 . _ -; forms: {FORMS}")
    try:
        # Half a second of imports that no other log has use for, and an extra that need not be there.
        from stream.kafka import KafkaLog
        from stream.kafka_wire import Access
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in ("aiokafka", "cramjam"):
            raise
        raise MissingExtra(f"log {url!r} needs {error.name}; run: pip install affectstream[kafka]") from error
    access = Access(
        servers.rstrip("/"),
        security=options.get("security", "PLAINTEXT").upper(),
        mechanism=options.get("mechanism", "SCRAM-SHA-512").upper(),
        cafile=options.get("cafile"),
        user=os.environ.get("AFFECT_KAFKA_USER"),
        password=os.environ.get("AFFECT_KAFKA_PASSWORD"),
    )
    return KafkaLog(
        access,
        prefix=options.get("prefix", ""),
        instance=options.get("instance"),
        replication=int(replication) if replication else None,
        patience_s=float(patience),
        session_ms=int(float(session) * 1000),
    )
