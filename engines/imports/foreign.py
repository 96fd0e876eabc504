"""A given ONNX file: what is refused before anything of it runs, and its ends made ours. A door of `onnx`.

One graph, standard operators alone, weights inside. Control flow, functions and external data are not read at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from engines.errors import ImportRefused
from engines.imports.given import Kind
from engines.imports.tokeniser import Tokeniser

OPSETS: Final = range(13, 22)
INPUTS: Final = ("input_ids", "attention_mask", "token_type_ids")
NEVER: Final = 30.0
"""How far below the largest logit a label lies that the model never says: a share of 1e-13."""
Plan = Sequence[Sequence[int]]
"""For each label of the task, in order, the model's own outputs that mean it; none = the model never says it."""


def parse(packed: bytes, where: str) -> onnx.ModelProto:
    """The model, nothing of it run. Raises ImportRefused."""
    try:
        model = onnx.load_from_string(packed)
    except Exception as error:  # protobuf raises its own kinds
        raise ImportRefused(f"{where}: no ONNX file: {error}") from error
    domains = {o.domain or "ai.onnx": o.version for o in model.opset_import}
    used = {n.domain or "ai.onnx" for n in model.graph.node} | domains.keys()
    if used != {"ai.onnx"} or model.functions or len(model.opset_import) != 1:
        strange = sorted({f"{n.domain}.{n.op_type}" for n in model.graph.node if n.domain not in ("", "ai.onnx")})
        raise ImportRefused(
            f"{where}: expected standard operators alone, got {', '.join(strange[:5] or sorted(used))} or functions;"
            " export it without contrib operators and without runtime optimisation"
        )
    if domains["ai.onnx"] not in OPSETS:
        raise ImportRefused(
            f"{where}: opset expected {OPSETS[0]} to {OPSETS[-1]}, got {domains['ai.onnx']}; export it as 18"
        )
    tensors = [*model.graph.initializer]
    for node in model.graph.node:
        for a in node.attribute:
            if a.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS):
                raise ImportRefused(f"{where}: {node.op_type} {node.name!r} is control flow, which is not imported")
            tensors += [a.t, *a.tensors]
    for tensor in tensors:
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            place = next((e.value for e in tensor.external_data if e.key == "location"), "?")
            raise ImportRefused(
                f"{where}: tensor {tensor.name!r} lies outside, in {place!r}; external data is never followed: save the"
                " model as one file"
            )
    if model.graph.sparse_initializer:
        raise ImportRefused(f"{where}: sparse weights are not imported; export them dense")
    return model


def inputs(model: onnx.ModelProto, where: str) -> list[str]:
    """Names of the inputs, all int64 [rows, length] of any length. Raises ImportRefused."""
    weights = {t.name for t in model.graph.initializer}
    found = [i for i in model.graph.input if i.name not in weights]
    for port in found:
        shape = port.type.tensor_type.shape.dim
        free = len(shape) == 2 and shape[0].dim_value in (0, 1) and shape[1].dim_value == 0
        if port.name not in INPUTS or port.type.tensor_type.elem_type != TensorProto.INT64 or not free:
            raise ImportRefused(
                f"{where}: input {port.name!r}: expected {', '.join(INPUTS)}, int64 [rows, length] of any length"
            )
    names = [port.name for port in found]
    if "input_ids" not in names or len(model.graph.output) != 1:
        raise ImportRefused(f"{where}: expected the input input_ids and one output, the logits; got {names}")
    return names


def adopt(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """The same graph behind our inputs `ids` int64 and `mask` float32; its own names begin with `given/`."""
    from onnx import compose

    own = compose.add_prefix(model, "given/")
    front = {
        "input_ids": helper.make_node("Identity", ["ids"], ["given/input_ids"]),
        "attention_mask": helper.make_node("Cast", ["mask"], ["given/attention_mask"], to=TensorProto.INT64),
        "token_type_ids": helper.make_node("Sub", ["ids", "ids"], ["given/token_type_ids"]),
    }
    nodes = [front[name] for name in names] + list(own.graph.node)
    del own.graph.node[:], own.graph.input[:]
    own.graph.node.extend(nodes)
    own.graph.input.extend(
        helper.make_tensor_value_info(n, t, ["rows", "length"])
        for n, t in (("ids", TensorProto.INT64), ("mask", TensorProto.FLOAT))
    )
    del own.graph.value_info[:]
    return own


def finish(model: onnx.ModelProto, plan: Plan, kind: Kind, tokeniser: Tokeniser) -> bytes:
    """The file: outputs gathered by `plan` into `logits`, the tokeniser kept inside.

    Outputs of one label add up (`single`: log of the sum of exponentials; `multi`: the largest).
    """
    graph, raw = model.graph, "raw"
    last = graph.output[0].name
    for node in graph.node:
        node.output[:] = [raw if o == last else o for o in node.output]
        node.input[:] = [raw if i == last else i for i in node.input]
    new = model.opset_import[0].version >= 18
    axis = numpy_helper.from_array(np.array([1], np.int64), "label_axis")
    low = numpy_helper.from_array(np.array(-NEVER, np.float32), "low_label")
    nothing = numpy_helper.from_array(np.array(float(kind == "single"), np.float32), "kept_top")

    def reduce(op: str, x: str, out: str) -> onnx.NodeProto:
        if new:
            return helper.make_node(op, [x, "label_axis"], [out], keepdims=1)
        return helper.make_node(op, [x], [out], keepdims=1, axes=[1])

    graph.node.extend(
        [
            reduce("ReduceMax", raw, "top_label"),
            helper.make_node("Mul", ["top_label", "kept_top"], ["base_label"]),
            helper.make_node("Add", ["base_label", "low_label"], ["never_label"]),
        ]
    )
    columns = []
    for k, own in enumerate(plan):
        columns.append(f"label{k}" if own else "never_label")
        if own:
            graph.initializer.append(numpy_helper.from_array(np.array(own, np.int64), f"from{k}"))
            graph.node.append(helper.make_node("Gather", [raw, f"from{k}"], [f"own{k}"], axis=1))
            op = "ReduceLogSumExp" if kind == "single" else "ReduceMax"
            graph.node.append(reduce(op, f"own{k}", f"label{k}") if len(own) > 1 else _same(f"own{k}", f"label{k}"))
    graph.node.append(helper.make_node("Concat", columns, ["logits"], axis=1))
    graph.initializer.extend([axis, low, nothing] if new else [low, nothing])
    del graph.output[:], model.metadata_props[:]
    graph.output.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", len(plan)]))
    kept = {"vocabulary": "\n".join(tokeniser.pieces), "merges": "\n".join(tokeniser.merges)}
    helper.set_model_props(model, {name: text for name, text in kept.items() if text})
    packed: bytes = model.SerializeToString(deterministic=True)
    return packed


def gathered(raw: NDArray[np.float64], plan: Plan, kind: Kind) -> NDArray[np.float64]:
    """What `finish` does, in numpy: raw [rows, outputs] -> [rows, labels of the task]."""
    never = raw.max(1) * (kind == "single") - NEVER
    join = np.logaddexp.reduce if kind == "single" else np.maximum.reduce
    return np.stack([join(raw[:, list(own)], axis=1) if own else never for own in plan], axis=1)


def _same(x: str, out: str) -> onnx.NodeProto:
    return helper.make_node("Identity", [x], [out])
