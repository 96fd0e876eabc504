"""The newest row of every recent window, by series, in little memory: what charts and late joiners read."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from operators.records import SignalRow, Status

MAX_WINDOWS = 720
"""Windows kept per series: two hours of 10 s steps, and about as many points as a chart is pixels wide."""


class SeriesKey(NamedTuple):
    """One line on a chart: a signal of an entity at one window size (milliseconds)."""

    signal: str
    entity: str
    window_ms: int


class Columns(msgspec.Struct, frozen=True, kw_only=True):
    """A series as columns, oldest window first; position k of every list is one row. None is unknown, never 0."""

    window_end: list[int]
    value: list[float | None]
    lo: list[float | None]
    hi: list[float | None]
    n: list[int]
    n_eff: list[float]
    authors: list[int]
    buzz: list[float]
    revision: list[int]
    watermark: list[int]
    status: list[Status]


class _Note(NamedTuple):
    """What many rows share, held once."""

    domain: str
    status: Status
    model: str
    ontology: str
    reasons: tuple[str, ...]


class _Track:
    """The rows of one series as parallel columns sorted by window end: about 135 bytes a row, a fourth of an object."""

    __slots__ = ("ends", "floats", "ints", "notes")

    def __init__(self) -> None:
        self.ends: array[int] = array("q")
        self.floats: tuple[array[float], ...] = tuple(array("d") for _ in range(5))  # value lo hi n_eff buzz
        self.ints: tuple[array[int], ...] = tuple(array("q") for _ in range(4))  # n authors revision watermark
        self.notes: list[_Note] = []

    def put(self, row: SignalRow, note: _Note) -> int | None:
        """Store `row` unless a newer one of its window is held. Rows added (1, or 0 where replaced); None = refused."""
        k = bisect_left(self.ends, row.window_end)
        there = k < len(self.ends) and self.ends[k] == row.window_end
        if there and (row.revision, row.n, row.watermark) < (self.ints[2][k], self.ints[0][k], self.ints[3][k]):
            return None
        floats = (_packed(row.value), _packed(row.lo), _packed(row.hi), row.n_eff, row.buzz)
        ints = (row.n, row.authors, row.revision, row.watermark)
        if there:
            for fcol, fval in zip(self.floats, floats, strict=True):
                fcol[k] = fval
            for icol, ival in zip(self.ints, ints, strict=True):
                icol[k] = ival
            self.notes[k] = note
            return 0
        self.ends.insert(k, row.window_end)
        for fcol, fval in zip(self.floats, floats, strict=True):
            fcol.insert(k, fval)
        for icol, ival in zip(self.ints, ints, strict=True):
            icol.insert(k, ival)
        self.notes.insert(k, note)
        return 1

    def trim(self, keep: int) -> int:
        """Forget the oldest windows beyond `keep`; how many were forgotten."""
        excess = len(self.ends) - keep
        if excess <= 0:
            return 0
        del self.ends[:excess], self.notes[:excess]
        for fcol in self.floats:
            del fcol[:excess]
        for icol in self.ints:
            del icol[:excess]
        return excess

    def row(self, key: SeriesKey, k: int) -> SignalRow:
        """Row `k` as it was given."""
        value, lo, hi, n_eff, buzz = (c[k] for c in self.floats)
        n, authors, revision, watermark = (c[k] for c in self.ints)
        note = self.notes[k]
        return SignalRow(
            signal=key.signal,
            domain=note.domain,
            entity=key.entity,
            window_start=self.ends[k] - key.window_ms,
            window_end=self.ends[k],
            value=_unpacked(value),
            lo=_unpacked(lo),
            hi=_unpacked(hi),
            n=n,
            n_eff=n_eff,
            authors=authors,
            buzz=buzz,
            status=note.status,
            revision=revision,
            watermark=watermark,
            model=note.model,
            ontology=note.ontology,
            reasons=note.reasons,
        )


def _packed(value: float | None) -> float:
    return math.nan if value is None else value


def _unpacked(value: float) -> float | None:
    return None if math.isnan(value) else value


class History:
    """The newest row per `row_id`, bounded three ways.

    Args:
        max_windows: windows kept per series; the oldest go first.
        max_series: series kept; the one untouched for longest goes first.
        max_rows: rows over all series (135 bytes each, measured). Where many series are alive each keeps fewer
            windows, so that a crowd of entities shortens the charts instead of filling the memory.

    Of two rows of one window the higher `(revision, n, watermark)` stays; an equal one replaces (final after
    provisional).

    >>> history = History()
    >>> history.entities(60_000)
    []
    """

    def __init__(self, max_windows: int = MAX_WINDOWS, max_series: int = 20_000, max_rows: int = 1_000_000) -> None:
        self._max_windows = max_windows
        self._max_series = max_series
        self._max_rows = max_rows
        self._tracks: OrderedDict[SeriesKey, _Track] = OrderedDict()
        self._by_entity: dict[str, set[SeriesKey]] = {}
        self._signals: dict[str, int] = {}
        self._notes: dict[_Note, _Note] = {}
        self._rows = 0

    def __len__(self) -> int:
        """Rows held."""
        return self._rows

    def put(self, row: SignalRow) -> bool:
        """Take `row` in; False where a newer row of the same window is already held."""
        key = SeriesKey(row.signal, row.entity, row.window_end - row.window_start)
        track = self._tracks.get(key)
        if track is None:
            track = self._open(key)
        added = track.put(row, self._note(row))
        if added is None:
            return False
        self._tracks.move_to_end(key)
        share = max(1, min(self._max_windows, self._max_rows // len(self._tracks)))
        self._rows += added - track.trim(share)
        while self._rows > self._max_rows and len(self._tracks) > 1:
            self._drop_oldest()
        return True

    def _open(self, key: SeriesKey) -> _Track:
        if len(self._tracks) >= self._max_series:
            self._drop_oldest()
        track = self._tracks[key] = _Track()
        self._by_entity.setdefault(key.entity, set()).add(key)
        self._signals[key.signal] = self._signals.get(key.signal, 0) + 1
        return track

    def _drop_oldest(self) -> None:
        key, track = self._tracks.popitem(last=False)
        self._rows -= len(track.ends)
        keys = self._by_entity[key.entity]
        keys.discard(key)
        if not keys:
            del self._by_entity[key.entity]
        self._signals[key.signal] -= 1
        if self._signals[key.signal] == 0:
            del self._signals[key.signal]

    def _note(self, row: SignalRow) -> _Note:
        note = _Note(row.domain, row.status, row.model, row.ontology, row.reasons)
        if len(self._notes) > 4096:  # reasons vary; start over rather than grow, rows keep the notes they have
            self._notes.clear()
        return self._notes.setdefault(note, note)

    def keys(
        self, signals: frozenset[str] = frozenset(), entity: str | None = None, window_ms: int | None = None
    ) -> list[SeriesKey]:
        """The series that match, sorted; no `signals` means all of them, None means any."""
        pool: Iterator[SeriesKey] = iter(self._tracks if entity is None else self._by_entity.get(entity, ()))
        return sorted(
            k for k in pool if (not signals or k.signal in signals) and (window_ms is None or k.window_ms == window_ms)
        )

    def columns(self, key: SeriesKey) -> Columns:
        """The whole series as columns; all empty where there is none."""
        track = self._tracks.get(key) or _Track()
        value, lo, hi, n_eff, buzz = track.floats
        n, authors, revision, watermark = track.ints
        return Columns(
            window_end=track.ends.tolist(),
            value=[_unpacked(v) for v in value],
            lo=[_unpacked(v) for v in lo],
            hi=[_unpacked(v) for v in hi],
            n=n.tolist(),
            n_eff=n_eff.tolist(),
            authors=authors.tolist(),
            buzz=buzz.tolist(),
            revision=revision.tolist(),
            watermark=watermark.tolist(),
            status=[note.status for note in track.notes],
        )

    def rows(self, key: SeriesKey, since_ms: int = 0, limit: int | None = None) -> list[SignalRow]:
        """The newest `limit` rows of a series whose window ends at `since_ms` or after, oldest first."""
        track = self._tracks.get(key)
        if track is None:
            return []
        first = bisect_left(track.ends, since_ms)
        if limit is not None:
            first = max(first, len(track.ends) - limit)
        return [track.row(key, k) for k in range(first, len(track.ends))]

    def latest(self, key: SeriesKey, settled: bool = True) -> SignalRow | None:
        """The newest row of a series; with `settled` the newest that is final or revised."""
        track = self._tracks.get(key)
        if track is None:
            return None
        for k in range(len(track.ends) - 1, -1, -1):
            if not settled or track.notes[k].status != "provisional":
                return track.row(key, k)
        return None

    def signals(self) -> list[tuple[str, str]]:
        """(signal, domain) of everything held, sorted."""
        domains: dict[str, str] = {}
        for key, track in self._tracks.items():
            if key.signal not in domains and track.notes:
                domains[key.signal] = track.notes[-1].domain
                if len(domains) == len(self._signals):
                    break
        return sorted(domains.items())

    def windows(self) -> list[int]:
        """Window sizes held, milliseconds, rising."""
        return sorted({k.window_ms for k in self._tracks})

    def entities(self, window_ms: int | None = None) -> list[tuple[str, int, int]]:
        """(entity, n, window end) of every entity, most posts first.

        n is that of the newest settled window of size `window_ms` (None: the largest size held), else of the newest
        window of that size, else 0.
        """
        found: list[tuple[str, int, int]] = []
        for entity, keys in self._by_entity.items():
            size = max(k.window_ms for k in keys) if window_ms is None else window_ms
            key = min((k for k in keys if k.window_ms == size), default=None)
            row = None if key is None else self.latest(key) or self.latest(key, settled=False)
            found.append((entity, 0 if row is None else row.n, 0 if row is None else row.window_end))
        return sorted(found, key=lambda e: (-e[1], e[0]))
