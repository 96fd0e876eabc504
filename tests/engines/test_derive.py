"""Precision files: each is the same net, typed as it says, of standard operators, and the same bytes every time."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines.base import TextModel
from engines.derive.cut import WEIGHT_MAX, by_row
from engines.derive.files import derive, reference
from engines.derive.float16 import KEPT, float16
from engines.derive.float32 import float32
from engines.derive.int8 import activation_ranges, dynamic_int8, static_int8
from engines.derive.rewrite import Rewrite
from engines.derive.sensitive import kept_in_float
from engines.errors import ManifestInvalid
from engines.onnx import OnnxEngine
from engines.precisions import PRECISIONS, Precision
from engines.training.graph import OPSET
from tests.engines import precise, tiny

each = pytest.mark.parametrize("precision", PRECISIONS)


def logits(packed: bytes) -> np.ndarray:
    model = TextModel(tiny.model().featurize, OnnxEngine(tiny.spec(), packed))
    return np.concatenate(list(model.logits(precise.TEXTS).logits.values()), axis=1)


def kinds(packed: bytes) -> list[str]:
    return [n.op_type for n in onnx.load_from_string(packed).graph.node]


def test_float32_is_the_shipped_weights_in_float() -> None:
    """Every matrix of the int8 file, undone by hand and built anew, gives the same answers."""
    weights = dict(tiny.weights())
    for name, value in weights.items():
        top = {"pieces.weight": 127}.get(name, WEIGHT_MAX)
        if name == "pieces.weight" or (name.startswith("blocks.") and value.ndim == 2):
            # The queries' scale is folded in before cutting; rows keep their relative digits, so undo and redo it.
            whole, step = by_row(value, top)
            weights[name] = whole.astype(np.float32) * step[:, None]
    by_hand = tiny.build(weights, tiny.ATTENTION, tiny.EPSILON, {"vocabulary": "\n".join(tiny.VOCABULARY)}, int8=False)
    np.testing.assert_allclose(logits(precise.whole().packed), logits(by_hand), atol=2e-5)
    assert "MatMulInteger" not in kinds(precise.whole().packed)


def test_float32_and_back_to_int8_is_the_shipped_file_to_the_bit() -> None:
    assert logits(precise.file("cpu-int8").packed).tobytes() == logits(tiny.packed()).tobytes()


def test_a_float32_file_of_training_is_taken_as_it_is() -> None:
    given = tiny.packed(int8=False)
    made = reference(tiny.packed(), given)
    assert logits(made.packed).tobytes() == logits(given).tobytes()
    assert made.parent_sha256 != precise.whole().parent_sha256


@each
def test_files_are_standard_deterministic_and_know_their_parent(precision: Precision) -> None:
    made = precise.file(precision)
    again = derive(precision, reference(tiny.packed()), [tiny.model().featurize(precise.TEXTS)])
    assert made == again
    proto = onnx.load_from_string(made.packed)
    onnx.checker.check_model(proto, full_check=True)
    assert {o.domain: o.version for o in proto.opset_import} == {"": OPSET}
    assert {n.domain for n in proto.graph.node} == {""}
    facts = {p.key: p.value for p in proto.metadata_props}
    assert facts["precision"] == precision
    assert facts["vocabulary"].split("\n") == tiny.VOCABULARY
    assert facts["parent_sha256"] == made.parent_sha256
    assert made.parent_sha256 == (precise.whole().sha256 if precision != "fp32" else precise.manifest().sha256)
    limit = {"fp32": 0.0, "fp16": 0.005, "cpu-int8": 0.1, "qdq-int8": 0.2}[precision]
    assert np.abs(logits(made.packed) - logits(precise.whole().packed)).max() <= limit


def test_the_half_graph_is_typed_throughout() -> None:
    proto = onnx.shape_inference.infer_shapes(onnx.load_from_string(precise.file("fp16").packed))
    types = {v.name: v.type.tensor_type.elem_type for v in (*proto.graph.value_info, *proto.graph.input)}
    types.update({t.name: t.data_type for t in proto.graph.initializer})
    seen = set()
    for node in proto.graph.node:
        floats = {types.get(name) for name in node.input} & {TensorProto.FLOAT, TensorProto.FLOAT16}
        if node.op_type in KEPT:
            assert floats == {TensorProto.FLOAT}, node.name
        elif node.op_type != "Cast" and floats:
            assert floats == {TensorProto.FLOAT16}, node.name
        seen.add(node.op_type)
    assert {"MatMul", "LayerNormalization", "Softmax", "ReduceSum", "Div", "Cast"} <= seen


def test_qdq_cuts_the_products_but_the_contracting_ones_and_naive_cuts_all() -> None:
    def cut(packed: bytes) -> list[tuple[int, int]]:
        proto = onnx.load_from_string(packed)
        makers = {out: n for n in proto.graph.node for out in n.output}
        sizes = {t.name: tuple(t.dims) for t in proto.graph.initializer}
        both = [n for n in proto.graph.node if n.op_type == "MatMul"]
        weights = [makers.get(n.input[1]) for n in both]
        return [sizes[w.input[0]] for w in weights if w is not None and w.op_type == "DequantizeLinear"]

    wide = [(tiny.WIDTH, 3 * tiny.WIDTH), (tiny.WIDTH, tiny.WIDTH), (tiny.WIDTH, tiny.INNER)]
    sensitive = precise.file("qdq-int8").packed
    facts = {p.key: p.value for p in onnx.load_from_string(sensitive).metadata_props}
    left = cut(sensitive)
    assert 0 < len(left) == 3 * tiny.LAYERS - len(facts["in_float"].split())
    assert set(left) <= set(wide)
    naive = derive("qdq-int8", precise.whole(), [tiny.model().featurize(precise.TEXTS)], naive=True).packed
    assert cut(naive) == [*([*wide, (tiny.INNER, tiny.WIDTH)] * tiny.LAYERS), (tiny.WIDTH, tiny.OUTPUTS)]
    proto = onnx.load_from_string(naive)
    zeros = [n.input[2] for n in proto.graph.node if n.op_type.endswith("quantizeLinear") or "Quantize" in n.op_type]
    found = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
    assert all(found[z].dtype == np.int8 and not found[z].any() for z in zeros), "TensorRT wants zero points of 0"


def test_ranges_are_the_largest_activations_of_all_rows() -> None:
    rows = tiny.model().featurize(precise.TEXTS)
    told: list[int] = []
    together = activation_ranges(precise.whole().packed, [rows], told.append)
    alone = [activation_ranges(precise.whole().packed, [tiny.model().featurize([t])]) for t in precise.TEXTS]
    assert together == {name: max(a[name] for a in alone) for name in together}
    assert len(together) == 4 * tiny.LAYERS + 1
    assert sum(told) == len(precise.TEXTS)


def foreign() -> bytes:
    port = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    node = helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft")
    graph = helper.make_graph([node], "g", [port], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])])
    return bytes(helper.make_model(graph).SerializeToString())


def outside() -> bytes:
    proto = onnx.load_from_string(tiny.packed(int8=False))
    tensor = proto.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    return bytes(proto.SerializeToString())


def huge() -> bytes:
    weights = {**tiny.weights(), "blocks.0.up.weight": tiny.weights()["blocks.0.up.weight"] * np.float32(1e6)}
    return tiny.build(weights, tiny.ATTENTION, tiny.EPSILON, {}, int8=False)


def test_what_cannot_be_derived_from_is_refused() -> None:
    for packed, words in ((b"\xff no model", "no ONNX"), (b"", "operators"), (foreign(), "com.microsoft")):
        with pytest.raises(ManifestInvalid, match=words):
            float32(packed, {})
    with pytest.raises(ManifestInvalid, match="outside"):
        dynamic_int8(outside(), {})
    with pytest.raises(ManifestInvalid, match="float16 cannot hold"):
        float16(huge(), {})
    with pytest.raises(ManifestInvalid, match="derive fp32 first"):
        float16(tiny.packed(), {})
    with pytest.raises(ManifestInvalid, match="calibrate"):
        static_int8(precise.whole().packed, {}, {})


def test_a_rewritten_graph_keeps_what_is_used_and_drops_the_rest() -> None:
    graph = Rewrite.read(tiny.packed(int8=False))
    graph.constant("idle", np.zeros(3, np.float32))
    packed = graph.write({})
    assert "idle" not in {t.name for t in onnx.load_from_string(packed).graph.initializer}
    assert kinds(packed) == kinds(tiny.packed(int8=False))


def test_qdq_keeps_in_float_what_it_must_to_be_as_near_as_the_cpus_file() -> None:
    """The squares of the errors add up, so the sum of what is cut stays near what is allowed; all cut is farther."""
    whole = precise.whole().packed
    batch = tiny.model().featurize(precise.TEXTS)
    ranges = {name: 5 * value for name, value in activation_ranges(whole, [batch]).items()}  # steps too coarse
    exact = logits(whole)

    def off(packed: bytes) -> float:
        return float(np.square(logits(packed) - exact).mean())

    floats = kept_in_float(whole, ranges, batch)
    assert floats
    allowed = off(dynamic_int8(whole, {}))
    assert off(static_int8(whole, ranges, {}, floats=floats)) < 2 * allowed < off(static_int8(whole, ranges, {}))
