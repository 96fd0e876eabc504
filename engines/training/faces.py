"""FER+ as it lies in `shared/data/av/fer2013plus`: faces, the taggers' votes, and what the paper makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

VOTE_ORDER: Final = (
    "neutral",
    "happiness",
    "surprise",
    "sadness",
    "anger",
    "disgust",
    "fear",
    "contempt",
    "unknown",
    "NF",
)
"""Columns of `ferplus_votes`; the first eight are the labels of `ferplus8` in its order."""
CLASSES: Final = 8


@dataclass(frozen=True, slots=True)
class Faces:
    """Faces of one split. `x` uint8 [n, 48, 48]; `votes` uint8 [n, 10] in `VOTE_ORDER`."""

    x: NDArray[np.uint8]
    votes: NDArray[np.uint8]


def read_faces(path: Path) -> Faces:
    """One split's `.npz`: the stored two-way differences summed up again (README of the data set)."""
    with np.load(path, allow_pickle=False) as arrays:
        x = arrays["x_grad"].cumsum(1, dtype=np.uint8).cumsum(2, dtype=np.uint8)
        return Faces(x, arrays["ferplus_votes"])


def distribution(votes: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """(share of votes per label, float32 [n, 8]; rows fit for training, bool [n]).

    Single votes are taken for slips (Barsoum et al. 2016). A row trains when a label, not "unknown" or "NF", leads.
    """
    kept = np.where(votes > 1, votes, 0).astype(np.float32)
    labels = kept[:, :CLASSES]
    total = labels.sum(1, keepdims=True)
    fit = (kept.argmax(1) < CLASSES) & (total[:, 0] > 0)
    return labels / np.maximum(total, 1.0), fit


def majority(votes: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The label of each row by the paper's majority rule, int64 [n]; -1 where it drops the row.

    Single votes removed, a label must have more than half of what is left, and be neither "unknown" nor "NF".
    """
    kept = np.where(votes > 1, votes, 0).astype(np.int64)
    top = kept.argmax(1)
    agreed = 2 * kept.max(1) > kept.sum(1)
    return np.where(agreed & (top < CLASSES), top, -1)
