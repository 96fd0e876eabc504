"""Rows of tokens as `engines.wordpieces` makes them, checked; and one row of outputs as the heads it holds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engines.base import F64, EngineSpec, TensorBatch
from engines.errors import ShapeMismatch

I64 = NDArray[np.int64]


def token_rows(spec: EngineSpec, batch: TensorBatch, pieces: int) -> tuple[I64, I64]:
    """(ids, offsets) as int64: row i owns `ids[offsets[i]:offsets[i + 1]]`, one token at least.

    Args:
        pieces: size of the vocabulary.

    Raises:
        ShapeMismatch: a tensor is missing, of another dtype or shape, or an id is not in the vocabulary.
    """
    name = spec.name
    missing = {"ids", "offsets"} - set(batch.tensors)
    if missing:
        raise ShapeMismatch(f"engine {name!r}: tensors {sorted(missing)} missing, got {sorted(batch.tensors)}")
    ids, offsets = batch.tensors["ids"], batch.tensors["offsets"]
    if offsets.shape != (batch.rows + 1,) or offsets.dtype != np.int64:
        raise ShapeMismatch(
            f"engine {name!r}: 'offsets' expected int64[{batch.rows + 1}], got {offsets.dtype}{list(offsets.shape)}"
        )
    if ids.ndim != 1 or ids.dtype != np.int32:
        raise ShapeMismatch(f"engine {name!r}: 'ids' expected int32[n], got {ids.dtype}{list(ids.shape)}")
    wide, starts = ids.astype(np.int64), offsets.astype(np.int64, copy=False)
    if starts[0] != 0 or starts[-1] != len(wide) or bool((np.diff(starts) < 1).any()):
        raise ShapeMismatch(
            f"engine {name!r}: offsets must rise from 0 to {len(wide)}, at least one token a row; featurise with"
            f" the model's own featuriser"
        )
    if len(wide) and not 0 <= int(wide.min()) <= int(wide.max()) < pieces:
        raise ShapeMismatch(f"engine {name!r}: ids must lie in [0, {pieces}); got {wide.min()}..{wide.max()}")
    return wide, starts


def by_task(spec: EngineSpec, logits: F64) -> dict[str, F64]:
    """Outputs [rows, all labels] cut into the heads', in the order of `spec.heads`; regressions clipped to [lo, hi]."""
    found, end = {}, 0
    for head in spec.heads:
        part = logits[:, end : end + len(head.labels)]
        end += len(head.labels)
        found[head.task] = np.clip(part, head.lo, head.hi) if head.kind == "regression" else part
    return found


def outputs(spec: EngineSpec) -> int:
    """Columns of the model's output: the labels of all heads."""
    return sum(len(h.labels) for h in spec.heads)
