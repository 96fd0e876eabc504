"""Late fusion: what several modalities say of one seat at a moment, some of them missing, and how far they agree.

Each modality gives a distribution over the same classes (negative, neutral, positive; or any other). The fused one is
the linear pool of those that are there, by weights learned on development data (`fit_weights`). Ambivalence is the
generalised Jensen-Shannon divergence among them (Lin 1991), over the most it can be with those weights: 0 where all say
the same, 1 where no two share a class (discord between modalities, after BAH). A modality that is missing takes its
weight out of `confidence` and is named; nothing is filled in for it.

What is fused here is of one seat and stays where it was scored (`operators/seat_readings.py`); a room is told of
through the veil alone (`operators/veil.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from operators.errors import ConfigInvalid
from operators.records import F64

STEP_MS: Final = 200
"""Grid of moments that values are fused at."""
NEAR_MS: Final = 100
"""A reading belongs to the moment it lies within so many milliseconds of."""
MOST_MOMENTS: Final = 1_500
"""Moments that wait at most: five minutes. The oldest are told first, whatever is still missing."""
_ROUNDS: Final = 500
_ENOUGH: Final = 1e-10


@dataclass(frozen=True, slots=True)
class Fused:
    """What is known of a moment.

    Attributes:
        at_ms: the moment, a multiple of `STEP_MS`.
        shares: float64 [classes], sums to 1.
        confidence: in (0, 1], the part of the weight that was there; 1 = every modality.
        ambivalence: in [0, 1], None where fewer than two modalities with weight were there: one cannot disagree.
        missing: modalities that had nothing to say, in the order of the weights; empty = none.
    """

    at_ms: int
    shares: F64
    confidence: float
    ambivalence: float | None
    missing: tuple[str, ...]


def pooled(weights: Mapping[str, float], said: Mapping[str, F64], at_ms: int = 0) -> Fused | None:
    """Fuse the distributions of one moment; None where no modality with weight has said anything.

    Args:
        weights: of every modality there could be, each >= 0, summing to 1.
        said: modality -> float64 [classes], >= 0 and not all 0 (brought to sum 1 here).

    Raises:
        ConfigInvalid: a modality without a weight, or a distribution that is none.
    """
    unknown = said.keys() - weights.keys()
    if unknown:
        raise ConfigInvalid(f"fusion: expected some of {', '.join(weights)}, got {', '.join(sorted(unknown))}")
    there = [name for name in weights if name in said and weights[name] > 0]
    if not there:
        return None
    parts = np.stack([_distribution(name, said[name]) for name in there])
    own = np.array([weights[name] for name in there])
    shares = own @ parts / own.sum()
    return Fused(
        at_ms=at_ms,
        shares=shares / shares.sum(),
        confidence=float(min(1.0, own.sum())),
        ambivalence=None if len(there) < 2 else divergence(parts, own),
        missing=tuple(name for name in weights if name not in said),
    )


def divergence(parts: F64, weights: F64) -> float:
    """Generalised Jensen-Shannon divergence of rows over its maximum: 0 = equal, 1 = no two rows share a class.

    Args:
        parts: float64 [m, classes], rows sum to 1, m >= 2. weights: float64 [m], > 0.
    """
    share = weights / weights.sum()
    most = _entropy(share)
    found = _entropy(share @ parts) - float(share @ np.array([_entropy(row) for row in parts]))
    return float(np.clip(found / most, 0.0, 1.0))


def fit_weights(names: Sequence[str], said: Sequence[F64], truth: Sequence[int]) -> dict[str, float]:
    """Weights of the linear pool that make the labels of development data most likely.

    The likelihood of a mixture's weights has one maximum; expectation-maximisation climbs to it (Dempster, Laird and
    Rubin 1977), from equal weights, so the same data give the same digits. A row that a modality did not see is NaN in
    all classes there and counts among the others alone.

    Args:
        said: per modality, float64 [rows, classes]. truth: class of each row.

    Raises:
        ConfigInvalid: shapes that do not fit, or no row that any modality has seen.
    """
    table = np.stack([np.asarray(part, np.float64) for part in said])
    labels = np.asarray(truth, np.int64)
    if table.ndim != 3 or table.shape[:2] != (len(names), len(labels)) or not len(labels):
        raise ConfigInvalid(f"fusion: expected {len(names)} tables of {len(labels)} rows, got {table.shape}")
    if labels.min() < 0 or labels.max() >= table.shape[2]:
        raise ConfigInvalid(f"fusion: expected classes 0 to {table.shape[2] - 1}, got {labels.min()} to {labels.max()}")
    likely = table[:, np.arange(len(labels)), labels].T
    seen = np.isfinite(likely)
    if not seen.any():
        raise ConfigInvalid("fusion: no modality has seen any row; there is nothing to learn weights from")
    likely, seen = np.where(seen, np.maximum(likely, 1e-12), 0.0)[seen.any(axis=1)], seen[seen.any(axis=1)]
    weights = np.full(len(names), 1 / len(names))
    for _ in range(_ROUNDS):
        # What each modality answers for in a row; one that did not see it keeps the share its weight gives it.
        there = (seen * weights).sum(axis=1, keepdims=True)
        blame = likely * weights / np.maximum((likely * weights).sum(axis=1, keepdims=True), 1e-300)
        new = (np.where(seen, blame * there, weights)).mean(axis=0)
        new = new / new.sum()
        moved, weights = float(np.abs(new - weights).max()), new
        if moved < _ENOUGH:
            break
    return {name: float(weight) for name, weight in zip(names, weights, strict=True)}


def moment_of(at_ms: int) -> int:
    """The moment of the grid within `NEAR_MS` of a time."""
    return (at_ms + NEAR_MS) // STEP_MS * STEP_MS


@dataclass(slots=True)
class _Moment:
    """What was said of a moment so far, by modality: each reading once, under its time and its bytes."""

    said: dict[str, dict[tuple[int, bytes], F64]] = field(default_factory=dict)


class Fusion:
    """Readings of one seat, aligned to a grid and fused.

    A reading goes to the moment within `NEAR_MS` of it. A moment is told once nothing can reach it any more, that is
    when time, as the caller has it, is past it by `patience_ms`; what comes later still is left out and counted in
    `late`. What is told does not depend, to the last bit, on the order readings come in, and one that comes twice
    counts once.

    Args:
        weights: of every modality, >= 0; brought to sum 1.

    Raises:
        ConfigInvalid: no weight above 0, or one below.
    """

    def __init__(self, weights: Mapping[str, float], patience_ms: int = 1_000) -> None:
        total = sum(weights.values())
        if not weights or not total > 0 or min(weights.values()) < 0:
            raise ConfigInvalid(f"fusion: expected weights of at least 0 and one above, got {dict(weights)}")
        self._weights = {name: weight / total for name, weight in weights.items()}
        self._patience_ms = patience_ms
        self._moments: dict[int, _Moment] = {}
        self._told_ms = -1
        self.late = 0

    def add(self, modality: str, at_ms: int, shares: F64) -> None:
        """Take in a reading; those of one modality and moment are averaged.

        Raises:
            ConfigInvalid: a modality without a weight, or a distribution that is none.
        """
        if modality not in self._weights:
            raise ConfigInvalid(f"fusion: expected one of {', '.join(self._weights)}, got {modality!r}")
        moment, part = moment_of(at_ms), _distribution(modality, shares)
        if moment <= self._told_ms:
            self.late += 1
            return
        held = self._moments.setdefault(moment, _Moment())
        held.said.setdefault(modality, {})[at_ms, part.tobytes()] = part

    def tell(self, now_ms: int) -> Iterator[Fused]:
        """The moments that are over at `now_ms`, oldest first, each once; those nobody spoke in are none."""
        for moment in sorted(self._moments):
            if moment + NEAR_MS + self._patience_ms > now_ms and len(self._moments) <= MOST_MOMENTS:
                return
            held = self._moments.pop(moment)
            self._told_ms = moment
            said = {name: np.stack([parts[key] for key in sorted(parts)]).sum(0) for name, parts in held.said.items()}
            found = pooled(self._weights, said, moment)
            if found is not None:
                yield found


def _distribution(name: str, shares: F64) -> F64:
    found = np.asarray(shares, np.float64)
    total = float(found.sum()) if found.ndim == 1 and np.isfinite(found).all() else 0.0
    if found.ndim != 1 or not total > 0 or found.min() < 0:
        raise ConfigInvalid(f"fusion: {name}: expected shares of classes, at least 0 and not all 0, got {found}")
    return found / total


def _entropy(p: F64) -> float:
    some = p[p > 0]
    return float(-(some * np.log(some)).sum())
