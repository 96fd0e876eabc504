"""The gate: no precision is accepted on faith. A derived file is scored beside its reference on rows kept for that.

Limits, per head:
    fp16: the same most probable label on 99.5 % of rows or more, no probability moved by more than 0.01.
    fp32: the same on 97 % or more, mean move at most 0.02: it undoes a cut, so there is no metric to be lost by it.
    int8: the same on 97 % or more, mean move at most 0.02, the headline metric at most 1 point lower, and the 95 %
        interval of that change (paired bootstrap) above -2 points.
Largest moves are no limit for int8: one probability in thousands moves by 0.3 where the metric does not move.
Values of a regression count as fractions of their range. Where rows have no labels, agreement and moves alone decide,
and the verdict says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from engines.base import F64, HeadSpec, TextModel
from engines.evaluate import drop
from engines.precisions import HeadGate, SignalGate
from engines.probability import decided, millionths, probabilities
from engines.tasks import TEXT_TASKS

FP16_AGREEMENT: Final = 0.995
FP16_MOVED: Final = 0.01
INT8_AGREEMENT: Final = 0.97
INT8_MOVED: Final = 0.02
INT8_POINTS: Final = 1.0
INT8_LOWER: Final = -2.0
CHUNK: Final = 64


@dataclass(frozen=True, slots=True)
class Held:
    """Rows kept for the gate. `truth`: float32 [rows, labels] of `task`, or None; `task` "": rows for every head."""

    task: str
    texts: Sequence[str]
    truth: NDArray[np.float32] | None


Logits = list[dict[str, F64]]


def score(model: TextModel, held: Sequence[Held], step: Callable[[int], object] = lambda rows: None) -> Logits:
    """Logits of every set, by task. `step` is told of rows done."""
    found: Logits = []
    for rows in held:
        parts = []
        for at in range(0, len(rows.texts), CHUNK):
            parts.append(model.logits(rows.texts[at : at + CHUNK]).logits)
            step(len(rows.texts[at : at + CHUNK]))
        found.append({t: np.concatenate([p[t] for p in parts]) for t in (h.task for h in model.spec.heads)})
    return found


def heads_compared(
    heads: Sequence[HeadSpec], held: Sequence[Held], reference: Logits, candidate: Logits
) -> tuple[HeadGate, ...]:
    """Each head on the rows of its own task, or on the rows that are for every head."""
    out = []
    for head in heads:
        for rows, first, second in zip(held, reference, candidate, strict=True):
            if rows.task in (head.task, ""):
                out.append(_compared(head, rows, first[head.task], second[head.task]))
    return tuple(out)


def refusals(rule: str, heads: Sequence[HeadGate], signals: Sequence[SignalGate]) -> tuple[str, ...]:
    """Why a file is refused; empty where it passes.

    Args:
        rule: `fp32`, `fp16` or `int8`.
    """
    out = [] if heads else ["no head was compared"]
    for h in heads:
        out += _fp16(h) if rule == "fp16" else _near(h)
        out += _metric(h) if rule == "int8" else []
    for s in signals:
        if s.beyond or s.lost:
            out.append(
                f"{s.replay}: {s.beyond} of {s.rows} rows moved by more than a tenth of their interval, {s.lost} lost;"
                f" most {s.most:.2f} of it ({s.worst})"
            )
    return tuple(out)


def _compared(head: HeadSpec, rows: Held, first: F64, second: F64) -> HeadGate:
    agreement: float | None = None
    said: list[NDArray[np.generic]]
    if head.kind == "regression":
        span = head.hi - head.lo
        moved = np.abs(second - first) / span
        said = [first, second]
    else:
        p, q = probabilities(head, first), probabilities(head, second)
        moved = np.abs(p - q)
        agreement = float((p.argmax(1) == q.argmax(1)).mean())
        said = [decided(head, millionths(head, logits)) for logits in (first, second)]
    known = next((t for t in TEXT_TASKS if t.task == head.task), None)
    found = HeadGate(head.task, len(first), None, None, None, None, agreement, float(moved.mean()), float(moved.max()))
    if rows.truth is None or known is None or len(rows.truth) < 3:
        return found
    lost = drop(known, rows.truth, said[0], said[1])
    return msgspec.structs.replace(found, metric=lost.metric, reference=lost.first, value=lost.second, lower=lost.lower)


def _fp16(h: HeadGate) -> list[str]:
    out = []
    if h.agreement is not None and h.agreement < FP16_AGREEMENT:
        out.append(f"{h.task}: {h.agreement:.2%} keep their label, at least {FP16_AGREEMENT:.1%}")
    if not h.max_moved <= FP16_MOVED:
        out.append(f"{h.task}: a probability moved by {h.max_moved:.4f}, at most {FP16_MOVED}")
    return out


def _near(h: HeadGate) -> list[str]:
    out = []
    if h.agreement is not None and h.agreement < INT8_AGREEMENT:
        out.append(f"{h.task}: {h.agreement:.2%} keep their label, at least {INT8_AGREEMENT:.0%}")
    if not h.mean_moved <= INT8_MOVED:
        out.append(f"{h.task}: probabilities moved by {h.mean_moved:.4f} on average, at most {INT8_MOVED}")
    return out


def _metric(h: HeadGate) -> list[str]:
    out = []
    if h.value is not None and h.reference is not None and h.lower is not None:
        points = 100 * (h.reference - h.value)
        if points > INT8_POINTS:
            out.append(f"{h.task}: {h.metric} lost {points:.2f} points, at most {INT8_POINTS}")
        if not 100 * h.lower > INT8_LOWER:
            out.append(f"{h.task}: {h.metric} may have lost {-100 * h.lower:.2f} points, below {-INT8_LOWER}")
    return out
