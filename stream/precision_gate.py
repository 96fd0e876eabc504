"""Judges the precision files of a model: scored on rows kept for that, replayed, and told in a table."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from engines.artefacts import Manifest
from engines.base import TextModel
from engines.derive.files import PrecisionFile
from engines.derive.rows import held_rows, training_texts
from engines.gate import Held, Logits, heads_compared, refusals, score
from engines.load import encoder
from engines.precisions import Precision, SignalGate, Verdict
from stream.scenario import generate
from stream.signal_gate import PLAYS, START_MS, Play, Rows, compared, replayed

CALIBRATION: Final = 40
"""Training texts of each head's data set that fix the steps of `qdq-int8`."""
FIXTURE_SEED, CALIBRATION_SEED = 20_262, 20_263
RULES: Final[dict[Precision, str]] = {"fp32": "fp32", "fp16": "fp16", "cpu-int8": "int8", "qdq-int8": "int8"}
Step = Callable[[str, int], object]
"""Told what is being done, and how many rows of it are done."""


@dataclass(slots=True)
class Judge:
    """Judges the files of one model. What the reference said and replayed is kept for the next file.

    The float32 file is judged against the shipped one, by scores alone: the same weights, so it must give the same
    answers within what int8 may cost. All others are judged against float32, by scores and by signals.

    Attributes:
        held, validation: rows, and in words which. plays: scenarios replayed.
        step: progress.
    """

    manifest: Manifest
    shipped: bytes
    whole: PrecisionFile
    held: Sequence[Held]
    validation: str
    plays: Sequence[Play]
    step: Step = lambda what, rows: None
    _scored: dict[str, Logits] = field(default_factory=dict)
    _replayed: dict[str, Rows] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Rows that are scored of one file."""
        return sum(len(h.texts) for h in self.held)

    def judge(self, file: PrecisionFile) -> Verdict:
        """The verdict on one file. Raises what loading and replaying raise."""
        against = self.shipped if file.precision == "fp32" else self.whole.packed
        rule = RULES[file.precision]
        first = self._scores(against, "shipped" if file.precision == "fp32" else "fp32")
        heads = heads_compared(self.manifest.heads, self.held, first, self._scores(file.packed, file.precision))
        signals = () if file.precision == "fp32" else tuple(self._signals(file, play) for play in self.plays)
        reasons = refusals(rule, heads, signals)
        digest = hashlib.sha256(against).hexdigest()
        return Verdict(not reasons, reasons, rule, digest, self.validation, heads, signals, versions())

    def _scores(self, packed: bytes, name: str) -> Logits:
        digest = hashlib.sha256(packed).hexdigest()
        if digest not in self._scored:
            self._scored[digest] = score(self._model(packed), self.held, lambda n: self.step(f"scoring {name}", n))
        return self._scored[digest]

    def _signals(self, file: PrecisionFile, play: Play) -> SignalGate:
        if str(play) not in self._replayed:
            self.step(f"replaying {play.scenario}, fp32", 0)
            self._replayed[str(play)] = replayed(self._model(self.whole.packed), play)
        self.step(f"replaying {play.scenario}, {file.precision}", 0)
        return compared(play, self._replayed[str(play)], replayed(self._model(file.packed), play))

    def _model(self, packed: bytes) -> TextModel:
        return encoder(self.manifest, packed)


def validation_rows(manifest: Manifest, data: str | None, most: int) -> tuple[list[Held], str]:
    """(rows that judge, which they are): labelled dev rows below `data`, else texts of the bundled scenarios."""
    if data:
        found = held_rows(Path(data) / "text", manifest.heads, most)
        if found:
            rows = sum(len(h.texts) for h in found)
            return found, f"{rows} labelled dev rows of {len(found)} heads, at most {most} of each"
    texts = scenario_texts(FIXTURE_SEED, most)
    words = f"{len(texts)} texts of the bundled scenarios, no labels: agreement and moves alone, no metric"
    return [Held("", texts, None)], words


def calibration_texts(manifest: Manifest, data: str | None) -> list[str]:
    """Texts that fix the steps of activations: training texts below `data`, else texts of the bundled scenarios."""
    found = training_texts(Path(data) / "text", manifest.heads, CALIBRATION) if data else []
    return found or scenario_texts(CALIBRATION_SEED, 10 * CALIBRATION)


def scenario_texts(seed: int, most: int) -> list[str]:
    """Different texts that this project wrote itself, an equal part of each scenario."""
    found: dict[str, None] = {}
    for name in PLAYS:
        own = dict.fromkeys(str(post["text"]) for post in generate(name, seed, 20, 30, START_MS).posts)
        found.update(dict.fromkeys(list(own)[: max(1, most // len(PLAYS))]))
    return list(found)


def versions() -> str:
    """What the figures were measured with."""
    found = [f"{p} {importlib.metadata.version(p)}" for p in ("onnxruntime", "onnx", "numpy")]
    return ", ".join([platform.machine(), *found])


def table(name: str, verdicts: Sequence[tuple[str, Verdict]]) -> str:
    """What the gate found, to be read."""
    lines = []
    for precision, v in verdicts:
        state = "passed" if v.passed else "REFUSED"
        lines.append(f"{name}:{precision}  {state}  (limits of {v.rule}; {v.validation}; {v.versions})")
        lines.append("  head                  rows  metric          before   after   lower  agree   mean dp  max dp")
        for h in v.heads:
            figures = "-               -       -       -    "
            if h.metric is not None and h.reference is not None and h.value is not None and h.lower is not None:
                figures = f"{h.metric:15} {h.reference:.4f}  {h.value:.4f}  {100 * h.lower:+.2f}"
            agree = "     -" if h.agreement is None else f"{h.agreement:6.2%}"
            lines.append(f"  {h.task:20} {h.rows:5d}  {figures}  {agree}  {h.mean_moved:.5f}  {h.max_moved:.4f}")
        lines += [
            f"  signals of {s.replay}: {s.rows} rows, {s.beyond} beyond a tenth of their interval, {s.lost} lost,"
            f" typically {s.typical:.3f} of it ({s.loudest} {s.loudest_typical:.3f}), most {s.most:.3f}"
            for s in v.signals
        ]
        lines += [f"  because {reason}" for reason in v.reasons]
    return "\n".join(lines)
