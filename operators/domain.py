"""What a domain is: which heads it reads, which integer columns a post adds, and how sums become signal values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from engines.base import EngineSpec
from operators.errors import ConfigInvalid
from operators.records import F64, I64, MICRO, Bools, PostBatch


@dataclass(frozen=True, slots=True)
class Sums:
    """Totals of one window: row k belongs to one entity.

    Attributes:
        n: int64 [k], posts (reposts counted). n_eff: float64 [k], effective sample size.
        columns: int64 [k, c], in `Domain.columns` order, millionths unless the domain says otherwise.
        whole: bool [k], true for the entity `all:*`.
    """

    n: I64
    n_eff: F64
    columns: I64
    whole: Bools

    def mean(self, column: int) -> F64:
        """Mean per post of one column, back from millionths."""
        return self.columns[:, column] / (self.n * float(MICRO))


@dataclass(frozen=True, slots=True)
class Derived:
    """`value`, `lo`, `hi`: float64 [k, signals]; NaN where the signal is not defined for that entity."""

    value: F64
    lo: F64
    hi: F64

    @staticmethod
    def stack(columns: Sequence[tuple[F64, F64, F64]]) -> Derived:
        """One (value, lo, hi) per signal, side by side."""
        value, lo, hi = (np.stack([c[k] for c in columns], axis=1) for k in range(3))
        return Derived(value, lo, hi)


@dataclass(frozen=True, slots=True)
class Domain:
    """One use of the engine: market, crisis or social.

    Attributes:
        name: also the prefix of its signals.
        tasks: heads it needs of the engine.
        columns: names of the integer columns a post contributes.
        signals: names of the signals derived, e.g. `market.valence`.
        channels: posts -> int64 [n, len(columns)]; pure.
        derive: window totals -> values; pure.
    """

    name: str
    tasks: tuple[str, ...]
    columns: tuple[str, ...]
    signals: tuple[str, ...]
    channels: Callable[[PostBatch], I64]
    derive: Callable[[Sums], Derived]


def label_indexes(spec: EngineSpec, task: str, labels: Sequence[str]) -> list[int]:
    """Positions of `labels` in the head that answers `task`.

    Raises:
        ConfigInvalid: the engine has no such head, or the head lacks a label; names both.
    """
    head = spec.head(task)
    if head is None:
        have = ", ".join(h.task for h in spec.heads)
        raise ConfigInvalid(f"engine {spec.model_id!r} has no head {task!r} (it has: {have}); choose another engine")
    missing = [label for label in labels if label not in head.labels]
    if missing:
        raise ConfigInvalid(f"head {task!r} of {spec.model_id!r} lacks the labels {missing}; got {list(head.labels)}")
    return [head.labels.index(label) for label in labels]
