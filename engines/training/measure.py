"""Calibrates every head of a model on dev and measures it on the public test halves, through the engine that ships."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from engines.artefacts import MetricRow
from engines.base import F64, HeadSpec, TextModel
from engines.evaluate import Evaluation, evaluate, evaluate_values
from engines.probability import decided, millionths, probabilities
from engines.tasks import TaskSpec
from engines.training.calibration import fit_head
from engines.training.data import TaskData


def bare_head(spec: TaskSpec) -> HeadSpec:
    """The head of a task before calibration."""
    return HeadSpec(spec.task, spec.kind, spec.labels, lo=spec.lo, hi=spec.hi)


def measure(
    model: TextModel, data: Sequence[TaskData]
) -> tuple[tuple[HeadSpec, ...], list[Evaluation], tuple[MetricRow, ...]]:
    """(calibrated heads, what was measured of each, the same as rows of the manifest)."""
    heads: list[HeadSpec] = []
    evaluations: list[Evaluation] = []
    metrics: list[MetricRow] = []
    for d in data:
        dev: F64 = model.logits(d.dev.texts).logits[d.spec.task]
        test: F64 = model.logits(d.test.texts).logits[d.spec.task]
        head, before, after = calibrated(d.spec, dev, d.dev.truth)
        evaluation = measured(head, d.spec, test, d.test.truth)
        heads.append(head)
        evaluations.append(evaluation)
        where = f"{d.spec.data_set}/test_public"
        metrics += [
            MetricRow(
                d.spec.task, m.metric, m.value, m.lo, m.hi, evaluation.rows, where, d.spec.published, before, after
            )
            for m in evaluation.metrics
        ]
    return tuple(heads), evaluations, tuple(metrics)


def calibrated(spec: TaskSpec, logits: F64, truth: NDArray[np.float32]) -> tuple[HeadSpec, float | None, float | None]:
    """(head fitted on these rows, calibration error before, after); a regression has nothing to fit."""
    if spec.kind == "regression":
        return bare_head(spec), None, None
    head, before, after = fit_head(spec, logits, truth)
    return msgspec.structs.replace(head, lo=spec.lo, hi=spec.hi), before, after


def measured(head: HeadSpec, spec: TaskSpec, logits: F64, truth: NDArray[np.float32]) -> Evaluation:
    """The head on labelled rows."""
    if spec.kind == "regression":
        return evaluate_values(spec, truth, logits)
    return evaluate(spec, truth, decided(head, millionths(head, logits)), probabilities(head, logits))
