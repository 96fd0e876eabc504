"""Writes the face and voice networks as ONNX graphs: opset 18, standard operators alone, normalisations folded in.

Node by node, as `graph` does for encoders: the same weights give the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from engines.media import FACE_SIDE
from engines.training.mel import DEVIATION, FLOOR, FRAME, MEAN, STEP, filters, fourier

F32 = NDArray[np.float32]
OPSET: Final = 18
NORM_EPSILON: Final = 1e-5
Weights = Mapping[str, F32]
_FACE_BLOCKS: Final = (2, 1, 2)
"""Strides of the face network's blocks."""
_VOICE_STAGES: Final = 3


@dataclass(slots=True)
class _Nodes:
    """Nodes and constants so far; every method returns the name of what it made."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def numbers(self, *values: int) -> str:
        """Whole numbers as a constant: axes, places, shapes."""
        return self.constant("i_" + "_".join(map(str, values)), np.array(values, np.int64))

    def number(self, value: float) -> str:
        return self.constant(f"f_{value:g}", np.array(value, np.float32))

    def op(self, kind: str, inputs: Sequence[str], **attributes: int | float | list[int]) -> str:
        name = f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], f"{name}_node", **attributes))  # type: ignore[arg-type]
        return name

    def conv(self, x: str, prefix: str, w: Weights, names: tuple[str, str], stride: int = 1, pad: int = 0) -> str:
        """A convolution and the normalisation after it, as one convolution with a bias."""
        conv, norm = (f"{prefix}{name}" for name in names)
        scale = w[f"{norm}.weight"] / np.sqrt(w[f"{norm}.running_var"] + NORM_EPSILON)
        kernel = w[f"{conv}.weight"] * scale[:, None, None, None]
        bias = w[f"{norm}.bias"] - w[f"{norm}.running_mean"] * scale
        parts = [self.constant(f"{conv}.w", kernel), self.constant(f"{conv}.b", bias)]
        return self.op("Conv", [x, *parts], strides=[stride, stride], pads=[pad] * 4)

    def relu(self, x: str) -> str:
        return self.op("Relu", [x])

    def block(self, x: str, prefix: str, w: Weights, stride: int, ceil: int) -> str:
        """Two convolutions beside a shortcut."""
        y = self.relu(self.conv(x, prefix, w, ("conv1", "norm1"), stride, 1))
        y = self.conv(y, prefix, w, ("conv2", "norm2"), 1, 1)
        if stride == 2:
            x = self.op("AveragePool", [x], kernel_shape=[2, 2], strides=[2, 2], ceil_mode=ceil, count_include_pad=0)
        if f"{prefix}short.weight" in w:
            x = self.conv(x, prefix, w, ("short", "short_norm"))
        return self.relu(self.op("Add", [y, x]))

    def mean(self, x: str, *axes: int, keep: int = 0) -> str:
        return self.op("ReduceMean", [x, self.numbers(*axes)], keepdims=keep)


def face_graph(weights: Weights) -> bytes:
    """The face network: `x` uint8 [rows, 48, 48] to `logits` [rows, labels], the mean of the face and its mirror image.

    `weights`: the tensors of `face_net.FaceNet`.
    """
    g = _Nodes()
    labels = len(weights["head.bias"])
    x = g.op("Unsqueeze", [g.op("Cast", ["x"], to=TensorProto.FLOAT), g.numbers(1)])
    x = g.op("Sub", [x, g.mean(x, 1, 2, 3, keep=1)])
    power = g.mean(g.op("Mul", [x, x]), 1, 2, 3, keep=1)
    x = g.op("Div", [x, g.op("Sqrt", [g.op("Add", [power, g.number(1.0)])])])
    mirror = g.op("Slice", [x, g.numbers(-1), g.numbers(-FACE_SIDE - 1), g.numbers(3), g.numbers(-1)])
    x = g.op("Concat", [x, mirror], axis=0)
    x = g.relu(g.conv(x, "", weights, ("stem", "stem_norm"), 2, 2))
    x = g.relu(g.conv(x, "", weights, ("conv", "conv_norm"), 1, 1))
    for k, stride in enumerate(_FACE_BLOCKS):
        x = g.block(x, f"blocks.{k}.", weights, stride, 0)
    both = g.op("Reshape", [_head(g, g.mean(x, 2, 3), weights, ""), g.numbers(2, -1, labels)])
    logits = g.mean(both, 0)
    return _model(g, logits, ("x", TensorProto.UINT8, ["rows", FACE_SIDE, FACE_SIDE]), labels, "face")


def voice_graph(seeds: Sequence[Weights]) -> bytes:
    """The voice networks: `samples` float32 [rows, n] at 16 kHz to `logits` [rows, labels], their mean.

    Level, spectrum (one product with windowed cosines and sines) and logarithm are part of the graph.
    `seeds`: the tensors of a `voice_net.VoiceNet` each.
    """
    g = _Nodes()
    labels, half = len(seeds[0]["head.bias"]), FRAME // 2 + 1
    power = g.mean(g.op("Mul", ["samples", "samples"]), 1, keep=1)
    x = g.op("Div", ["samples", g.op("Sqrt", [g.op("Add", [power, g.number(1e-10)])])])
    x = g.op("Unsqueeze", [x, g.numbers(1)])
    x = g.op("Conv", [x, g.constant("fourier", fourier()[:, None, :])], strides=[STEP])
    x = g.op("Mul", [x, x])
    cosines = g.op("Slice", [x, g.numbers(0), g.numbers(half), g.numbers(1)])
    sines = g.op("Slice", [x, g.numbers(half), g.numbers(2 * half), g.numbers(1)])
    x = g.op("Mul", [g.op("Add", [cosines, sines]), g.number(1.0 / FRAME)])
    x = g.op("MatMul", [g.constant("filters", filters()), x])
    x = g.op("Log", [g.op("Add", [g.op("Transpose", [x], perm=[0, 2, 1]), g.number(FLOOR)])])
    x = g.op("Div", [g.op("Sub", [x, g.number(MEAN)]), g.number(DEVIATION)])
    outs = [_voice(g, x, {f"s{k}.{name}": v for name, v in w.items()}, f"s{k}.") for k, w in enumerate(seeds)]
    stacked = g.op("Concat", [g.op("Unsqueeze", [out, g.numbers(0)]) for out in outs], axis=0)
    return _model(g, g.mean(stacked, 0), ("samples", TensorProto.FLOAT, ["rows", "n"]), labels, "voice")


def _voice(g: _Nodes, x: str, w: Weights, prefix: str) -> str:
    bands = _bands(g, x, w, prefix)
    x = g.op("Unsqueeze", [x, g.numbers(1)])
    x = g.relu(g.conv(x, prefix, w, ("stem", "stem_norm"), 2, 2))
    for k in range(_VOICE_STAGES):
        x = g.block(x, f"{prefix}stages.{k}.", w, 2, 1)
    wide = w[f"{prefix}attention.weight"].shape[1]
    x = g.op("Reshape", [g.op("Transpose", [x], perm=[0, 1, 3, 2]), g.numbers(0, wide, -1)])
    attention = [g.constant(f"{prefix}attention.{p}", w[f"{prefix}attention.{p}"]) for p in ("weight", "bias")]
    weights = g.op("Softmax", [g.op("Conv", [x, *attention])], axis=2)
    weighted = g.op("Mul", [x, weights])
    mean = g.op("ReduceSum", [weighted, g.numbers(2)], keepdims=0)
    square = g.op("ReduceSum", [g.op("Mul", [x, weighted]), g.numbers(2)], keepdims=0)
    spread = g.op("Max", [g.op("Sub", [square, g.op("Mul", [mean, mean])]), g.number(1e-5)])
    return _head(g, g.op("Concat", [mean, g.op("Sqrt", [spread]), bands], axis=1), w, prefix)


def _bands(g: _Nodes, x: str, w: Weights, prefix: str) -> str:
    """Mean, deviation and mean step of every band over time, through a layer: `voice_net.statistics`."""
    mean = g.mean(x, 1)
    square = g.mean(g.op("Mul", [x, x]), 1)
    spread = g.op("Max", [g.op("Sub", [square, g.op("Mul", [mean, mean])]), g.number(1e-5)])
    far = np.iinfo(np.int64).max
    later = g.op("Slice", [x, g.numbers(1), g.numbers(far), g.numbers(1)])
    last = g.op("Slice", [x, g.numbers(-1), g.numbers(far), g.numbers(1)])
    steps = g.op("Abs", [g.op("Sub", [g.op("Concat", [later, last], axis=1), x])])
    whole = g.op("Concat", [mean, g.op("Sqrt", [spread]), g.mean(steps, 1)], axis=1)
    norm = f"{prefix}bands_norm"
    scale = w[f"{norm}.weight"] / np.sqrt(w[f"{norm}.running_var"] + NORM_EPSILON)
    weight = w[f"{prefix}bands.weight"]
    bias = w[f"{prefix}bands.bias"] + weight @ (w[f"{norm}.bias"] - w[f"{norm}.running_mean"] * scale)
    parts = [g.constant(f"{prefix}bands.w", weight * scale), g.constant(f"{prefix}bands.b", bias)]
    return g.relu(g.op("Gemm", [whole, *parts], transB=1))


def _head(g: _Nodes, x: str, w: Weights, prefix: str) -> str:
    parts = [g.constant(f"{prefix}head.{p}", w[f"{prefix}head.{p}"]) for p in ("weight", "bias")]
    return g.op("Gemm", [x, *parts], transB=1)


def _model(g: _Nodes, logits: str, port: tuple[str, int, list[str | int]], labels: int, name: str) -> bytes:
    g.nodes.append(helper.make_node("Identity", [logits], ["logits"], "logits_node"))
    inputs = [helper.make_tensor_value_info(*port)]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", labels])]
    graph = helper.make_graph(g.nodes, name, inputs, outputs, list(g.constants.values()))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="affectstream")
    model.ir_version = 9
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())
