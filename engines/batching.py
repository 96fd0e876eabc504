"""Batches of several askers as one, and its scores apart again. Rows depend on themselves alone, so nothing changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engines.base import AnyArray, ScoreBatch, TensorBatch
from engines.errors import ShapeMismatch

I64 = NDArray[np.int64]
OFFSETS: Final = "offsets"
"""A tensor of this name, int64 [rows + 1], makes the others ragged: row i owns `[offsets[i]:offsets[i + 1]]`. Where
several models' tensors lie side by side, `0/offsets` is about `0/...`."""


def check(batch: TensorBatch) -> None:
    """Make sure that `batch` can be joined with others: every tensor has its rows.

    Raises:
        ShapeMismatch: it names the tensor, what was expected and what came.
    """
    for place, names in _models(batch).items():
        offsets = batch.tensors.get(place + OFFSETS)
        entries = batch.rows if offsets is None else _entries(place + OFFSETS, offsets, batch.rows)
        for name in names:
            tensor = batch.tensors[name]
            if name != place + OFFSETS and (tensor.ndim < 1 or len(tensor) != entries):
                raise ShapeMismatch(f"tensor {name!r}: expected {entries} entries, got shape {list(tensor.shape)}")


def _models(batch: TensorBatch) -> dict[str, list[str]]:
    """Names of the tensors by what stands before them: several models' lie side by side as `0/ids`, `1/ids`."""
    found: dict[str, list[str]] = {}
    for name in batch.tensors:
        before, slash, _ = name.rpartition("/")
        found.setdefault(before + slash, []).append(name)
    return found


def _entries(name: str, offsets: AnyArray, rows: int) -> int:
    if offsets.dtype != np.int64 or offsets.shape != (rows + 1,):
        raise ShapeMismatch(f"{name!r}: expected int64[{rows + 1}], got {offsets.dtype}{list(offsets.shape)}")
    steps = np.diff(offsets.astype(np.int64))
    if int(offsets[0]) != 0 or bool((steps < 0).any()):
        raise ShapeMismatch(f"{name!r}: expected to rise from 0 without a step back, got {offsets[:8].tolist()}...")
    return int(offsets[-1])


def length(batch: TensorBatch) -> float:
    """Mean entries of a row, over all models; 1 where rows are not ragged."""
    ends = [int(t[-1]) for name, t in batch.tensors.items() if name.rpartition("/")[2] == OFFSETS]
    return sum(ends) / batch.rows if ends and batch.rows else 1.0


def kin(batch: TensorBatch) -> tuple[tuple[str, str, tuple[int, ...]], ...]:
    """Equal for batches that can be joined: names, kinds and the dimensions behind the first."""
    return tuple(sorted((name, tensor.dtype.str, tensor.shape[1:]) for name, tensor in batch.tensors.items()))


def join(batches: Sequence[TensorBatch]) -> TensorBatch:
    """One batch of the rows of all, in order. They are checked and of one kin."""
    if len(batches) == 1:
        return batches[0]
    tensors: dict[str, AnyArray] = {}
    for name in batches[0].tensors:
        parts = [batch.tensors[name] for batch in batches]
        ragged = name.rpartition("/")[2] == OFFSETS
        tensors[name] = _shifted(parts) if ragged else np.concatenate(parts)
    return TensorBatch(sum(b.rows for b in batches), tensors)


def part(batch: TensorBatch, start: int, end: int) -> TensorBatch:
    """Rows `start` to `end` of a batch that is whole."""
    tensors: dict[str, AnyArray] = {}
    for place, names in _models(batch).items():
        offsets = batch.tensors.get(place + OFFSETS)
        first, last = (start, end) if offsets is None else (int(offsets[start]), int(offsets[end]))
        for name in names:
            if offsets is not None and name == place + OFFSETS:
                tensors[name] = offsets[start : end + 1].astype(np.int64) - first
            else:
                tensors[name] = batch.tensors[name][first:last]
    return TensorBatch(end - start, tensors)


def take(batch: TensorBatch, rows: I64) -> TensorBatch:
    """The given rows of a batch that is whole, in the order given."""
    tensors: dict[str, AnyArray] = {}
    for place, names in _models(batch).items():
        offsets = batch.tensors.get(place + OFFSETS)
        entries = rows
        if offsets is not None:
            bounds = offsets.astype(np.int64)
            starts, counts = bounds[:-1][rows], (bounds[1:] - bounds[:-1])[rows]
            ends = np.cumsum(counts)
            entries = np.repeat(starts - (ends - counts), counts) + np.arange(int(counts.sum()))
            tensors[place + OFFSETS] = np.concatenate((np.zeros(1, np.int64), ends))
        tensors |= {name: batch.tensors[name][entries] for name in names if name not in tensors}
    return TensorBatch(len(rows), tensors)


def _shifted(parts: Sequence[AnyArray]) -> AnyArray:
    """Offsets one behind the other."""
    shift, out = 0, [np.zeros(1, np.int64)]
    for part in parts:
        offsets = part.astype(np.int64, copy=False)
        out.append(offsets[1:] + shift)
        shift += int(offsets[-1])
    return np.concatenate(out)


def apart(scores: ScoreBatch, rows: Sequence[int]) -> list[ScoreBatch]:
    """The scores of a joined batch by its parts; each part took its share of the time."""
    total, start, out = max(1, sum(rows)), 0, []
    for n in rows:
        part = {task: logits[start : start + n] for task, logits in scores.logits.items()}
        out.append(ScoreBatch(part, scores.run_s * n / total))
        start += n
    return out
