"""int8 graphs of a float32 one: steps of the activations found at run time (for a CPU), or fixed beforehand (QDQ).

Weights have 7 bits and a step per output channel in both (`engines.derive.cut`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from engines.base import TensorBatch
from engines.derive.cut import WEIGHT_MAX, by_row, cut
from engines.derive.rewrite import Linear, Rewrite, linears
from engines.errors import ManifestInvalid, MissingExtra

ACTIVATION_MAX: Final = 127
TABLE_ROWS: Final = 4096
"""A table of at least so many rows is looked up in int8: the word pieces are, the positions are not."""


def dynamic_int8(packed: bytes, facts: Mapping[str, str]) -> bytes:
    """The CPU's file: every product but the head's in int8, its activations cut token by token.

    Raises:
        ManifestInvalid: no float32 graph of standard operators.
    """
    graph = Rewrite.read(packed)
    into = _Into(graph, set())
    todo = {id(one.node): one for one in linears(graph) if not one.head}
    for node in graph.nodes:
        table = graph.constants.get(node.input[0]) if node.op_type == "Gather" else None
        if id(node) in todo:
            _dynamic(into, todo[id(node)])
        elif table is not None and table.dtype == np.float32 and table.ndim == 2 and len(table) >= TABLE_ROWS:
            _table(graph, node)
        else:
            graph.made.append(node)
    graph.nodes = graph.made
    return graph.write(facts)


def static_int8(
    packed: bytes,
    ranges: Mapping[str, float],
    facts: Mapping[str, str],
    naive: bool = False,
    floats: Collection[str] = (),
) -> bytes:
    """The explicit Q/DQ file that TensorRT wants: signed bytes on both sides, zero points 0, steps fixed beforehand.

    Contracting layers (the second half of each feed-forward layer, and the head) stay in float: behind the GELU a few
    activations are so much larger than the rest that one step for all of them costs the others their digits.

    Args:
        ranges: largest |activation| seen, by tensor, as `activation_ranges` finds them.
        floats: weights whose products stay in float too (`engines.derive.sensitive`).
        naive: cut every layer, as the usual recipe does. Measured, that loses points: the gate must refuse it.

    Raises:
        ManifestInvalid: no float32 graph, or one without a range for a tensor that is to be cut.
    """
    graph = Rewrite.read(packed)
    todo = {
        id(one.node): one
        for one in linears(graph)
        if naive or not (one.head or one.contracting or one.weight in floats)
    }
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


@dataclass(slots=True)
class _Into:
    """Where `cut` puts its nodes: `Rewrite.made`, each name once."""

    graph: Rewrite
    named: set[str]

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        return self.graph.constant(name, value)

    def once(self, kind: str, inputs: list[str], name: str, **attributes: int | float) -> str:
        if name not in self.named:
            self.named.add(name)
            self.graph.op(kind, inputs, name, (), **attributes)
        return name


def _dynamic(into: _Into, one: Linear) -> None:
    """Contracting layers stand behind a GELU in every encoder this project builds or imports."""
    weight = into.graph.constants[one.weight].T.astype(np.float32)
    flat, back = cut(into, one.x, f"{one.weight}.int8", weight, raised=one.contracting)
    into.graph.op("Reshape", [flat, back], one.out)


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
