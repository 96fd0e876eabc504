"""The trial of a backend: a few texts, beside the backend that is known to be right, before it may score anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from engines.base import F64, EngineSpec, TextModel
from engines.probability import probabilities

TEXTS: Final = (
    "we need water and food, roads are closed and the bridge is gone",
    "",
    "so happy today!",
    "stocks plunge after earnings miss",
    "not good at all, I hate waiting",
    "Thank you so much for your help " * 6,
    "the market opens at nine",
    "please pray for everyone in the flood " * 12,
    "love this, best day ever",
    "a",
)
"""Of every length bucket; no training or test text."""

MEAN_MOVED: Final = 0.02
MOST_MOVED: Final = 0.3
"""Probabilities may move so far: what int8 moved against float32 on whole test sets (mean .009, most .29), rounded
up.
"""


def moved(spec: EngineSpec, one: Mapping[str, F64], other: Mapping[str, F64]) -> tuple[float, float]:
    """(mean, largest) |difference| over all heads, of probabilities; of a regression in parts of its range."""
    parts = []
    for head in spec.heads:
        if head.kind == "regression":
            parts.append(np.abs(one[head.task] - other[head.task]).ravel() / (head.hi - head.lo))
        else:
            parts.append(np.abs(probabilities(head, one[head.task]) - probabilities(head, other[head.task])).ravel())
    whole = np.concatenate(parts)
    return float(whole.mean()), float(whole.max())


def objection(known: TextModel, tried: TextModel) -> str:
    """Why `tried` must not score in the place of `known`; empty where it answers as `known` does but for its precision.

    Raises:
        EngineError: `tried` fails.
    """
    there = tried.logits(TEXTS).logits
    if not all(np.isfinite(x).all() for x in there.values()):
        return "it gives logits that are not finite"
    mean, most = moved(known.spec, known.logits(TEXTS).logits, there)
    if mean > MEAN_MOVED or most > MOST_MOVED:
        return f"it answers otherwise than {known.spec.backend}: probabilities move by {mean:.3f}, at most {most:.3f}"
    return ""


def unsteady(tried: TextModel) -> str:
    """Why a replay would not give the same bytes; empty where a text's digits are the same alone, among others, in any
    order.

    Raises:
        EngineError: `tried` fails.
    """
    there, back = tried.logits(TEXTS).logits, tried.logits(TEXTS[::-1]).logits
    for task, logits in there.items():
        alone = np.concatenate([tried.logits([t]).logits[task] for t in TEXTS])
        if alone.tobytes() != logits.tobytes() or back[task][::-1].tobytes() != logits.tobytes():
            return "the digits of a text depend on its neighbours there, so a replay would not give the same bytes"
    return ""
