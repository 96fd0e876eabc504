"""One process per consumer group of an embedded log: an exclusive lock file, let go by the system even on kill -9."""

from __future__ import annotations

import errno
import fcntl
import os
from urllib.parse import quote

from stream.errors import LogUnavailable


class GroupLock:
    """Locks `PATH.lock-GROUP` for the groups this process runs on the log at `path`. The files stay; the locks go."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._held: dict[str, int] = {}

    def hold(self, group: str) -> None:
        """Take the lock of `group`, or say who has it.

        Raises:
            LogUnavailable: another process (or another log object of this one) runs the group, or no lock file can be
                made beside the log.
        """
        name = f"{self._path}.lock-{quote(group, safe='')}"
        try:
            handle = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise LogUnavailable(f"{name}: cannot make the lock file of group {group!r}: {error.strerror}") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(handle, 0)
            os.pwrite(handle, str(os.getpid()).encode(), 0)
        except OSError as error:
            holder = os.pread(handle, 20, 0).decode("ascii", "replace").strip()
            os.close(handle)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise LogUnavailable(f"{name}: cannot lock group {group!r}: {error.strerror}") from error
            who = "this process already" if holder == str(os.getpid()) else f"another process (pid {holder or '?'})"
            raise LogUnavailable(
                f"{who} runs group {group!r} on {self._path}; stop it, or choose another group"
            ) from error
        self._held[group] = handle

    def release(self, group: str) -> None:
        """Let `group` go. Nothing happens if it is not held."""
        handle = self._held.pop(group, None)
        if handle is not None:
            os.close(handle)

    def close(self) -> None:
        """Let every group go."""
        for group in list(self._held):
            self.release(group)
