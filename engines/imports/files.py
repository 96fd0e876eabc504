"""Files of a directory somebody gives us, read as if they meant harm: sizes first, then text, then JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Final, TypeVar

import msgspec

from engines.errors import ImportRefused

TEXT_MAX_BYTES: Final = 32 << 20
_T = TypeVar("_T")


def read_bytes(path: Path, most: int) -> bytes:
    """A whole file, of at most `most` bytes. Raises ImportRefused."""
    try:
        size = path.stat().st_size if path.is_file() else -1
        packed = path.read_bytes() if 0 <= size <= most else b""
    except OSError as error:
        raise ImportRefused(f"cannot read {path}: {error.strerror}") from error
    if size < 0:
        raise ImportRefused(f"{path}: there is no such file; a directory to import needs it")
    if size > most:
        raise ImportRefused(f"{path}: {size} bytes, at most {most} are read")
    return packed


def read_text(path: Path) -> str:
    """A whole text file. Raises ImportRefused."""
    try:
        return read_bytes(path, TEXT_MAX_BYTES).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ImportRefused(
            f"{path}: expected UTF-8, got byte {error.object[error.start]:#x} at {error.start}"
        ) from error


def read_json(path: Path, kind: type[_T]) -> _T:
    """A whole JSON file as `kind`. Raises ImportRefused."""
    try:
        return msgspec.json.decode(read_text(path), type=kind)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ImportRefused(f"{path}: {error}") from error
