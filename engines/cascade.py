"""A fast model before a better one: a text is answered by the fast model where that is sure of every head asked, else
by the better one, whose one pass answers all heads.

How sure is enough stands in `zoo/cascade.json`, chosen on dev rows by `python -m engines.training.cascade`. A text's
logits depend on that text alone and on whether the cascade is turned on; off, the better model answers all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from engines.base import F64, AnyArray, EngineSpec, HeadSpec, ScoreBatch, TensorBatch, TextModel
from engines.batching import take
from engines.choice import CASCADE
from engines.errors import ManifestInvalid, ShapeMismatch
from engines.probability import probabilities

FILE: Final = "cascade.json"
NEVER: Final = 2.0
"""A certainty that nothing has."""
_MARKS: Final = ("fast/", "slow/")


class HeadLimit(msgspec.Struct, frozen=True):
    """From which certainty on the fast model is sure of a head, and what was measured with it on the head's dev rows.

    Attributes:
        task, metric: the head, and its headline metric.
        sure: least certainty (see `certainty`); above 1 = never.
        share: share of the dev rows that was answered fast: every head of the set was sure.
        fast, slow, cascade: the metric of either model alone, and of the cascade.
        rows: dev rows.
    """

    task: str
    metric: str
    sure: float
    share: float
    fast: float
    slow: float
    cascade: float
    rows: int


class Limits(msgspec.Struct, frozen=True):
    """The content of `cascade.json`.

    Attributes:
        fast, slow: `name@version` of the models it was chosen for.
        most_loss: of every metric against the better model alone, on dev.
        sets: limits for heads that are asked together: one model call answers all of them.
    """

    fast: str
    slow: str
    most_loss: float
    sets: tuple[tuple[HeadLimit, ...], ...]

    def sure(self, tasks: Collection[str]) -> dict[str, float]:
        """Task -> least certainty where these are asked together: of their set, else each as if asked alone."""
        for chosen in self.sets:
            if {limit.task for limit in chosen} == set(tasks):
                return {limit.task: limit.sure for limit in chosen}
        alone = {chosen[0].task: chosen[0].sure for chosen in self.sets if len(chosen) == 1}
        return {task: alone.get(task, NEVER) for task in tasks}


def read_limits(zoo: Path) -> Limits:
    """The limits that lie in the zoo.

    Raises:
        ManifestInvalid: there are none, or they are malformed.
    """
    path = zoo / FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Limits)
    except (OSError, msgspec.MsgspecError) as error:
        raise ManifestInvalid(
            f"engine {CASCADE!r}: {path}: {error}; choose limits with `python -m engines.training.cascade`"
        ) from error


def certainty(head: HeadSpec, logits: F64) -> F64:
    """How sure a model is of its answer, float64 [rows] in [0, 1].

    `single`: the largest probability. `multi`: the least distance of a probability from its label's threshold.
    """
    p = probabilities(head, logits)
    sure: F64
    if head.kind == "single":
        sure = p.max(axis=1)
        return sure
    sure = np.abs(p - np.array(head.thresholds or (0.5,) * len(head.labels))).min(axis=1)
    return sure


def restated(head: HeadSpec, logits: F64, by: HeadSpec) -> F64:
    """The logits that give by the calibration of `by` the probabilities that `logits` give by that of `head`."""
    bias = np.array(head.bias or (0.0,)) - np.array(by.bias or (0.0,))
    moved: F64 = by.temperature * (logits / head.temperature + bias)
    return moved


def alike(one: HeadSpec, other: HeadSpec) -> bool:
    """True where the answers of one can be restated as the other's: same labels, calibrated logits."""
    calibrated = one.kind == other.kind != "regression" and not (one.probability or other.probability)
    return calibrated and one.labels == other.labels


class Cascade:
    """Implements `Engine` over the engines of two models. `turn` may be called from any thread.

    Tensors carry `fast/` or `slow/` before their name. `ScoreBatch.fast` says which texts the better model never saw.

    Args:
        fast, slow: the two models.
        limits: from which certainty on the fast model answers; texts asked for a head without one are all passed on.
        tasks: heads answered; empty = all that both models have and that have a limit (regressions have none).
        on: whether it begins turned on.

    Raises:
        ManifestInvalid: the limits were chosen for other models.
    """

    def __init__(
        self, fast: TextModel, slow: TextModel, limits: Limits, tasks: Sequence[str] = (), on: bool = True
    ) -> None:
        if (limits.fast, limits.slow) != (fast.spec.model_id, slow.spec.model_id):
            raise ManifestInvalid(
                f"cascade.json: expected limits for {fast.spec.model_id} and {slow.spec.model_id}, got those for"
                f" {limits.fast} and {limits.slow}; choose them anew with `python -m engines.training.cascade`"
            )
        self._fast, self._slow, self._on = fast, slow, on
        limited = {chosen[0].task for chosen in limits.sets if len(chosen) == 1}
        shared = limited & {h.task for h in fast.spec.heads} & {h.task for h in slow.spec.heads}
        self._tasks = tuple(h.task for h in slow.spec.heads if h.task in (tasks or shared))
        self._sure = limits.sure(self._tasks)
        made_of = msgspec.json.encode((limits.fast, limits.slow, self._sure))
        self._version = hashlib.sha256(made_of).hexdigest()[:8]
        self.spec = self._spec(on)

    def _spec(self, on: bool) -> EngineSpec:
        slow = self._slow.spec
        heads = tuple(h for h in slow.heads if h.task in self._tasks)
        if not on:
            return msgspec.structs.replace(slow, heads=heads)
        backend = "+".join(dict.fromkeys((self._fast.spec.backend, slow.backend)))
        return EngineSpec(
            CASCADE, self._version, backend, heads, min(self._fast.spec.max_batch_size, slow.max_batch_size)
        )

    @property
    def on(self) -> bool:
        """Whether the fast model answers what it is sure of."""
        return self._on

    def turn(self, on: bool) -> None:
        """Turn it on or off, from the next batch on."""
        self._on = on

    def featurize(self, texts: Sequence[str]) -> TensorBatch:
        """The tensors of both models, side by side."""
        tensors: dict[str, AnyArray] = {}
        for mark, model in zip(_MARKS, (self._fast, self._slow), strict=True):
            tensors |= {mark + name: tensor for name, tensor in model.featurize(texts).tensors.items()}
        return TensorBatch(len(texts), tensors)

    def infer(self, batch: TensorBatch) -> ScoreBatch:
        """Logits of all heads, each calibrated as the better model's head is.

        Raises:
            ShapeMismatch, EngineLost: as the engine it came from.
        """
        on = self._on
        fast, slow = (self._own(batch, mark) for mark in _MARKS)
        scored = self._cascaded(fast, slow) if on else self._slow.engine.infer(slow)
        self.spec = self._spec(on)
        fast_rows = scored.fast if on else None
        return ScoreBatch({task: scored.logits[task] for task in self._tasks}, scored.run_s, fast=fast_rows)

    def _cascaded(self, fast: TensorBatch, slow: TensorBatch) -> ScoreBatch:
        quick = self._fast.engine.infer(fast)
        logits: dict[str, F64] = {}
        sure = np.ones(fast.rows, np.bool_)
        for task in self._tasks:
            mine, theirs = self._fast.spec.head(task), self._slow.spec.head(task)
            assert theirs is not None  # the tasks are the slow model's
            if mine is None or mine.kind == "regression" or not alike(mine, theirs):
                logits[task] = np.zeros((fast.rows, len(theirs.labels)))
                sure[:] = False
                continue
            logits[task] = restated(mine, quick.logits[task], theirs)
            sure &= certainty(mine, quick.logits[task]) >= self._sure[task]
        passed, seconds = np.flatnonzero(~sure), quick.run_s
        if len(passed):
            better = self._slow.engine.infer(take(slow, passed))
            seconds += better.run_s
            for task in self._tasks:
                logits[task][passed] = better.logits[task]
        return ScoreBatch(logits, seconds, fast=sure)

    def _own(self, batch: TensorBatch, mark: str) -> TensorBatch:
        own: Mapping[str, AnyArray] = {
            name.removeprefix(mark): tensor for name, tensor in batch.tensors.items() if name.startswith(mark)
        }
        if not own:
            raise ShapeMismatch(
                f"engine {CASCADE!r}: no tensors {mark}*, got {sorted(batch.tensors)}; featurise with the model's own"
                f" featuriser"
            )
        return TensorBatch(batch.rows, own)

    def close(self) -> None:
        """Close both. Idempotent."""
        self._fast.engine.close()
        self._slow.engine.close()
