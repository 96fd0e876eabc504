"""The cascade: who answers what, in whose calibration, and how its limits are chosen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest

from engines.artefacts import ZOO, read_manifest
from engines.base import EngineSpec, HeadSpec, ScoreBatch, TensorBatch, TextModel
from engines.batching import join, part, take
from engines.cascade import NEVER, Cascade, HeadLimit, Limits, certainty, read_limits, restated
from engines.choice import BETTER, FAST
from engines.errors import ManifestInvalid
from engines.load import load_text_model
from engines.onnx import OnnxEngine
from engines.probability import probabilities
from engines.tasks import TEXT_TASKS, task_spec
from engines.training.cascade import Judged, choose_limits
from tests.engines import tiny

TEXTS = ["we need water now", "", "so happy", "stocks fall", "not good!!! " * 9, "a", "b c d", "love the food", "e e e"]
BOTH = ("mood", "needs")


class Watched:
    """An engine that counts the rows it is asked."""

    def __init__(self, model: TextModel) -> None:
        self.spec: EngineSpec = model.spec
        self.rows = 0
        self._engine = model.engine

    def infer(self, batch: TensorBatch) -> ScoreBatch:
        self.rows += batch.rows
        return self._engine.infer(batch)

    def close(self) -> None:
        self._engine.close()


def quick() -> TextModel:
    """Another tiny encoder, with a calibration of its own."""
    mood, needs, vad = tiny.HEADS
    mood = msgspec.structs.replace(mood, temperature=0.4, bias=(0.3, -0.1, -0.2))
    needs = msgspec.structs.replace(needs, temperature=0.7, thresholds=(0.5, 0.3))
    spec = msgspec.structs.replace(tiny.spec((mood, needs, vad)), name="quick")
    return TextModel(tiny.model().featurize, OnnxEngine(spec, tiny.packed(seed=1)))


def limits(sure: Sequence[dict[str, float]]) -> Limits:
    sets = tuple(tuple(HeadLimit(t, "", s, 0.0, 0.0, 0.0, 0.0, 0) for t, s in one.items()) for one in sure)
    return Limits("quick@0", "tiny@0", 0.005, sets)


def cascade(sure: dict[str, float], tasks: Sequence[str] = BOTH, on: bool = True) -> tuple[TextModel, Cascade, Watched]:
    slow = tiny.model()
    watched = Watched(slow)
    engine = Cascade(quick(), TextModel(slow.featurize, watched), limits([sure]), tasks, on)
    return TextModel(engine.featurize, engine), engine, watched


def middle(task: str) -> float:
    """A limit that about half of the texts reach."""
    head = quick().spec.head(task)
    assert head is not None
    return float(np.median(certainty(head, quick().logits(TEXTS).logits[task])))


def test_sure_texts_are_answered_fast_and_the_others_bit_for_bit_by_the_better_model() -> None:
    sure = {"mood": middle("mood"), "needs": middle("needs") / 2}
    model, _, watched = cascade(sure)
    got, fast, slow = model.logits(TEXTS), quick().logits(TEXTS).logits, tiny.model().logits(TEXTS).logits
    want = np.ones(len(TEXTS), np.bool_)
    for task, limit in sure.items():
        head = quick().spec.head(task)
        assert head is not None
        want &= certainty(head, fast[task]) >= limit
    assert got.fast is not None
    assert got.fast.tolist() == want.tolist()
    assert 0 < want.sum() < len(TEXTS)
    assert watched.rows == (~want).sum()
    for task in BOTH:
        mine, theirs = quick().spec.head(task), model.spec.head(task)
        assert mine is not None
        assert theirs is not None
        assert got.logits[task][~want].tobytes() == slow[task][~want].tobytes()
        said, meant = probabilities(theirs, got.logits[task][want]), probabilities(mine, fast[task][want])
        np.testing.assert_allclose(said, meant, atol=1e-12)


def test_a_head_without_a_limit_or_a_like_is_never_answered_fast() -> None:
    for sure, tasks in (({"mood": 0.0}, BOTH), ({"mood": 0.0, "vad": 0.0}, ("mood", "vad"))):
        model, _, watched = cascade(sure, tasks)
        got = model.logits(TEXTS)
        assert got.fast is not None
        assert not got.fast.any()
        assert watched.rows == len(TEXTS)
        assert [h.task for h in model.spec.heads] == list(tasks)


def test_turned_off_it_is_the_better_model_and_says_so() -> None:
    model, engine, watched = cascade({"mood": 0.0, "needs": 0.0}, on=False)
    assert model.spec.model_id == "tiny@0"
    off = model.logits(TEXTS)
    assert off.fast is None
    assert {t: x.tobytes() for t, x in off.logits.items()} == {
        t: tiny.model().logits(TEXTS).logits[t].tobytes() for t in BOTH
    }
    engine.turn(True)
    on = model.logits(TEXTS)
    assert on.fast is not None
    assert on.fast.all()
    assert (model.spec.name, engine.on, watched.rows) == ("cascade", True, len(TEXTS))
    assert model.spec.version != cascade({"mood": 0.1, "needs": 0.0})[0].spec.version
    engine.turn(False)
    model.logits(TEXTS)
    assert model.spec.model_id == "tiny@0"


def test_limits_of_heads_asked_together_are_their_own() -> None:
    found = limits([{"mood": 0.5}, {"needs": 0.1}, {"mood": 0.4, "needs": 0.05}])
    assert found.sure(("needs", "mood")) == {"mood": 0.4, "needs": 0.05}
    assert found.sure(("mood",)) == {"mood": 0.5}
    assert found.sure(("mood", "vad")) == {"mood": 0.5, "vad": NEVER}


def test_rows_taken_are_those_rows() -> None:
    for model in (tiny.model(), load_text_model("hashed"), load_text_model("stub")):
        batch = model.featurize(TEXTS)
        rows = np.array([7, 0, 1, 4])
        got, want = take(batch, rows), join([part(batch, k, k + 1) for k in rows.tolist()])
        assert {n: t.tolist() for n, t in got.tensors.items()} == {n: t.tolist() for n, t in want.tensors.items()}
        assert take(batch, rows[:0]).rows == 0


def test_limits_of_other_models_or_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestInvalid, match=r"training\.cascade"):
        Cascade(tiny.model(), tiny.model(), limits([]))
    with pytest.raises(ManifestInvalid, match=r"training\.cascade"):
        read_limits(tmp_path)


def test_what_ships_was_chosen_for_the_models_that_ship_and_loses_no_more_than_it_says() -> None:
    shipped = read_limits(ZOO)
    assert (shipped.fast, shipped.slow) == tuple(read_manifest(name).spec.model_id for name in (FAST, BETTER))
    assert shipped.most_loss == 0.005
    assert {chosen[0].task for chosen in shipped.sets if len(chosen) == 1} == {
        t.task for t in TEXT_TASKS if t.kind != "regression"
    }
    for one in (one for chosen in shipped.sets for one in chosen):
        assert one.cascade >= one.slow - shipped.most_loss - 1e-4
        assert 0 < one.share <= 1
        assert one.rows >= 100


def judged(fast_right: float, calibrated: bool) -> Judged:
    """400 rows of three labels. The better model is right on nine of ten; the fast one on `fast_right` of its surest
    half, and by chance on the rest; one that is not calibrated is sure without being right."""
    spec = task_spec("sentiment3")
    head = HeadSpec(spec.task, "single", spec.labels)
    random = np.random.default_rng(5)
    truth = random.integers(0, 3, 400)

    def answers(right: np.ndarray, sure: np.ndarray) -> np.ndarray:
        said = np.where(right, truth, (truth + 1) % 3)
        rest = (1 - sure)[:, None] / 2
        return np.log(np.where(np.eye(3)[said] > 0, sure[:, None], rest))

    half = np.arange(400) % 2 == 0
    slow = answers(random.random(400) < 0.9, np.full(400, 0.9))
    right = random.random(400) < np.where(half, fast_right, 0.3)
    fast = answers(right, np.where(half if calibrated else ~half, 0.95, 0.5) + random.random(400) / 100)
    table = np.eye(3, dtype=np.float32)[truth]
    return Judged(spec, head, table, {spec.task: certainty(head, fast)}, restated(head, fast, head), slow)


def test_the_limit_is_as_low_as_the_loss_allows() -> None:
    (one,) = choose_limits({"sentiment3": judged(1.0, calibrated=True)}, ["sentiment3"])
    assert one.share < 0.2  # half of the rows would pass by the labels; the better model expects to lose
    (one,) = choose_limits({"sentiment3": judged(1.0, calibrated=True)}, ["sentiment3"], most_loss=0.1)
    assert 0.45 <= one.share <= 0.75
    assert one.sure > 0.5
    (one,) = choose_limits({"sentiment3": judged(1.0, calibrated=False)}, ["sentiment3"], most_loss=0.02)
    assert (one.sure, one.share, one.cascade) == (NEVER, 0.0, one.slow)
