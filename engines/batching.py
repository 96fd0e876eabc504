"""Batches of several askers as one, and its scores apart again. Rows depend on themselves alone, so nothing changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from engines.base import AnyArray, ScoreBatch, TensorBatch
from engines.errors import ShapeMismatch

OFFSETS: Final = "offsets"
"""A tensor of this name, int64 [rows + 1], makes the others ragged: row i owns `[offsets[i]:offsets[i + 1]]`."""


def check(batch: TensorBatch) -> None:
    """Make sure that `batch` can be joined with others: every tensor has its rows.

    Raises:
        ShapeMismatch: it names the tensor, what was expected and what came.
    """
    offsets = batch.tensors.get(OFFSETS)
    if offsets is None:
        for name, tensor in batch.tensors.items():
            if tensor.ndim < 1 or len(tensor) != batch.rows:
                raise ShapeMismatch(f"tensor {name!r}: expected {batch.rows} rows, got shape {list(tensor.shape)}")
        return
    if offsets.dtype != np.int64 or offsets.shape != (batch.rows + 1,):
        raise ShapeMismatch(f"'offsets': expected int64[{batch.rows + 1}], got {offsets.dtype}{list(offsets.shape)}")
    steps = np.diff(offsets.astype(np.int64))
    if int(offsets[0]) != 0 or bool((steps < 0).any()):
        raise ShapeMismatch(f"'offsets': expected to rise from 0 without a step back, got {offsets[:8].tolist()}...")
    for name, tensor in batch.tensors.items():
        if name != OFFSETS and (tensor.ndim < 1 or len(tensor) != int(offsets[-1])):
            raise ShapeMismatch(f"tensor {name!r}: expected {int(offsets[-1])} entries, got {list(tensor.shape)}")


def length(batch: TensorBatch) -> float:
    """Mean entries of a row; 1 where rows are not ragged."""
    offsets = batch.tensors.get(OFFSETS)
    return 1.0 if offsets is None or batch.rows == 0 else float(offsets[-1]) / batch.rows


def kin(batch: TensorBatch) -> tuple[tuple[str, str, tuple[int, ...]], ...]:
    """Equal for batches that can be joined: names, kinds and the dimensions behind the first."""
    return tuple(sorted((name, tensor.dtype.str, tensor.shape[1:]) for name, tensor in batch.tensors.items()))


def join(batches: Sequence[TensorBatch]) -> TensorBatch:
    """One batch of the rows of all, in order. They are checked and of one kin."""
    if len(batches) == 1:
        return batches[0]
    first = batches[0].tensors
    tensors: dict[str, AnyArray] = {
        name: np.concatenate([b.tensors[name] for b in batches]) for name in first if name != OFFSETS
    }
    if OFFSETS in first:
        shift, parts = 0, [np.zeros(1, np.int64)]
        for batch in batches:
            offsets = batch.tensors[OFFSETS].astype(np.int64, copy=False)
            parts.append(offsets[1:] + shift)
            shift += int(offsets[-1])
        tensors[OFFSETS] = np.concatenate(parts)
    return TensorBatch(sum(b.rows for b in batches), tensors)


def apart(scores: ScoreBatch, rows: Sequence[int]) -> list[ScoreBatch]:
    """The scores of a joined batch by its parts; each part took its share of the time."""
    total, start, out = max(1, sum(rows)), 0, []
    for n in rows:
        part = {task: logits[start : start + n] for task, logits in scores.logits.items()}
        out.append(ScoreBatch(part, scores.run_s * n / total))
        start += n
    return out
