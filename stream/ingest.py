"""Puts a file of posts on a log, once: where it stopped is committed with what it appended; a crash repeats nothing."""

from __future__ import annotations

import codecs
import gzip
import hashlib
import math
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from itertools import islice
from pathlib import Path
from typing import BinaryIO, cast

import msgspec

from operators.arrivals import author_hasher, epoch_ms
from operators.errors import Rejected
from stream.base import CommitUnit, Log, Output, partition_of
from stream.errors import UsageError

CHUNK = 2_000
GROUP = "affect-ingest"


@dataclass(frozen=True, slots=True)
class IngestPlan:
    """What to append, and where.

    Attributes:
        path: JSON lines, plain or .gz.
        topic, partitions: target; a post goes to the partition of its id.
        rank_time_ms: give line k the time `start + k * rank_time_ms` instead of its own (None = keep its own).
        author_key: secret of the author hash: no author name is stored.
        now_ms: processing time; stamps more than a minute past it are left to be rejected.
        live: posts arrive now; else the file is of the past and its own clock.
    """

    path: Path
    topic: str
    partitions: int
    rank_time_ms: float | None
    author_key: bytes
    now_ms: int
    live: bool = False


def open_lines(path: Path) -> BinaryIO:
    """Open JSON lines, plain or gzip, for reading bytes; a byte order mark of UTF-8 is passed over.

    Raises:
        UsageError: the file cannot be read, or is no UTF-8 text to judge by its first bytes.
    """
    with _reading(path):
        lines = _opened(path)
        head = cast("BufferedReader", lines).peek(4)[:4]
    if head.startswith(codecs.BOM_UTF8):
        lines.read(len(codecs.BOM_UTF8))
    for mark, kind, remedy in (
        (codecs.BOM_UTF16_LE, "UTF-16", "convert it to UTF-8"),
        (codecs.BOM_UTF16_BE, "UTF-16", "convert it to UTF-8"),
        (b"\x1f\x8b", "gzip", "its name must end in .gz"),
    ):
        if head.startswith(mark):
            lines.close()
            raise UsageError(f"{path}: expected lines of JSON in UTF-8, got {kind}; {remedy}")
    return lines


def _opened(path: Path) -> BinaryIO:
    try:
        if path.suffix == ".gz":
            with path.open("rb") as probe:
                if probe.read(2) != b"\x1f\x8b":
                    raise UsageError(f"{path}: name ends in .gz but the content is not gzip")
            return cast("BinaryIO", gzip.open(path, "rb"))
        return path.open("rb")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Says in our words that a file is not there, no file, or broken inside."""
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise UsageError(f"{path}: cannot be read: {reason}; give a whole .jsonl or .jsonl.gz file") from error


def file_mark(path: Path) -> str:
    """A name for the file's content: size and a hash of its first and last 64 KiB.

    Raises:
        UsageError: the file cannot be read.
    """
    with _reading(path), path.open("rb") as stream:
        size = path.stat().st_size
        digest = hashlib.blake2b(str(size).encode(), digest_size=8)
        digest.update(stream.read(65_536))
        stream.seek(max(0, size - 65_536))
        digest.update(stream.read(65_536))
    return digest.hexdigest()


class _FileClock:
    """The arrival time of lines of a past file: the newest event time read so far (the file is its own clock)."""

    def __init__(self, plan: IngestPlan, start_ms: int) -> None:
        self._plan = plan
        self.newest_ms = start_ms
        self._start = start_ms

    def stamp(self, line: int, post: dict[str, object]) -> int:
        """Arrival time of line `line`; sets `created_at` where times go by rank."""
        plan = self._plan
        if plan.rank_time_ms is not None:
            at = self._start + round(line * plan.rank_time_ms)
            post["created_at"] = at
            return at
        if plan.live:
            return plan.now_ms
        own = event_time(post)
        if own is not None and own <= plan.now_ms + 60_000:
            self.newest_ms = max(self.newest_ms, own)
        return self.newest_ms


def event_time(post: dict[str, object]) -> int | None:
    """The post's own time in epoch ms; None where absent or unusable (the decoder will say why)."""
    given = post.get("created_at")
    if not isinstance(given, int | float | str) or isinstance(given, bool):
        return None
    try:
        return epoch_ms(given)
    except Rejected:
        return None


def prepare(lines: Iterator[bytes], plan: IngestPlan, skip: int, start_ms: int) -> Iterator[tuple[int, Output]]:
    """(line number, message) for every non-blank line from line `skip` on. Broken lines pass as they are."""
    clock = _FileClock(plan, start_ms)
    hashed = author_hasher(plan.author_key)
    decode = msgspec.json.Decoder(dict[str, object]).decode
    for number, line in enumerate(lines):
        body = line.strip()
        key, at = b"%d" % number, plan.now_ms if plan.live else clock.newest_ms
        try:
            post = decode(body)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            post = None
        if post is not None:
            at = clock.stamp(number, post)
            author = post.get("author")
            if isinstance(author, str) and author:
                post["author"] = f"{hashed(author):016x}"
            elif author is not None and author != "":
                post["author"] = 0  # rejected for its type all the same, and nobody's name is kept
            name = post.get("id")
            key = str(name).encode("utf-8", "replace") if isinstance(name, str | int) else key
            if plan.rank_time_ms is not None or "author" in post:
                body = msgspec.json.encode(post)
        if number >= skip and body:
            yield number, Output(plan.topic, partition_of(key, plan.partitions), key, body, at)


def first_time(path: Path) -> int:
    """Time of the first line that has one, epoch ms; 0 where none has.

    Raises:
        UsageError: the file cannot be read.
    """
    with open_lines(path) as lines, _reading(path):
        for line in lines:
            try:
                found = event_time(msgspec.json.decode(line, type=dict[str, object]))
            except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
                continue
            if found is not None and math.isfinite(found):
                return found
    return 0


def in_seconds(path: Path, lines: int = 100) -> int | None:
    """A `created_at` among the first lines that looks like epoch seconds: it means a day of January 1970 otherwise.

    Raises:
        UsageError: the file cannot be read.
    """
    with open_lines(path) as source, _reading(path):
        for line in islice(source, lines):
            try:
                given = msgspec.json.decode(line, type=dict[str, object]).get("created_at")
            except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
                continue
            if isinstance(given, int | float) and 2**28 < given < 2**33:
                return int(given)
    return None


async def ingest(log: Log, plan: IngestPlan, progress: Callable[[int], object] | None = None) -> tuple[int, int]:
    """Append every line of the file that was not appended before.

    Returns:
        Messages appended now, and lines that an earlier call had got through.

    Raises:
        UsageError: the file cannot be read. LogError: from the log; what was committed stays.
    """
    mark = f"{plan.topic}/{file_mark(plan.path)}"
    done = int((await log.restore(GROUP, mark)).get(mark, b"0"))
    start = 0 if plan.live else first_time(plan.path)
    batch: list[Output] = []
    last, appended = done, 0

    async def flush() -> None:
        nonlocal appended
        await log.commit(CommitUnit(GROUP, state={mark: b"%d" % last}, outputs=tuple(batch)))
        appended += len(batch)
        if progress is not None:
            progress(len(batch))
        batch.clear()

    with open_lines(plan.path) as lines:
        try:
            for number, output in prepare(iter(lines), plan, done, start):
                batch.append(output)
                last = number + 1
                if len(batch) >= CHUNK:
                    await flush()
        except (OSError, EOFError, zlib.error) as error:
            raise UsageError(f"{plan.path}: broken after line {last}: {error}") from error
    if batch:
        await flush()
    return appended, done
