"""The past of one window size: sums by entity and hour over 28 days, and what is usual in them.

A window counts in the hour it ends in. Sums are integers (values in millionths, squares in thousand-millionths), so
windows may be folded in from any number of restarts and the same past gives the same digits. What is usual for a window
is read from whole hours that ended long enough before it: nothing that is still open, or younger, can leak in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from operators.clock import BEGINNING
from operators.domain import Norms
from operators.records import F64, I64, MICRO, Bools
from operators.window import WindowSpec

HOUR, DAY = 3_600_000, 86_400_000
WEEK_HOURS, WEEKS = 168, 4
KEPT_HOURS, RELEASED_HOURS = 29 * 24, 30 * 24
"""Hours kept, one day more than any baseline reads; an entity without a value for the second is let go."""
LEAST_WEEKS, LEAST_WINDOWS = 2, 20
"""A baseline of the same hour needs so many weeks; one of all hours so many windows laid end to end."""
FINE = 1_000
"""A square in millionths of millionths, divided by this, is kept."""


@dataclass(slots=True)
class _Pending:
    """One window, its entities in slices: names, values float64 [k, tracked], whether the value was published."""

    end: int
    names: list[str] = field(default_factory=list)
    values: list[F64] = field(default_factory=list)
    published: list[Bools] = field(default_factory=list)


class Past:
    """Hours of one window size.

    An entity has a past from its first published window on (its effective sample was large enough); the first `most`
    entities have one, those of one window by name.

    Args:
        window: size and hop. tracked: number of values kept; the first is a count, 0 in windows without posts.
        age_ms: a baseline uses only hours that ended this long before the window's end. most: entities.
    """

    def __init__(self, window: WindowSpec, tracked: int, age_ms: int, most: int) -> None:
        self.window = window
        self.end = BEGINNING
        self.rows: dict[str, int] = {}
        self.hours: dict[int, I64] = {}
        self.since = np.zeros(0, np.int64)
        self.heard = np.zeros(0, np.int64)
        self.dirty: set[int] = set()
        self.moved = False
        self._tracked = tracked
        self._width = 1 + 2 * tracked
        self._age = age_ms
        self._most = most
        self._free: list[int] = []
        self._pending: _Pending | None = None
        self._known: dict[tuple[int, int], tuple[F64, F64]] = {}

    def fold(self, end: int, names: Sequence[str], values: F64, published: Bools) -> None:
        """Take in a slice of a window that no post can change any more; windows come by their end, rising.

        Args:
            values: float64 [k, tracked]. published: bool [k], false where the sample was too small for a value.
        """
        if end <= self.end:
            return
        if self._pending is None or self._pending.end != end:
            self.settle()
            self._pending = _Pending(end)
        held = self._pending
        held.names += names
        held.values.append(values)
        held.published.append(published & np.isfinite(values).all(axis=1))

    def settle(self) -> None:
        """Add the window in hand to its hour."""
        held, self._pending = self._pending, None
        if held is None:
            return
        hour = hour_of(held.end)
        if hour > hour_of(self.end):
            self._forget(hour)
        values, published = np.concatenate(held.values), np.concatenate(held.published)
        self._admit(sorted(held.names[k] for k in np.flatnonzero(published).tolist()), hour)
        at = self.at(held.names)
        mine = at >= 0
        at, values, published = at[mine], values[mine], published[mine]
        block = self.block(hour)
        block[at, 0] += published
        for k in range(self._tracked):
            counts = np.isfinite(values[:, k]) if k == 0 else published
            exact = np.rint(np.where(counts, values[:, k], 0.0) * MICRO).astype(np.int64)
            block[at, 1 + 2 * k] += exact
            block[at, 2 + 2 * k] += exact * exact // FINE
        heard = at[published]
        self.moved |= bool((self.heard[heard] != hour).any())
        self.heard[heard] = hour
        self.end = held.end
        self.dirty.add(hour)
        if any(hour <= newest for _, newest in self._known):
            self._known.clear()

    def at(self, names: Sequence[str]) -> I64:
        """Row of each name, -1 where it has no past."""
        rows = self.rows
        return np.fromiter((rows.get(name, -1) for name in names), np.int64, len(names))

    def block(self, hour: int) -> I64:
        """Sums of an hour by row, int64 [rows, 1 + 2 * tracked]: published windows, then sum and squares of each."""
        block = self.hours.get(hour)
        if block is None or len(block) < len(self.since):
            grown = np.zeros((len(self.since), self._width), np.int64)
            if block is not None:
                grown[: len(block)] = block
            self.hours[hour] = block = grown
        return block

    def admit(self, name: str, since: int, heard: int) -> None:
        """Give an entity a row: `since`: hour of its first published window, `heard`: of the newest one."""
        if self._free:
            row = self._free.pop()
            self._known.clear()
            for block in self.hours.values():
                if row < len(block):
                    block[row] = 0
        else:
            row = len(self.rows)
            if row >= len(self.since):
                more = np.zeros(max(64, len(self.since)), np.int64)
                self.since, self.heard = np.concatenate((self.since, more)), np.concatenate((self.heard, more))
        self.rows[name], self.since[row], self.heard[row] = row, since, heard
        self.moved = True

    def _admit(self, names: Sequence[str], hour: int) -> None:
        for name in names:
            if name not in self.rows and len(self.rows) < self._most:
                self.admit(name, hour, hour)

    def _forget(self, hour: int) -> None:
        """Let go of hours, and of entities without a value, that no baseline from `hour` on reads."""
        for old in [h for h in self.hours if h < hour - KEPT_HOURS]:
            del self.hours[old]
            self.dirty.add(old)
        for name in [n for n, row in self.rows.items() if self.heard[row] < hour - RELEASED_HOURS]:
            self._free.append(self.rows.pop(name))
            self.moved = True

    def norms(self, end: int, names: Sequence[str]) -> Norms:
        """What is usual for these entities in a window that ends at `end`."""
        if self._pending is not None and self._pending.end != end:
            self.settle()
        key = (hour_of(end), (end - self._age) // HOUR - 1)
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= 4:
                self._known.clear()
            found = self._known[key] = self._usual(*key)
        at = self.at(names)
        at[at >= len(found[0]) - 1] = -1  # came after these were worked out, so they say nothing of it
        return Norms(found[0][at], found[1][at])

    def _usual(self, hour: int, newest: int) -> tuple[F64, F64]:
        """Mean and standard deviation by row, float64 [rows + 1, tracked]; the last row, of nobody, is NaN."""
        oldest = hour - WEEKS * WEEK_HOURS
        first = np.maximum(self.since, oldest)
        every = _Sums(len(self.since), self._width)
        for h in [h for h in self.hours if oldest <= h <= newest]:
            every.add(self.hours[h])
        every.windows = np.where(every.total[:, 0] > 0, self._ends(first, newest), 0)
        same, weeks = _Sums(len(first), self._width), np.zeros((len(first), self._tracked), np.int64)
        for h in [h for h in (hour - k * WEEK_HOURS for k in range(1, WEEKS + 1)) if h <= newest]:
            block = self.hours.get(h)
            known = np.zeros(len(first), np.bool_)
            if block is not None:
                same.add(block)
                known[: len(block)] = block[:, 0] > 0
            counted = (h >= first) & (every.windows > 0)
            same.windows += np.where(counted, self._ends(np.full(len(first), h), h), 0)
            weeks[:, 0] += counted
            weeks[:, 1:] += known[:, None]
        return self._chosen(every, same, weeks)

    def _ends(self, first: I64, last: int) -> I64:
        """Windows that end in the hours `first` to `last`, int64 [rows]."""
        hop = self.window.hop_ms
        return np.maximum((last + 1) * HOUR // hop - first * HOUR // hop, 0)

    def _chosen(self, every: _Sums, same: _Sums, weeks: I64) -> tuple[F64, F64]:
        """The same hour where enough weeks have it, else all hours where they are enough, else nothing."""
        mean, sd = (np.full((len(weeks) + 1, self._tracked), np.nan) for _ in range(2))
        for k in range(self._tracked):
            of_all, of_hour = every.moments(k), same.moments(k)
            weekly = (weeks[:, k] >= LEAST_WEEKS) & (of_hour[0] >= 2)
            enough = weekly | (of_all[0] * self.window.hop_ms >= LEAST_WINDOWS * self.window.size_ms)
            # Four windows, one a week, say little of their spread: all hours count as one week more.
            spread = np.where(weekly, (weeks[:, k] * of_hour[2] + of_all[2]) / (weeks[:, k] + 1), of_all[2])
            mean[:-1, k] = np.where(enough, np.where(weekly, of_hour[1], of_all[1]), np.nan)
            sd[:-1, k] = np.where(enough, np.sqrt(spread), np.nan)
        return mean, sd


class _Sums:
    """Sums of several hours: int64 [rows, width]; `windows`: how many there were, with or without posts."""

    __slots__ = ("total", "windows")

    def __init__(self, rows: int, width: int) -> None:
        self.total = np.zeros((rows, width), np.int64)
        self.windows = np.zeros(rows, np.int64)

    def add(self, block: I64) -> None:
        """Add an hour; rows it lacks had nothing."""
        self.total[: len(block)] += block

    def moments(self, k: int) -> tuple[I64, F64, F64]:
        """Number of windows, mean and sample variance of tracked value `k`; 0 where nothing is known."""
        count = self.windows if k == 0 else self.total[:, 0]
        m = np.maximum(count, 2).astype(np.float64)
        total = self.total[:, 1 + 2 * k] / MICRO
        square = self.total[:, 2 + 2 * k] / (MICRO * MICRO / FINE)
        mean = total / np.maximum(count, 1)
        return count, mean, np.maximum((square - total * mean) / (m - 1), 0.0)


def hour_of(end: int) -> int:
    """The hour (since the epoch) a window counts in: the one its last millisecond lies in."""
    return (end - 1) // HOUR
