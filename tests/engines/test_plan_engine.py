"""What the plan engine does with buckets, buffers, streams and errors, on a card that runs in any order it may."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest

from engines.base import AnyArray
from engines.buckets import Bucket, Buckets
from engines.errors import EngineLost, ShapeMismatch
from engines.plan_engine import PlanEngine
from engines.wordpieces import WordPieces
from tests.engines import tiny
from tests.engines.fake_card import FakeCard, FakePlan

PIECES = WordPieces(tiny.VOCABULARY, 24)
SMALL = Buckets((8, 16, 32), (1, 2, 4), steady=4)
WORDS = ("water", "food", "happy", "sad", "not", "good", "stock", "falls")


def net(ids: AnyArray, mask: AnyArray) -> AnyArray:
    """A net whose every output depends on every token and place that the mask shows, and on nothing else."""
    shown = ids.astype(np.float64) * mask * (1 + np.arange(len(ids)))
    return np.sin(np.arange(1, tiny.OUTPUTS + 1) * shown.sum() / 97) * mask.sum()


def engine(
    card: FakeCard, buckets: Buckets = SMALL, hot: int = 8, kinds: dict[str, str] | None = None
) -> tuple[PlanEngine, FakePlan]:
    plan = FakePlan(card, buckets.all(), net, tiny.OUTPUTS, kinds)
    return PlanEngine(tiny.spec(), plan, card, buckets, PIECES.size, hot), plan


def texts(count: int, seed: int) -> list[str]:
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS, int(random.integers(0, 22)))) for _ in range(count)]


def outputs(logits: object) -> np.ndarray:
    assert isinstance(logits, dict)
    return np.concatenate([logits[h.task] for h in tiny.HEADS], 1)


def wanted(lines: list[str]) -> np.ndarray:
    batch = PIECES.featurize(lines)
    ids, offsets = batch.tensors["ids"], batch.tensors["offsets"]
    rows = [ids[a:b] for a, b in pairwise(offsets.tolist())]
    found = np.array([net(r, np.ones(len(r))) for r in rows], np.float32).astype(np.float64)
    found[:, 5:] = np.clip(found[:, 5:], 1.0, 5.0)
    return found


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("steady", [4, None])
def test_whatever_order_the_card_takes_the_rows_are_right(seed: int, steady: int | None) -> None:
    card = FakeCard(seed)
    made, _ = engine(card, Buckets((8, 16, 32), (1, 2, 4), steady))
    lines = texts(50, seed)
    np.testing.assert_allclose(outputs(made.infer(PIECES.featurize(lines)).logits), wanted(lines), rtol=1e-6)
    made.close()
    assert (card.live, card.graphs, card.closed) == ([], 0, True)


def test_half_precision_ports_and_narrow_ids_are_taken_as_the_plan_has_them() -> None:
    made, _ = engine(FakeCard(), kinds={"ids": "i4", "mask": "f2", "logits": "f2"})
    lines = texts(20, 3)
    np.testing.assert_allclose(outputs(made.infer(PIECES.featurize(lines)).logits), wanted(lines), rtol=2e-3, atol=1e-3)


def test_lanes_are_kept_for_the_hot_shapes_and_closed_for_new_ones() -> None:
    card = FakeCard()
    made, plan = engine(card, hot=2)
    made.warm_up()
    assert made.lanes == (Bucket(4, 8), Bucket(4, 16))
    held = len(card.live)
    for words, lanes in ((20, (Bucket(4, 16), Bucket(4, 32))), (1, (Bucket(4, 32), Bucket(4, 8)))):
        lines = ["water " * words]
        np.testing.assert_allclose(outputs(made.infer(PIECES.featurize(lines)).logits), wanted(lines), rtol=1e-6)
        assert made.lanes == lanes
        assert (plan.contexts, card.graphs, len(card.live)) == (2, 2, held)


def test_a_card_that_fails_at_any_moment_loses_the_engine_and_nothing_else() -> None:
    lines = texts(30, 1)
    batch = PIECES.featurize(lines)
    card = FakeCard()
    made, _ = engine(card)
    made.infer(batch)
    needed = card.done
    for moment in range(1, needed + 1, 7):
        card = FakeCard(moment, fail_after=moment)
        made, plan = engine(card)
        with pytest.raises(EngineLost, match=r"illegal address.*load it again"):
            made.infer(batch)
        assert (card.live, card.graphs, plan.contexts, plan.closed, card.closed) == ([], 0, 0, True, True)
        with pytest.raises(EngineLost, match="closed"):
            made.infer(batch)


def test_a_shape_that_the_plan_refuses_frees_what_was_made_for_it() -> None:
    card = FakeCard()
    made, plan = engine(card)
    made.infer(PIECES.featurize(["water"]))
    plan.refuses = Bucket(4, 32)
    with pytest.raises(EngineLost, match="no memory"):
        made.infer(PIECES.featurize(["water " * 20]))
    assert (card.live, plan.contexts) == ([], 0)


def test_plans_that_do_not_fit_the_model_are_refused_with_the_shape() -> None:
    card = FakeCard()
    plan = FakePlan(card, SMALL.all()[:-1], net, tiny.OUTPUTS)
    with pytest.raises(EngineLost, match="no profile for 4x32"):
        PlanEngine(tiny.spec(), plan, card, SMALL, PIECES.size)
    plan = FakePlan(card, SMALL.all(), net, tiny.OUTPUTS, {"ids": "i8", "mask": "f4", "scores": "f4"})
    with pytest.raises(EngineLost, match=r"expected .*logits"):
        PlanEngine(tiny.spec(), plan, card, SMALL, PIECES.size)


def test_a_row_longer_than_every_bucket_is_the_callers_error_and_the_engine_lives() -> None:
    made, _ = engine(FakeCard(), Buckets((8,), (4,), 4))
    with pytest.raises(ShapeMismatch, match="longest bucket 8"):
        made.infer(PIECES.featurize(["water " * 20]))
    assert made.infer(PIECES.featurize(["water"])).logits["mood"].shape == (1, 3)


def test_it_may_be_made_in_one_thread_and_asked_and_closed_in_others() -> None:
    card = FakeCard()
    made, _ = engine(card)
    batch = PIECES.featurize(["water"])
    want = outputs(made.infer(batch).logits)
    with ThreadPoolExecutor(1) as other:
        np.testing.assert_array_equal(outputs(other.submit(made.infer, batch).result(60).logits), want)
    with ThreadPoolExecutor(1) as third:
        third.submit(made.close).result(60)
    assert (card.live, card.graphs) == ([], 0)
