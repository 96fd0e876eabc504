"""A file that appears whole or not at all: written beside its place, synced, then renamed into it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from stream.errors import StreamError


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Open `path` for writing; it is replaced when the block ends well, and as it was if the block raises.

    A symbolic link is followed. A pipe or a device (`/dev/null`, `/dev/stdout`) is written into: renamed over, as root
    it would be gone for the whole machine.

    Raises:
        StreamError: the folder cannot be written to, or is full.
    """
    try:
        if path.exists() and not path.is_file():
            with path.open("wb") as out:
                yield out
            return
        target = path.resolve()
        part = target.with_name(f"{target.name}.{os.getpid()}.part")
        try:
            with part.open("wb") as out:
                yield out
                out.flush()
                os.fsync(out.fileno())
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise StreamError(f"{path}: cannot be written: {error.strerror or error}") from error
