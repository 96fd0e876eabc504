"""Reliability curves as a picture (SVG, written by us): how often a label is right against how sure the head was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.base import F64
from engines.evaluate import judged

BINS = 10
LEAST = 10
"""Bins with fewer rows are not drawn."""
SIDE, GAP, TOP = 150, 34, 30
Points = list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Panel:
    """One head: points (mean confidence, how often right) before and after calibration, each bin of `BINS` a point."""

    task: str
    before: Points
    after: Points


def points(kind: str, truth: NDArray[np.float32], probability: F64) -> Points:
    """The curve of one head: the bins that `calibration_error` compares, `BINS` of them."""
    confidence, right = judged(kind, truth, probability)
    bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    found = []
    for k in range(BINS):
        here = bins == k
        if here.sum() >= LEAST:
            found.append((float(confidence[here].mean()), float(right[here].mean())))
    return found


def reliability_svg(panels: Sequence[Panel]) -> str:
    """All heads side by side: grey dashes before, blue after, the diagonal is what should be."""
    width, height = len(panels) * (SIDE + GAP) + GAP, SIDE + TOP + GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif"'
        ' font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for k, panel in enumerate(panels):
        left = GAP + k * (SIDE + GAP)
        parts += [
            f'<text x="{left}" y="{TOP - 10}">{panel.task}</text>',
            f'<rect x="{left}" y="{TOP}" width="{SIDE}" height="{SIDE}" fill="none" stroke="#999"/>',
            _line([(0.0, 0.0), (1.0, 1.0)], left, "#ccc", ""),
            _line(panel.before, left, "#888", "4 3"),
            _line(panel.after, left, "#0a58ca", ""),
        ]
    parts.append(f'<text x="{GAP}" y="{height - 10}">confidence (across), right (up); dashes before, line after</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _line(found: Points, left: int, colour: str, dashes: str) -> str:
    at = " ".join(f"{left + x * SIDE:.1f},{TOP + (1 - y) * SIDE:.1f}" for x, y in found)
    return f'<polyline points="{at}" fill="none" stroke="{colour}" stroke-width="1.5" stroke-dasharray="{dashes}"/>'
