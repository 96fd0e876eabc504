"""The audit log: what was decided and done, one JSON line each, chained by hashes so that no line changes unseen.

Every entry holds the hash of the one before it. Changed, removed or inserted lines break the chain; lines cut off at
the end do not, and neither does a file rewritten from its start: keep the head that `affect policy audit verify`
prints somewhere else, and give it back with `--head`. No entry holds a name, a seat or anything said: the fields of
each kind are fixed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from operators.base import Clock
from stream.errors import LogCorrupt, StreamError, UsageError

KINDS: Final[Mapping[str, frozenset[str]]] = {
    "gate": frozenset(
        """
        domain outcome message jurisdiction setting modalities purpose unit controller document research frames
        """.split()
    ),
    "model": frozenset(("model", "sha256", "research_only")),
    "consent": frozenset(("room", "given", "withdrawn", "seats")),
    "suppressed": frozenset(("room", "window_end", "why")),
    "export": frozenset(("route",)),
    "admin": frozenset(("act", "room")),
    "mended": frozenset(("bytes_cut",)),
}
"""Kinds of entries and the only fields each may have."""

START: Final = "0" * 64
"""What the first entry follows."""
LONGEST: Final = 4096
"""Bytes of a line at most."""

Facts = Mapping[str, str | int | bool]


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line. `hash` is the SHA-256 of `prev` and of everything else in the line."""

    seq: int
    time_ms: int
    kind: str
    facts: dict[str, str | int | bool]
    prev: str
    hash: str


class Verified(NamedTuple):
    """A chain that holds: how many entries, and the hash of the last."""

    entries: int
    head: str


class Audit:
    """An audit file, open for appending; one process at a time.

    Args:
        path: made if missing, readable by its owner alone.
        clock: stamps entries.

    Raises:
        UsageError: the file cannot be used, or another process has it.
        LogCorrupt: its chain is broken: somebody changed it. Nothing is appended to a broken chain.
    """

    def __init__(self, path: str | Path, clock: Clock) -> None:
        self.path = Path(path)
        self._clock = clock
        try:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise UsageError(f"policy.audit {path}: cannot be written: {error.strerror or error}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            cut = self._mend()
            found = verify(self.path)
        except BlockingIOError as error:
            os.close(self._file)
            raise UsageError(f"policy.audit {path}: another process writes it; give each its own file") from error
        except StreamError:
            os.close(self._file)
            raise
        self._seq, self._head = found.entries, found.head
        if cut:
            self.note("mended", bytes_cut=cut)

    def _mend(self) -> int:
        """Cut off a line that a crash left half-written; its length."""
        size = os.fstat(self._file).st_size
        tail = os.pread(self._file, LONGEST + 1, max(0, size - LONGEST - 1))
        if not tail or tail.endswith(b"\n"):
            return 0
        half = len(tail) - (tail.rfind(b"\n") + 1)
        if half > LONGEST:
            raise LogCorrupt(f"{self.path}: its last line is longer than {LONGEST} bytes: it is no audit log of ours")
        os.ftruncate(self._file, size - half)
        return half

    def note(self, kind: str, **facts: str | int | bool) -> Entry:
        """Append an entry; it is on the disk when this returns.

        Raises:
            StreamError: a kind or field that does not exist (a bug), or the disk does not take it.
        """
        if not facts.keys() <= KINDS.get(kind, frozenset()):
            raise StreamError(f"audit: kind {kind!r} has no fields {sorted(facts)}; this is a bug")
        entry = _chained(self._seq, self._clock.now_ms(), kind, facts, self._head)
        line = msgspec.json.encode(entry) + b"\n"
        if len(line) > LONGEST:
            raise StreamError(f"audit: an entry of kind {kind!r} has {len(line)} bytes, at most {LONGEST}")
        try:
            written = os.write(self._file, line)
            os.fsync(self._file)
        except OSError as error:
            raise StreamError(f"policy.audit {self.path}: cannot be written: {error.strerror}") from error
        if written != len(line):
            raise StreamError(f"policy.audit {self.path}: the disk took half an entry; free space and start again")
        self._seq, self._head = self._seq + 1, entry.hash
        return entry

    def close(self) -> None:
        """Let another process have the file. Idempotent."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _chained(seq: int, time_ms: int, kind: str, facts: Facts, prev: str) -> Entry:
    held = dict(sorted(facts.items()))
    body = msgspec.json.encode([seq, time_ms, kind, held])
    return Entry(seq, time_ms, kind, held, prev, hashlib.sha256(prev.encode() + body).hexdigest())


def entries(path: Path) -> Iterator[Entry]:
    """The entries of a file, the chain checked up to each.

    Raises:
        UsageError: there is no such file. LogCorrupt: the chain breaks; names the line.
    """
    prev = START
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(iter(lambda: lines.readline(LONGEST + 1), b"")):
                entry = _read(path, number, line)
                made = _chained(entry.seq, entry.time_ms, entry.kind, entry.facts, prev)
                if entry.seq != number or entry != made:
                    raise LogCorrupt(
                        f"{path}: line {number + 1} does not follow the one before it: it was tampered with"
                    )
                prev = entry.hash
                yield entry
    except OSError as error:
        raise UsageError(f"audit log {path}: cannot be read: {error.strerror or error}") from error


def _read(path: Path, number: int, line: bytes) -> Entry:
    try:
        if not line.endswith(b"\n"):
            raise msgspec.ValidationError("it does not end")
        return msgspec.json.decode(line, type=Entry)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise LogCorrupt(f"{path}: line {number + 1} is no entry: {error}") from error


def verify(path: Path, head: str = "") -> Verified:
    """Check a whole chain. `head`: a hash noted earlier, which must still be in it.

    Raises:
        UsageError, LogCorrupt: as `entries`; or `head` is not there: what followed it, or all of it, was replaced.
    """
    last, count, met = START, 0, head in ("", START)
    for entry in entries(path):
        last, count, met = entry.hash, count + 1, met or entry.hash == head
    if not met:
        raise LogCorrupt(f"{path}: no entry has the hash {head}: entries were cut off, or the file was replaced")
    return Verified(count, last)
