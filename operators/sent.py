"""Posts as they come off the wire: one, and many of them column by column."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

Tickers = tuple[str, ...]
K = TypeVar("K")
V = TypeVar("V")

MEMORY: Final = 65_536
"""Values a table of `recall` remembers; beyond it the table starts anew."""


class WirePost(msgspec.Struct, frozen=True, gc=False):
    """A post as it comes off the wire: the fields of `records.Post`, and `ticker` for a single one."""

    id: str
    text: str
    created_at: int | float | str | None = None
    author: str | None = None
    lang: str | None = None
    tickers: Tickers | None = None
    place: str | None = None
    event: str | None = None
    followers: int | None = None
    source: str | None = None
    ticker: str | None = None


class Sent(NamedTuple):
    """Posts as sent, column by column: entry k of every list is of post k. Nothing is checked yet but the types."""

    ids: list[str]
    texts: list[str]
    times: list[int | float | str | None]
    authors: list[str | None]
    langs: list[str | None]
    tickers: list[Tickers | None]
    places: list[str | None]
    events: list[str | None]
    sources: list[str | None]

    def take(self, kept: Sequence[int]) -> Sent:
        """The posts `kept`, in that order."""
        columns: tuple[list[Any], ...] = self
        return Sent(*([column[k] for k in kept] for column in columns))


def columns_of(posts: Sequence[WirePost]) -> Sent:
    """The columns of `posts`; a single `ticker` counts where `tickers` is absent."""
    tickers = [p.tickers for p in posts]
    if None in tickers:
        tickers = [
            (p.ticker,) if t is None and p.ticker is not None else t for t, p in zip(tickers, posts, strict=True)
        ]
    return Sent(
        [p.id for p in posts],
        [p.text for p in posts],
        [p.created_at for p in posts],
        [p.author for p in posts],
        [p.lang for p in posts],
        tickers,
        [p.place for p in posts],
        [p.event for p in posts],
        [p.source for p in posts],
    )


def in_order(parts: Sequence[tuple[list[int], Sent]]) -> tuple[list[int], Sent]:
    """Parts of one batch, each with the rows its posts stand in, as one whose rows rise."""
    if len(parts) == 1:
        return parts[0]
    rows = [row for part, _ in parts for row in part]
    order = sorted(range(len(rows)), key=rows.__getitem__)
    columns: list[list[Any]] = [[value for _, sent in parts for value in sent[k]] for k in range(len(Sent._fields))]
    return [rows[k] for k in order], Sent(*columns).take(order)


def recall(known: dict[K, V], given: Sequence[K], make: Callable[[K], V], most: int = MEMORY) -> list[V]:
    """`make` of each value, asked only for values that are not in `known`, where they are then kept.

    Values that outsiders choose must be short, for `most` of them are kept; beyond it `known` starts anew.
    """
    try:
        return [known[value] for value in given]
    except KeyError:
        if len(known) >= most:
            known.clear()
        for value in set(given).difference(known):
            known[value] = make(value)
        return [known[value] for value in given]
