"""Why a value is what it is: how much each post moved it."""

from __future__ import annotations

import numpy as np

from operators.domain import Domain, Sums
from operators.records import F64, I64


def influence(domain: Domain, signal: str, channels: I64, whole: bool) -> tuple[float, F64]:
    """Leave-one-out influence of every post of a window on one signal.

    Args:
        domain: gives the values. signal: one of `domain.signals`.
        channels: int64 [n, columns], the posts of the window, n >= 1.
        whole: whether the entity is the whole stream.

    Returns:
        value: the signal over all posts (NaN where undefined).
        moved: float64 [n], value with the post minus value without it; 0 where leaving it out leaves nothing.
    """
    at = domain.signals.index(signal)
    n = len(channels)
    total = channels.sum(axis=0)
    value = float(_values(domain, np.array([n]), total[None, :], whole)[0, at])
    if n == 1:
        return value, np.zeros(1)
    without = _values(domain, np.full(n, n - 1), total[None, :] - channels, whole)[:, at]
    return value, np.nan_to_num(value - without)


def _values(domain: Domain, n: I64, columns: I64, whole: bool) -> F64:
    return domain.derive(Sums.plain(columns, n, np.full(len(n), whole))).value
