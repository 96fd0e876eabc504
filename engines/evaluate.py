"""How good a head is: the task's metric with a 95 % bootstrap interval, a table per label, the calibration error."""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from engines.base import F64
from engines.tasks import NEED_LABELS, MetricName, TaskSpec

RESAMPLES: Final = 1000
_ECE_BINS: Final = 15


class Measured(msgspec.Struct, frozen=True):
    """One figure with its 95 % interval (percentiles of `RESAMPLES` bootstrap resamples of the rows, seed 0)."""

    metric: str
    value: float
    lo: float
    hi: float


class LabelScore(msgspec.Struct, frozen=True):
    """One label: precision and F1 are 0 where nothing was decided; `support` = rows that truly have it."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int


class Evaluation(msgspec.Struct, frozen=True):
    """Everything measured of one task on one set of rows.

    `ece` in [0, 1], see `calibration_error`. A regression has none, and no table per label.
    """

    task: str
    rows: int
    metrics: tuple[Measured, ...]
    labels: tuple[LabelScore, ...]
    ece: float | None
    published: str


def evaluate(spec: TaskSpec, truth: NDArray[np.float32], decided: NDArray[np.bool_], probability: F64) -> Evaluation:
    """Score decided labels and probabilities against the truth.

    Args:
        truth: float32 [rows, labels]; 1, 0, or -1 for not known (left out, cell by cell).
        decided: bool [rows, labels].
        probability: float64 [rows, labels], calibrated.

    Raises:
        ValueError: no rows, or shapes that differ.
    """
    if not len(truth) or truth.shape != decided.shape or truth.shape != probability.shape:
        raise ValueError(
            f"task {spec.task!r}: shapes {truth.shape}, {decided.shape}, {probability.shape} must agree and have rows"
        )
    known = truth >= 0
    true = (truth > 0).astype(np.float64)
    said = (decided & known).astype(np.float64)
    cells = np.concatenate([true * said, true, said], axis=1)  # hits, truths and decisions of each label
    whole = cells.sum(0, keepdims=True)
    support = whole[0, len(spec.labels) : 2 * len(spec.labels)]
    drawn = _resample(len(truth)) @ cells
    measured = []
    for metric in spec.metrics:
        value = float(_metric(spec, metric, whole, support, len(truth))[0])
        lo, hi = np.percentile(_metric(spec, metric, drawn, support, len(truth)), [2.5, 97.5]).tolist()
        measured.append(Measured(metric, value, lo, hi))
    return Evaluation(
        spec.task,
        len(truth),
        tuple(measured),
        _table(spec, whole),
        calibration_error(spec, truth, probability),
        spec.published,
    )


def evaluate_values(spec: TaskSpec, truth: NDArray[np.float32], values: F64) -> Evaluation:
    """Pearson's r of a regression: `pearson`, the mean over its labels, then `pearson_<label>` of each.

    Args:
        truth, values: [rows, labels].

    Raises:
        ValueError: fewer than three rows, or shapes that differ.
    """
    if len(truth) < 3 or truth.shape != values.shape:
        raise ValueError(f"task {spec.task!r}: shapes {truth.shape}, {values.shape} must agree and have three rows")
    known = truth.astype(np.float64)
    whole = _pearson(np.ones((1, len(known))), known, values)
    drawn = _pearson(_resample(len(known)), known, values)
    columns = [("pearson", whole.mean(1), drawn.mean(1))]
    columns += [(f"pearson_{name}", whole[:, k], drawn[:, k]) for k, name in enumerate(spec.labels)]
    measured = tuple(
        Measured(name, float(value[0]), *np.percentile(resamples, [2.5, 97.5]).tolist())
        for name, value, resamples in columns
    )
    return Evaluation(spec.task, len(truth), measured, (), None, spec.published)


class Drop(msgspec.Struct, frozen=True):
    """Headline metric of two models on the same rows; `lower`: 2.5 % percentile of second - first over resamples."""

    metric: str
    first: float
    second: float
    lower: float


def drop(spec: TaskSpec, truth: NDArray[np.float32], first: NDArray[np.generic], second: NDArray[np.generic]) -> Drop:
    """What is lost by going from one model to another: a paired bootstrap, both on the same resamples.

    Args:
        truth: float32 [rows, labels] as for `evaluate`, of a regression as for `evaluate_values`.
        first, second: [rows, labels], decided labels (bool), of a regression values (float64).

    Raises:
        ValueError: fewer than three rows, or shapes that differ.
    """
    if len(truth) < 3 or not truth.shape == first.shape == second.shape:
        raise ValueError(
            f"task {spec.task!r}: shapes {truth.shape}, {first.shape}, {second.shape} must agree and have three rows"
        )
    weights = np.concatenate([np.ones((1, len(truth))), _resample(len(truth))])
    found = []
    for said in (first, second):
        if spec.kind == "regression":
            found.append(_pearson(weights, truth.astype(np.float64), said.astype(np.float64)).mean(1))
            continue
        true = (truth > 0).astype(np.float64)
        decided = said.astype(np.float64) * (truth >= 0)
        support = true.sum(0)
        cells = weights @ np.concatenate([true * decided, true, decided], axis=1)
        found.append(_metric(spec, spec.metrics[0], cells, support, len(truth)))
    lower = float(np.percentile((found[1] - found[0])[1:], 2.5))
    return Drop(spec.metrics[0], float(found[0][0]), float(found[1][0]), lower)


def judged(kind: str, truth: NDArray[np.float32], probability: F64) -> tuple[F64, F64]:
    """(how sure, 1 right or 0 wrong) of every judgement of a head.

    `single`: the most probable label of each row. `multi`: every label of every row that is known.
    """
    if kind == "single":
        top = probability.argmax(1)
        at = np.arange(len(top))
        return probability[at, top], (truth[at, top] > 0).astype(np.float64)
    known = truth >= 0
    return probability[known], (truth[known] > 0).astype(np.float64)


def calibration_error(spec: TaskSpec, truth: NDArray[np.float32], probability: F64) -> float:
    """Expected calibration error over 15 equal bins (Guo et al. 2017).

    `single`: the probability of the most probable label against how often it is right. `multi`: every label's
    probability against how often it holds, over all known cells.
    """
    return _gap(*judged(spec.kind, truth, probability))


def calibration_floor(spec: TaskSpec, truth: NDArray[np.float32], probability: F64, draws: int = 50) -> float:
    """The mean calibration error that a head without any would show on so many rows, by luck alone: rightness is drawn
    from the probabilities themselves (consistency resampling, Broecker & Smith 2007)."""
    confidence, _ = judged(spec.kind, truth, probability)
    random = np.random.default_rng(0)
    drawn = [(random.random(len(confidence)) < confidence).astype(np.float64) for _ in range(draws)]
    return float(np.mean([_gap(confidence, right) for right in drawn]))


def _gap(confidence: F64, right: F64) -> float:
    bins = np.minimum((confidence * _ECE_BINS).astype(np.int64), _ECE_BINS - 1)
    gaps = np.abs(np.bincount(bins, confidence - right, _ECE_BINS))
    return float(gaps.sum() / len(confidence))


def _resample(rows: int) -> F64:
    """How often each row is drawn in each resample: [RESAMPLES, rows]."""
    random = np.random.default_rng(0)
    drawn = np.empty((RESAMPLES, rows))
    for k in range(RESAMPLES):
        drawn[k] = np.bincount(random.integers(0, rows, rows), minlength=rows)
    return drawn


def _pearson(weights: F64, x: F64, y: F64) -> F64:
    """r of each column under each row of weights: [resamples, columns]. 0 where a side does not vary."""
    total = weights.sum(1, keepdims=True)
    x, y = x - x.mean(0), y - y.mean(0)
    mean_x, mean_y = weights @ x / total, weights @ y / total
    spread_x = weights @ (x * x) / total - mean_x**2
    spread_y = weights @ (y * y) / total - mean_y**2
    shared = weights @ (x * y) / total - mean_x * mean_y
    r: F64 = shared / np.sqrt(np.maximum(spread_x * spread_y, 1e-24))
    return r


def _metric(spec: TaskSpec, metric: MetricName, cells: F64, support: F64, rows: int) -> F64:
    """The metric of each resample. Labels that the data never have are no part of a mean over labels."""
    n = len(spec.labels)
    hits, truths, said = cells[:, :n], cells[:, n : 2 * n], cells[:, 2 * n :]
    present = support > 0
    if metric == "accuracy":
        accuracy: F64 = hits.sum(1) / rows
        return accuracy
    if metric == "average_recall":
        recall: F64 = (hits / np.maximum(truths, 1.0))[:, present].mean(1)
        return recall
    if metric == "need_micro_f1":
        at = [spec.labels.index(name) for name in NEED_LABELS]
        return _f1(hits[:, at].sum(1), truths[:, at].sum(1), said[:, at].sum(1))
    macro: F64 = _f1(hits, truths, said)[:, present].mean(1)
    return macro


def _f1(hits: F64, truths: F64, said: F64) -> F64:
    f1: F64 = 2.0 * hits / np.maximum(truths + said, 1.0)
    return f1


def _table(spec: TaskSpec, whole: F64) -> tuple[LabelScore, ...]:
    hits, truths, said = whole[0].reshape(3, -1)
    f1 = _f1(hits, truths, said)
    return tuple(
        LabelScore(name, float(h / max(s, 1.0)), float(h / max(t, 1.0)), float(f), int(t))
        for name, h, t, s, f in zip(spec.labels, hits, truths, said, f1, strict=True)
    )
