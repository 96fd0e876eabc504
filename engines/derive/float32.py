"""The float32 graph of a model that ships in int8: the same weights, products and activations in float32.

What is undone is the cutting of the activations, which costs digits at run time; the weights stay those that ship.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from engines.derive.rewrite import Rewrite


def float32(packed: bytes, facts: Mapping[str, str]) -> bytes:
    """Products cut as in `engines.derive.cut` become `MatMul`, int8 tables become float tables.

    A graph without them comes back as it is but for `facts` in its metadata.

    Raises:
        ManifestInvalid: no graph of standard operators.
    """
    graph = Rewrite.read(packed)
    makers = graph.makers
    graph.nodes = [_product(graph, n, makers) or _table(graph, n, makers) or n for n in graph.nodes]
    return graph.write(facts)


def _product(graph: Rewrite, node: onnx.NodeProto, makers: Mapping[str, onnx.NodeProto]) -> onnx.NodeProto | None:
    """The `Reshape` that ends what `engines.derive.cut.cut` builds -> `MatMul(x, W in float)`."""
    if node.op_type != "Reshape":
        return None
    lowered = _made_by(node, 0, "Sub", makers)
    scaled = _made_by(lowered or node, 0, "Mul", makers)
    stepped = None if scaled is None else _made_by(scaled, 0, "Mul", makers)
    whole = None if stepped is None else _made_by(stepped, 0, "Cast", makers)
    product = None if whole is None else _made_by(whole, 0, "MatMulInteger", makers)
    cut = None if product is None else _made_by(product, 0, "QuantizeLinear", makers)
    if scaled is None or product is None or cut is None:
        return None
    raised = _made_by(cut, 0, "Add", makers)
    flat = _made_by(raised or cut, 0, "Reshape", makers)
    integers, steps = graph.constants.get(product.input[1]), graph.constants.get(scaled.input[1])
    if flat is None or integers is None or steps is None:
        return None
    name = graph.constant(product.input[1], integers.astype(np.float32) * steps.astype(np.float32))
    return onnx.helper.make_node("MatMul", [flat.input[0], name], list(node.output), node.name)


def _table(graph: Rewrite, node: onnx.NodeProto, makers: Mapping[str, onnx.NodeProto]) -> onnx.NodeProto | None:
    """`Mul(Cast(Gather(table, ids)), Gather(steps, ids))` -> `Gather(table in float, ids)`."""
    whole, steps = _made_by(node, 0, "Cast", makers), _made_by(node, 1, "Gather", makers)
    rows = None if whole is None else _made_by(whole, 0, "Gather", makers)
    if node.op_type != "Mul" or steps is None or rows is None or rows.input[1] != steps.input[1]:
        return None
    integers, scale = graph.constants.get(rows.input[0]), graph.constants.get(steps.input[0])
    if integers is None or scale is None:
        return None
    name = graph.constant(rows.input[0], integers.astype(np.float32) * scale.astype(np.float32))
    return onnx.helper.make_node("Gather", [name, rows.input[1]], list(node.output), node.name, axis=0)


def _made_by(node: onnx.NodeProto, at: int, kind: str, makers: Mapping[str, onnx.NodeProto]) -> onnx.NodeProto | None:
    """The node of that kind that makes input `at`, or None."""
    found = makers.get(node.input[at]) if at < len(node.input) else None
    return found if found is not None and found.op_type == kind else None
