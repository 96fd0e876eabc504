"""Writes a model's CARD.md from its manifest and what was measured."""

from __future__ import annotations

from collections.abc import Sequence

from engines.artefacts import Manifest, MetricRow
from engines.evaluate import Evaluation

GPU = (
    "TensorRT backend: type-checked, never executed. torch and onnxruntime on CUDA: not yet run on a card"
    " (docs/gpu.md). All figures here are of the CPU."
)


def write_card(manifest: Manifest, evaluations: Sequence[Evaluation], recipe: str) -> str:
    """The card as Markdown: what it is for, its limits, what it was made from, and a table per label of every head."""
    lines = [
        f"# {manifest.name}@{manifest.version}",
        "",
        f"Backend `{manifest.backend}`, weights `{manifest.file}`, sha256 `{manifest.sha256}`.",
        "",
        f"**For.** {manifest.intended_use}",
        "",
        f"**Limits.** {manifest.limits}",
        "",
        *(["**On a GPU.** " + GPU, ""] if manifest.backend == "onnx-cpu" else []),
        f"**Rebuilt by** `{manifest.training_command}` (seed {manifest.seed}). {recipe}",
        "",
        "## Data",
        "",
        "| data set | training rows | left out (dev or test text of some set) | licence as stated | source |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [f"| {d.name} | {d.rows} | {d.dropped_overlap} | {d.licence} | {d.source} |" for d in manifest.data]
    lines += [
        "",
        "## Figures",
        "",
        "Of the shipped file, on the public half of each test split, 95 % bootstrap interval over rows."
        " Published figures are on other rows (the whole test split, or cross-validation): beside, not against.",
        "",
        "| task | metric | value | 95 % interval | rows | dev ECE before, after; by luck alone | published |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {m.task} | {m.metric} | {m.value:.3f} | {m.lo:.3f} - {m.hi:.3f} | {m.rows} | {_errors(m)} | {m.published} |"
        for m in manifest.metrics
    ]
    lines += [
        "",
        "Calibration is fitted on dev: a temperature a head, and a bias a label where labels exclude each other. *By"
        " luck alone*: what a head without any error would show on so few dev rows. On the public test half, before"
        " (dashes) and after:",
        "",
        "![Reliability curves of every head](reliability.svg)",
        "",
        "Other languages and other kinds of text: [docs/models.md](../../../docs/models.md).",
    ]
    for evaluation in evaluations:
        if evaluation.ece is None:
            continue
        lines += ["", f"## {evaluation.task} (test ECE {evaluation.ece:.3f})", ""]
        lines += ["| label | precision | recall | F1 | support |", "| --- | --- | --- | --- | --- |"]
        lines += [
            f"| {s.label} | {s.precision:.3f} | {s.recall:.3f} | {s.f1:.3f} | {s.support} |" for s in evaluation.labels
        ]
    return "\n".join(lines) + "\n"


def _errors(m: MetricRow) -> str:
    """Calibration errors, before and after; a regression has none."""
    if m.ece_before is None or m.ece_after is None:
        return "-"
    return f"{m.ece_before:.3f}, {m.ece_after:.3f}; {'-' if m.ece_floor is None else f'{m.ece_floor:.3f}'}"
