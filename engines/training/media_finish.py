"""From trained face or voice weights to the model that ships: calibration on dev, figures, shortcut audit, card."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.artefacts import DataSource, Manifest, MetricRow, ModelKind, write_model
from engines.base import F64, HeadSpec
from engines.evaluate import Evaluation, Measured, calibration_error, evaluate
from engines.probability import decided, millionths, probabilities
from engines.shortcuts import Audit, audit
from engines.tasks import TaskSpec
from engines.training.calibration import fit_head
from engines.training.card import write_card


@dataclass(frozen=True, slots=True)
class Labelled:
    """Logits [rows, labels] of labelled rows; `emotion` int64 [rows]; `where`: which rows, in words."""

    logits: F64
    emotion: NDArray[np.int64]
    where: str

    def truth(self, labels: int) -> NDArray[np.float32]:
        """One-hot rows."""
        return np.eye(labels, dtype=np.float32)[self.emotion]


@dataclass(frozen=True, slots=True)
class Facts:
    """What the manifest says besides figures. `elsewhere`: figures on other data sets, as (metric, measured, rows)."""

    name: str
    kind: ModelKind
    data: tuple[DataSource, ...]
    intended_use: str
    limits: str
    command: str
    seed: int
    notes: str
    elsewhere: Sequence[tuple[str, Measured, int, str]] = field(default_factory=tuple)


def finish(
    packed: bytes,
    spec: TaskSpec,
    dev: Labelled,
    test: Labelled,
    factors: Mapping[str, NDArray[np.int64]],
    facts: Facts,
    zoo: Path,
) -> Path:
    """Calibrate on dev, measure on the public test half, audit, write; the model's folder."""
    labels = len(spec.labels)
    head, before, after = fit_head(spec, dev.logits, dev.truth(labels))
    chosen = decided(head, millionths(head, test.logits))
    found = evaluate(spec, test.truth(labels), chosen, probabilities(head, test.logits))
    rows = [
        MetricRow(spec.task, m.metric, m.value, m.lo, m.hi, found.rows, test.where, spec.published, before, after)
        for m in found.metrics
    ]
    rows += [
        MetricRow(spec.task, metric, m.value, m.lo, m.hi, count, where, "none found", None, None)
        for metric, m, count, where in facts.elsewhere
    ]
    digest = hashlib.sha256(packed).hexdigest()
    manifest = Manifest(
        name=facts.name,
        version=digest[:8],
        backend="onnx-cpu",
        file="model.onnx",
        sha256=digest,
        heads=(head,),
        settings={},
        data=facts.data,
        metrics=tuple(rows),
        intended_use=facts.intended_use,
        limits=facts.limits,
        research_only=True,
        training_command=facts.command,
        seed=facts.seed,
        kind=facts.kind,
    )
    raw = HeadSpec(spec.task, spec.kind, spec.labels)
    uncalibrated = calibration_error(spec, test.truth(labels), probabilities(raw, test.logits))
    card = write_card(manifest, [found], facts.notes)
    card += _matrix(spec, test.emotion, chosen) + _calibration(found, uncalibrated, head)
    card += shortcut_section(audit(spec.task, test.logits, test.emotion, factors))
    for row in rows:
        print(f"{row.task}: {row.metric} {row.value:.4f} [{row.lo:.4f}, {row.hi:.4f}] on {row.rows} rows of {row.data}")
    return write_model(manifest, packed, card, zoo)


def shortcut_section(found: Audit) -> str:
    """The shortcut audit as a part of the card; `affect audit shortcuts` prints the same figures."""
    lines = [
        "",
        "## Shortcuts",
        "",
        f"`affect audit shortcuts --task {found.task}`: the emotion explains {found.emotion:.1%} of the variance of the"
        " scores. Within emotions, what else do they follow? `explained` by the factor (by chance), `told` from the"
        " scores (by chance), and the variance it explains beyond chance over that of the emotion.",
        "",
        "| factor | values | explained (chance) | p | told (chance) | of emotion | verdict |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {f.factor} | {f.values} | {f.explained:.1%} ({f.chance:.1%}) | {f.p:.3f} | {f.told:.1%}"
        f" ({f.told_chance:.1%}) | {f.ratio:.1%} | {f.verdict} |"
        for f in found.factors
    ]
    return "\n".join(lines) + "\n"


def _matrix(spec: TaskSpec, emotion: NDArray[np.int64], chosen: NDArray[np.bool_]) -> str:
    counts = np.zeros((len(spec.labels), len(spec.labels)), np.int64)
    np.add.at(counts, (emotion, chosen.argmax(1)), 1)
    lines = ["", "## Confusions", "", "Rows: the truth; columns: what was decided.", ""]
    lines += [f"| | {' | '.join(spec.labels)} |", f"| --- |{' --- |' * len(spec.labels)}"]
    lines += [
        f"| {name} | {' | '.join(map(str, row))} |" for name, row in zip(spec.labels, counts.tolist(), strict=True)
    ]
    return "\n".join(lines) + "\n"


def _calibration(found: Evaluation, uncalibrated: float, head: HeadSpec) -> str:
    ece = 0.0 if found.ece is None else found.ece
    return (
        "\n## Calibration\n\n"
        f"ECE on the public test half: {uncalibrated:.3f} before, {ece:.3f} after the temperature {head.temperature}"
        " (fitted on dev).\n"
    )
