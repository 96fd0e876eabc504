"""int8 graphs of a float32 one: steps of the activations found at run time (for a CPU), or fixed beforehand (QDQ).

Weights have 7 bits and a step per output channel in both, so that no processor saturates when it adds pairs of
products in 16 bits (see `engines.training.graph.WEIGHT_MAX`): what a CPU scores is what a GPU would compute.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
import onnx
from onnx import TensorProto

from engines.base import TensorBatch
from engines.derive.rewrite import Linear, Rewrite, linears
from engines.errors import ManifestInvalid, MissingExtra
from engines.training.graph import WEIGHT_MAX, by_row

ACTIVATION_MAX: Final = 127
TABLE_ROWS: Final = 4096
"""A table of at least so many rows is looked up in int8: the word pieces are, the positions are not."""


def dynamic_int8(packed: bytes, facts: Mapping[str, str]) -> bytes:
    """The CPU's file: every product but the head's in int8, its activations cut by the range of the tensor at hand.

    Raises:
        ManifestInvalid: no float32 graph of standard operators.
    """
    graph = Rewrite.read(packed)
    todo = {id(one.node): one for one in linears(graph) if not one.head}
    for node in graph.nodes:
        table = graph.constants.get(node.input[0]) if node.op_type == "Gather" else None
        if id(node) in todo:
            _dynamic(graph, todo[id(node)])
        elif table is not None and table.dtype == np.float32 and table.ndim == 2 and len(table) >= TABLE_ROWS:
            _table(graph, node)
        else:
            graph.made.append(node)
    graph.nodes = graph.made
    return graph.write(facts)


def static_int8(packed: bytes, ranges: Mapping[str, float], facts: Mapping[str, str], naive: bool = False) -> bytes:
    """The explicit Q/DQ file that TensorRT wants: signed bytes on both sides, zero points 0, steps fixed beforehand.

    Contracting layers (the second half of each feed-forward layer, and the head) stay in float: behind the GELU a few
    activations are so much larger than the rest that one step for all of them costs the others their digits.

    Args:
        ranges: largest |activation| seen, by tensor, as `activation_ranges` finds them.
        naive: cut every layer, as the usual recipe does. Measured, that loses points: the gate must refuse it.

    Raises:
        ManifestInvalid: no float32 graph, or one without a range for a tensor that is to be cut.
    """
    graph = Rewrite.read(packed)
    todo = {id(one.node): one for one in linears(graph) if naive or not (one.head or one.contracting)}
    cut: dict[str, str] = {}
    for node in graph.nodes:
        if id(node) in todo:
            _static(graph, todo[id(node)], ranges, cut)
        else:
            graph.made.append(node)
    graph.nodes = graph.made
    return graph.write(facts)


def activation_ranges(
    packed: bytes, batches: Sequence[TensorBatch], step: Callable[[int], object] = lambda rows: None
) -> dict[str, float]:
    """Largest |activation| that goes into each product with a constant matrix, over all rows, one row a run.

    Args:
        batches: as `engines.wordpieces` makes them.
        step: told after each row.

    Raises:
        MissingExtra, ManifestInvalid.
    """
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise MissingExtra("calibrating needs onnxruntime; pip install 'affectstream[import]'") from error
    graph = Rewrite.read(packed)
    names = sorted({one.x for one in linears(graph)})
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(graph.write({}, names), options, providers=["CPUExecutionProvider"])
    found = dict.fromkeys(names, 0.0)
    for batch in batches:
        ids, offsets = batch.tensors["ids"].astype(np.int64), batch.tensors["offsets"].astype(np.int64)
        for begin, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
            inputs = {"ids": ids[None, begin:end], "mask": np.ones((1, end - begin), np.float32)}
            for name, value in zip(names, session.run(names, inputs), strict=True):
                found[name] = max(found[name], float(np.abs(value).max()))
            step(1)
    return found


def _dynamic(graph: Rewrite, one: Linear) -> None:
    integers, steps = by_row(graph.constants[one.weight].T.astype(np.float32), WEIGHT_MAX)
    cut = f"{one.x}.cut"
    if not any(cut in node.output for node in graph.made):
        graph.op("DynamicQuantizeLinear", [one.x], cut, (f"{cut}.step", f"{cut}.zero"))
    zero = graph.constant("zero.int8", np.zeros((), np.int8))
    whole = graph.constant(f"{one.weight}.int8", integers.T)
    product = graph.op("MatMulInteger", [cut, whole, f"{cut}.zero", zero], f"{one.out}.whole")
    scales = graph.op("Mul", [f"{cut}.step", graph.constant(f"{one.weight}.step", steps)], f"{one.out}.steps")
    floating = graph.op("Cast", [product], f"{one.out}.float", to=int(TensorProto.FLOAT))
    graph.op("Mul", [floating, scales], one.out)


def _table(graph: Rewrite, node: onnx.NodeProto) -> None:
    name, out = node.input[0], node.output[0]
    integers, step = by_row(graph.constants[name].astype(np.float32), ACTIVATION_MAX)
    rows = graph.op("Gather", [graph.constant(f"{name}.int8", integers), node.input[1]], f"{out}.rows", axis=0)
    steps = graph.op("Gather", [graph.constant(f"{name}.step", step[:, None]), node.input[1]], f"{out}.steps", axis=0)
    floating = graph.op("Cast", [rows], f"{out}.float", to=int(TensorProto.FLOAT))
    graph.op("Mul", [floating, steps], out)


def _static(graph: Rewrite, one: Linear, ranges: Mapping[str, float], cut: dict[str, str]) -> None:
    if one.x not in ranges:
        raise ManifestInvalid(f"no range of {one.x!r}: calibrate on the graph that is cut")
    zero = graph.constant("zero.int8", np.zeros((), np.int8))
    if one.x not in cut:
        step = graph.constant(f"{one.x}.step", np.array(max(ranges[one.x], 1e-8) / ACTIVATION_MAX, np.float32))
        whole = graph.op("QuantizeLinear", [one.x, step, zero], f"{one.x}.cut")
        cut[one.x] = graph.op("DequantizeLinear", [whole, step, zero], f"{one.x}.uncut")
    integers, steps = by_row(graph.constants[one.weight].T.astype(np.float32), WEIGHT_MAX)
    zeros = graph.constant(f"{one.weight}.zero", np.zeros(len(steps), np.int8))
    whole = graph.constant(f"{one.weight}.int8", integers.T)
    scale = graph.constant(f"{one.weight}.step", steps)
    weight = graph.op("DequantizeLinear", [whole, scale, zeros], f"{one.weight}.uncut", axis=1)
    graph.op("MatMul", [cut[one.x], weight], one.out)
