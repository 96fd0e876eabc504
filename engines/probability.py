"""From logits to calibrated probabilities in millionths, and on to decided labels: the same digits on every machine.

`np.exp` differs in the last place between processors and between the vector and scalar paths of one call. The
exponential here is made of multiply, add and round only, each an exact IEEE operation, so the integers never differ.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from engines.base import F64, HeadSpec
from engines.errors import ShapeMismatch

MILLION: Final = 1_000_000

_LN2_HIGH: Final = 0.6931471803691238  # the upper 33 bits of ln 2: k * _LN2_HIGH is exact for small k
_LN2_LOW: Final = 1.9082149292705877e-10
_FACTORIALS: Final = [1.0]
for _k in range(1, 15):
    _FACTORIALS.append(_FACTORIALS[-1] * _k)


def probabilities(head: HeadSpec, logits: F64) -> F64:
    """`softmax(logits / T + bias)` for a `single` head, `sigmoid(logits / T)` for `multi`; a `probability` head's as
    they are.

    Args:
        logits: float64 [rows, len(head.labels)].

    Raises:
        ShapeMismatch: another number of columns, or a `regression` head (whose values are no probabilities).
    """
    if logits.ndim != 2 or logits.shape[1] != len(head.labels):
        raise ShapeMismatch(f"head {head.task!r}: logits expected [rows, {len(head.labels)}], got {list(logits.shape)}")
    if head.kind == "regression":
        raise ShapeMismatch(f"head {head.task!r} is a regression: its logits are values, use them clipped to [lo, hi]")
    if head.probability:
        return np.clip(logits, 0.0, 1.0)
    scaled = logits / head.temperature
    if head.kind == "multi":
        small = exp_of_negative(-np.abs(scaled))
        return np.where(scaled >= 0, 1.0, small) / (1.0 + small)
    if head.bias:
        scaled = scaled + np.array(head.bias)
    raised = exp_of_negative(scaled - scaled.max(axis=1, keepdims=True))
    total = np.zeros(len(raised))
    for column in range(raised.shape[1]):  # one column after another: the order of adding is fixed
        total += raised[:, column]
    return raised / total[:, None]


def millionths(head: HeadSpec, logits: F64) -> NDArray[np.int32]:
    """Calibrated probabilities as int32 in 0..1 000 000, rounded half to even."""
    return np.rint(probabilities(head, logits) * MILLION).astype(np.int32)


def decided(head: HeadSpec, micro: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Which labels hold, bool [rows, labels].

    `single`: the most probable label, or where there are thresholds the label with the largest probability / threshold;
    the first of equals. `multi`: every label at or above its threshold (or 0.5).
    """
    if head.kind == "single":
        ranked = micro / np.array(head.thresholds) if head.thresholds else micro
        best: NDArray[np.bool_] = np.arange(len(head.labels)) == ranked.argmax(axis=1)[:, None]
        return best
    limits = head.thresholds or (0.5,) * len(head.labels)
    return micro >= np.array([round(x * MILLION) for x in limits], np.int32)


def exp_of_negative(x: F64) -> F64:
    """e^x for x <= 0, to about 1e-16; below -60 (9e-27) it stays at e^-60.

    x = k ln 2 + r with |r| <= 0.35, a Taylor polynomial in r, and an exact shift by k (Cody & Waite 1980).
    """
    x = np.maximum(x, -60.0)
    k = np.rint(x * 1.4426950408889634)
    r = (x - k * _LN2_HIGH) - k * _LN2_LOW
    value = np.full_like(r, 1.0 / _FACTORIALS[14])
    for n in range(13, -1, -1):
        value = value * r + 1.0 / _FACTORIALS[n]
    return np.ldexp(value, k.astype(np.int32))
