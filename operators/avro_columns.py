"""Reads many Avro posts of our own schema at once: every field is walked, checked and taken over all messages together.

The messages lie end to end in one buffer and each has a position in it. A field moves all positions by numpy, so its
cost is shared by the batch; only the strings are made one by one. A message that ends anywhere but at its last byte,
or holds anything unusual, is left to the walker and fastavro: this reader never refuses a post, it only passes on
those it is sure of. `tests/properties/test_avro_columns.py` compares both on whole and on broken messages.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar, cast

import numpy as np

from operators.fingerprint import U8
from operators.prewalk import signed
from operators.records import F64, I64, Bools
from operators.schema import Type
from operators.sent import Sent, Tickers, recall

T = TypeVar("T")

PAD: Final = 64
"""Zero bytes behind the last message: more than all numbers and tags between two strings can overrun it by."""

MOST_ITEMS: Final = 32
MOST_BYTES: Final = 256
"""Of an array; longer ones are unusual. Arrays are remembered by their bytes, so this bounds memory as well."""

_SHAPE: Final = (
    ("id", ("string",)),
    ("text", ("string",)),
    ("created_at", ("null", "long", "string", "double")),
    ("author", ("null", "string")),
    ("lang", ("null", "string")),
    ("tickers", ("null", "array")),
    ("place", ("null", "string")),
    ("event", ("null", "string")),
    ("followers", ("null", "long")),
    ("source", ("null", "string")),
)
"""Field -> its kind, or its branches: what this reader is written for, in the order of the wire."""

_FIRST, _SECOND, _THIRD = 2, 4, 6
Extents = tuple[I64, I64, I64]
"""Rows (rising), first byte, byte behind the last, of strings in the buffer."""


def readable(schema: Type) -> bool:
    """Whether posts written under `schema` are of the shape that `read_posts` reads."""
    found = []
    for field in schema.fields:
        branches = field.type.items if field.type.kind == "union" else (field.type,)
        if any(b.kind == "array" and b.items[0].kind != "string" for b in branches):
            return False
        found.append((field.name, tuple(b.kind for b in branches)))
    return tuple(found) == _SHAPE


class _Walk:
    """Positions in the messages, all moved at once. A message that overran ends up behind its end, and stays there.

    A position never leaves the buffer: strings stop at `limit`, one byte behind all messages, and what may be added
    between two strings is less than the padding.
    """

    def __init__(self, raw: bytes, starts: I64) -> None:
        self.buf: U8 = np.frombuffer(raw, np.uint8)
        self.limit = len(raw) - PAD + 1
        self.pos = starts.copy()
        self.odd: Bools = np.zeros(len(starts), np.bool_)
        self.all = np.arange(len(starts))

    def tag(self, branches: int) -> U8:
        """The union branch of each message; `odd` where there is no such branch."""
        tags = self.buf[self.pos]
        self.pos += 1
        self.odd |= ((tags & 1) != 0) | (tags >= 2 * branches)
        return tags

    def some(self, tags: U8, branch: int) -> I64:
        """The rows that took `branch`."""
        chosen = tags == branch
        return self.all if bool(chosen.all()) else np.flatnonzero(chosen)

    def strings(self, rows: I64) -> Extents:
        """Move `rows` over a string each: a length of up to three bytes, then as many bytes."""
        at = self.pos[rows]
        size = self.buf[at].astype(np.int64)
        begin = at + 1
        for shift in (7, 14):
            longer = np.flatnonzero(size >= 1 << shift)
            if len(longer) == 0:
                break
            more = self.buf[begin[longer]].astype(np.int64)
            size[longer] += (more - 1) << shift
            begin[longer] += 1
        # Negative, or of four bytes and more.
        self.odd[rows] |= ((size & 1) != 0) | (size >= 1 << 21)
        stop = np.minimum(begin + (size >> 1), self.limit)
        self.pos[rows] = stop
        return rows, begin, stop

    def maybe_strings(self) -> Extents:
        """Move every message over null or a string."""
        return self.strings(self.some(self.tag(2), _FIRST))

    def longs(self, rows: I64) -> I64:
        """Move `rows` over a zigzag number each; of those of ten bytes it is no matter what is returned."""
        at = self.pos[rows]
        value = np.zeros(len(rows), np.uint64)
        going = np.ones(len(rows), np.bool_)
        for shift in range(0, 63, 7):
            byte = self.buf[at].astype(np.uint64)
            value |= np.where(going, (byte & np.uint64(0x7F)) << np.uint64(shift), np.uint64(0))
            at += going
            going &= byte >= 128
            if not going.any():
                break
        self.odd[rows] |= going
        self.pos[rows] = at
        return (value >> np.uint64(1)).astype(np.int64) ^ -(value & np.uint64(1)).astype(np.int64)

    def doubles(self, rows: I64) -> F64:
        """Move `rows` over eight bytes each."""
        at = self.pos[rows]
        self.pos[rows] = at + 8
        return np.asarray(self.buf[at[:, None] + np.arange(8)].view("<f8").ravel())

    def arrays(self, rows: I64) -> Extents:
        """Move `rows` over an array of strings each, of one block or none."""
        begin = self.pos[rows]
        counts = self.buf[begin].astype(np.int64)
        self.pos[rows] += 1
        self.odd[rows] |= ((counts & 1) != 0) | (counts > 2 * MOST_ITEMS)
        counts = np.where(counts > 2 * MOST_ITEMS, 0, counts >> 1)
        for k in range(int(counts.max(initial=0))):
            self.strings(rows[counts > k])
        closed = rows[counts > 0]
        self.odd[closed] |= self.buf[self.pos[closed]] != 0
        self.pos[closed] += 1
        stop = self.pos[rows]
        self.odd[rows] |= stop - begin > MOST_BYTES
        return rows, begin, stop


class _Texts:
    """Cuts strings out of the buffer. `broken`: rows in which one was not UTF-8."""

    def __init__(self, raw: bytes, sure: Bools, arrays: dict[str, Tickers | None]) -> None:
        self._text = raw.decode("latin-1")
        self._sure = sure
        self._arrays = arrays
        self.broken: set[int] = set()

    def column(self, extents: Extents) -> list[str | None]:
        """The string of each message, None where it has none."""
        places, found = self._cut(extents)
        if not all(map(str.isascii, found)):
            for k, value in enumerate(found):
                try:
                    found[k] = value.encode("latin-1").decode()
                except UnicodeDecodeError:
                    self.broken.add(places[k])
        return self._spread(places, found)

    def tuples(self, extents: Extents) -> list[Tickers | None]:
        """The strings of each message's array, None where it has none. Most arrays were seen before, byte for byte."""
        places, found = self._cut(extents)
        items = recall(self._arrays, found, _items)
        for k, value in enumerate(items):
            if value is None:
                self.broken.add(places[k])
        return self._spread(places, items)

    def _cut(self, extents: Extents) -> tuple[list[int], list[str]]:
        """Rows that are sure, and the bytes of each, a character a byte."""
        rows, begin, stop = extents
        kept = self._sure[rows]
        if not kept.all():
            rows, begin, stop = rows[kept], begin[kept], stop[kept]
        text = self._text
        return rows.tolist(), [text[a:b] for a, b in zip(begin.tolist(), stop.tolist(), strict=True)]

    def _spread(self, places: list[int], found: Sequence[T | None]) -> list[T | None]:
        if len(places) == len(self._sure):
            return list(found)
        column: list[T | None] = [None] * len(self._sure)
        for row, value in zip(places, found, strict=True):
            column[row] = value
        return column


def _items(array: str) -> Tickers | None:
    """The strings of an array of one block, given a character a byte; None where one is not UTF-8."""
    raw = array.encode("latin-1")
    found, at = [], 1
    for _ in range(raw[0] >> 1):
        size, at = signed(raw, at)
        try:
            found.append(raw[at : at + size].decode())
        except UnicodeDecodeError:
            return None
        at += size
    return tuple(found)


class AvroPosts:
    """Reads posts of the shape that `readable` asks for.

    Args:
        head: bytes before the body of each message.
    """

    def __init__(self, head: int) -> None:
        self._head = head
        self._arrays: dict[str, Tickers | None] = {}

    def read(self, messages: Sequence[bytes]) -> tuple[list[int], Sent]:
        """Read whole messages, each at least a head and at most 1 MiB long.

        Returns:
            Which of the messages were read, rising, and their posts. Of each of the others nothing is known but that
            it takes a closer look.
        """
        raw = b"".join((*messages, bytes(PAD)))
        ends = np.cumsum(np.fromiter(map(len, messages), np.int64, len(messages)))
        walk = _Walk(raw, np.concatenate(([0], ends[:-1])) + self._head)
        ids, texts = walk.strings(walk.all), walk.strings(walk.all)
        tags = walk.tag(4)
        long_rows = walk.some(tags, _FIRST)
        longs = walk.longs(long_rows)
        iso = walk.strings(walk.some(tags, _SECOND))
        double_rows = walk.some(tags, _THIRD)
        doubles = walk.doubles(double_rows)
        authors, langs = walk.maybe_strings(), walk.maybe_strings()
        tickers = walk.arrays(walk.some(walk.tag(2), _FIRST))
        places, events = walk.maybe_strings(), walk.maybe_strings()
        walk.longs(walk.some(walk.tag(2), _FIRST))
        sources = walk.maybe_strings()

        sure = (walk.pos == ends) & ~walk.odd
        cut = _Texts(raw, sure, self._arrays)
        times: list[int | float | str | None] = [*cut.column(iso)]
        for rows, numbers in ((long_rows, longs.tolist()), (double_rows, doubles.tolist())):
            if len(rows) == len(messages):
                times = numbers
            else:
                for row, number in zip(rows.tolist(), numbers, strict=True):
                    times[row] = number
        sent = Sent(
            cast("list[str]", cut.column(ids)),
            cast("list[str]", cut.column(texts)),
            times,
            cut.column(authors),
            cut.column(langs),
            cut.tuples(tickers),
            cut.column(places),
            cut.column(events),
            cut.column(sources),
        )
        if not cut.broken and bool(sure.all()):
            return walk.all.tolist(), sent
        kept = [row for row in np.flatnonzero(sure).tolist() if row not in cut.broken]
        return kept, sent.take(kept)
