"""Valence and arousal derived from probabilities of emotions: signs of the tree's branches, not a measurement.

Valence is the ontology's (positive minus negative mass). Arousal is the mass on branches of high activation minus that
on branches of low activation, by the halves of Russell's circumplex (1980) in which their words lie. It says which way,
not how strongly: two angry faces of different heat have the same arousal if they are equally surely angry.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from operators.ontology import Ontology, shares
from operators.records import F64, I32, MICRO

AROUSAL: Final = {
    "cheerfulness": 1,
    "zest": 1,
    "surprise": 1,
    "rage": 1,
    "irritation": 1,
    "exasperation": 1,
    "horror": 1,
    "nervousness": 1,
    "enthrallment": 1,
    "lust": 1,
    "contentment": -1,
    "relief": -1,
    "sadness": -1,
    "disappointment": -1,
    "neglect": -1,
    "sympathy": -1,
}
"""Sign of activation by secondary emotion; a branch that is not here lies near the middle."""


def valence_arousal(task: str, micro: I32, labels: Sequence[str]) -> tuple[F64, F64]:
    """(valence, arousal), float64 [n] each in -1..1, of probabilities int32 [n, labels] in millionths.

    Raises:
        ConfigInvalid: the ontology does not know the task or a label.
    """
    ontology = Ontology.load()
    rolled = ontology.roll_up(task, micro, labels)
    signs = np.array([AROUSAL.get(name, 0) for name in ontology.secondaries], np.int64)
    return rolled.valence / MICRO, (rolled.secondary @ signs) / MICRO


def tones(task: str, micro: I32, labels: Sequence[str]) -> F64:
    """Negative, neutral and positive share, float64 [n, 3], rows sum to 1, of probabilities int32 [n, labels].

    Valence is the last less the first. Labels without a sign, such as surprise, are neutral here, and so is a row
    without any mass.

    Raises:
        ConfigInvalid: the ontology does not know the task or a label.
    """
    ontology = Ontology.load()
    mass = shares(micro)
    signs = np.array([ontology.place(task, label).valence for label in labels], np.int64)
    below, above = mass[:, signs < 0].sum(axis=1), mass[:, signs > 0].sum(axis=1)
    found: F64 = np.stack([below, MICRO - below - above, above], axis=1) / MICRO
    return found
