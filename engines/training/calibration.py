"""Fits on dev logits: a temperature per head, a bias per label of a head of one label a row, a threshold per label."""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from engines.base import F64, HeadSpec
from engines.evaluate import calibration_error
from engines.probability import probabilities
from engines.tasks import NEED_LABELS, TaskSpec

_RESAMPLES = 40
PART: Final = {"accuracy": 0.0, "macro_f1": 0.5, "average_recall": 1.0}
"""How much of the bias a decision leaves out, by what it is to be good at: the most probable label is right most often,
recall asks that every class count alike, F1 lies between (its best threshold is below a half, Lipton et al. 2014)."""


def fit_head(spec: TaskSpec, logits: F64, truth: NDArray[np.float32]) -> tuple[HeadSpec, float, float]:
    """(head with temperature and thresholds, dev calibration error before, after) from the integer engine's logits."""
    raw = HeadSpec(spec.task, spec.kind, spec.labels)
    before = calibration_error(spec, truth, probabilities(raw, logits))
    if spec.kind == "single":
        temperature, bias = bias_corrected(logits, truth)
        head = HeadSpec(spec.task, spec.kind, spec.labels, temperature, bias=bias)
        head = msgspec.structs.replace(head, thresholds=_weights(spec, head))
        after = probabilities(head, logits)
    else:
        temperature = _temperature(raw, logits, truth)
        head = HeadSpec(spec.task, spec.kind, spec.labels, temperature)
        after = probabilities(head, logits)
        head = msgspec.structs.replace(head, thresholds=_thresholds(spec, after, truth))
    head = msgspec.structs.replace(head, confusion=confusion(spec, after, truth))
    return head, before, calibration_error(spec, truth, after)


def bias_corrected(logits: F64, truth: NDArray[np.float32]) -> tuple[float, tuple[float, ...]]:
    """(temperature, bias per label with mean 0) with the least negative log-likelihood, to 4 decimals.

    Bias-corrected temperature scaling (Alexandari, Kundaje & Shrikumar 2020). The loss is convex in 1 / temperature and
    the biases; Newton's method on all rows, with a slight pull of the biases to 0 for labels with few rows.
    """
    rows, labels = logits.shape
    want = (truth > 0).astype(np.float64)
    slopes = np.concatenate([logits[:, :, None], np.broadcast_to(np.eye(labels), (rows, labels, labels))], axis=2)
    pull = np.diag([0.0, *[1.0 / rows] * labels])
    at = np.array([1.0, *[0.0] * labels])
    for _ in range(30):
        scores = slopes @ at
        p = np.exp(scores - scores.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        slope = np.einsum("nk,nkp->p", p - want, slopes) / rows + pull @ at
        mean = np.einsum("nk,nkp->np", p, slopes)
        curve = (np.einsum("nk,nkp,nkq->pq", p, slopes, slopes) - mean.T @ mean) / rows + pull
        step = np.linalg.solve(curve, slope)
        at = at - step * min(1.0, 1.0 / float(np.abs(step).max()))
        if np.abs(step).max() < 1e-9:
            break
    temperature = 1.0 / max(float(at[0]), 0.05)
    bias = at[1:] - at[1:].mean()
    return round(temperature, 4), tuple(round(float(b), 4) for b in bias)


def _weights(spec: TaskSpec, head: HeadSpec) -> tuple[float, ...]:
    """Thresholds of a `single` head: e^(part of the bias), the part that its metrics ask for, on the average.

    None of it takes the most probable label, all of it decides as the trained network does, which weighted the classes.
    Nothing is fitted: on a few hundred dev rows the parts differ by chance.
    """
    part = float(np.mean([PART[metric] for metric in spec.metrics]))
    return tuple(round(float(np.exp(part * b)), 4) for b in head.bias)


def confusion(spec: TaskSpec, p: F64, truth: NDArray[np.float32]) -> tuple[tuple[float, ...], ...]:
    """`HeadSpec.confusion` of calibrated probabilities, to 5 decimals.

    For a class that never occurs on dev the mean of all rows stands in: it tells a corrector nothing, as it should.
    """
    if spec.kind == "single":
        rows = [p[truth[:, k] > 0] for k in range(len(spec.labels))]
    else:
        rows = []
        for k in range(len(spec.labels)):
            known = truth[:, k] >= 0
            absent, present = p[known & (truth[:, k] <= 0), k], p[known & (truth[:, k] > 0), k]
            both = [part.mean() if len(part) else p[:, k].mean() for part in (absent, present)]
            rows.append(np.array([both]))
    means = [r.mean(axis=0) if len(r) else p.mean(axis=0) for r in rows]
    return tuple(tuple(round(float(x), 5) for x in mean) for mean in means)


def _thresholds(spec: TaskSpec, p: F64, truth: NDArray[np.float32]) -> tuple[float, ...]:
    """One threshold per label: the best F1 of that label.

    Where the headline pools the need labels (micro-F1), theirs are drawn halfway to the one threshold that is best for
    all of them together: on halves of dev that is worth 3.7 points of micro-F1.
    """
    limits = [_threshold(p[:, k], truth[:, k]) for k in range(len(spec.labels))]
    if spec.metrics[0] == "need_micro_f1":
        needs = [spec.labels.index(name) for name in NEED_LABELS]
        pooled = _threshold(p[:, needs].ravel(), truth[:, needs].ravel())
        for k in needs:
            limits[k] = round((limits[k] + pooled) / 2, 4)
    return tuple(limits)


def _temperature(head: HeadSpec, logits: F64, truth: NDArray[np.float32]) -> float:
    """The temperature with the least negative log-likelihood, to 3 decimals."""
    grid = np.round(np.geomspace(0.3, 4.0, 120), 3).tolist()
    return float(min(grid, key=lambda t: _nll(HeadSpec(head.task, head.kind, head.labels, t), logits, truth)))


def _nll(head: HeadSpec, logits: F64, truth: NDArray[np.float32]) -> float:
    p = np.clip(probabilities(head, logits), 1e-9, 1 - 1e-9)
    if head.kind == "single":
        return float(-np.log(p[truth > 0]).sum())
    known = truth >= 0
    return float(-np.log(np.where(truth > 0, p, 1 - p)[known]).sum())


def _threshold(p: F64, truth: NDArray[np.float32]) -> float:
    """The threshold with the best F1, averaged over bootstrap resamples (one maximum is luck for rare labels)."""
    known = truth >= 0
    p, true = p[known], truth[known] > 0
    if not true.any():
        return 0.5
    random = np.random.default_rng(0)
    order = np.argsort(-p, kind="stable")
    best = []
    for _ in range(_RESAMPLES):
        drawn = np.bincount(random.integers(0, len(p), len(p)), minlength=len(p))[order]
        hits, said = np.cumsum(drawn * true[order]), np.cumsum(drawn)
        if hits[-1]:
            best.append(float(p[order][np.argmax(2 * hits / (said + hits[-1]))]))
    return round(float(np.clip(np.mean(best), 0.02, 0.95)), 4) if best else 0.5
