"""How a product with a constant matrix is cut to int8 for a CPU: a step per output channel and a step per token.

Weights have 7 bits: two products of an unsigned byte (255) with 64 fit in 16 bits, so processors that add pairs in 16
bits (AVX2 without VNNI) never saturate, and every processor computes the same integers. Activations get a step each
token, found at run time: one token with a large activation costs the others nothing. Against a step for the whole text
that is 2.5 times nearer to float32, at nine tenths of the speed (decision 13).
"""

from __future__ import annotations

from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

F32 = NDArray[np.float32]
WEIGHT_MAX: Final = 64
DIP: Final = 0.17
"""Nothing behind a GELU lies below -0.17 (its least is -0.169971); raised by so much, a token uses all 256 values."""
_TINY: Final = 1e-9


class Graph(Protocol):
    """Where the nodes go."""

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        """The constant of that name, made the first time."""

    def once(self, kind: str, inputs: list[str], name: str, **attributes: int | float) -> str:
        """The node of that name, made the first time; the name of what it gives."""


def by_row(weight: F32, top: int) -> tuple[NDArray[np.int8], F32]:
    """(integers within +-top, step of each row) of a matrix [rows, columns]."""
    step = (np.maximum(np.abs(weight).max(1), 1e-8) / top).astype(np.float32)
    return np.clip(np.rint(weight / step[:, None]), -top, top).astype(np.int8), step


def cut(g: Graph, x: str, name: str, weight: F32, raised: bool) -> tuple[str, str]:
    """(`x @ weight.T` with all tokens below each other, the shape that brings it back): what `Reshape` takes.

    Args:
        x: a tensor [..., columns]. `name`: what new nodes and constants are called after.
        weight: [out, columns].
        raised: nothing in `x` is below -`DIP`.
    """
    wide, columns = weight.shape
    integers, scale = by_row(weight, WEIGHT_MAX)
    shape = g.once("Shape", [x], f"{x}.shape", start=0, end=-1)
    back = g.once("Concat", [shape, g.constant(f"wide.{wide}", np.array([wide], np.int64))], f"{x}.by.{wide}", axis=0)
    byte, step = _tokens(g, x, columns, raised)
    middle = g.constant("byte.0" if raised else "byte.128", np.array(0 if raised else 128, np.uint8))
    whole = g.constant(f"{name}.weight", np.ascontiguousarray(integers.T))
    nothing = g.constant("zero", np.zeros((), np.int8))
    product = g.once("MatMulInteger", [byte, whole, middle, nothing], f"{name}.whole")
    floating = g.once("Cast", [product], f"{name}.float", to=int(TensorProto.FLOAT))
    column = g.once("Unsqueeze", [step, g.constant("axis.1", np.array([1], np.int64))], f"{step}.column")
    stepped = g.once("Mul", [floating, column], f"{name}.stepped")
    scaled = g.once("Mul", [stepped, g.constant(f"{name}.scale", scale)], f"{name}.scaled")
    if not raised:
        return scaled, back
    added = (DIP * integers.astype(np.float64).sum(1) * scale).astype(np.float32)
    return g.once("Sub", [scaled, g.constant(f"{name}.added", added)], f"{name}.lowered"), back


def _tokens(g: Graph, x: str, columns: int, raised: bool) -> tuple[str, str]:
    """(bytes [tokens, columns], step [tokens]) of `x`."""
    flat = g.once("Reshape", [x, g.constant(f"rows.{columns}", np.array([-1, columns], np.int64))], f"{x}.rows")
    last = g.constant("axis.last", np.array([-1], np.int64))
    if raised:
        flat = g.once("Add", [flat, g.constant("dip", np.array(DIP, np.float32))], f"{x}.raised")
        most = g.once("ReduceMax", [flat, last], f"{x}.most", keepdims=0)
        share = g.constant("share.255", np.array(1 / 255, np.float32))
    else:
        most = g.once("ReduceMax", [g.once("Abs", [flat], f"{x}.size"), last], f"{x}.most", keepdims=0)
        share = g.constant("share.127", np.array(1 / 127, np.float32))
    tiny = g.constant("tiny", np.array(_TINY, np.float32))
    step = g.once("Max", [g.once("Mul", [most, share], f"{x}.least"), tiny], f"{x}.step")
    middle = g.constant("byte.0" if raised else "byte.128", np.array(0 if raised else 128, np.uint8))
    middles = g.once("Expand", [middle, g.once("Shape", [step], f"{step}.count")], f"{x}.middles")
    return g.once("QuantizeLinear", [flat, step, middles], f"{x}.cut", axis=0), step
