"""The models of an engine server: the one that answers, the one in its shadow, and the change to another version."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from threading import Lock

import msgspec
import numpy as np
from numpy.typing import NDArray

from engines.base import F64, HeadSpec, Recipe, ScoreBatch, TensorBatch, TextModel
from engines.batching import apart, join
from engines.errors import EngineError, EngineLost, ManifestInvalid
from engines.probability import decided, millionths, probabilities

Bools = NDArray[np.bool_]
Scored = ScoreBatch | EngineError
log_ = logging.getLogger("affect.server")


class Foreign(EngineError):
    """Tensors that were made for another model than the one that answers now."""


class Difference(msgspec.Struct):
    """How a shadow differs from what was answered, over one head.

    Attributes:
        rows: compared. labels: rows whose label (`multi`: any of whose labels) would be decided otherwise.
        mean, most: absolute difference of the probabilities (of a regression: of the values).
    """

    rows: int = 0
    labels: int = 0
    mean: float = 0.0
    most: float = 0.0


class Shelf:
    """Holds the models. `run`, `compare` and `put` belong to the thread that scores; the rest may be read anywhere.

    Args:
        load: makes a model of its name. name: of the one that answers. shadow: of the one that is only compared.
        share: of the batches that the shadow scores too.

    Raises:
        EngineError: what `load` raises; ManifestInvalid: a model that says not how its texts become tensors, or a
            shadow that reads other tensors or has other heads.
    """

    def __init__(self, load: Callable[[str], TextModel], name: str, shadow: str = "", share: float = 0.1) -> None:
        self._load = load
        self.name = name
        self.model = load(name)
        self.recipe = _recipe(self.model)
        self.features = self.recipe.digest
        self._share, self._due = share, 1.0
        self.shadow = load(shadow) if shadow else None
        if self.shadow is not None:
            self._fits(self.shadow, shadow)
            if _recipe(self.shadow).digest != self.features:
                raise ManifestInvalid(
                    f"shadow {shadow!r} reads other tensors than {name!r}: it cannot score what clients send for it"
                )
        self._lock = Lock()
        self._differences: dict[str, Difference] = {}
        self.lost = False

    def prepare(self, name: str) -> TextModel:
        """Load the model that is to answer next. Any thread; scoring goes on.

        Raises:
            EngineError: it cannot be loaded, or has other heads than the one that answers now.
        """
        model = self._load(name)
        _recipe(model)
        try:
            self._fits(model, name)
        except ManifestInvalid:
            model.engine.close()
            raise
        return model

    def put(self, name: str, model: TextModel) -> None:
        """Let `model` answer from the next batch on. A shadow that reads other tensors is let go."""
        before, self.model, self.name = self.model, model, name
        self.recipe = _recipe(model)
        self.features = self.recipe.digest
        self.lost = False
        before.engine.close()
        if self.shadow is not None and _recipe(self.shadow).digest != self.features:
            self.shadow.engine.close()
            self.shadow = None

    def run(self, batches: Sequence[TensorBatch], features: Sequence[str]) -> list[Scored]:
        """Score several requests at once; one that cannot be scored is told why and does the others no harm.

        `features`: digest of the recipe that each was made by; it may have come in before a change of models.
        """
        fit = [k for k, digest in enumerate(features) if digest == self.features]
        scored = self._run([batches[k] for k in fit]) if fit else []
        by_place: dict[int, Scored] = dict(zip(fit, scored, strict=True))
        return [by_place.get(k, Foreign("made for another model")) for k in range(len(batches))]

    def _run(self, batches: Sequence[TensorBatch]) -> list[Scored]:
        try:
            joined = self.model.engine.infer(join(batches))
            return list(apart(joined, [b.rows for b in batches]))
        except EngineLost as error:
            self.lost = True
            return [error] * len(batches)
        except EngineError as error:
            if len(batches) == 1:
                return [error]
        except Exception as error:  # a library's own kind: what a stranger sends must not end the server
            if len(batches) == 1:
                return [EngineLost(f"engine {self.model.spec.model_id!r}: {type(error).__name__}: {error}")]
        return [self._run([batch])[0] for batch in batches]

    def compare(self, batches: Sequence[TensorBatch], answers: Sequence[Scored]) -> None:
        """Let the shadow score its share of the batches, and count where it differs. Nobody waits for it."""
        if self.shadow is None:
            return
        self._due += self._share
        if self._due < 1.0:
            return
        self._due -= 1.0
        for batch, answer in zip(batches, answers, strict=True):
            if isinstance(answer, ScoreBatch):
                try:
                    other = self.shadow.engine.infer(batch)
                except Exception as error:  # a shadow may fail in any way it likes
                    log_.warning("the shadow %s failed: %s", self.shadow.spec.model_id, error)
                    self._count("failed", batch.rows, 0, np.zeros(0))
                    continue
                for head in self.model.spec.heads:
                    self._one(head, answer, other)

    def _one(self, head: HeadSpec, answer: ScoreBatch, other: ScoreBatch) -> None:
        mine, theirs = (
            self.model.spec.head(head.task),
            None if self.shadow is None else self.shadow.spec.head(head.task),
        )
        if mine is None or theirs is None:
            return
        otherwise = (_decided(mine, answer) != _decided(theirs, other)).any(axis=1)
        moved = np.abs(_values(mine, answer) - _values(theirs, other))
        self._count(head.task, len(moved), int(otherwise.sum()), moved)

    def _count(self, task: str, rows: int, labels: int, moved: F64) -> None:
        with self._lock:
            known = self._differences.setdefault(task, Difference())
            total = known.rows + rows
            if moved.size:
                known.mean += (float(moved.mean()) - known.mean) * rows / max(1, total)
                known.most = max(known.most, float(moved.max()))
            known.rows, known.labels = total, known.labels + labels

    def differences(self) -> dict[str, Difference]:
        """What was counted so far, by head."""
        with self._lock:
            return {task: msgspec.structs.replace(found) for task, found in self._differences.items()}

    def close(self) -> None:
        """Free the models."""
        self.model.engine.close()
        if self.shadow is not None:
            self.shadow.engine.close()

    def _fits(self, model: TextModel, name: str) -> None:
        """Clients have built on the heads that answer now: their tasks, kinds and labels stay."""
        now, then = (tuple((h.task, h.kind, h.labels) for h in m.spec.heads) for m in (self.model, model))
        if now != then:
            raise ManifestInvalid(
                f"model {name!r} has other heads than {self.name!r} ({', '.join(h[0] for h in then)} instead of"
                f" {', '.join(h[0] for h in now)}, or other labels); start another server for it"
            )


def _recipe(model: TextModel) -> Recipe:
    if model.recipe is None:
        raise ManifestInvalid(
            f"model {model.spec.model_id!r} does not say how its texts become tensors: it cannot be served"
        )
    return model.recipe


def _values(head: HeadSpec, scores: ScoreBatch) -> F64:
    logits = scores.logits[head.task]
    return logits if head.kind == "regression" else probabilities(head, logits)


def _decided(head: HeadSpec, scores: ScoreBatch) -> Bools:
    """bool [rows, labels]; of a regression, which decides nothing, false."""
    logits = scores.logits[head.task]
    if head.kind == "regression":
        return np.zeros(logits.shape, np.bool_)
    return decided(head, millionths(head, logits))
