"""The engine `stub`: every text scores crc32(utf-8 text) % 1000 / 1000: the stream alone is measured."""

from __future__ import annotations

import time
import zlib
from collections.abc import Sequence
from typing import Final

import numpy as np

from engines.base import F64, EngineSpec, HeadSpec, ScoreBatch, TensorBatch
from engines.errors import ShapeMismatch
from engines.tasks import TEXT_TASKS

POSITIVE: Final = {
    "goemotions28": ("joy", "neutral"),
    "sentiment3": ("positive", "neutral"),
    "emtract7": ("happy", "neutral"),
    "bullbear3": ("bullish", "neutral"),
    "crisis_info6": ("Affected individuals", "Other Useful Information"),
}
"""Label that gets s, label that gets 1 - s; the others get 0."""
EVERY: Final = "disaster_message"
"""The task of which every label gets s."""


def stub_spec() -> EngineSpec:
    """The spec of the stub: the tasks above, whose logits are probabilities already."""
    told = [t for t in TEXT_TASKS if t.task in POSITIVE or t.task == EVERY]
    heads = tuple(HeadSpec(t.task, t.kind, t.labels, probability=True) for t in told)
    return EngineSpec("stub", "crc32", "stub", heads)


def featurize(texts: Sequence[str]) -> TensorBatch:
    """`thousandths`: int64 [rows], crc32(utf-8 text) % 1000. A lone surrogate counts as its three bytes."""
    crc = zlib.crc32
    hashed = [crc(t.encode("utf-8", "surrogatepass")) % 1000 for t in texts]
    return TensorBatch(len(hashed), {"thousandths": np.array(hashed, np.int64)})


class StubEngine:
    """Implements `Engine`: gives s and 1 - s out as `POSITIVE` says."""

    def __init__(self) -> None:
        self.spec = stub_spec()

    def infer(self, batch: TensorBatch) -> ScoreBatch:
        """Probabilities in thousandths, exact.

        Raises:
            ShapeMismatch: `thousandths` is missing or not [rows].
        """
        start = time.perf_counter()
        hashed = batch.tensors.get("thousandths")
        if hashed is None or hashed.shape != (batch.rows,):
            raise ShapeMismatch(
                f"engine 'stub': expected 'thousandths' int64[{batch.rows}], got {sorted(batch.tensors)}"
            )
        score: F64 = hashed.astype(np.float64) / 1000.0
        rest: F64 = (1000.0 - hashed.astype(np.float64)) / 1000.0
        scores: dict[str, F64] = {}
        for head in self.spec.heads:
            if head.task not in POSITIVE:
                scores[head.task] = np.repeat(score[:, None], len(head.labels), axis=1)
                continue
            positive, neutral = POSITIVE[head.task]
            values = np.zeros((batch.rows, len(head.labels)))
            values[:, head.labels.index(positive)] = score
            values[:, head.labels.index(neutral)] = rest
            scores[head.task] = values
        return ScoreBatch(scores, time.perf_counter() - start)

    def close(self) -> None:
        """Nothing to free."""
