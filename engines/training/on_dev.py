"""What weights are worth on dev: decides when a training stops, and which of several trainings is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from engines.training.data import Rows, TaskData
from engines.training.encoder import Encoder, Shape
from engines.training.measure import calibrated, measured
from engines.training.teacher import outputs
from engines.wordpieces import WordPieces

F32 = NDArray[np.float32]
ROWS = 400
"""Dev rows of a head that are judged at most: the interval is a few points wide, the check takes a minute."""
MULTI_ROWS = 2000
"""Of a head of many labels a text: on 400 rows rare labels have two or three, and the same weights, rounded otherwise,
moved the macro-F1 of goemotions28 by 7 points."""


class OnDev:
    """The first `ROWS` or `MULTI_ROWS` dev rows of every head, in an order of its own, and the headline metric of
    weights on them.

    Heads are calibrated on the rows they are judged on: good for comparing, too good for a figure to be told.
    """

    def __init__(self, data: Sequence[TaskData], pieces: WordPieces, shape: Shape, device: str, half: bool) -> None:
        self._data = [(d.spec, _some(d.dev, MULTI_ROWS if d.spec.kind == "multi" else ROWS)) for d in data]
        self._pieces = pieces
        self._device = device
        self._half = half
        self._encoder = Encoder(shape, sum(len(d.spec.labels) for d in data)).to(device).eval()

    def figures(self, weights: Mapping[str, F32]) -> dict[str, float]:
        """Head -> headline metric (0..1); of a regression the mean of its Pearson's r."""
        self._encoder.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
        found, column = {}, 0
        for spec, rows in self._data:
            stop = column + len(spec.labels)
            whole = outputs(self._encoder, self._pieces, rows.texts, self._device, self._half)
            logits = whole[:, column:stop].astype(np.float64)
            head, _, _ = calibrated(spec, logits, rows.truth)
            found[spec.task] = round(measured(head, spec, logits, rows.truth).metrics[0].value, 4)
            column = stop
        return found


def mean(figures: Mapping[str, float]) -> float:
    """One number for all heads, each alike."""
    return float(np.mean(list(figures.values())))


def averaged(many: Sequence[Mapping[str, F32]]) -> dict[str, F32]:
    """The mean of the weights of several trainings from one start (model soup, Wortsman et al. 2022)."""
    return {name: np.mean([weights[name] for weights in many], axis=0, dtype=np.float32) for name in many[0]}


def _some(rows: Rows, most: int) -> Rows:
    order = np.random.default_rng(0).permutation(len(rows.texts))[:most]
    return Rows([rows.texts[k] for k in order.tolist()], rows.truth[order])
