"""The engine `fake`, for tests: all nine heads of the encoders, logits by the text alone, failures on demand.

Unlike `stub`, whose answers are probabilities known by heart, it gives logits of every kind of head, so calibration,
thresholds and regressions are walked through.
"""

from __future__ import annotations

import time
from typing import Final

import numpy as np

from engines.base import EngineSpec, HeadSpec, ScoreBatch, TensorBatch
from engines.errors import EngineLost, ShapeMismatch
from engines.tasks import TEXT_TASKS

SPREAD: Final = 3.0
"""Logits lie within +-SPREAD; a regression's values within its range."""


def fake_spec() -> EngineSpec:
    """Nine heads, temperature 1, thresholds 0.5."""
    heads = tuple(
        HeadSpec(t.task, t.kind, t.labels, lo=lo, hi=hi)
        for t in TEXT_TASKS
        for lo, hi in [(1.0, 5.0) if t.kind == "regression" else (0.0, 1.0)]
    )
    return EngineSpec("fake", "sines", "fake", heads)


class FakeEngine:
    """Implements `Engine` for `thousandths` int64 [rows], as the stub's featuriser makes them.

    Args:
        fails_at: that call of `infer`, counted from 1, and all after it, raise EngineLost; None: never.
    """

    def __init__(self, fails_at: int | None = None) -> None:
        self.spec = fake_spec()
        self._fails_at = fails_at
        self._calls = 0
        self._closed = False

    def infer(self, batch: TensorBatch) -> ScoreBatch:
        """Logits: sines of the text's number, another frequency for every label.

        Raises:
            ShapeMismatch: `thousandths` is missing or not [rows].
            EngineLost: closed, or told to fail.
        """
        start = time.perf_counter()
        self._calls += 1
        if self._closed or (self._fails_at is not None and self._calls >= self._fails_at):
            raise EngineLost(f"engine {self.spec.model_id!r} is {'closed' if self._closed else 'lost'}; load it again")
        hashed = batch.tensors.get("thousandths")
        if hashed is None or hashed.shape != (batch.rows,):
            raise ShapeMismatch(
                f"engine 'fake': expected 'thousandths' int64[{batch.rows}], got {sorted(batch.tensors)}"
            )
        logits, at = {}, 0
        for head in self.spec.heads:
            numbers = np.arange(at + 1, at + 1 + len(head.labels))
            waves = np.sin(hashed.astype(np.float64)[:, None] * numbers)
            if head.kind == "regression":
                logits[head.task] = head.lo + (head.hi - head.lo) * (waves + 1) / 2
            else:
                logits[head.task] = SPREAD * waves
            at += len(head.labels)
        return ScoreBatch(logits, time.perf_counter() - start)

    def close(self) -> None:
        """Nothing to free. Idempotent."""
        self._closed = True
