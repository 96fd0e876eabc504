"""The torch backend on the CPU: the shipped graph's own net, through the plan engine. Needs torch, which `make test`
has not.
"""

from __future__ import annotations

import numpy as np
import pytest

from engines.base import TextModel
from engines.buckets import Buckets
from engines.encoder_weights import encoder_weights
from engines.errors import EngineLost
from engines.plan_engine import PlanEngine
from engines.wordpieces import WordPieces
from tests.engines import tiny
from tests.engines.fake_card import FACTS

pytest.importorskip("torch", reason="torch is not installed (extra `train`): the torch backend cannot run here")

from engines.torch_cuda import TorchDevice, TorchPlan, refusal

TEXTS = ["we need water", "", "happy happy!", "the stock falls https://x.y", "not good 😀", "a b c d e " * 20, "food"]
BUCKETS = Buckets((8, 16, 32), (1, 2, 4), steady=4)


def model(int8: bool = False, steady: int | None = 4) -> TextModel:
    weights = encoder_weights(tiny.packed(int8))
    buckets = Buckets(BUCKETS.lengths, BUCKETS.rows, steady)
    device = TorchDevice(FACTS, "cpu")
    engine = PlanEngine(tiny.spec(), TorchPlan(device, weights, buckets.all()), device, buckets, weights.pieces)
    return TextModel(WordPieces(tiny.VOCABULARY, 24).featurize, engine)


def outputs(made: TextModel) -> np.ndarray:
    logits = made.engine.infer(made.featurize(TEXTS)).logits
    return np.concatenate([logits[h.task] for h in tiny.HEADS], 1)


@pytest.mark.parametrize("steady", [4, None])
def test_it_is_the_net_of_the_float_graph(steady: int | None) -> None:
    want = outputs(tiny.model(int8=False))
    np.testing.assert_allclose(outputs(model(steady=steady)), want, atol=3e-5)


def test_the_dequantised_file_is_near_the_int8_engine() -> None:
    got, want = outputs(model(int8=True)), outputs(tiny.model(int8=True))
    assert 0 < np.abs(got - want)[:, :5].max() < 0.15


def test_without_a_card_it_refuses_with_the_reason() -> None:
    if not refusal():
        pytest.skip("there is a card here")
    with pytest.raises(EngineLost, match=r"torch .* (finds no card|without CUDA)"):
        TorchDevice(FACTS)


def test_memory_that_was_closed_cannot_be_bound() -> None:
    device = TorchDevice(FACTS, "cpu")
    memory = device.memory(64)
    memory.close()
    plan = TorchPlan(device, encoder_weights(tiny.packed()), BUCKETS.all())
    with pytest.raises(EngineLost, match="nothing live"):
        plan.context(0, device.stream()).bind("ids", memory.address)
