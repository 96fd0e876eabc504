"""The newest row of every recent window, by series, in little memory: what charts and late joiners read."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import NamedTuple, TypeVar, cast

import msgspec

from operators.records import SignalRow, Status

T = TypeVar("T", int, float)

MAX_WINDOWS = 720
"""Windows kept per series: two hours of 10 s steps, and about as many points as a chart is pixels wide."""


class SeriesKey(NamedTuple):
    """One line on a chart: a signal of an entity at one window size (milliseconds)."""

    signal: str
    entity: str
    window_ms: int


# How a field of the row is held is read off its type, so that a field added to `SignalRow` is kept without a word here.
_KEYS = ("signal", "entity", "window_start", "window_end")
_TYPES = {f.name: f.type for f in msgspec.structs.fields(SignalRow) if f.name not in _KEYS}
FLOATS = tuple(name for name, kind in _TYPES.items() if kind in (float, float | None))
INTS = tuple(name for name, kind in _TYPES.items() if kind is int)
SHARED = tuple(name for name in _TYPES if name not in FLOATS and name not in INTS)
"""Fields many rows have the same value in: held once, by reference."""

_STATUS = SHARED.index("status")
_DOMAIN = SHARED.index("domain")

Columns = dict[str, list[float | None] | list[int] | list[str]]
"""A series as columns: `window_end`, every number of the row and `status`, oldest window first; position k of every
list is one row. None is unknown, never 0. (`COLUMN_TYPES` has the type of each.)"""

COLUMN_TYPES: dict[str, object] = {
    "window_end": list[int],
    **dict.fromkeys(FLOATS, list[float | None]),
    **dict.fromkeys(INTS, list[int]),
    "status": list[Status],
}

_Note = tuple[object, ...]
"""The values of `SHARED`."""


class _Track:
    """The rows of one series as parallel columns sorted by window end: about 135 bytes a row, a fourth of an object."""

    __slots__ = ("ends", "floats", "ints", "notes")

    def __init__(self) -> None:
        self.ends: array[int] = array("q")
        self.floats: dict[str, array[float]] = {name: array("d") for name in FLOATS}
        self.ints: dict[str, array[int]] = {name: array("q") for name in INTS}
        self.notes: list[_Note] = []

    def put(self, row: SignalRow, note: _Note) -> int | None:
        """Store `row` unless a newer one of its window is held. Rows added (1, or 0 where replaced); None = refused."""
        k = bisect_left(self.ends, row.window_end)
        there = k < len(self.ends) and self.ends[k] == row.window_end
        if there and (row.revision, row.n, row.watermark) < tuple(self.ints[c][k] for c in _ORDER):
            return None
        if not there:
            self.ends.insert(k, row.window_end)
            self.notes.insert(k, note)
        self.notes[k] = note
        for name, floats in self.floats.items():
            value = getattr(row, name)
            _set(floats, k, math.nan if value is None else value, there)
        for name, ints in self.ints.items():
            _set(ints, k, getattr(row, name), there)
        return 0 if there else 1

    def trim(self, keep: int) -> int:
        """Forget the oldest windows beyond `keep`; how many were forgotten."""
        excess = len(self.ends) - keep
        if excess <= 0:
            return 0
        del self.ends[:excess], self.notes[:excess]
        for fcol in self.floats.values():
            del fcol[:excess]
        for icol in self.ints.values():
            del icol[:excess]
        return excess

    def row(self, key: SeriesKey, k: int) -> SignalRow:
        """Row `k` as it was given."""
        given: dict[str, object] = dict(zip(SHARED, self.notes[k], strict=True))
        given |= {name: _unpacked(column[k]) for name, column in self.floats.items()}
        given |= {name: column[k] for name, column in self.ints.items()}
        end = self.ends[k]
        return _make_row(
            signal=key.signal, entity=key.entity, window_start=end - key.window_ms, window_end=end, **given
        )


_ORDER = ("revision", "n", "watermark")
_make_row = cast("Callable[..., SignalRow]", SignalRow)
_note_of = cast("Callable[[SignalRow], _Note]", attrgetter(*SHARED))


def _set(column: array[T], k: int, value: T, there: bool) -> None:
    if there:
        column[k] = value
    else:
        column.insert(k, value)


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
        note = _note_of(row)
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
        columns: Columns = {"window_end": track.ends.tolist()}
        columns |= {name: [_unpacked(v) for v in column] for name, column in track.floats.items()}
        columns |= {name: column.tolist() for name, column in track.ints.items()}
        columns["status"] = [str(note[_STATUS]) for note in track.notes]
        return columns

    def rows(self, key: SeriesKey, since_ms: int = 0, limit: int | None = None) -> list[SignalRow]:
        """The newest `limit` rows of a series whose window ends at `since_ms` or after, oldest first."""
        track = self._tracks.get(key)
        if track is None:
            return []
        first = bisect_left(track.ends, since_ms)
        if limit is not None:
            first = max(first, len(track.ends) - limit)
        return [track.row(key, k) for k in range(first, len(track.ends))]

    def latest(self, key: SeriesKey, settled: bool = True, at_ms: int | None = None) -> SignalRow | None:
        """The newest row of a series (whose window ends at `at_ms` or before); with `settled` one final or revised."""
        track = self._tracks.get(key)
        if track is None:
            return None
        after = len(track.ends) if at_ms is None else bisect_right(track.ends, at_ms)
        for k in range(after - 1, -1, -1):
            if not settled or track.notes[k][_STATUS] != "provisional":
                return track.row(key, k)
        return None

    def signals(self) -> list[tuple[str, str]]:
        """(signal, domain) of everything held, sorted."""
        domains: dict[str, str] = {}
        for key, track in self._tracks.items():
            if key.signal not in domains and track.notes:
                domains[key.signal] = str(track.notes[-1][_DOMAIN])
                if len(domains) == len(self._signals):
                    break
        return sorted(domains.items())

    def windows(self) -> list[int]:
        """Window sizes held, milliseconds, rising."""
        return sorted({k.window_ms for k in self._tracks})

    def domain_of(self, key: SeriesKey) -> str:
        """The domain of a series; "" where there is none."""
        track = self._tracks.get(key)
        return str(track.notes[-1][_DOMAIN]) if track is not None and track.notes else ""

    def entities(self, window_ms: int | None = None, domain: str | None = None) -> list[tuple[str, int, int]]:
        """(entity, n, window end) of every entity (of `domain`; None = of any), most posts first.

        n is that of the newest settled window of size `window_ms` (None: the largest size held), else of the newest
        window of that size, else 0.
        """
        found: list[tuple[str, int, int]] = []
        for entity, held in self._by_entity.items():
            keys = held if domain is None else {key for key in held if self.domain_of(key) == domain}
            if not keys:
                continue
            size = max(k.window_ms for k in keys) if window_ms is None else window_ms
            key = min((k for k in keys if k.window_ms == size), default=None)
            row = None if key is None else self.latest(key) or self.latest(key, settled=False)
            found.append((entity, 0 if row is None else row.n, 0 if row is None else row.window_end))
        return sorted(found, key=lambda e: (-e[1], e[0]))
