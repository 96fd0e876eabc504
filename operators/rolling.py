"""Merges pane blocks of all source partitions into rolling windows: the second half of every window.

A pure fold over blocks and progress marks. Whatever order partitions arrive in, and however often a block is sent,
the rows of a window end up the same: sums are exact integers, stamps make repeats harmless, and the revision counts
late posts rather than publications.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from operators.blocks import difference
from operators.cells import FAST, FIXED, SCORED, UNKNOWN, UNKNOWN_SQUARE, WEIGHT, N, PaneBlock, Progress
from operators.clock import BEGINNING, Lateness
from operators.domain import Domain, Sums
from operators.frames import NOTHING, SignalFrame
from operators.names import WHOLE, Names
from operators.panes import KEEP_AUTHORS, KEEP_TEXTS
from operators.records import F64, I32, I64, MICRO, Bools
from operators.slots import SlotLevel
from operators.voices import (
    LEADING,
    Crowd,
    Totals,
    Voices,
    crowd,
    distinct,
    fade_after,
    fold_like,
    group_voices,
    hush,
    loud,
    no_voices,
)
from operators.window import WindowSpec

FOREVER = 2**62
"""Watermark once every input has ended."""

TOGETHER = 1_024
"""Entities whose values are worked out in one go: a stream of small windows costs no more than one of large ones."""

SLICE = 2_048
"""Entities worked out at a time, so that a hundred thousand of them need no memory for all their values at once."""


@dataclass(frozen=True, slots=True)
class _Due:
    """A window to hand out: which of its entities moved (None = all), whether to tell of it, whether it is sealed."""

    end: int
    only: I32 | None
    told: bool = True
    sealed: bool = False


class Rolling:
    """Rolling windows over all source partitions.

    Args:
        domain: gives columns and values.
        windows: sizes and hops.
        lateness: how long panes may still change.
        keep_authors: bound of the author sample.
    """

    def __init__(
        self,
        domain: Domain,
        windows: Sequence[WindowSpec],
        lateness: Lateness,
        keep_authors: int = KEEP_AUTHORS,
    ) -> None:
        self._domain = domain
        self._windows = tuple(windows)
        self._lateness = lateness
        self._keep = keep_authors
        width = len(domain.columns) + len(FIXED)
        self._levels = {w.hop_ms: SlotLevel(w.hop_ms, width, domain.linear, keep_authors) for w in windows}
        self._names = Names()
        self._last: dict[tuple[int, int], _Kept] = {}
        self._late: dict[int, list[tuple[I32, I64]]] = {}
        self._late_panes: list[int] = []
        self._progress: dict[int, Progress] = {}
        self._watermark = BEGINNING
        self._newest = BEGINNING
        self._closed = dict.fromkeys(windows, BEGINNING)
        self._open: dict[WindowSpec, set[int]] = {w: set() for w in windows}
        self._shown: dict[WindowSpec, set[int]] = {w: set() for w in windows}
        self._touched: dict[WindowSpec, dict[int, list[I32]]] = {w: {} for w in windows}
        history = domain.history
        self._unsealed: dict[WindowSpec, set[int]] = {
            w: set() for w in windows if history is not None and w.size_ms >= history.least_ms
        }
        self._folded: Mapping[WindowSpec, int] = {}
        self.late_posts = 0

    @property
    def watermark_ms(self) -> int:
        """Least watermark over source partitions that are neither idle nor closed; never goes back."""
        return self._watermark

    @property
    def progress(self) -> dict[int, Progress]:
        """Newest progress of each source partition."""
        return self._progress

    def ingest(self, block: PaneBlock) -> None:
        """Take in a block; one with a stamp not above the last one's for that (partition, pane) changes nothing."""
        key = (block.partition, block.pane_start)
        old = self._last.get(key)
        if old is not None and old.stamp >= block.stamp:
            return
        ids = self._names.ids(block.names)
        voices = Voices(ids[block.voices.ids], block.voices.hashes, block.voices.sums)
        texts = Voices(ids[block.texts.ids], block.texts.hashes, block.texts.sums)
        new = _Kept(block.stamp, ids, block.values, voices, texts, len(block.late_rows))
        moved = difference((ids, block.values), (old.ids, old.values) if old else _nothing(block.values))
        self._last[key] = new
        if block.pane_start + self._lateness.pane_ms + self._lateness.allowed_ms <= self._sealed():
            self._count_late(moved)
            return
        if old is not None:
            voices, texts = _moved(voices, old.voices), _moved(texts, old.texts)
        seen = old.late if old is not None else 0
        if len(block.late_rows) > seen:
            self._note_late(block.pane_start, ids[block.late_rows[seen:]], block.late_marks[seen:])
        self._spread(block.pane_start, moved, voices, texts, block.models)

    def _sealed(self) -> int:
        return self._watermark if self._watermark < FOREVER else BEGINNING

    def _count_late(self, moved: tuple[I32, I64]) -> None:
        whole = self._names.find(WHOLE)
        self.late_posts += int(moved[1][moved[0] == whole, N].sum())

    def _note_late(self, pane: int, ids: I32, marks: I64) -> None:
        if pane not in self._late:
            self._late[pane] = []
            insort(self._late_panes, pane)
        self._late[pane].append((ids, marks))

    def _spread(
        self, pane: int, moved: tuple[I32, I64], voices: Voices, texts: Voices, models: tuple[str, ...]
    ) -> None:
        ids, values = moved
        if len(ids) == 0:
            return
        for level in self._levels.values():
            level.add(level.slot_of(pane), ids, values, voices, texts)
            level.scored_by(level.slot_of(pane), models)
        for window in self._windows:
            touched = self._touched[window]
            for end in window.ends_of_slot(self._levels[window.hop_ms].slot_of(pane)):
                if end > self._closed[window]:
                    self._open[window].add(end)
                if end <= self._closed[window] or end in self._shown[window]:
                    touched.setdefault(end, []).append(ids)

    def mark(self, progress: Progress) -> None:
        """Take in where a source partition stands; behind what is known already it changes nothing."""
        known = self._progress.get(progress.partition)
        if known is not None and known.consumed > progress.consumed:
            return
        self._progress[progress.partition] = progress
        if len(self._progress) < progress.partitions:
            return
        marks = list(self._progress.values())
        if all(p.closed for p in marks):
            self._watermark = FOREVER
            return
        awake = [p.watermark_ms for p in marks if not (p.idle or p.closed)]
        # With every partition quiet, time stands where the newest post left it: windows before it may close.
        newest = max(p.watermark_ms for p in marks)
        self._newest = newest + self._lateness.disorder_ms if newest > BEGINNING else BEGINNING
        least = min(awake) if awake else self._newest
        self._watermark = max(self._watermark, least)

    def resume(self, folded: Mapping[WindowSpec, int]) -> None:
        """After a restart: windows that end here or before were handed out sealed in an earlier life."""
        self._folded = folded

    def emit(self, provisional: bool = True, sealed_only: bool = False, silent: bool = False) -> Iterator[SignalFrame]:
        """Frames of windows that closed, were revised, or (if `provisional`) moved since the last call, oldest first.

        What is to be told is settled by the call; the frames are worked out as they are asked for, `SLICE` entities at
        a time, before anything else is taken in. `sealed_only` holds a window back until no late post can change it
        any more, so that each one is emitted exactly once: what a replay wants. Where the domain has signals that need
        the past, every window of their sizes comes once `sealed`, by its end, rising. `silent`: nothing is told.
        """
        limit = sealed = self._watermark
        if sealed < FOREVER:
            sealed -= self._lateness.allowed_ms + self._lateness.pane_ms
        if sealed_only:
            limit = sealed
        plan = []
        for window in self._windows:
            due = self._due(window, limit, provisional and not sealed_only)
            plan += [(window, one) for one in self._with_sealed(window, due, sealed)]
        return self._told(plan, silent)

    def _told(self, plan: Sequence[tuple[WindowSpec, _Due]], silent: bool) -> Iterator[SignalFrame]:
        waiting: list[SignalFrame] = []
        entities = 0
        for window, due in plan:
            told = due.told and not silent
            if not (told or due.sealed):
                continue
            for wanted in self._slices(due.only):
                frame = self._frame(window, due.end, wanted)
                if frame.names:
                    waiting.append(replace(frame, sealed=due.sealed, told=told))
                    entities += len(frame.names)
                if entities >= TOGETHER:
                    yield from self._derived(waiting)
                    waiting, entities = [], 0
        yield from self._derived(waiting)
        self._forget()

    def _derived(self, frames: list[SignalFrame]) -> Iterator[SignalFrame]:
        """The frames with their values, worked out together: a row's values hang on its own sums alone."""
        if not frames:
            return
        sums = Sums.joined([frame.sums for frame in frames])
        derived = self._domain.derive(sums)
        corrected = None if self._domain.correct is None else self._domain.correct(derived)
        start = 0
        for frame in frames:
            end = start + len(frame.names)
            mine = None if corrected is None else corrected.rows(start, end)
            yield replace(frame, derived=derived.rows(start, end), corrected=mine)
            start = end

    def _due(self, window: WindowSpec, limit: int, provisional: bool) -> list[_Due]:
        """Windows to tell of."""
        opened, touched, shown = self._open[window], self._touched[window], self._shown[window]
        closing = sorted(end for end in opened if end <= limit)
        if closing:
            opened.difference_update(closing)
            shown.difference_update(closing)
            self._closed[window] = max(self._closed[window], closing[-1])
            for end in closing:
                touched.pop(end, None)
            if window in self._unsealed:
                self._unsealed[window].update(closing)
        due = [_Due(end, None) for end in closing]
        due += [_Due(end, np.unique(np.concatenate(touched.pop(end)))) for end in sorted(touched)]
        if provisional:
            # Only windows that have begun to end: the one that holds the newest post, and those that wait to close.
            begun = [end for end in opened if end <= self._newest + window.hop_ms and end not in shown]
            shown.update(begun)
            due += [_Due(end, None) for end in sorted(begun)]
        return due

    def _with_sealed(self, window: WindowSpec, due: list[_Due], limit: int) -> list[_Due]:
        """Those due, and those that have become sealed, by their end: a past must be complete before it is asked."""
        waiting = self._unsealed.get(window)
        if waiting is None:
            return due
        ripe = {end for end in waiting if end <= limit}
        waiting -= ripe
        ripe = {end for end in ripe if end > self._folded.get(window, BEGINNING)}
        whole = {one.end for one in due if one.only is None}
        out = [replace(one, sealed=one.only is None and one.end in ripe) for one in due]
        out += [_Due(end, None, told=False, sealed=True) for end in ripe - whole]
        return sorted(out, key=lambda one: (one.end, one.told))

    def _slices(self, only: I32 | None) -> Iterator[Bools | None]:
        """Masks by entity id that part `only` (None = all entities) into slices; None = no need to."""
        known = len(self._names)
        if only is None and known <= SLICE:
            yield None
            return
        ids = np.arange(known, dtype=np.int32) if only is None else only
        for start in range(0, len(ids), SLICE):
            wanted = np.zeros(known, np.bool_)
            wanted[ids[start : start + SLICE]] = True
            yield wanted

    def _frame(self, window: WindowSpec, end: int, wanted: Bools | None) -> SignalFrame:
        ids, values, people = self._heard(window, end, wanted)
        n, weight = values[:, N], values[:, WEIGHT]
        columns = self._hushed(ids, values, people.removed)
        whole: Bools = ids == self._names.find(WHOLE)
        copies = self._copies(window, end, wanted, ids, n)
        sums = Sums(n, people.n_eff, people.weight, columns, whole, people.hhi, copies)
        return SignalFrame(
            window=window,
            end_ms=end,
            names=self._names.get(ids),
            n=n,
            n_eff=people.n_eff,
            authors=people.authors,
            revision=self._revision(ids, end - window.size_ms, end),
            capped=np.where(weight > 0, 1 - people.weight / np.maximum(weight, 1), 0.0),
            sampled=values[:, SCORED] / n,
            buzz=people.weight / MICRO,
            sums=sums,
            derived=NOTHING,
            closed=end <= self._watermark,
            watermark_ms=min(self._watermark, end),
            seats=self._seats(window, end, ids),
            models=self._levels[window.hop_ms].models(window.slots_of_window(end)),
            fast=values[:, FAST] / np.maximum(values[:, SCORED], 1) if values[:, FAST].any() else None,
        )

    def _seats(self, window: WindowSpec, end: int, ids: I32) -> Voices | None:
        """Sums by author, for a domain that reads them."""
        if self._domain.seats is None:
            return None
        return self._levels[window.hop_ms].seats(window.slots_of_window(end), ids)

    def _heard(self, window: WindowSpec, end: int, wanted: Bools | None) -> tuple[I32, I64, Crowd]:
        """Entities of a window, their sums, and who spoke, with the loud hushed."""
        level, slots = self._levels[window.hop_ms], window.slots_of_window(end)
        ids, values, counts = level.window(slots, wanted)
        keys, factor = loud(counts, self._keep, fade_after(window.size_ms))
        told = level.repeated(slots) if len(keys) else []
        parts = [hush(fold_like(part, counts, self._keep), keys, factor) for part in told]
        removed = group_voices(parts, 2**31) if parts else no_voices(LEADING + self._domain.linear)
        totals = Totals(ids, values[:, N], values[:, UNKNOWN], values[:, UNKNOWN_SQUARE], values[:, WEIGHT])
        return ids, values, crowd(totals, counts, removed, self._keep)

    def _copies(self, window: WindowSpec, end: int, wanted: Bools | None, ids: I32, n: I64) -> F64:
        """Share of posts whose text another one of the window has as well; the first of each text is no copy."""
        texts = self._levels[window.hop_ms].texts(window.slots_of_window(end), wanted)
        found = distinct(ids, texts, KEEP_TEXTS)
        return np.where(found > 0, np.maximum(1 - found / n, 0.0), 0.0)

    def _hushed(self, ids: I32, values: I64, removed: Voices) -> I64:
        """The domain's columns without what loud authors lost; of squares as if each author said one thing only."""
        columns = values[:, len(FIXED) :]
        if len(removed.ids) == 0:
            return columns
        columns, at = columns.copy(), np.searchsorted(ids, removed.ids)
        linear, weight = removed.sums[:, LEADING:], np.maximum(removed.sums[:, 1], 1)
        chosen = linear[:, list(self._domain.square_of)].astype(np.float64)
        squares = np.rint(chosen * chosen / weight[:, None]).astype(np.int64)
        np.subtract.at(columns, at, np.concatenate((linear, squares), axis=1))
        return columns

    def _revision(self, ids: I32, start: int, end: int) -> I64:
        """Posts in the window that met a watermark at or past its end, per entity."""
        out = np.zeros(len(ids), np.int64)
        panes = self._late_panes
        for pane in panes[bisect_left(panes, start) : bisect_left(panes, end)]:
            for late_ids, marks in self._late[pane]:
                hit = late_ids[(marks >= end) & np.isin(late_ids, ids)]
                np.add.at(out, np.searchsorted(ids, hit), 1)
        return out

    def _forget(self) -> None:
        """Let go of what no post can change any more."""
        if self._watermark in (BEGINNING, FOREVER):
            return
        limit = self._watermark - self._lateness.allowed_ms - self._lateness.pane_ms
        # A partition that was idle may stand far behind the others: what it has sent is known until it has caught up.
        behind = {p.partition: min(0, p.watermark_ms - self._watermark) for p in self._progress.values()}
        for key in [k for k in self._last if k[1] < limit + behind.get(k[0], 0)]:
            del self._last[key]
        for hop, level in self._levels.items():
            longest = max(w.size_ms for w in self._windows if w.hop_ms == hop)
            level.drop_before(limit - longest - hop)
            level.seal_before(limit)
        longest = max(w.size_ms + w.hop_ms for w in self._windows)
        while self._late_panes and self._late_panes[0] < limit - longest:
            del self._late[self._late_panes.pop(0)]

    def memory(self) -> dict[str, int]:
        """What is held: entities, panes, slots; for metrics and the bound's test."""
        return {
            "entities": len(self._names),
            "panes": len(self._last),
            "slots": sum(len(level) for level in self._levels.values()),
        }


@dataclass(frozen=True, slots=True)
class _Kept:
    """The newest block of one (partition, pane), in this stage's ids."""

    stamp: int
    ids: I32
    values: I64
    voices: Voices
    texts: Voices
    late: int


def _moved(new: Voices, old: Voices) -> Voices:
    """What must be added to `old` to get `new`."""
    return group_voices([new, Voices(old.ids, old.hashes, -old.sums)], 2**31)


def _nothing(like: I64) -> tuple[I32, I64]:
    return np.zeros(0, np.int32), np.zeros((0, like.shape[1]), np.int64)
