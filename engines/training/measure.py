"""Calibrates every head of a model on dev and measures it on the public test halves, through the engine that ships."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from engines.artefacts import MetricRow
from engines.base import F64, HeadSpec, TextModel
from engines.evaluate import Evaluation, calibration_floor, evaluate, evaluate_values
from engines.probability import decided, millionths, probabilities
from engines.tasks import TaskSpec
from engines.training.calibration import fit_head
from engines.training.data import TaskData
from engines.training.reliability import Panel, points


def bare_head(spec: TaskSpec) -> HeadSpec:
    """The head of a task before calibration."""
    return HeadSpec(spec.task, spec.kind, spec.labels, lo=spec.lo, hi=spec.hi, languages=spec.languages)


Logits = Callable[[Sequence[str], str], F64]
"""Texts and a task -> the head's logits [rows, labels]."""


@dataclass(frozen=True, slots=True)
class Measurements:
    """Calibrated heads, what was measured of each, the same as rows of the manifest, and the reliability curves."""

    heads: tuple[HeadSpec, ...]
    evaluations: list[Evaluation]
    metrics: tuple[MetricRow, ...]
    panels: list[Panel]


def logits_of(model: TextModel) -> Logits:
    """A model as `measure` asks it."""
    return lambda texts, task: model.logits(texts).logits[task]


def measure(logits: Logits, data: Sequence[TaskData]) -> Measurements:
    """Calibrate on dev, measure on the public test halves."""
    heads: list[HeadSpec] = []
    evaluations: list[Evaluation] = []
    metrics: list[MetricRow] = []
    panels: list[Panel] = []
    for d in data:
        spec = d.spec
        dev, test = logits(d.dev.texts, spec.task), logits(d.test.texts, spec.task)
        head, before, after = calibrated(spec, dev, d.dev.truth)
        evaluation = measured(head, spec, test, d.test.truth)
        floor = None
        if spec.kind != "regression":
            floor = calibration_floor(spec, d.dev.truth, probabilities(head, dev))
            raw = probabilities(bare_head(spec), test)
            curves = [points(spec.kind, d.test.truth, p) for p in (raw, probabilities(head, test))]
            panels.append(Panel(spec.task, *curves))
        heads.append(head)
        evaluations.append(evaluation)
        where = f"{spec.data_set}/test_public"
        metrics += [
            MetricRow(
                spec.task, m.metric, m.value, m.lo, m.hi, evaluation.rows, where, spec.published, before, after, floor
            )
            for m in evaluation.metrics
        ]
    return Measurements(tuple(heads), evaluations, tuple(metrics), panels)


def calibrated(spec: TaskSpec, logits: F64, truth: NDArray[np.float32]) -> tuple[HeadSpec, float | None, float | None]:
    """(head fitted on these rows, calibration error before, after); a regression has nothing to fit."""
    if spec.kind == "regression":
        return bare_head(spec), None, None
    head, before, after = fit_head(spec, logits, truth)
    return msgspec.structs.replace(head, lo=spec.lo, hi=spec.hi, languages=spec.languages), before, after


def measured(head: HeadSpec, spec: TaskSpec, logits: F64, truth: NDArray[np.float32]) -> Evaluation:
    """The head on labelled rows."""
    if spec.kind == "regression":
        return evaluate_values(spec, truth, logits)
    return evaluate(spec, truth, decided(head, millionths(head, logits)), probabilities(head, logits))
