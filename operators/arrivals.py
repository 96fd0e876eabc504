"""From a post as sent to a post as counted: its time, its author's hash, its tickers and short fields in one form.

Built once with its key and its limits; the rows of a batch are gathered by `Columns`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

import msgspec
import numpy as np

from operators.errors import ConfigInvalid, Rejected
from operators.records import PostBatch

MAX_ID: Final = 256
MAX_NAME: Final = 256
MAX_TICKER: Final = 16
MAX_TICKERS: Final = 32
END_OF_TIME_MS: Final = 253_402_300_800_000
"""First millisecond of the year 10000."""

_EPOCH = datetime(1970, 1, 1)
_EPOCH_UTC = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class WirePost(msgspec.Struct, frozen=True, gc=False):
    """A post as it comes off the wire: the fields of `records.Post`, and `ticker` for a single one."""

    id: str
    text: str
    created_at: int | float | str | None = None
    author: str | None = None
    lang: str | None = None
    tickers: tuple[str, ...] | None = None
    place: str | None = None
    event: str | None = None
    followers: int | None = None
    source: str | None = None
    ticker: str | None = None


def epoch_ms(created_at: int | float | str) -> int:
    """Epoch milliseconds of a `created_at`: a number as it is (fractions cut), ISO 8601 text (naive = UTC).

    Raises:
        Rejected: `bad_timestamp` for anything unreadable, before 1970 or after 9999.
    """
    if isinstance(created_at, str):
        try:
            moment = datetime.fromisoformat(created_at)
        except ValueError:
            raise Rejected(
                "bad_timestamp", f"created_at: expected ISO 8601, got {len(created_at)} characters"
            ) from None
        value = (moment - (_EPOCH if moment.tzinfo is None else _EPOCH_UTC)) // _MILLISECOND
    else:
        if not 0 <= created_at < END_OF_TIME_MS:
            raise Rejected("bad_timestamp", "created_at: expected epoch milliseconds from 1970 to 9999")
        return int(created_at)
    if not 0 <= value < END_OF_TIME_MS:
        raise Rejected("bad_timestamp", "created_at: expected a moment from 1970 to 9999")
    return value


def author_hasher(key: bytes) -> Callable[[str], int]:
    """A keyed 64-bit hash of author names, never 0; the last 65 536 names are remembered.

    blake2b (RFC 7693) with a secret key of at most 64 bytes: without it a name cannot be guessed from its hash.

    Raises:
        ConfigInvalid: the key is longer than 64 bytes.
    """
    if len(key) > hashlib.blake2b.MAX_KEY_SIZE:
        raise ConfigInvalid(f"author key: expected at most {hashlib.blake2b.MAX_KEY_SIZE} bytes, got {len(key)}")
    keyed = hashlib.blake2b(digest_size=8, key=key)

    @lru_cache(maxsize=65_536)
    def hashed(author: str) -> int:
        state = keyed.copy()
        state.update(author.encode("utf-8", "surrogatepass"))
        return int.from_bytes(state.digest(), "little") or 1

    return hashed


@lru_cache(maxsize=4096)
def _symbol(given: str) -> str:
    return given.strip().lstrip("$").upper()


@lru_cache(maxsize=65_536)
def clean_tickers(given: tuple[str, ...]) -> tuple[str, ...]:
    """Upper case, no `$`, no blanks, each once, in order; the first `MAX_TICKERS` count.

    Raises:
        Rejected: `too_long` for a ticker over `MAX_TICKER` characters (blanks and `$` may add as many again).
    """
    seen: dict[str, None] = {}
    for one in given:
        name = _symbol(one) if len(one) <= 2 * MAX_TICKER else one
        if len(name) > MAX_TICKER:
            raise Rejected("too_long", f"tickers: expected at most {MAX_TICKER} characters each, got {len(name)}")
        if name:
            seen[name] = None
            if len(seen) == MAX_TICKERS:
                break
    return tuple(seen)


@lru_cache(maxsize=1024)
def language_code(given: str) -> str:
    """ISO 639-1 code of a language tag (`en-US` -> `en`); "" where it names no such language (`und`, `zxx`)."""
    code = given.strip().replace("_", "-").partition("-")[0].lower()
    return code if len(code) == 2 and code.isascii() and code.isalpha() else ""


class Arrival:
    """The rules a post is taken in by.

    Args:
        author_key: secret key of the author hash, at most 64 bytes; the same for all workers and restarts.
        future_limit_ms: how far `created_at` may lie after the record's arrival time; None = no limit.

    Example:
        >>> Arrival(b"key").time_ms("1970-01-01T00:00:01", 5_000)
        1000
    """

    def __init__(self, author_key: bytes, future_limit_ms: int | None = 60_000) -> None:
        self.author_hash = author_hasher(author_key)
        self._future_limit_ms = future_limit_ms

    def time_ms(self, created_at: int | float | str | None, arrived_ms: int) -> int:
        """Event time of a post, epoch milliseconds; its arrival time where it names none.

        Raises:
            Rejected: `bad_timestamp`, `future_timestamp`.
        """
        if type(created_at) is int and 0 <= created_at <= arrived_ms < END_OF_TIME_MS:
            return created_at
        if created_at is None:
            if not 0 <= arrived_ms < END_OF_TIME_MS:
                raise Rejected("bad_timestamp", f"created_at absent, and the arrival time is {arrived_ms}")
            return arrived_ms
        value = epoch_ms(created_at)
        if self._future_limit_ms is not None and value > arrived_ms + self._future_limit_ms:
            raise Rejected("future_timestamp", f"created_at lies {value - arrived_ms} ms after the arrival time")
        return value


_Row = tuple[int, str, str, int, int, str, tuple[str, ...] | None, str | None, str | None]
"""offset, id, text, time_ms, author hash, language, tickers, place, event"""


class Columns:
    """Gathers posts of one partition into a `PostBatch`; a post that is refused leaves no trace in it."""

    def __init__(self, partition: int, arrival: Arrival) -> None:
        self._partition = partition
        self._time_ms = arrival.time_ms
        self._author_hash = arrival.author_hash
        self._rows: list[_Row] = []

    def add(self, offset: int, post: WirePost, arrived_ms: int) -> None:
        """Take one post in.

        Raises:
            Rejected: `bad_id`, `empty_text`, `too_long`, `bad_timestamp`, `future_timestamp`.
        """
        if not post.id:
            raise Rejected("bad_id", "id: expected a unique name, got an empty one")
        if len(post.id) > MAX_ID:
            raise Rejected("too_long", f"id: expected at most {MAX_ID} characters, got {len(post.id)}")
        if not post.text or post.text.isspace():
            raise Rejected("empty_text", "text: expected some, got none")
        time_ms = self._time_ms(post.created_at, arrived_ms)
        author, tickers, lang = post.author, post.tickers, post.lang
        if author is not None and len(author) > MAX_NAME:
            raise _too_long("author", author)
        if tickers is None and post.ticker is not None:
            tickers = (post.ticker,)
        linked = None if tickers is None else clean_tickers(tickers)
        place = None if post.place is None else _name("place", post.place)
        event = None if post.event is None else _name("event", post.event)
        hashed = self._author_hash(author) if author else 0
        code = "" if lang is None else language_code(lang[:16])
        self._rows.append((offset, post.id, post.text, time_ms, hashed, code, linked, place, event))

    def batch(self) -> PostBatch:
        """The posts so far, in the order they were added."""
        rows = self._rows
        return PostBatch(
            partition=self._partition,
            offsets=np.array([r[0] for r in rows], np.int64),
            ids=[r[1] for r in rows],
            texts=[r[2] for r in rows],
            times_ms=np.array([r[3] for r in rows], np.int64),
            authors=np.array([r[4] for r in rows], np.uint64),
            langs=[r[5] for r in rows],
            tickers=[r[6] for r in rows],
            places=[r[7] for r in rows],
            events=[r[8] for r in rows],
            reposts=np.zeros(len(rows), np.bool_),
            near=np.zeros(len(rows), np.bool_),
        )


def _name(field: str, value: str) -> str | None:
    """A short name without blanks around it; None where nothing is left."""
    if len(value) > MAX_NAME:
        raise _too_long(field, value)
    return value.strip() or None


def _too_long(field: str, value: str) -> Rejected:
    return Rejected("too_long", f"{field}: expected at most {MAX_NAME} characters, got {len(value)}")
