"""No core dumps of a process that holds pictures or sound: what a crash leaves on the disk would hold them too."""

from __future__ import annotations

import ctypes
import resource
import sys
from typing import Final

from stream.errors import StreamError

PR_SET_DUMPABLE: Final = 4
"""Of `prctl` (linux/prctl.h)."""


def forbid_core_dumps() -> None:
    """Keep the kernel from dumping this process's memory, for as long as it lives. Call it before the first frame.

    The limit alone is not heeded where cores are piped to a collector such as systemd-coredump (core(5)), so on Linux
    the process is also marked as one that is not dumped. Its /proc entries then belong to root; it still reads its own
    limits and open files, which is all `/metrics` needs. Programs it starts have the limit, not the mark.

    Raises:
        StreamError: the kernel does not do so.
    """
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (OSError, ValueError) as error:
        raise StreamError(f"core dumps cannot be switched off: {error}; frames may not be held here") from error
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
            code = ctypes.get_errno()
            raise StreamError(
                f"core dumps cannot be switched off: prctl gave error {code}; frames may not be held here"
            )
