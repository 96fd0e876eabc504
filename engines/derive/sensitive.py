"""Which products a file with fixed steps must leave in float to be as near to float32 as the CPU's file is.

Each product is cut alone and the logits compared with float32's; errors of different products hardly know of each
other, so their squares add up. The least harmful are cut, as many as stay together within the square of what the CPU's
file (`dynamic_int8`) is off.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from engines.base import F64, TensorBatch
from engines.derive.int8 import dynamic_int8, static_int8
from engines.derive.rewrite import Rewrite, linears
from engines.errors import MissingExtra

TEXTS: Final = 48
"""Texts that are compared; a product's error is of the same size on most texts."""


def kept_in_float(
    packed: bytes, ranges: Mapping[str, float], batch: TensorBatch, step: Callable[[int], object] = lambda rows: None
) -> tuple[str, ...]:
    """Names of the weights whose products stay in float, most harmful first (head and contracting layers besides).

    Args:
        packed: the float32 file. `ranges`: as for `static_int8`.
        batch: as `engines.wordpieces` makes it; the first `TEXTS` rows are used.
        step: told of each product tried.

    Raises:
        MissingExtra: no onnxruntime. ManifestInvalid: no float32 graph.
    """
    exact = _logits(packed, batch)
    allowed = float(np.square(_logits(dynamic_int8(packed, {}), batch) - exact).mean())
    products = [one.weight for one in linears(Rewrite.read(packed)) if not (one.head or one.contracting)]
    harm = {}
    for name in products:
        others = [other for other in products if other != name]
        harm[name] = float(np.square(_logits(static_int8(packed, ranges, {}, floats=others), batch) - exact).mean())
        step(1)
    order = sorted(products, key=lambda name: harm[name])
    together = np.cumsum([harm[name] for name in order])
    cut = int(np.searchsorted(together, allowed, side="right"))
    return tuple(reversed(order[cut:]))


def _logits(packed: bytes, batch: TensorBatch) -> F64:
    """float64 [texts, outputs], one text a run."""
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise MissingExtra("trying products needs onnxruntime; pip install 'affectstream[import]'") from error
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(packed, options, providers=["CPUExecutionProvider"])
    ids, offsets = batch.tensors["ids"].astype(np.int64), batch.tensors["offsets"].astype(np.int64)
    found = []
    for begin, end in zip(offsets[:TEXTS].tolist(), offsets[1 : TEXTS + 1].tolist(), strict=False):
        inputs = {"ids": ids[None, begin:end], "mask": np.ones((1, end - begin), np.float32)}
        found.append(session.run(None, inputs)[0][0])
    return np.array(found, np.float64)
