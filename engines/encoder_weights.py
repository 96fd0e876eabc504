"""The weights inside an encoder's ONNX file, as float32 by the names of `engines.training.encoder`. A door of `onnx`.

Reads the files that `engines.training.graph` writes, int8 or float32: integers times the step of their row. Products
are [out, in] as torch has them; 1 / sqrt(depth) is already in the queries' weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.errors import ManifestInvalid, MissingExtra

F32 = NDArray[np.float32]
_PRODUCTS = ("qkv", "out", "up", "down")
_NORMS = ("norm1", "norm2")


@dataclass(frozen=True, slots=True)
class EncoderWeights:
    """`arrays` by name; `blocks`, attention `heads`, the norms' `epsilon`, word `pieces`, `outputs` of all heads."""

    arrays: dict[str, F32]
    blocks: int
    heads: int
    epsilon: float
    pieces: int
    outputs: int


def encoder_weights(model: bytes) -> EncoderWeights:
    """Read them.

    Raises:
        MissingExtra: the package onnx is not installed.
        ManifestInvalid: not an encoder that `engines.training.graph` wrote.
    """
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError as error:
        raise MissingExtra(
            "reading an encoder's weights needs the package onnx; pip install 'affectstream[import]'"
        ) from error
    try:
        graph = onnx.load_from_string(model).graph
        found = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        if found.keys() & {"pooler.weight", "pre.weight"}:
            raise ValueError("it reads the first token through a layer of its own")
        norm = next(n for n in graph.node if n.op_type == "LayerNormalization")
        epsilon = next(float(a.f) for a in norm.attribute if a.name == "epsilon")
        heads = int(found["by_head"][2])
        blocks = len({name.split(".")[1] for name in found if name.startswith("blocks.")})
        arrays = {
            name: np.asarray(found[name], np.float32) for name in found if name.endswith((".bias", "norm.weight"))
        }
        arrays["pieces.weight"] = _rows(found, "pieces")
        arrays["positions.weight"] = np.asarray(found["positions.weight"], np.float32)
        arrays["head.weight"] = np.asarray(found["head.weight"], np.float32).T
        for k in range(blocks):
            for name in _PRODUCTS:
                arrays[f"blocks.{k}.{name}.weight"] = _columns(found, f"blocks.{k}.{name}")
            for name in _NORMS:
                arrays[f"blocks.{k}.{name}.weight"] = np.asarray(found[f"blocks.{k}.{name}.weight"], np.float32)
    except Exception as error:  # protobuf raises its own kinds
        raise ManifestInvalid(
            f"no encoder of ours: {type(error).__name__} {error}; expected a file of engines.training.graph"
        ) from error
    return EncoderWeights(
        arrays, blocks, heads, epsilon, arrays["pieces.weight"].shape[0], arrays["head.bias"].shape[0]
    )


def _rows(found: dict[str, NDArray[np.generic]], name: str) -> F32:
    """A table with a step per row, or a float one."""
    weight = np.asarray(found[f"{name}.weight"], np.float32)
    return weight * np.asarray(found[f"{name}.scale"], np.float32) if f"{name}.scale" in found else weight


def _columns(found: dict[str, NDArray[np.generic]], name: str) -> F32:
    """A product [in, out] with a step per column, or a float one, as [out, in]."""
    weight = np.asarray(found[f"{name}.weight"], np.float32)
    if f"{name}.scale" in found:
        weight = weight * np.asarray(found[f"{name}.scale"], np.float32)
    return np.ascontiguousarray(weight.T)
