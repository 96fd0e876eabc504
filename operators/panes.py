"""Folds scored posts of one source partition into panes: the first half of every window."""

from __future__ import annotations

import numpy as np

from operators.blocks import CellTable
from operators.cells import FAST, FIXED, SCORED, UNKNOWN, UNKNOWN_SQUARE, WEIGHT, N, PaneBlock
from operators.clock import Lateness
from operators.domain import Domain
from operators.names import Names
from operators.records import I32, I64, MICRO, U64, PostBatch
from operators.voices import LEADING, Voices, VoiceTable

KEEP_AUTHORS = 4096
"""Known authors kept per entity and pane, slot or window: counts are exact up to here, estimated beyond."""
KEEP_TEXTS = 256
"""Texts kept likewise: their number is good to six per cent."""


def weights(batch: PostBatch) -> I64:
    """Weight of each post in millionths, int64 [n].

    One each; where posts were sampled, the inverse of the chance, and 0 for those that were shed. A repost weighs as
    any post does: who repeats a text feels it too.
    """
    return batch.inverse if len(batch.inverse) else np.full(len(batch), MICRO, np.int64)


class _Pane:
    """What is known of one pane: sums, authors, late marks, and the last offset counted before a restart."""

    __slots__ = ("cells", "late_ids", "late_marks", "models", "stamp", "texts", "voices")

    def __init__(self, width: int, linear: int, keep: int) -> None:
        self.cells = CellTable(width)
        self.voices = VoiceTable(LEADING + linear, keep)
        self.texts = VoiceTable(1, KEEP_TEXTS, buckets=False)
        self.models: set[str] = set()
        self.late_ids: list[I32] = []
        self.late_marks: list[I64] = []
        self.stamp = -1


class PaneStore:
    """Panes of one source partition, kept while late posts may still change them.

    A pure fold: the blocks depend on the posts and their offsets, never on how they were cut into batches.

    Args:
        partition: source partition.
        domain: gives the columns.
        lateness: pane length and how long panes are kept.
        keep_authors: bound of the author sample.
    """

    def __init__(self, partition: int, domain: Domain, lateness: Lateness, keep_authors: int = KEEP_AUTHORS) -> None:
        self.partition = partition
        self._linear = domain.linear
        self._width = len(domain.columns) + len(FIXED)
        self._lateness = lateness
        self._keep = keep_authors
        self._names = Names()
        self._panes: dict[int, _Pane] = {}
        self._dirty: set[int] = set()

    def __len__(self) -> int:
        return len(self._panes)

    def fold(self, batch: PostBatch, channels: I64, marks: I64) -> None:
        """Add every (post, entity) link of `batch` to its pane.

        Args:
            batch: posts with links filled.
            channels: int64 [n, columns] of these posts.
            marks: int64 [n], watermark each post met.
        """
        if len(batch.link_rows) == 0:
            return
        rows = batch.link_rows
        ids = self._names.ids(batch.link_names)
        pane_ms = self._lateness.pane_ms
        panes = batch.times_ms[rows] // pane_ms * pane_ms
        matrix = self._matrix(batch, channels)[rows]
        order = np.argsort(panes, kind="stable")
        ranked = panes[order]
        cuts = np.flatnonzero(ranked[1:] != ranked[:-1]) + 1
        for part in np.split(order, cuts):
            start = int(panes[part[0]])
            pane = self._panes.get(start)
            if pane is None:
                pane = self._panes[start] = _Pane(self._width, self._linear, self._keep)
            elif pane.stamp >= 0:
                part = part[batch.offsets[rows[part]] > pane.stamp]
                if len(part) == 0:
                    continue
            self._add(pane, start, ids[part], matrix[part], batch.authors[rows[part]], marks[rows[part]])
            pane.models.update(batch.models)
            if len(batch.text_keys):
                once = np.ones((len(part), 1), np.int64)
                pane.texts.add(Voices(ids[part], batch.text_keys[rows[part]], once))

    def _matrix(self, batch: PostBatch, channels: I64) -> I64:
        """What each post adds to a cell, int64 [n, width]."""
        weight = weights(batch)
        unknown = batch.authors == 0
        out = np.empty((len(batch), self._width), np.int64)
        out[:, N] = 1
        out[:, UNKNOWN] = unknown
        out[:, SCORED] = (batch.inverse > 0) if len(batch.inverse) else 1
        out[:, WEIGHT] = weight
        out[:, UNKNOWN_SQUARE] = np.where(unknown, weight * weight // MICRO, 0)
        out[:, FAST] = batch.fast if len(batch.fast) else 0
        out[:, len(FIXED) :] = channels
        odd = np.flatnonzero(weight != MICRO)
        if len(odd):
            out[odd, len(FIXED) :] = channels[odd] * weight[odd, None] // MICRO
        return out

    def _add(self, pane: _Pane, start: int, ids: I32, matrix: I64, authors: U64, marks: I64) -> None:
        pane.cells.add(ids, matrix)
        known = authors != 0
        if known.any():
            said = np.concatenate(
                (
                    matrix[known, N, None],
                    matrix[known, WEIGHT, None],
                    matrix[known, len(FIXED) : len(FIXED) + self._linear],
                ),
                axis=1,
            )
            pane.voices.add(Voices(ids[known], authors[known], said))
        late = marks >= start + self._lateness.pane_ms
        if late.any():
            pane.late_ids.append(ids[late])
            pane.late_marks.append(marks[late])
        self._dirty.add(start)

    def drain(self, stamp: int) -> list[PaneBlock]:
        """The panes changed since the last call, oldest first, stamped with `stamp` (last offset folded)."""
        blocks = [self._block(start, stamp) for start in sorted(self._dirty)]
        self._dirty.clear()
        return blocks

    def _block(self, start: int, stamp: int) -> PaneBlock:
        pane = self._panes[start]
        ids, values = pane.cells.settle()
        voices, texts = pane.voices.settle(), pane.texts.settle()
        late = np.concatenate(pane.late_ids) if pane.late_ids else np.zeros(0, np.int32)
        marks = np.concatenate(pane.late_marks) if pane.late_marks else np.zeros(0, np.int64)
        return PaneBlock(
            partition=self.partition,
            stamp=stamp,
            pane_start=start,
            names=self._names.get(ids),
            values=values,
            voices=Voices(np.searchsorted(ids, voices.ids).astype(np.int32), voices.hashes, voices.sums),
            texts=Voices(np.searchsorted(ids, texts.ids).astype(np.int32), texts.hashes, texts.sums),
            late_rows=np.searchsorted(ids, late).astype(np.int32),
            late_marks=marks,
            models=tuple(sorted(pane.models)),
        )

    def restore(self, block: PaneBlock) -> None:
        """Take back a block sent before a restart; of several for one pane the highest stamp wins."""
        known = self._panes.get(block.pane_start)
        if known is not None and known.stamp >= block.stamp:
            return
        pane = _Pane(self._width, self._linear, self._keep)
        ids = self._names.ids(block.names)
        pane.cells.add(ids, block.values)
        pane.voices.add(Voices(ids[block.voices.ids], block.voices.hashes, block.voices.sums))
        pane.texts.add(Voices(ids[block.texts.ids], block.texts.hashes, block.texts.sums))
        if len(block.late_rows):
            pane.late_ids.append(ids[block.late_rows])
            pane.late_marks.append(block.late_marks)
        pane.models.update(block.models)
        pane.stamp = block.stamp
        self._panes[block.pane_start] = pane

    def expire(self, watermark_ms: int) -> None:
        """Let go of panes that no post can change any more (drain first)."""
        limit = watermark_ms - self._lateness.allowed_ms - self._lateness.pane_ms
        for start in [s for s in self._panes if s <= limit and s not in self._dirty]:
            del self._panes[start]
