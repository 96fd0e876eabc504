"""Writes an encoder as an ONNX graph (opset 18, standard operators alone), in float32 or with int8 products.

Built node by node: what an exporter leaves behind (shape arithmetic, guards, names) is not there, and the same weights
give the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from engines.derive.cut import by_row, cut

F32 = NDArray[np.float32]
OPSET: Final = 18
POOLED: Final = {"pooler": "Tanh", "pre": "Relu"}
"""Layer between the first token and the head, where there is one -> its activation."""


@dataclass(slots=True)
class _Graph:
    """Nodes and constants so far; every method returns the name of what it made."""

    int8: bool
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)
    named: set[str] = field(default_factory=set)
    names: int = 0

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def op(self, kind: str, inputs: Sequence[str], outputs: int = 1, **attributes: int | float | list[int]) -> str:
        """One node; with several outputs, the name of the first; the others end in `.1`, `.2`, ..."""
        self.names += 1
        name = f"{kind.lower()}{self.names}"
        outs = [name, *(f"{name}.{k}" for k in range(1, outputs))]
        self.nodes.append(helper.make_node(kind, list(inputs), outs, f"{name}_node", **attributes))  # type: ignore[arg-type]
        return name

    def linear(self, x: str, name: str, weight: F32, bias: F32) -> str:
        """`x @ weight.T + bias`; weight is [out, in] as torch has it."""
        if self.int8:  # only what `down` reads lies behind a GELU
            product = self.op("Reshape", cut(self, x, name, weight, raised=name.endswith(".down")))
        else:
            product = self._float(x, name, weight)
        return self.op("Add", [product, self.constant(f"{name}.bias", bias)])

    def _float(self, x: str, name: str, weight: F32) -> str:
        return self.op("MatMul", [x, self.constant(f"{name}.weight", weight.T)])

    def once(self, kind: str, inputs: list[str], name: str, **attributes: int | float) -> str:
        if name not in self.named:
            self.named.add(name)
            self.nodes.append(helper.make_node(kind, inputs, [name], f"{name}_node", **attributes))  # type: ignore[arg-type]
        return name

    def norm(self, x: str, name: str, weights: Mapping[str, F32], epsilon: float) -> str:
        parts = [self.constant(f"{name}.{p}", weights[f"{name}.{p}"]) for p in ("weight", "bias")]
        return self.op("LayerNormalization", [x, *parts], axis=-1, epsilon=epsilon)

    def shape(self, name: str, *sizes: int) -> str:
        return self.constant(name, np.array(sizes, np.int64))


def build(weights: Mapping[str, F32], heads: int, epsilon: float, metadata: Mapping[str, str], int8: bool) -> bytes:
    """The model file.

    Inputs `ids` int64 [rows, length] and `mask` float32 [rows, length] (1 piece, 0 padding), output `logits` float32
    [rows, outputs]. With `int8` the products are cut as `engines.derive.cut` says.

    Args:
        weights: the state of `engines.training.encoder.Encoder`, by its names. With `pooler.weight` and `.bias` too,
            the head reads the first token, through that layer and tanh, instead of the mean: BERT's own way; with `pre`
            so named, through that layer and ReLU: DistilBERT's.
        heads: attention heads.
        metadata: key -> text, kept inside the file.
    """
    g = _Graph(int8)
    blocks = len({name.split(".")[1] for name in weights if name.startswith("blocks.")})
    x = g.norm(_embedded(g, weights), "norm", weights, epsilon)
    one, low = g.constant("one", np.array(1, np.float32)), g.constant("low", np.array(-1e4, np.float32))
    hidden = g.op("Mul", [g.op("Sub", [one, "mask"]), low])
    bias = g.op("Unsqueeze", [hidden, g.shape("middle_axes", 1, 2)])
    for k in range(blocks):
        x = _block(g, x, bias, f"blocks.{k}", weights, heads, epsilon)
    layer = next((name for name in POOLED if f"{name}.weight" in weights), "")
    row = _first(g, x, layer, weights) if layer else _mean(g, x)
    product = g._float(row, "head", weights["head.weight"])
    g.nodes.append(
        helper.make_node("Add", [product, g.constant("head.bias", weights["head.bias"])], ["logits"], name="logits")
    )
    outputs = weights["head.bias"].shape[0]
    graph = helper.make_graph(
        g.nodes,
        "encoder",
        [
            helper.make_tensor_value_info("ids", TensorProto.INT64, ["rows", "length"]),
            helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["rows", "length"]),
        ],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", outputs])],
        list(g.constants.values()),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="affectstream")
    model.ir_version = 9  # what readers of opset 18 know
    helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model, full_check=True)
    packed: bytes = model.SerializeToString(deterministic=True)
    return packed


def read(packed: bytes, heads: int) -> dict[str, F32]:
    """The weights of a model file that `build` wrote, int8 ones multiplied out: the inverse of `build`.

    From an int8 file every weight is off by up to half a step; a further training starts well from there.
    """
    found = {c.name: numpy_helper.to_array(c) for c in onnx.load_from_string(packed).graph.initializer}
    weights = {}
    for name, value in found.items():
        if not name.endswith((".weight", ".bias")):
            continue
        wide = value.astype(np.float32)
        if name == "pieces.weight":
            wide = wide * found["pieces.scale"] if "pieces.scale" in found else wide
        elif wide.ndim == 2 and name != "positions.weight":
            scale = found.get(name.removesuffix("weight") + "scale")
            wide = np.ascontiguousarray((wide if scale is None else wide * scale).T)
        weights[name] = wide
    width = len(weights["norm.weight"])
    depth = width // heads
    for name, value in weights.items():
        if ".qkv." in name:
            value[:width] *= np.float32(depth**0.5)
    return weights


def _embedded(g: _Graph, weights: Mapping[str, F32]) -> str:
    """Piece and position of every token, added."""
    if g.int8:
        integers, step = by_row(weights["pieces.weight"], 127)
        rows = g.op("Gather", [g.constant("pieces.weight", integers), "ids"], axis=0)
        steps = g.op("Gather", [g.constant("pieces.scale", step[:, None]), "ids"], axis=0)
        pieces = g.op("Mul", [g.op("Cast", [rows], to=TensorProto.FLOAT), steps])
    else:
        pieces = g.op("Gather", [g.constant("pieces.weight", weights["pieces.weight"]), "ids"], axis=0)
    length = g.op("Shape", ["ids"], start=1, end=2)
    first, axis = g.shape("first", 0), g.shape("first_axis", 0)
    positions = g.op("Slice", [g.constant("positions.weight", weights["positions.weight"]), first, length, axis])
    return g.op("Add", [pieces, positions])


def _mean(g: _Graph, x: str) -> str:
    """Mean over the pieces of a row."""
    wide = g.op("Unsqueeze", ["mask", g.shape("last_axis", 2)])
    total = g.op("ReduceSum", [g.op("Mul", [x, wide]), g.shape("row_axis", 1)], keepdims=0)
    count = g.op("ReduceSum", ["mask", g.shape("row_axis", 1)], keepdims=1)
    return g.op("Div", [total, count])


def _first(g: _Graph, x: str, layer: str, weights: Mapping[str, F32]) -> str:
    """A layer and its activation over the first token."""
    one = g.op("Gather", [x, g.shape("first_token", 0)], axis=1)
    first = g.op("Squeeze", [one, g.shape("row_axis", 1)])
    product = g._float(first, layer, weights[f"{layer}.weight"])
    return g.op(POOLED[layer], [g.op("Add", [product, g.constant(f"{layer}.bias", weights[f"{layer}.bias"])])])


def _block(g: _Graph, x: str, bias: str, name: str, weights: Mapping[str, F32], heads: int, epsilon: float) -> str:
    """Attention and feed-forward; the scale 1 / sqrt(depth) is folded into the queries' weights."""
    width = weights["norm.weight"].shape[0]
    depth = width // heads
    scale = np.repeat(np.array([depth**-0.5, 1.0, 1.0], np.float32), width)
    weight, offset = weights[f"{name}.qkv.weight"] * scale[:, None], weights[f"{name}.qkv.bias"] * scale
    both = g.linear(x, f"{name}.qkv", weight, offset)
    split = g.op("Split", [both], 3, axis=-1, num_outputs=3)
    shape = g.shape("by_head", 0, 0, heads, depth)
    q, k, v = (g.op("Reshape", [part, shape]) for part in (split, f"{split}.1", f"{split}.2"))
    scores = g.op("MatMul", [g.op("Transpose", [q], perm=[0, 2, 1, 3]), g.op("Transpose", [k], perm=[0, 2, 3, 1])])
    share = g.op("Softmax", [g.op("Add", [scores, bias])], axis=-1)
    mixed = g.op("Transpose", [g.op("MatMul", [share, g.op("Transpose", [v], perm=[0, 2, 1, 3])])], perm=[0, 2, 1, 3])
    flat = g.op("Reshape", [mixed, g.shape("joined", 0, 0, width)])
    out = g.linear(flat, f"{name}.out", weights[f"{name}.out.weight"], weights[f"{name}.out.bias"])
    x = g.norm(g.op("Add", [x, out]), f"{name}.norm1", weights, epsilon)
    up = g.linear(x, f"{name}.up", weights[f"{name}.up.weight"], weights[f"{name}.up.bias"])
    down = g.linear(_gelu(g, up), f"{name}.down", weights[f"{name}.down.weight"], weights[f"{name}.down.bias"])
    return g.norm(g.op("Add", [x, down]), f"{name}.norm2", weights, epsilon)


def _gelu(g: _Graph, x: str) -> str:
    """x * 0.5 * (1 + erf(x / sqrt 2)), in the order that onnxruntime joins into one kernel."""
    root, one, half = (
        g.constant(n, np.array(v, np.float32)) for n, v in (("root2", 2**0.5), ("one", 1.0), ("half", 0.5))
    )
    raised = g.op("Add", [g.op("Erf", [g.op("Div", [x, root])]), one])
    return g.op("Mul", [g.op("Mul", [x, raised]), half])
