"""Sparse integer tables: what every pane, slot and window is made of.

All sums are int64 in fixed-point units (`records.MICRO`), so addition is exact, commutative and can be undone:
no order of posts, cut of batches or number of workers changes a digit. Rows exist only for entities that occurred.
"""

from __future__ import annotations

import numpy as np

from operators.records import F64, I32, I64, U64, Bools


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


Triples = tuple[I32, U64, I64]
"""Author counts: entity id, author hash, posts; sorted by (id, hash), pairs unique."""

NO_AUTHORS: Triples = (np.zeros(0, np.int32), np.zeros(0, np.uint64), np.zeros(0, np.int64))


def group_authors(parts: list[Triples], keep: int) -> Triples:
    """Sum counts by (entity, author) and keep, per entity, the `keep` authors with the smallest hashes.

    A bottom-k sample (Cohen and Kaplan 2007): exact while an entity has at most `keep` authors; beyond that every kept
    author's count is still complete, because an author once outside the k smallest stays outside. Counts of zero go.
    """
    ids = np.concatenate([p[0] for p in parts])
    hashes = np.concatenate([p[1] for p in parts])
    counts = np.concatenate([p[2] for p in parts])
    if len(ids) == 0:
        return NO_AUTHORS
    order = np.lexsort((hashes, ids))
    ids, hashes, counts = ids[order], hashes[order], counts[order]
    first = np.flatnonzero(np.concatenate(([True], (ids[1:] != ids[:-1]) | (hashes[1:] != hashes[:-1]))))
    ids, hashes, counts = ids[first], hashes[first], np.add.reduceat(counts, first)
    live = counts != 0
    ids, hashes, counts = ids[live], hashes[live], counts[live]
    if len(ids) == 0:
        return NO_AUTHORS
    starts = np.flatnonzero(np.concatenate(([True], ids[1:] != ids[:-1])))
    rank = np.arange(len(ids)) - np.repeat(starts, np.diff(np.append(starts, len(ids))))
    kept = rank < keep
    return ids[kept], hashes[kept], counts[kept]


class AuthorTable:
    """Posts by (entity, known author), bounded per entity; same life as `CellTable`.

    Args:
        keep: authors kept per entity (the bottom-k sample size).
    """

    __slots__ = ("_keep", "_parts", "_pending", "_settled")

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._settled = NO_AUTHORS
        self._parts: list[Triples] = []
        self._pending = 0

    def add(self, part: Triples) -> None:
        """Add counts; pairs may repeat, counts may be negative (taking back what was added)."""
        if len(part[0]):
            self._parts.append(part)
            self._pending += len(part[0])
            if self._pending > 2 * len(self._settled[0]) + 4096:
                self.settle()

    def settle(self) -> Triples:
        """The sorted, bounded counts."""
        if self._parts:
            self._settled = group_authors([self._settled, *self._parts], self._keep)
            self._parts, self._pending = [], 0
        return self._settled


def crowd(ids: I32, n: I64, unknown: I64, authors: Triples, keep: int) -> tuple[I64, F64]:
    """Distinct authors and effective sample size per entity.

    Args:
        ids: int32 [k], sorted unique; n, unknown: int64 [k], posts and posts without an author.
        authors: counts of known authors, of these and possibly other entities.
        keep: the sample size the counts were bounded by.

    Returns:
        authors: int64 [k]; each post without an author counts as one author.
        n_eff: float64 [k] = n^2 / sum of squared posts per author (Kish 1965); one loud author cannot raise it.
    """
    a_ids, a_hashes, a_counts = authors
    wanted = np.isin(a_ids, ids)
    a_ids, a_hashes, a_counts = a_ids[wanted], a_hashes[wanted], a_counts[wanted]
    at = np.searchsorted(ids, a_ids)
    distinct = np.bincount(at, minlength=len(ids)).astype(np.float64)
    squares = np.bincount(at, weights=(a_counts.astype(np.float64) ** 2), minlength=len(ids))
    full = distinct >= keep
    if full.any():
        largest = np.zeros(len(ids), np.float64)
        np.maximum.at(largest, at, a_hashes.astype(np.float64))
        share = np.maximum(largest[full] / 2.0**64, 1e-18)
        distinct[full] = np.floor((keep - 1) / share)
        squares[full] = squares[full] / share
    total = np.maximum(squares + unknown, 1.0)
    return (distinct.astype(np.int64) + unknown), n.astype(np.float64) ** 2 / total
