"""Answers of an endpoint, remembered: the newest in memory, and in a file where one is named. No text is kept there."""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path

import msgspec

from engines.endpoint_prompt import Answer
from engines.errors import ManifestInvalid

MOST_BYTES = 512 * 1024 * 1024


class _Line(msgspec.Struct, frozen=True):
    key: str
    answer: Answer


class AnswerCache:
    """At most `most` answers by key; the file takes as many and no more.

    In the file, `cause` is empty: it is a part of a post. A line that cannot be read (a torn end) is passed over and
    counted in `damaged`.

    Raises:
        ManifestInvalid: the file cannot be used, or is larger than such a file can be.
    """

    def __init__(self, path: Path | None = None, most: int = 200_000) -> None:
        self._path = path
        self._most = most
        self._known: OrderedDict[str, Answer] = OrderedDict()
        self._written = 0
        self.damaged = 0
        if path is not None:
            self._append(path, b"")
            self._load(path)

    def _load(self, path: Path) -> None:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise ManifestInvalid(f"endpoint.cache {path}: expected at most {MOST_BYTES} bytes, got {size}")
        decode, line = msgspec.json.Decoder(_Line).decode, b"\n"
        with path.open("rb") as file:
            for line in file:
                self._written += 1
                try:
                    found = decode(line)
                except (msgspec.MsgspecError, RecursionError, UnicodeError):
                    self.damaged += 1
                    continue
                self._remember(found.key, found.answer)
        if not line.endswith(b"\n"):
            self._append(path, b"\n")

    def get(self, key: str) -> Answer | None:
        """The answer, or None."""
        return self._known.get(key)

    def put(self, key: str, answer: Answer) -> None:
        """Remember, and forget the oldest beyond the bound."""
        self._remember(key, answer)
        if self._path is not None and self._written < self._most:
            self._written += 1
            line = _Line(key, msgspec.structs.replace(answer, cause=""))
            self._append(self._path, msgspec.json.encode(line) + b"\n")

    def _append(self, path: Path, data: bytes) -> None:
        """Opened anew for each answer: next to the request that brought it, it costs nothing."""
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                os.write(handle, data)
            finally:
                os.close(handle)
        except OSError as error:
            raise ManifestInvalid(f"endpoint.cache {path}: cannot be used: {error.strerror}") from error

    def _remember(self, key: str, answer: Answer) -> None:
        self._known[key] = answer
        while len(self._known) > self._most:
            self._known.popitem(last=False)
