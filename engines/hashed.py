"""The hashed bag: an int8 embedding bag and two small layers, in integers: no neighbour and no machine changes a digit.

    sums   = counts @ table                       int8 table, exact integer sums in float32 (below 2^24)
    bag    = quantise(sums * scale / sqrt(n))     n = features of the row
    hidden = quantise(relu(bag @ middle))         int16 weights and activations, exact sums in float64 (< 2^53)
    logits = bag @ direct + hidden @ deep + bias

Matrix products only ever add integers, which float64 does exactly in any order (BLAS, threads and batch size do not
matter); all other steps are elementwise IEEE operations (multiply, divide, square root, round half even), the same
everywhere.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from engines.base import F64, AnyArray, EngineSpec, ScoreBatch, TensorBatch
from engines.errors import EngineLost, ManifestInvalid, ShapeMismatch
from engines.token_rows import by_task

ACTIVATION_MAX: Final = 32767
_ONE_THREAD_MACS: Final = 200_000
WEIGHTS: Final = {
    "table": (np.int8, 2),  # [2^bits, dims]
    "table_scale": (np.float64, 1),  # [dims], bag units per step (already divided by the bag's activation step)
    "middle": (np.int16, 2),  # [dims, hidden]
    "middle_scale": (np.float64, 1),  # [hidden]
    "middle_bias": (np.float64, 1),  # [hidden]
    "direct": (np.int16, 2),  # [dims, outputs]
    "direct_scale": (np.float64, 1),  # [outputs]
    "deep": (np.int16, 2),  # [hidden, outputs]
    "deep_scale": (np.float64, 1),  # [outputs]
    "bias": (np.float64, 1),  # [outputs]
}
"""Arrays of `weights.npz`: dtype and number of axes. Outputs are the heads' labels, one head after another."""


class HashedEngine:
    """Implements `Engine` for `buckets` / `offsets` as `engines.features.featurize` makes them."""

    def __init__(self, spec: EngineSpec, weights: Mapping[str, AnyArray]) -> None:
        """Check the arrays against `spec` and widen them once.

        Raises:
            ManifestInvalid: an array is missing, of another dtype or shape, or the outputs do not fit the heads.
        """
        self.spec = spec
        _check(spec, weights)
        self._table: NDArray[np.float32] | None = weights["table"].astype(np.float32)
        self._wide = {name: weights[name].astype(np.float64) for name in WEIGHTS if name != "table"}

    @property
    def bits(self) -> int:
        """log2 of the number of buckets."""
        return int(self._open().shape[0]).bit_length() - 1

    def infer(self, batch: TensorBatch) -> ScoreBatch:
        """Logits of every row, bit for bit the same whatever else is in the batch.

        Raises:
            ShapeMismatch, EngineLost (closed).
        """
        table = self._open()
        start = time.perf_counter()
        buckets, offsets = self._features(batch, table.shape[0])
        counts = sparse.csr_array(
            (np.ones(len(buckets), np.float32), buckets, offsets.astype(np.int32)), shape=(batch.rows, table.shape[0])
        )
        sums = np.asarray(counts @ table, np.float64)
        w = self._wide
        length = np.sqrt(np.maximum(np.diff(offsets), 1).astype(np.float64))[:, None]
        bag = _quantise(sums * w["table_scale"] / length)
        hidden = _quantise(np.maximum(_product(bag, w["middle"]) * w["middle_scale"] + w["middle_bias"], 0.0))
        logits = (
            _product(bag, w["direct"]) * w["direct_scale"] + _product(hidden, w["deep"]) * w["deep_scale"] + w["bias"]
        )
        return ScoreBatch(by_task(self.spec, logits), time.perf_counter() - start)

    def close(self) -> None:
        """Free the table. Idempotent."""
        self._table = None

    def _open(self) -> NDArray[np.float32]:
        if self._table is None:
            raise EngineLost(f"engine {self.spec.model_id!r} is closed; load it again")
        return self._table

    def _features(self, batch: TensorBatch, size: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        missing = {"buckets", "offsets"} - set(batch.tensors)
        if missing:
            raise ShapeMismatch(
                f"engine {self.spec.name!r}: tensors {sorted(missing)} missing, got {sorted(batch.tensors)}"
            )
        buckets, offsets = batch.tensors["buckets"], batch.tensors["offsets"]
        if offsets.shape != (batch.rows + 1,) or offsets.dtype != np.int64:
            raise ShapeMismatch(
                f"engine {self.spec.name!r}: 'offsets' expected int64[{batch.rows + 1}],"
                f" got {offsets.dtype}{list(offsets.shape)}"
            )
        if buckets.ndim != 1 or buckets.dtype != np.int32:
            raise ShapeMismatch(
                f"engine {self.spec.name!r}: 'buckets' expected int32[n], got {buckets.dtype}{list(buckets.shape)}"
            )
        ids, starts = buckets.astype(np.int32, copy=False), offsets.astype(np.int64, copy=False)
        rising = starts[0] == 0 and starts[-1] == len(ids) and bool((starts[1:] >= starts[:-1]).all())
        if not rising or (len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < size):
            raise ShapeMismatch(
                f"engine {self.spec.name!r}: buckets must lie in [0, {size}), offsets must rise from 0 to"
                f" {len(ids)}; featurise with the model's own featuriser"
            )
        return ids, starts


def _product(rows: F64, layer: F64) -> F64:
    """rows @ layer, a block of rows at a time.

    OpenBLAS starts its threads above this size; for layers so small they only spin (measured: 14k instead of 22k texts
    per CPU-second). One engine belongs to one thread.
    """
    out = np.empty((len(rows), layer.shape[1]))
    step = max(1, _ONE_THREAD_MACS // layer.size)
    for at in range(0, len(rows), step):
        np.matmul(rows[at : at + step], layer, out=out[at : at + step])
    return out


def _quantise(x: F64) -> F64:
    """Nearest integer (half to even) within int16, held in float64."""
    return np.rint(np.clip(x, -ACTIVATION_MAX, ACTIVATION_MAX))


def _check(spec: EngineSpec, weights: Mapping[str, AnyArray]) -> None:
    for name, (dtype, axes) in WEIGHTS.items():
        got = weights.get(name)
        if got is None or got.dtype != dtype or got.ndim != axes:
            said = "nothing" if got is None else f"{got.dtype} with {got.ndim} axes"
            raise ManifestInvalid(
                f"model {spec.name!r}: weights.npz: {name!r} expected {np.dtype(dtype)} with {axes} axes, got {said}"
            )
    size, dims = weights["table"].shape
    hidden = weights["middle"].shape[1]
    outputs = sum(len(h.labels) for h in spec.heads)
    shapes = {
        "table_scale": (dims,),
        "middle": (dims, hidden),
        "middle_scale": (hidden,),
        "middle_bias": (hidden,),
        "direct": (dims, outputs),
        "direct_scale": (outputs,),
        "deep": (hidden, outputs),
        "deep_scale": (outputs,),
        "bias": (outputs,),
    }
    for name, shape in shapes.items():
        if weights[name].shape != shape:
            raise ManifestInvalid(
                f"model {spec.name!r}: weights.npz: {name!r} expected shape {shape}, got {weights[name].shape}"
            )
    if size & (size - 1):
        raise ManifestInvalid(f"model {spec.name!r}: the table has {size} rows, which is no power of two")
