"""`sqlite:///PATH`: the durable embedded log. The only file that knows sqlite3.

One file in WAL mode. A `CommitUnit` is one transaction: outputs as one blob per (topic, partition, commit), state rows
and offsets, all or nothing, synced before `commit` returns (synchronous=FULL). All writes happen in one thread, all
reads in another with its own connection, so readers never wait for writers. Other processes may read, and append
without being a group member; a consumer group belongs to one process at a time (`stream.group_lock`).
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, TypeVar

from operators.base import Clock
from stream import sqlite_schema as sql
from stream.base import CommitUnit, Listener, Member, Record, TopicSpec
from stream.batches import Batch, batches, checksum, pack, state_checksum, unpack
from stream.errors import LogError, LogUnavailable
from stream.group_lock import GroupLock
from stream.groups import Groups
from stream.same_file import SameFile
from stream.sqlite_errors import BUSY, translated
from stream.sqlite_trim import SHORT_MS, let_go, trim
from stream.system_clock import SystemClock
from stream.topic_rules import MAX_PARTITIONS, check_specs, trim_due, unknown_topic
from stream.wakeups import Place, Wakeups

T = TypeVar("T")
Synchronous = Literal["FULL", "NORMAL"]

POLL_S = 0.1
"""How often a waiting reader looks for appends of other processes."""

CACHED_BATCHES = 32
"""Unpacked batches kept for readers that take less than a batch at a time; at most about 1 MiB each."""


class _Topic(NamedTuple):
    id: int
    spec: TopicSpec


class SqliteLog:
    """A `Log` in one SQLite file. One event loop owns it; other processes may open the same file.

    Nothing is opened before the first call. Every call may raise `LogUnavailable` (locked for longer than
    `busy_timeout_s`, disk full, no permission: nothing was half-written, call again later) or `LogCorrupt`.

    Args:
        path: of the file; its folder must exist. `PATH-wal`, `PATH-shm` and `PATH.lock-GROUP` appear beside it.
        synchronous: FULL survives power loss; NORMAL may lose the last commits then, but never half of one.
        clock: processing time for retention; default the machine's.
        busy_timeout_s: how long a write waits for another process's write.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        synchronous: Synchronous = "FULL",
        clock: Clock | None = None,
        busy_timeout_s: float = 5.0,
    ) -> None:
        self.path = os.path.abspath(path)
        self._clock: Clock = SystemClock() if clock is None else clock
        file = SameFile(self.path)
        self._writer, self._reader = (_Door(file, synchronous, busy_timeout_s) for _ in range(2))
        self._cache: OrderedDict[int, list[Record]] = OrderedDict()
        self._trimmed_ms: dict[str, int] = {}
        self._lock = GroupLock(self.path)
        self._groups = Groups(self._writer.idle, self._lock.hold, self._lock.release)
        self._wakeups = Wakeups()

    async def ensure(self, topics: Iterable[TopicSpec]) -> None:
        wanted = list(topics)
        await self._writer.run(lambda db: _ensure(db, wanted))

    async def topics(self) -> list[TopicSpec]:
        found = await self._reader.run(_topics)
        return sorted((topic.spec for topic in found.values()), key=lambda spec: spec.name)

    async def read(
        self, topic: str, partition: int, offset: int, max_records: int, max_wait_s: float = 0.0
    ) -> list[Record]:
        async def look() -> list[Record]:
            return await self._reader.run(lambda db: self._read(db, topic, partition, offset, max_records))

        return await self._wakeups.poll((topic, partition), look, max_wait_s, POLL_S)

    async def span(self, topic: str) -> list[tuple[int, int]]:
        return await self._reader.run(lambda db: _span(db, topic))

    async def committed(self, group: str, topic: str) -> list[int]:
        return await self._reader.run(lambda db: _committed(db, group, topic))

    async def restore(self, group: str, prefix: str) -> dict[str, bytes]:
        return await self._reader.run(lambda db: _restore(db, group, prefix))

    async def commit(self, unit: CommitUnit) -> None:
        places = await self._writer.run(lambda db: self._commit(db, unit))
        self._wakeups.wake(places)

    async def join(self, group: str, topic: str, listener: Listener) -> Member:
        partitions = len(await self.span(topic))
        return await self._groups.join(group, topic, partitions, listener)

    async def close(self) -> None:
        self._groups.close()
        self._lock.close()
        await self._writer.close()
        await self._reader.close()
        self._wakeups.wake_all()

    def _commit(self, db: sqlite3.Connection, unit: CommitUnit) -> set[Place]:
        cut = [(batch, pack(batch.entries)) for batch in batches(unit.outputs)]  # before the lock is taken
        now_ms = self._clock.now_ms()
        with _transaction(db):
            # Within the write: a change of owner waits for the writes that came this far (Groups, step 4).
            self._groups.check(unit)
            topics = _topics(db)
            db.executemany(
                sql.SET_POSITION,
                [(unit.group, _known(topics, t, p).id, p, offset) for (t, p), offset in unit.offsets.items()],
            )
            for batch, body in cut:
                _append(db, _known(topics, batch.topic, batch.partition).id, batch, body)
            _set_state(db, unit)
            due = [
                topics[name]
                for name in sorted({batch.topic for batch, _ in cut} | {topic for topic, _ in unit.offsets})
                if trim_due(topics[name].spec.retention_ms, self._trimmed_ms.get(name), now_ms)
            ]
            for topic in due:
                trim(db, topic.id, topic.spec.partitions, now_ms - topic.spec.retention_ms)
        if any(topic.spec.retention_ms <= SHORT_MS for topic in due):
            let_go(db)
        self._trimmed_ms.update({topic.spec.name: now_ms for topic in due})
        return {(batch.topic, batch.partition) for batch, _ in cut}

    def _read(self, db: sqlite3.Connection, topic: str, partition: int, offset: int, max_records: int) -> list[Record]:
        with _snapshot(db):
            place = (_known(_topics(db), topic, partition).id, partition)
            first, end = _row(db, sql.ONE_SPAN, place, int, int)
            at = max(offset, first)
            found: list[Record] = []
            if at >= end or max_records < 1:
                return found
            for row, base, count, crc in _rows(db, sql.FIND_BATCHES, (*place, at), int, int, int, int):
                if not base <= at < base + count:
                    break
                held = self._cache.get(row)
                if held is None:
                    (body,) = _row(db, "SELECT body FROM batch WHERE id = ?", (row,), bytes)
                    held = unpack(body, crc, self.path, topic, partition, base, count)
                    self._cache[row] = held
                    if len(self._cache) > CACHED_BATCHES:
                        self._cache.popitem(last=False)
                found += held[at - base : at - base + max_records - len(found)]
                at = base + count
                if len(found) >= max_records or at >= end:
                    return found
        raise sqlite3.DatabaseError(
            f"topic {topic!r} partition {partition}: nothing stored at offset {at}, the log runs from {first} to {end}"
        )


class _Door:
    """One connection in one thread of its own. Opens at first use, and anew after it had to be given up."""

    _opening = threading.Lock()

    def __init__(self, file: SameFile, synchronous: Synchronous, busy_timeout_s: float) -> None:
        if synchronous not in ("FULL", "NORMAL"):
            raise LogError(f"{file.path}: synchronous: expected FULL or NORMAL, got {synchronous!r}")
        self._file, self._path = file, file.path
        self._synchronous = synchronous
        self._busy_timeout_s = busy_timeout_s
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="affect-sqlite")
        self._db: sqlite3.Connection | None = None
        self._closed = False

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """`work` in the thread; a transaction it leaves open is rolled back, what SQLite raises is translated."""
        if self._closed:
            raise LogError(f"{self._path}: log is closed; open a new one")
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._guarded, work)

    async def idle(self) -> None:
        """Returns once everything given to `run` before is done."""
        if not self._closed:
            await asyncio.get_running_loop().run_in_executor(self._thread, lambda: None)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await asyncio.get_running_loop().run_in_executor(self._thread, self._give_up)
            self._thread.shutdown()

    def _guarded(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            self._file.check()
            if self._db is None:
                self._db = self._open()
            return work(self._db)
        except sqlite3.Error as error:
            raise translated(_code(error), str(error), self._path) from error
        except UnicodeDecodeError as error:
            raise translated(None, str(error), self._path) from error
        except (OverflowError, UnicodeEncodeError) as error:
            raise LogError(f"{self._path}: a value does not fit: {error}; nothing was written") from error
        finally:
            self._roll_back()

    def _roll_back(self) -> None:
        try:
            if self._db is not None and self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except sqlite3.Error:
            # The connection is of no use any more; closing it undoes what was open, the next call makes a new one.
            self._give_up()

    def _give_up(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            db.close()

    def _open(self) -> sqlite3.Connection:
        folder = os.path.dirname(self._path)
        if not os.path.isdir(folder):
            raise LogUnavailable(f"{self._path}: no folder {folder}; make it, or choose another path")
        # Turning WAL on does not wait for a lock by itself: openers of one process take turns, others are retried.
        deadline = time.monotonic() + self._busy_timeout_s
        with self._opening:
            while True:
                db = sqlite3.connect(
                    self._path, timeout=self._busy_timeout_s, isolation_level=None, check_same_thread=False
                )
                try:
                    _prepare(db, self._path, self._synchronous)
                    return db
                except sqlite3.OperationalError as error:
                    db.close()
                    if _code(error) != BUSY or time.monotonic() > deadline:
                        raise
                    time.sleep(0.05)
                except BaseException:
                    db.close()
                    raise


def _prepare(db: sqlite3.Connection, path: str, synchronous: Synchronous) -> None:
    """Make the tables in a new file, or see that an old one is ours."""
    if db.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        _refuse_foreign(db, path)
        db.execute("PRAGMA journal_mode = WAL").fetchone()
    db.execute(f"PRAGMA synchronous = {synchronous}")
    db.execute("PRAGMA secure_delete = ON")  # what is dropped is overwritten, not only let go
    db.execute("PRAGMA cell_size_check = ON")  # damaged pages are found rather than followed
    if _refuse_foreign(db, path) == 0:
        with _transaction(db):
            if _refuse_foreign(db, path) == 0:  # nobody else was faster
                for table in sql.TABLES:
                    db.execute(table)
                db.execute(f"PRAGMA application_id = {sql.APPLICATION_ID}")
                db.execute(f"PRAGMA user_version = {sql.VERSION}")


def _refuse_foreign(db: sqlite3.Connection, path: str) -> int:
    """The schema version of a file that is ours, 0 for an empty one."""
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    tables: int = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    application: int = db.execute("PRAGMA application_id").fetchone()[0]
    sql.accept(path, application, version, tables)
    return version


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    """One write; whoever called rolls back what did not get to the end."""
    db.execute("BEGIN IMMEDIATE")
    yield
    db.execute("COMMIT")


@contextmanager
def _snapshot(db: sqlite3.Connection) -> Iterator[None]:
    """Several reads of one and the same moment."""
    db.execute("BEGIN")
    try:
        yield
    finally:
        db.execute("ROLLBACK")


def _rows(db: sqlite3.Connection, query: str, values: tuple[str | int, ...], *types: type) -> Iterator[tuple[Any, ...]]:
    """The rows of `query`, each with values of exactly `types`: on a damaged page SQLite may return anything."""
    cursor = db.execute(query, values)
    try:
        for row in cursor:
            if tuple(map(type, row)) != types:
                raise sqlite3.DatabaseError(f"a row makes no sense: {query} {values}")
            yield row
    finally:
        cursor.close()


def _row(db: sqlite3.Connection, query: str, values: tuple[int, ...], *types: type) -> tuple[Any, ...]:
    """The one row that must be there."""
    for row in _rows(db, query, values, *types):
        return row
    raise sqlite3.DatabaseError(f"a row is missing: {query} {values}")


def _topics(db: sqlite3.Connection) -> dict[str, _Topic]:
    found: dict[str, _Topic] = {}
    for row, name, parts, keep, compact in _rows(db, sql.ALL_TOPICS, (), int, str, int, int, int):
        if not 1 <= parts <= MAX_PARTITIONS:
            raise sqlite3.DatabaseError(f"topic {name!r} has {parts} partitions")
        found[name] = _Topic(row, TopicSpec(name, parts, keep, bool(compact)))
    return found


def _known(topics: dict[str, _Topic], topic: str, partition: int) -> _Topic:
    found = topics.get(topic)
    if found is None or not 0 <= partition < found.spec.partitions:
        raise unknown_topic(topic, partition, {name: t.spec for name, t in topics.items()})
    return found


def _ensure(db: sqlite3.Connection, wanted: Sequence[TopicSpec]) -> None:
    with _transaction(db):
        for spec in check_specs(wanted, {name: topic.spec for name, topic in _topics(db).items()}):
            db.execute(sql.ADD_TOPIC, (spec.name, spec.partitions, spec.retention_ms, int(spec.compact)))
            db.executemany(sql.ADD_PART, [(p, spec.name) for p in range(spec.partitions)])


def _append(db: sqlite3.Connection, topic: int, batch: Batch, body: bytes) -> None:
    place = (topic, batch.partition)
    _, base = _row(db, sql.ONE_SPAN, place, int, int)
    count = len(batch.entries)
    crc = checksum(body, batch.topic, batch.partition, base, count)
    db.execute(sql.ADD_BATCH, (*place, base, count, batch.newest_ms, crc, body))
    db.execute("UPDATE part SET next = ? WHERE topic = ? AND partition = ?", (base + count, *place))


def _set_state(db: sqlite3.Connection, unit: CommitUnit) -> None:
    group = unit.group
    gone = [(group, key) for key, value in unit.state.items() if value is None]
    kept = [(group, k, state_checksum(group, k, v), v) for k, v in unit.state.items() if v is not None]
    db.executemany("DELETE FROM state WHERE grp = ? AND key = ?", gone)
    db.executemany(sql.SET_STATE, kept)


def _span(db: sqlite3.Connection, topic: str) -> list[tuple[int, int]]:
    with _snapshot(db):
        found = _known(_topics(db), topic, 0)
        return [(first, end) for first, end in _rows(db, sql.ALL_SPANS, (found.id,), int, int)]


def _committed(db: sqlite3.Connection, group: str, topic: str) -> list[int]:
    with _snapshot(db):
        found = _known(_topics(db), topic, 0)
        offsets: dict[int, int] = dict(_rows(db, sql.POSITIONS, (group, found.id), int, int))
    return [offsets.get(p, 0) for p in range(found.spec.partitions)]


def _restore(db: sqlite3.Connection, group: str, prefix: str) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for key, crc, value in _rows(db, sql.STATE_FROM, (group, prefix), str, int, bytes):
        if not key.startswith(prefix):  # keys with the prefix lie next to each other
            break
        if state_checksum(group, key, value) != crc:
            raise sqlite3.DatabaseError(f"state {key!r} of group {group!r} does not match its checksum")
        found[key] = value
    return found


def _code(error: sqlite3.Error) -> int | None:
    """SQLite's primary result code; None where what came back is nonsense (raised by Python, or by us)."""
    if isinstance(error, sqlite3.ProgrammingError | sqlite3.InterfaceError):
        return sqlite3.SQLITE_MISUSE
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF
