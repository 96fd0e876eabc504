"""The order in which an encoder sees the rows of many tasks: a pure function of the seed and the pool's number.

An endless stream of pools. Each pool holds the same share of every task (drawn without repeat until the task's rows are
used up, then anew in another order), is sorted by length and cut into batches, so a batch is hardly padded. Nothing but
the pool's number is needed to go on after an interruption.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]
BATCH = 32
POOL = 20 * BATCH


@dataclass(frozen=True, slots=True)
class Part:
    """Training rows of one task.

    Attributes:
        ids: int32 [tokens]; offsets: int64 [rows + 1].
        truth: float32 [rows, labels]; NaN for not known.
        column: where the task's outputs begin.
        share: the task's part of every pool; all shares add up to 1.
    """

    ids: NDArray[np.int32]
    offsets: I64
    truth: NDArray[np.float32]
    column: int
    share: float


@dataclass(frozen=True, slots=True)
class Batch:
    """`ids` int64 and `mask` float32 [rows, longest]; `truth` float32 [rows, outputs], NaN for not known."""

    ids: I64
    mask: NDArray[np.float32]
    truth: NDArray[np.float32]


class Mixture:
    """Pools of batches over `parts`.

    Raises:
        ValueError: shares that do not add up to 1, or a part without rows.
    """

    def __init__(self, parts: Sequence[Part], outputs: int, seed: int) -> None:
        if abs(sum(p.share for p in parts) - 1.0) > 1e-9 or any(not len(p.truth) for p in parts):
            raise ValueError(f"shares must add up to 1 over parts with rows, got {[p.share for p in parts]}")
        self._parts = parts
        self._outputs = outputs
        self._seed = seed
        self._ends = np.cumsum([p.share for p in parts])
        self._orders: dict[int, tuple[int, I64]] = {}

    def pool(self, number: int) -> list[Batch]:
        """The batches of pool `number` (0, 1, ...), in the order of training."""
        rows = [(k, row) for k, p in enumerate(self._parts) for row in self._drawn(k, number).tolist()]
        lengths = np.array([self._length(k, row) for k, row in rows])
        random = np.random.default_rng([self._seed, 1, number])
        order = np.lexsort((random.random(len(rows)), lengths))
        starts = np.arange(0, len(rows), BATCH)
        random.shuffle(starts)
        return [self._batch([rows[k] for k in order[at : at + BATCH].tolist()]) for at in starts.tolist()]

    def _drawn(self, k: int, number: int) -> I64:
        """Rows of part `k` in that pool: places [start, stop) of the task's endless sequence of permutations."""
        share, rows = self._parts[k].share, len(self._parts[k].truth)
        start, stop = (round(n * POOL * share) for n in (number, number + 1))
        return np.array([self._order(k, at // rows)[at % rows] for at in range(start, stop)], np.int64)

    def _order(self, k: int, epoch: int) -> I64:
        kept = self._orders.get(k)
        if kept is None or kept[0] != epoch:
            rows = len(self._parts[k].truth)
            kept = (epoch, np.random.default_rng([self._seed, 0, k, epoch]).permutation(rows))
            self._orders[k] = kept
        return kept[1]

    def _length(self, k: int, row: int) -> int:
        offsets = self._parts[k].offsets
        return int(offsets[row + 1] - offsets[row])

    def _batch(self, rows: Sequence[tuple[int, int]]) -> Batch:
        longest = max(self._length(k, row) for k, row in rows)
        ids = np.zeros((len(rows), longest), np.int64)
        mask = np.zeros((len(rows), longest), np.float32)
        truth = np.full((len(rows), self._outputs), np.nan, np.float32)
        for at, (k, row) in enumerate(rows):
            part = self._parts[k]
            pieces = part.ids[part.offsets[row] : part.offsets[row + 1]]
            ids[at, : len(pieces)] = pieces
            mask[at, : len(pieces)] = 1.0
            truth[at, part.column : part.column + part.truth.shape[1]] = part.truth[row]
        return Batch(ids, mask, truth)
