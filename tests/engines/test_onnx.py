"""The ONNX engine on a tiny real model: right, the same bytes for any batch, and loud about what does not fit."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from engines.artefacts import Manifest, write_model
from engines.base import AnyArray, HeadSpec, TensorBatch
from engines.derive.cut import WEIGHT_MAX, by_row
from engines.errors import EngineLost, ManifestInvalid, MissingExtra, ShapeMismatch
from engines.load import load_text_model
from engines.onnx import OnnxEngine
from engines.training.graph import OPSET, build, read
from tests.engines import tiny

MODEL = tiny.model()
TEXTS = ["we need water", "", "happy happy!", "the stock falls https://x.y", "not good 😀", "a b c d e " * 20]


def outputs(model_logits: dict[str, AnyArray]) -> np.ndarray:
    return np.concatenate([model_logits[h.task] for h in tiny.HEADS], axis=1)


def test_the_graph_is_the_net() -> None:
    exact = tiny.model(int8=False)
    batch = exact.featurize(TEXTS)
    ids, offsets = batch.tensors["ids"], batch.tensors["offsets"]
    got = outputs(dict(exact.engine.infer(batch).logits))
    for row in range(len(TEXTS)):
        want = tiny.by_hand(tiny.weights(), ids[offsets[row] : offsets[row + 1]])
        want[5:] = np.clip(want[5:], 1.0, 5.0)
        np.testing.assert_allclose(got[row], want, atol=2e-5)


def test_int8_stays_near_the_float() -> None:
    exact, cut = (outputs(dict(tiny.model(int8).logits(TEXTS).logits))[:, :5] for int8 in (False, True))
    assert 0 < np.abs(exact - cut).max() < 0.15
    assert np.corrcoef(exact.ravel(), cut.ravel())[0, 1] > 0.99


def test_padding_and_neighbours_do_not_change_the_float_graph() -> None:
    """The interchange file takes padded batches: what the mask hides must not count."""
    import onnxruntime as ort

    session = ort.InferenceSession(tiny.packed(int8=False), providers=["CPUExecutionProvider"])
    ids = np.array([[2, 5, 6, 3, 0, 0], [2, 4, 5, 6, 7, 3]], np.int64)
    mask = (np.arange(6) < np.array([[4], [6]])).astype(np.float32)
    both = session.run(None, {"ids": ids, "mask": mask})[0]
    np.testing.assert_allclose(both[0], tiny.by_hand(tiny.weights(), ids[0, :4]), atol=2e-5)
    np.testing.assert_allclose(both[1], tiny.by_hand(tiny.weights(), ids[1]), atol=2e-5)


@pytest.mark.parametrize("int8", [False, True])
def test_the_file_is_standard_and_the_same_every_time(int8: bool) -> None:
    packed = tiny.packed(int8)
    assert packed == tiny.packed(int8)
    proto = onnx.load_from_string(packed)
    assert {o.domain: o.version for o in proto.opset_import} == {"": OPSET}
    assert {n.domain for n in proto.graph.node} == {""}
    kinds = {n.op_type for n in proto.graph.node}
    assert ("MatMulInteger" in kinds) is int8


def test_weights_have_seven_bits() -> None:
    """255 * 64 * 2 fits in 16 bits: processors that add pairs of products there do not saturate."""
    proto = onnx.load_from_string(tiny.packed())
    products = {n.input[1] for n in proto.graph.node if n.op_type == "MatMulInteger"}
    assert len(products) == 4 * tiny.LAYERS
    found = [numpy_helper.to_array(t) for t in proto.graph.initializer if t.name in products]
    assert max(int(np.abs(w.astype(int)).max()) for w in found) == WEIGHT_MAX
    assert 255 * WEIGHT_MAX * 2 <= 32767


def test_by_row_rounds_within_half_a_step() -> None:
    weight = tiny.weights()["blocks.0.up.weight"]
    integers, step = by_row(weight, WEIGHT_MAX)
    assert np.abs(integers * step[:, None] - weight).max() <= step.max() / 2 + 1e-7


def test_a_model_file_gives_its_weights_back() -> None:
    """What a second stage of training starts from: exact from float32, within half a step from int8."""
    weights = tiny.weights()
    for int8 in (False, True):
        found = read(tiny.packed(int8), tiny.ATTENTION)
        assert found.keys() == weights.keys()
        for name, value in found.items():
            step = np.abs(weights[name]).max() / WEIGHT_MAX if int8 and value.ndim == 2 else 0.0
            assert np.abs(value - weights[name]).max() <= step / 2 * 1.0001 + 1e-6, name
    again = build(read(tiny.packed(), tiny.ATTENTION), tiny.ATTENTION, tiny.EPSILON, {}, int8=True)
    first = build(tiny.weights(), tiny.ATTENTION, tiny.EPSILON, {}, int8=True)
    pairs = zip(*(onnx.load_from_string(m).graph.initializer for m in (again, first)), strict=True)
    for one, other in pairs:
        np.testing.assert_allclose(numpy_helper.to_array(one), numpy_helper.to_array(other), atol=1e-6)


@given(st.lists(st.text(max_size=60), min_size=1, max_size=20), st.integers(1, 20), st.randoms())
@settings(max_examples=30, deadline=None)
def test_logits_are_bit_exact_for_any_batch_and_order(texts: list[str], step: int, random: object) -> None:
    whole = outputs(dict(MODEL.engine.infer(MODEL.featurize(texts)).logits))
    parts = [MODEL.engine.infer(MODEL.featurize(texts[k : k + step])) for k in range(0, len(texts), step)]
    assert np.concatenate([outputs(dict(p.logits)) for p in parts]).tobytes() == whole.tobytes()
    order = np.random.default_rng(len(texts)).permutation(len(texts))
    shuffled = outputs(dict(MODEL.engine.infer(MODEL.featurize([texts[k] for k in order])).logits))
    assert shuffled.tobytes() == whole[order].tobytes()


def test_values_are_clipped_and_no_rows_are_no_rows() -> None:
    heads = (*tiny.HEADS[:2], HeadSpec("vad", "regression", ("V", "A"), lo=-0.01, hi=0.01))
    engine = OnnxEngine(tiny.spec(heads), tiny.packed())
    got = engine.infer(MODEL.featurize(TEXTS)).logits["vad"]
    assert np.abs(got).max() == 0.01
    empty = engine.infer(MODEL.featurize([]))
    assert {t: x.shape for t, x in empty.logits.items()} == {"mood": (0, 3), "needs": (0, 2), "vad": (0, 2)}


BAD: dict[str, dict[str, AnyArray]] = {
    "missing": {},
    "offsets too many": {"ids": np.full(2, 3, np.int32), "offsets": np.array([0, 1, 2], np.int64)},
    "ids wide": {"ids": np.full(2, 3, np.int64), "offsets": np.array([0, 2], np.int64)},
    "offsets narrow": {"ids": np.full(2, 3, np.int32), "offsets": np.array([0, 2], np.int32)},
    "id unknown": {"ids": np.full(2, len(tiny.VOCABULARY), np.int32), "offsets": np.array([0, 2], np.int64)},
    "id negative": {"ids": np.full(2, -1, np.int32), "offsets": np.array([0, 2], np.int64)},
    "row empty": {"ids": np.zeros(0, np.int32), "offsets": np.array([0, 0], np.int64)},
    "ids left over": {"ids": np.full(3, 3, np.int32), "offsets": np.array([0, 2], np.int64)},
}


@pytest.mark.parametrize("tensors", BAD.values(), ids=BAD)
def test_tensors_that_do_not_fit_are_refused(tensors: dict[str, AnyArray]) -> None:
    with pytest.raises(ShapeMismatch, match="tiny"):
        MODEL.engine.infer(TensorBatch(1, tensors))


def test_a_row_longer_than_the_positions_is_the_backends_error() -> None:
    ids = np.full(tiny.POSITIONS + 1, 4, np.int32)
    batch = TensorBatch(1, {"ids": ids, "offsets": np.array([0, len(ids)], np.int64)})
    with pytest.raises(EngineLost, match="onnxruntime failed"):
        MODEL.engine.infer(batch)
    assert len(MODEL.logits(["the next call works"]).logits["mood"]) == 1


def test_a_closed_engine_says_so() -> None:
    engine = OnnxEngine(tiny.spec(), tiny.packed())
    engine.close()
    engine.close()
    with pytest.raises(EngineLost, match="closed"):
        engine.infer(MODEL.featurize(["a"]))


def test_files_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ManifestInvalid, match="cannot load"):
        OnnxEngine(tiny.spec(), b"no model at all")
    with pytest.raises(ManifestInvalid, match="outputs expected"):
        OnnxEngine(tiny.spec(tiny.HEADS[:2]), tiny.packed())
    bare = build(tiny.weights(), tiny.ATTENTION, tiny.EPSILON, {}, int8=True)
    with pytest.raises(ManifestInvalid, match="vocabulary"):
        OnnxEngine(tiny.spec(), bare)


@pytest.mark.parametrize("package", ["onnxruntime", "tokenizers"])
def test_a_missing_package_is_named(package: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    zoo = zoo_of_tiny(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=rf"{package}.*affectstream\[onnx\]"):
        load_text_model("text-affect", zoo)


def zoo_of_tiny(folder: Path) -> Path:
    packed = tiny.packed()
    import hashlib

    digest = hashlib.sha256(packed).hexdigest()
    manifest = Manifest(
        name="text-affect", version=digest[:8], backend="onnx-cpu", file="model.onnx", sha256=digest, heads=tiny.HEADS,
        settings={"max_tokens": 24}, data=(), metrics=(), intended_use="tests", limits="", research_only=False,
        training_command="", seed=0,
    )  # fmt: skip
    write_model(manifest, packed, "# tiny\n", folder)
    return folder


def test_the_loader_reads_it_from_a_zoo(tmp_path: Path) -> None:
    zoo = zoo_of_tiny(tmp_path)
    loaded = load_text_model("text-affect", zoo, threads=2)
    assert loaded.spec.backend == "onnx-cpu"
    assert loaded.spec.heads == tiny.HEADS
    many = TEXTS * 30
    one = outputs(dict(load_text_model("text-affect", zoo).logits(many).logits))
    assert one.tobytes() == outputs(dict(loaded.logits(many).logits)).tobytes(), "threads change a digit"
    loaded.engine.close()
    one = one[: len(TEXTS)]
    assert one.tobytes() == outputs(dict(MODEL.logits(TEXTS).logits)).tobytes()
    path = zoo / "text-affect" / "manifest.json"
    manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(manifest, settings={})))
    with pytest.raises(ManifestInvalid, match="tokens"):
        load_text_model("text-affect", zoo)
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(manifest, backend="abacus")))
    with pytest.raises(ManifestInvalid, match="abacus"):
        load_text_model("text-affect", zoo)
