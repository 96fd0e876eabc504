"""Shares with the model's known confusions undone: what the mean of probabilities would be with a perfect model.

A classifier that takes a tenth of the fearful for sad reports too little fear whenever there is much of it. The means
of its probabilities by true label, measured on dev (`HeadSpec.confusion`), say how much. Sources: probabilistic
adjusted classify and count (Bella et al. 2010), for K classes the linear system C^T pi = q (Saerens et al. 2002; BBSE,
Lipton et al. 2018) with the solution put on the simplex (Duchi et al. 2008). It assumes that posts of a label look as
they did on dev; only how many there are has changed. Nobody can tell from unlabelled posts whether they do, and on the
made-up scenarios they do not: there corrected shares of `emtract7` lie farther from the truth than those read. So the
interval of a corrected share always reaches to the share as read: it is unsure between the two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from engines.base import HeadSpec
from operators.domain import Derived
from operators.records import F64

WORST = 20.0
"""Condition number above which a confusion matrix is not turned round: noise would be blown up that much."""
LEAST = 0.1
"""Least distance of a label's mean probability with and without the label; below it the head cannot tell."""


def correct_shares(head: HeadSpec, labels: Sequence[str], shares: Derived) -> Derived | None:
    """Corrected shares of a `single` head, or rates of a `multi` one.

    Args:
        head: gives the confusions. labels: of the columns; all of a `single` head's labels, any of a `multi` one's.
        shares: float64 [k, len(labels)], NaN = unknown.

    Returns:
        Corrected value and interval, in [0, 1]; NaN where the head cannot tell; None where it has no confusions, or
        they cannot be undone.
    """
    if not head.confusion or (head.kind == "single" and set(labels) != set(head.labels)):
        return None
    at = [head.labels.index(label) for label in labels]
    table = np.array(head.confusion)[at]
    found = _together(table[:, at], shares) if head.kind == "single" else _apart(table, shares)
    return None if found is None else _reaching(found, shares.value)


def _reaching(found: Derived, read: F64) -> Derived:
    """Corrected values whose intervals hold the values as read too."""
    return Derived(found.value, np.minimum(found.lo, read), np.maximum(found.hi, read))


def _together(table: F64, shares: Derived) -> Derived | None:
    """Labels that exclude each other: one linear system. `table` [K, K]: true label, mean probabilities."""
    if not np.linalg.cond(table) <= WORST:
        return None
    turned: F64 = np.linalg.inv(table).astype(np.float64)
    value = on_simplex(_times(shares.value, turned))
    below = np.sqrt(_times((shares.value - shares.lo) ** 2, turned**2))
    above = np.sqrt(_times((shares.hi - shares.value) ** 2, turned**2))
    return Derived(value, np.clip(value - below, 0.0, 1.0), np.clip(value + above, 0.0, 1.0))


def _times(rows: F64, matrix: F64) -> F64:
    """`rows @ matrix`, added up label by label: a library's product may round otherwise for another number of rows."""
    out = np.zeros((len(rows), matrix.shape[1]))
    for j in range(len(matrix)):
        out += rows[:, j, None] * matrix[j]
    return out


def _apart(table: F64, shares: Derived) -> Derived:
    """Independent labels: each rate stretched from [mean where absent, mean where present] to [0, 1] (Forman 2008)."""
    absent, present = table[:, 0], table[:, 1]
    gap = np.where(present - absent >= LEAST, present - absent, np.nan)
    return Derived(*(np.clip((part - absent) / gap, 0.0, 1.0) for part in (shares.value, shares.lo, shares.hi)))


def on_simplex(points: F64) -> F64:
    """The nearest shares (>= 0, sum 1) to each row of `points` (float64 [k, K]); rows with NaN stay NaN."""
    ranked = -np.sort(-points, axis=1)
    excess = (np.cumsum(ranked, axis=1) - 1) / np.arange(1, points.shape[1] + 1)
    rank = np.maximum((ranked > excess).sum(axis=1), 1)
    moved: F64 = np.maximum(points - excess[np.arange(len(points)), rank - 1][:, None], 0.0)
    moved[np.isnan(points.sum(axis=1))] = np.nan
    return moved


def corrector(head: HeadSpec | None, labels: Sequence[str], first: int) -> Callable[[Derived], Derived] | None:
    """`Domain.correct` for a domain whose signals from `first` on are the shares of `labels`, in order."""
    if head is None or not head.confusion:
        return None

    def correct(values: Derived) -> Derived:
        part = slice(first, first + len(labels))
        shares = Derived(values.value[:, part], values.lo[:, part], values.hi[:, part])
        found = correct_shares(head, labels, shares)
        out = Derived(*(np.full(values.value.shape, np.nan) for _ in range(3)))
        if found is not None:
            out.value[:, part], out.lo[:, part], out.hi[:, part] = found.value, found.lo, found.hi
        return out

    return correct
