"""The words of what was published: a row with the time it came out, what to ask for, and where to ask."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

import msgspec

from operators.records import SignalRow


class PublishedRow(SignalRow, frozen=True, kw_only=True):
    """A signal row as it was published. `recorded_ms`: when, epoch milliseconds; None where the source does not say."""

    recorded_ms: int | None = None


def published(row: SignalRow, recorded_ms: int | None) -> PublishedRow:
    """`row` with the time it was published at.

    >>> from operators.records import SignalRow
    >>> row = SignalRow(signal="market.valence", domain="market", entity="all:*", window_start=0, window_end=60_000,
    ...     value=None, lo=None, hi=None, n=1, n_eff=1.0, authors=1, buzz=1.0, status="final", revision=0,
    ...     watermark=60_000, model="m@1", ontology="o")
    >>> published(row, 61_000).row_id == row.row_id
    True
    """
    return PublishedRow(**msgspec.structs.asdict(row), recorded_ms=recorded_ms)


def row_id_parts(row_id: str) -> tuple[str, str, int, int]:
    """Signal, entity, window start and window end of a row's id.

    Raises:
        ValueError: it is none.

    >>> row_id_parts("market.valence|ticker:A|B|0|60000")
    ('market.valence', 'ticker:A|B', 0, 60000)
    """
    signal, _, rest = row_id.partition("|")
    try:
        entity, start, end = rest.rsplit("|", 2)
        return signal, entity, int(start), int(end)
    except ValueError:
        raise ValueError(f"expected signal|entity|window_start|window_end, got {row_id[:80]!r}") from None


class RowQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows. None, and no signals, means any.

    Attributes:
        signals, entity, domain, row_id: names. window_ms: size of the window.
        from_ms, to_ms: windows that end in [from, to), epoch milliseconds.
        known_at_ms: only what was published then or before: the past as it was known, no look-ahead.
    """

    signals: frozenset[str] = frozenset()
    entity: str | None = None
    domain: str | None = None
    row_id: str | None = None
    window_ms: int | None = None
    from_ms: int | None = None
    to_ms: int | None = None
    known_at_ms: int | None = None

    def wants(self, row: SignalRow) -> bool:
        """True where `row` is asked for (when it was published is not looked at)."""
        return (
            self._wants_window(row.signal, row.entity, row.window_start, row.window_end)
            and (self.domain is None or row.domain == self.domain)
            and (self.row_id is None or row.row_id == self.row_id)
        )

    def may_want(self, key: bytes | None) -> bool:
        """False where the key of a message (the row's id) already says that its row is not asked for."""
        if key is None:
            return True
        text = key.decode("utf-8", "replace")
        if self.row_id is not None:
            return text == self.row_id
        try:
            return self._wants_window(*row_id_parts(text))
        except ValueError:
            return True

    def _wants_window(self, signal: str, entity: str, start: int, end: int) -> bool:
        return (
            (not self.signals or signal in self.signals)
            and (self.entity is None or entity == self.entity)
            and (self.window_ms is None or end - start == self.window_ms)
            and (self.from_ms is None or end >= self.from_ms)
            and (self.to_ms is None or end < self.to_ms)
        )


class Archive(Protocol):
    """What was published, read back in batches of at most a few thousand rows; some are empty: there a reader can stop.

    `source`: `log`, `postgres` or `file`.
    """

    source: str

    def versions(self, query: RowQuery) -> AsyncIterator[list[PublishedRow]]:
        """Every published version asked for, in the order of publication.

        Raises:
            LogError: the source cannot be read. UsageError: it holds something else.
        """
        ...

    def newest(self, query: RowQuery, latest_first: bool = False) -> AsyncIterator[list[PublishedRow]]:
        """Of every window the newest version, by window end (rising, unless `latest_first`), then by row id.

        Of two versions the one with the higher (revision, n, closed, watermark) is newer.
        """
        ...

    async def reach_ms(self) -> int | None:
        """When the oldest version still held was published; None where nothing is held, or nobody noted when."""
        ...
