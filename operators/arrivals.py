"""From a post as sent to a post as counted: its time, its author's hash, its tickers and short fields in one form.

A batch is taken in column by column. One that holds anything out of the ordinary goes through the same rules post by
post, which say who is refused and why.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

import numpy as np

from operators.errors import ConfigInvalid, OperatorError, Rejected
from operators.records import I64, PostBatch
from operators.sent import Sent, Tickers, recall

MAX_ID: Final = 256
MAX_NAME: Final = 256
MAX_TICKER: Final = 16
MAX_TICKERS: Final = 32
LANGUAGE_TAG: Final = 16
END_OF_TIME_MS: Final = 253_402_300_800_000
"""First millisecond of the year 10000."""

_EPOCH = datetime(1970, 1, 1)
_EPOCH_UTC = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


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
    """A keyed 64-bit hash of author names, never 0.

    blake2b (RFC 7693) with a secret key of at most 64 bytes: without it a name cannot be guessed from its hash.

    Raises:
        ConfigInvalid: the key is longer than 64 bytes.
    """
    if len(key) > hashlib.blake2b.MAX_KEY_SIZE:
        raise ConfigInvalid(f"author key: expected at most {hashlib.blake2b.MAX_KEY_SIZE} bytes, got {len(key)}")
    keyed = hashlib.blake2b(digest_size=8, key=key)

    def hashed(author: str) -> int:
        state = keyed.copy()
        state.update(author.encode("utf-8", "surrogatepass"))
        return int.from_bytes(state.digest(), "little") or 1

    return hashed


@lru_cache(maxsize=4096)
def _symbol(given: str) -> str:
    return given.strip().lstrip("$").upper()


def clean_tickers(given: Tickers) -> Tickers:
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


def language_code(given: str) -> str:
    """ISO 639-1 code of a language tag (`en-US` -> `en`); `und` where the tag says that there is no one language to
    name (`und`, `mul`, `zxx`, `mis` of ISO 639-2); "" for other tags: the text is looked at."""
    code = given.strip().replace("_", "-").partition("-")[0].lower()
    if code in ("und", "mul", "zxx", "mis"):
        return "und"
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
        self._hashes: dict[str | None, int] = {}
        self._codes: dict[str | None, str] = {}
        self._cleaned: dict[Tickers | None, Tickers | None] = {}

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

    def take_in(
        self, partition: int, offsets: I64, arrived_ms: I64, sent: Sent
    ) -> tuple[PostBatch, list[tuple[int, Rejected]]]:
        """Take posts of one partition in, in order; each ends in the batch or is refused, exactly once.

        Args:
            partition: where they were read.
            offsets, arrived_ms: int64 [n], offsets rising; when each was appended.
            sent: the n posts.

        Returns:
            The batch (`reposts` and `near` all false, no links, no scores), and entry and reason of those refused:
            `bad_id`, `empty_text`, `too_long`, `bad_timestamp`, `future_timestamp`.
        """
        batch = self._together(partition, offsets, arrived_ms, sent)
        if batch is not None:
            return batch, []
        kept: list[int] = []
        refused: list[tuple[int, Rejected]] = []
        for k, arrived in enumerate(arrived_ms.tolist()):
            try:
                self._examine(sent, k, arrived)
                kept.append(k)
            except Rejected as why:
                refused.append((k, why))
        batch = self._together(partition, offsets[kept], arrived_ms[kept], sent.take(kept))
        if batch is None:
            raise OperatorError("posts that pass one by one are refused together; this is a bug")
        return batch, refused

    def _together(self, partition: int, offsets: I64, arrived_ms: I64, sent: Sent) -> PostBatch | None:
        """All posts as a batch, or None where one or more has to be refused."""
        if not (
            all(sent.ids)
            and max(map(len, sent.ids), default=0) <= MAX_ID
            and all(sent.texts)
            and not any(map(str.isspace, sent.texts))
            and max(_longest(sent.authors), _longest(sent.places), _longest(sent.events)) <= MAX_NAME
        ):
            return None
        try:
            times = self._times(sent.times, arrived_ms)
            tickers = self._tickers(sent.tickers)
        except Rejected:
            return None
        count, langs = len(sent.ids), sent.langs
        if _longest(langs) > LANGUAGE_TAG:
            langs = [None if tag is None else tag[:LANGUAGE_TAG] for tag in langs]
        hashes = recall(self._hashes, sent.authors, lambda name: self.author_hash(name) if name else 0)
        return PostBatch(
            partition=partition,
            offsets=offsets,
            ids=sent.ids,
            texts=sent.texts,
            times_ms=times,
            authors=np.array(hashes, np.uint64),
            langs=recall(self._codes, langs, lambda tag: language_code(tag or "")),
            tickers=tickers,
            places=_stripped(sent.places),
            events=_stripped(sent.events),
            reposts=np.zeros(count, np.bool_),
            near=np.zeros(count, np.bool_),
            sources=sent.sources,
        )

    def _tickers(self, given: list[Tickers | None]) -> list[Tickers | None]:
        """`clean_tickers` of each list. Only short lists are remembered: many long ones would fill memory."""
        if max(map(len, filter(None, given)), default=0) <= MAX_TICKERS:
            return recall(self._cleaned, given, lambda names: None if names is None else clean_tickers(names), 16_384)
        return [None if names is None else clean_tickers(names) for names in given]

    def _times(self, given: list[int | float | str | None], arrived_ms: I64) -> I64:
        """`time_ms` of each post; at once where all are whole numbers."""
        if set(map(type, given)) == {int}:
            numbers = np.array(given)
            if numbers.dtype == np.int64 and bool(((numbers >= 0) & (numbers < END_OF_TIME_MS)).all()):
                limit = self._future_limit_ms
                if limit is None or bool((numbers <= arrived_ms + limit).all()):
                    return numbers
        return np.array([self.time_ms(t, a) for t, a in zip(given, arrived_ms.tolist(), strict=True)], np.int64)

    def _examine(self, sent: Sent, k: int, arrived_ms: int) -> None:
        """Every rule on post `k`; the first that refuses it raises Rejected."""
        post_id, text, tickers = sent.ids[k], sent.texts[k], sent.tickers[k]
        if not post_id:
            raise Rejected("bad_id", "id: expected a unique name, got an empty one")
        if len(post_id) > MAX_ID:
            raise Rejected("too_long", f"id: expected at most {MAX_ID} characters, got {len(post_id)}")
        if not text or text.isspace():
            raise Rejected("empty_text", "text: expected some, got none")
        self.time_ms(sent.times[k], arrived_ms)
        if tickers is not None:
            clean_tickers(tickers)
        for field, value in (("author", sent.authors[k]), ("place", sent.places[k]), ("event", sent.events[k])):
            if value is not None and len(value) > MAX_NAME:
                raise Rejected("too_long", f"{field}: expected at most {MAX_NAME} characters, got {len(value)}")


def _longest(names: list[str | None]) -> int:
    return max(map(len, filter(None, names)), default=0)


def _stripped(names: list[str | None]) -> list[str | None]:
    """Short names without blanks around them; None where nothing is left."""
    return [None if name is None else name.strip() or None for name in names] if any(names) else [None] * len(names)
