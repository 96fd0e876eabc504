"""Signal rows as JSON lines in a file: resumed where it stopped, without a line twice or half.

Beside the file lies `FILE.position`: how long the file was, and where in the log, when it was last safe on disk. What
was written after that moment is cut off at the next start and written again from there.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from operators.records import SignalRow
from stream.errors import LogUnavailable, UsageError


class _Position(msgspec.Struct):
    """The sidecar. `offsets`: partition -> next offset to read."""

    log: str
    bytes: int = 0
    offsets: dict[int, int] = {}


class JsonLinesFile:
    """An append-only file of rows. One process at a time.

    Args:
        path: the file; made if there is none.
        log: where the rows come from; a file goes on with its own log only.

    Raises:
        UsageError: the file was not written by this sink from this log, is shorter than it was, cannot be written, or
            another process is writing it.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     out = JsonLinesFile(Path(folder) / "rows.jsonl", "memory://")
        ...     out.append([], {0: 7})
        ...     out.close()
        ...     JsonLinesFile(Path(folder) / "rows.jsonl", "memory://").offsets
        {0: 7}
    """

    def __init__(self, path: Path, log: str) -> None:
        self._path = path
        self._side = path.with_name(path.name + ".position")
        self._encode = msgspec.json.Encoder().encode
        try:
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as problem:
            raise UsageError(f"--out {path}: cannot be written: {problem.strerror}") from None
        try:
            self._at = self._resume(log)
        except BaseException:
            os.close(self._handle)
            raise

    @property
    def offsets(self) -> Mapping[int, int]:
        """Partition -> next offset to read, as last made safe."""
        return self._at.offsets

    def append(self, rows: Sequence[SignalRow], offsets: Mapping[int, int]) -> None:
        """Write rows and the offsets after them; safe on disk when this returns.

        Raises:
            LogUnavailable: disk full or broken; nothing of it counts, the same rows may be appended again.
        """
        lines = b"".join(self._encode(row) + b"\n" for row in rows)
        fresh = _Position(self._at.log, self._at.bytes + len(lines), {**self._at.offsets, **offsets})
        try:
            os.ftruncate(self._handle, self._at.bytes)
            at = self._at.bytes
            while lines:
                written = os.pwrite(self._handle, lines, at)
                at, lines = at + written, lines[written:]
            os.fdatasync(self._handle)
            self._note(fresh)
        except OSError as problem:
            raise LogUnavailable(f"{self._path}: {problem.strerror}") from None
        self._at = fresh

    def close(self) -> None:
        """Close the file and let another process have it. Idempotent."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)

    def _resume(self, log: str) -> _Position:
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError(f"--out {self._path}: another process is writing it") from None
        length = os.fstat(self._handle).st_size
        if not self._side.exists():
            if length:
                raise UsageError(f"--out {self._path}: exists, but not from this sink; choose another or delete it")
            # Before the first line: a file killed with nothing but half a line in it is still known as ours.
            begun = _Position(log)
            try:
                self._note(begun)
            except OSError as problem:
                raise UsageError(f"--out {self._path}: {self._side.name}: {problem.strerror}") from None
            return begun
        try:
            at = msgspec.json.decode(self._side.read_bytes(), type=_Position, strict=False)
        except (msgspec.DecodeError, UnicodeDecodeError, OSError) as problem:
            raise UsageError(f"{self._side}: {problem}; delete it and {self._path} to begin anew") from None
        if at.log != log:
            raise UsageError(f"--out {self._path}: was written from {at.log}, got --log {log}; choose another file")
        if length < at.bytes:
            raise UsageError(
                f"--out {self._path}: expected at least {at.bytes} bytes, got {length}; it was cut or replaced, "
                f"delete it and {self._side.name} to begin anew"
            )
        os.ftruncate(self._handle, at.bytes)
        return at

    def _note(self, position: _Position) -> None:
        part = self._side.with_name(f"{self._side.name}.part")
        with part.open("wb") as out:
            out.write(msgspec.json.encode(position))
            out.flush()
            os.fsync(out.fileno())
        part.replace(self._side)
