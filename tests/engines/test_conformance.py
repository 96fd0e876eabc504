"""What `engines.base.Engine` promises, asked of every engine, served ones and precisions too; cards are stood in
for.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import numpy as np
import pytest

from engines.base import TensorBatch, TextModel
from engines.errors import EngineLost, ShapeMismatch
from engines.joined import join
from engines.load import load_text_model
from engines.precisions import PRECISIONS
from engines.probability import probabilities
from engines.shelf import Shelf
from tests.engines import fake_card, precise, serving, test_cascade, test_onnx_cuda, tiny

MODELS = {
    "stub": load_text_model("stub"),
    "fake": load_text_model("fake"),
    "hashed": load_text_model("hashed"),
    "onnx": tiny.model(),
    "onnx-cuda": test_onnx_cuda.model(tiny.packed(int8=False)),
    **{f"onnx {precision}": precise.model(precision) for precision in PRECISIONS},
    "tensorrt": fake_card.tensorrt_model(),
}
MODELS["cascade"] = test_cascade.cascade({"mood": test_cascade.middle("mood"), "needs": 0.0})[0]
MODELS["joined"] = join([(MODELS["onnx"], ("needs", "mood")), (MODELS["hashed"], ("emtract7", "crisis_info6"))])
if importlib.util.find_spec("torch") is not None:
    from tests.engines import test_torch_cuda

    MODELS["torch"] = test_torch_cuda.model()
TEXTS = ["we need water now", "", "so happy 😀😀", "stocks fall https://x.y @ann", "not good!!! " * 40, "\ud800", "a"]

each = pytest.mark.parametrize("model", [*MODELS, "remote"], indirect=True)


@pytest.fixture(scope="module")
def remote() -> Iterator[TextModel]:
    """`joined`, in a server."""

    def load(_: str) -> TextModel:
        parts = [(serving.tiny_model(), ("needs", "mood")), (load_text_model("hashed"), ("emtract7", "crisis_info6"))]
        return join(parts)

    with serving.serving(Shelf(load, "joined")) as server:
        model = serving.connected(server.address)
        yield model
        model.engine.close()


@pytest.fixture
def model(request: pytest.FixtureRequest) -> TextModel:
    found = request.getfixturevalue("remote") if request.param == "remote" else MODELS[request.param]
    assert isinstance(found, TextModel)
    return found


@each
def test_logits_have_a_row_for_every_text_and_a_column_for_every_label(model: TextModel) -> None:
    for texts in (TEXTS, TEXTS[:1], []):
        scored = model.engine.infer(model.featurize(texts))
        assert list(scored.logits) == [h.task for h in model.spec.heads]
        for head in model.spec.heads:
            found = scored.logits[head.task]
            assert found.dtype == np.float64
            assert found.shape == (len(texts), len(head.labels))
            assert np.isfinite(found).all()
        assert scored.run_s >= 0


@each
def test_a_row_depends_on_its_text_alone(model: TextModel) -> None:
    whole = model.engine.infer(model.featurize(TEXTS)).logits
    back = model.engine.infer(model.featurize(TEXTS[::-1])).logits
    again = model.engine.infer(model.featurize(TEXTS)).logits
    for task, logits in whole.items():
        alone = np.concatenate([model.engine.infer(model.featurize([t])).logits[task] for t in TEXTS])
        if model is MODELS.get("torch"):  # its CPU kernels add in another order at another place (decision 19)
            np.testing.assert_allclose(alone, logits, atol=1e-5)
            continue
        assert alone.tobytes() == logits.tobytes() == again[task].tobytes()
        assert back[task][::-1].tobytes() == logits.tobytes()


@each
def test_values_are_what_their_head_says(model: TextModel) -> None:
    logits = model.logits(TEXTS * 3).logits
    for head in model.spec.heads:
        if head.kind == "regression":
            assert (logits[head.task] >= head.lo).all()
            assert (logits[head.task] <= head.hi).all()
            continue
        p = probabilities(head, logits[head.task])
        assert ((p >= 0) & (p <= 1)).all()
        if head.kind == "single":
            np.testing.assert_allclose(p.sum(1), 1.0)


@each
def test_foreign_tensors_are_refused(model: TextModel) -> None:
    with pytest.raises(ShapeMismatch):
        model.engine.infer(TensorBatch(1, {"pixels": np.zeros((1, 3))}))


def test_a_served_model_gives_the_bytes_it_gives_in_process(remote: TextModel) -> None:
    want = MODELS["joined"].logits(TEXTS * 3)
    got = remote.logits(TEXTS * 3)
    assert {task: logits.tobytes() for task, logits in got.logits.items()} == {
        task: logits.tobytes() for task, logits in want.logits.items()
    }
    assert remote.spec.heads == MODELS["joined"].spec.heads
    assert remote.spec.model_id == MODELS["joined"].spec.model_id


def test_closing_twice_is_no_error_and_a_closed_engine_is_lost() -> None:
    with serving.serving() as server:
        for model in (
            load_text_model("hashed"),
            tiny.model(),
            fake_card.tensorrt_model(),
            serving.connected(server.address),
        ):
            model.engine.close()
            model.engine.close()
            with pytest.raises(EngineLost, match="load it again"):
                model.engine.infer(model.featurize(["a"]))
