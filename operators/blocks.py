"""Sparse integer tables: what every pane, slot and window is made of.

All sums are int64 in fixed-point units (`records.MICRO`), so addition is exact, commutative and can be undone:
no order of posts, cut of batches or number of workers changes a digit. Rows exist only for entities that occurred.
"""

from __future__ import annotations

import numpy as np

from operators.records import I32, I64, Bools


def group_sum(ids: I32, mat: I64) -> tuple[I32, I64]:
    """Sum rows of `mat` (int64 [m, w]) by id. Returns sorted unique ids (int32 [k]) and sums (int64 [k, w])."""
    if len(ids) == 0:
        return ids, mat
    order = np.argsort(ids, kind="stable")
    ranked = ids[order]
    starts = np.flatnonzero(np.concatenate(([True], ranked[1:] != ranked[:-1])))
    return ranked[starts], np.add.reduceat(mat[order], starts, axis=0)


def difference(new: tuple[I32, I64], old: tuple[I32, I64]) -> tuple[I32, I64]:
    """Rows of `new` minus rows of `old` by id; rows that did not change are left out."""
    ids, mat = group_sum(np.concatenate((new[0], old[0])), np.concatenate((new[1], -old[1])))
    moved = mat.any(axis=1)
    return ids[moved], mat[moved]


class CellTable:
    """Sums by entity id, built like a log-structured merge: adds are appended, `settle` folds them together.

    Args:
        width: columns per row.
    """

    __slots__ = ("_ids", "_mat", "_parts", "_pending")

    def __init__(self, width: int) -> None:
        self._ids: I32 = np.zeros(0, np.int32)
        self._mat: I64 = np.zeros((0, width), np.int64)
        self._parts: list[tuple[I32, I64]] = []
        self._pending = 0

    def add(self, ids: I32, mat: I64) -> None:
        """Add `mat[k]` to the row of `ids[k]`; ids may repeat. The arrays must not be changed afterwards."""
        self._parts.append((ids, mat))
        self._pending += len(ids)
        if self._pending > len(self._ids) + 4096:
            self.settle()

    def settle(self) -> tuple[I32, I64]:
        """Sorted unique ids (int32 [k]) and their sums (int64 [k, width])."""
        if self._parts:
            parts, self._parts, self._pending = self._parts, [], 0
            fresh = group_sum(np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts]))
            self._ids, self._mat = _union([(self._ids, self._mat), fresh]) if len(self._ids) else fresh
        return self._ids, self._mat


def merged(tables: list[CellTable], width: int, wanted: Bools | None = None) -> tuple[I32, I64]:
    """The sum of several tables, as sorted ids and rows. `wanted`: bool by id, leaves the others out (None = all)."""
    settled = [t.settle() for t in tables]
    if wanted is not None:
        masks = [wanted[ids] for ids, _ in settled]
        settled = [(ids[mask], mat[mask]) for (ids, mat), mask in zip(settled, masks, strict=True)]
    if len(settled) == 1:
        return settled[0]
    if not settled:
        return np.zeros(0, np.int32), np.zeros((0, width), np.int64)
    return _union(settled)


def _union(tables: list[tuple[I32, I64]]) -> tuple[I32, I64]:
    """Sum of tables whose ids are sorted and unique; needs room for the result and one table, not for all of them."""
    ids = np.unique(np.concatenate([t[0] for t in tables]))
    out = np.zeros((len(ids), tables[0][1].shape[1]), np.int64)
    for own, mat in tables:
        out[np.searchsorted(ids, own)] += mat
    return ids, out
