"""Does a score follow the speaker, the prompt or the picture rather than the emotion? (DAIC-WOZ prompt bias, S33.)

Two questions for every factor, both within emotions, so that a factor which goes along with an emotion in the data is
not blamed for it: how much of the scores' variance does it explain, and can it be told from the scores. Both are held
against the same figures with the factor's values drawn anew among the rows of one emotion.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from engines.base import F64

DRAWS: Final = 200
FOLDS: Final = 5
_STRONG: Final = 0.5
_NOTED: Final = 0.1
Verdict = Literal["none", "some", "SHORTCUT"]
Groups = NDArray[np.int64]


class Shortcut(msgspec.Struct, frozen=True):
    """One factor.

    Attributes:
        explained: share of the scores' variance within emotions that the factor explains (eta squared), 0..1.
        chance: mean of the same over `DRAWS` draws by chance; p: share of draws that explain as much.
        told, told_chance: how often the factor's value is told from the scores (nearest mean, five folds), and how
            often when drawn by chance.
        ratio: variance explained by the factor beyond chance, over that explained by the emotion.
        verdict: `SHORTCUT` where the ratio is half or more, `some` from a tenth on (and p below 0.05), else `none`.
    """

    factor: str
    values: int
    explained: float
    chance: float
    p: float
    told: float
    told_chance: float
    ratio: float
    verdict: Verdict


class Audit(msgspec.Struct, frozen=True):
    """`emotion`: share of the scores' whole variance that the true emotion explains, on `rows` rows."""

    task: str
    rows: int
    emotion: float
    factors: tuple[Shortcut, ...]


def audit(task: str, scores: F64, emotion: Groups, factors: Mapping[str, Groups]) -> Audit:
    """Audit scores [rows, labels] against what the rows are.

    Args:
        emotion: true label of each row, int64 [rows].
        factors: name -> value of each row, int64 [rows], numbered from 0.
    """
    random = np.random.default_rng(0)
    centred = scores - scores.mean(0)
    within = centred - means(centred, emotion)[emotion]
    whole = float((centred**2).sum())
    by_emotion = 1.0 - float((within**2).sum()) / whole
    found = tuple(
        _factor(name, within, emotion, values, by_emotion * whole, random) for name, values in factors.items()
    )
    return Audit(task, len(scores), by_emotion, found)


def explained(rows: F64, groups: Groups) -> float:
    """Eta squared: share of the variance of centred rows that lies between the means of groups."""
    total = float((rows**2).sum())
    centre = means(rows, groups)
    sizes = np.bincount(groups, minlength=len(centre))
    return float((centre**2 * sizes[:, None]).sum()) / total if total else 0.0


def means(rows: F64, groups: Groups) -> F64:
    """Mean row of each group, [groups, columns]; 0 for one without rows."""
    sums = np.zeros((int(groups.max()) + 1, rows.shape[1]))
    np.add.at(sums, groups, rows)
    found: F64 = sums / np.maximum(np.bincount(groups, minlength=len(sums)), 1)[:, None]
    return found


def told(rows: F64, groups: Groups, fold: Groups) -> float:
    """How often a row's group is the one with the nearest mean over the other folds (columns scaled alike)."""
    scaled = rows / np.maximum(rows.std(0), 1e-9)
    right = 0
    for k in range(FOLDS):
        test = fold == k
        centre = means(scaled[~test], groups[~test])
        there = np.unique(groups[~test])
        distance = ((scaled[test][:, None, :] - centre[there][None]) ** 2).sum(2)
        right += int((there[distance.argmin(1)] == groups[test]).sum())
    return right / len(rows)


def parts(values: F64, count: int = 5) -> Groups:
    """Numbers as groups of equal size by rank: the lowest fifth is 0."""
    ranks = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    found: Groups = (ranks * count // max(1, len(values))).astype(np.int64)
    return found


def numbered(names: list[str]) -> Groups:
    """Names as numbers, in the order of the alphabet."""
    known = {name: k for k, name in enumerate(sorted(set(names)))}
    return np.array([known[name] for name in names], np.int64)


def _factor(
    name: str, within: F64, emotion: Groups, values: Groups, by_emotion: float, random: np.random.Generator
) -> Shortcut:
    fold = random.integers(0, FOLDS, len(within)).astype(np.int64)
    share, right = explained(within, values), told(within, values, fold)
    drawn, guessed = [], []
    for k in range(DRAWS):
        mixed = values.copy()
        for label in np.unique(emotion):
            rows = np.flatnonzero(emotion == label)
            mixed[rows] = values[random.permutation(rows)]
        drawn.append(explained(within, mixed))
        if k < DRAWS // 10:
            guessed.append(told(within, mixed, fold))
    chance = float(np.mean(drawn))
    p = (1 + sum(d >= share for d in drawn)) / (1 + DRAWS)
    ratio = max(0.0, share - chance) * float((within**2).sum()) / max(by_emotion, 1e-12)
    verdict: Verdict = "none"
    if p < 0.05 and ratio >= _NOTED:
        verdict = "SHORTCUT" if ratio >= _STRONG else "some"
    return Shortcut(name, int(values.max()) + 1, share, chance, p, right, float(np.mean(guessed)), ratio, verdict)
