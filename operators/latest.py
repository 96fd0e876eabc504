"""The newest row of every signal, entity and window size: a fold that an older version never turns back."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase

from operators.records import SignalRow

MOST_ROWS = 200_000
"""Rows held at once: some 700 bytes each. Beyond it those whose window ended first are forgotten."""

Version = tuple[int, int, int, bool, int]


def version(row: SignalRow) -> Version:
    """How new a row is among those of its signal, entity and window size.

    The later window, then the higher revision, then more posts, then closed before provisional, then the watermark.
    """
    return row.window_end, row.revision, row.n, row.status != "provisional", row.watermark


def identity(row: SignalRow) -> str:
    """`signal|entity|window size in ms`: what a row is the newest of."""
    return f"{row.signal}|{row.entity}|{row.window_end - row.window_start}"


class Latest:
    """The newest row of every identity.

    Rows may come in any order and any number of times: the same rows give the same table.

    Args:
        most: rows held at once.

    Example:
        >>> row = SignalRow(signal="market.fear", domain="market", entity="all:*", window_start=0, window_end=60_000,
        ...     value=0.7, lo=0.6, hi=0.8, n=90, n_eff=80.0, authors=80, buzz=90.0, status="final", revision=0,
        ...     watermark=60_000, model="m@1", ontology="o1")
        >>> latest = Latest()
        >>> latest.feed(row), latest.feed(row), [r.entity for r in latest.rows()]
        (True, False, ['all:*'])
    """

    def __init__(self, most: int = MOST_ROWS) -> None:
        self._most = most
        self._rows: dict[str, SignalRow] = {}
        self._changed: dict[str, None] = {}
        self.forgotten = 0

    def __len__(self) -> int:
        return len(self._rows)

    def feed(self, row: SignalRow) -> bool:
        """Take in a row; False where a newer one, or this one, is known."""
        key = identity(row)
        known = self._rows.get(key)
        if known is not None and version(row) <= version(known):
            return False
        if known is None and len(self._rows) >= self._most:
            self._forget()
        self._rows[key] = row
        self._changed[key] = None
        return True

    def changed(self) -> dict[str, SignalRow | None]:
        """What is new since the last call; None = forgotten."""
        out = {key: self._rows.get(key) for key in self._changed}
        self._changed.clear()
        return out

    def rows(
        self, signal: str | None = None, entity: str | None = None, size_ms: int | None = None
    ) -> Iterator[SignalRow]:
        """Rows sorted by identity. `signal`, `entity`: exact or globs (`ticker:*`); None = all."""
        for key in sorted(self._rows):
            row = self._rows[key]
            if (
                _fits(row.signal, signal)
                and _fits(row.entity, entity)
                and (size_ms is None or row.window_end - row.window_start == size_ms)
            ):
                yield row

    def _forget(self) -> None:
        keys = sorted(self._rows, key=lambda k: (self._rows[k].window_end, k))[: max(1, self._most // 10)]
        for key in keys:
            del self._rows[key]
            self._changed[key] = None
        self.forgotten += len(keys)


def _fits(name: str, wanted: str | None) -> bool:
    return wanted is None or name == wanted or fnmatchcase(name, wanted)
