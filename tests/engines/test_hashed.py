"""The numpy engine: bit-exact whatever the batch, right to the last bit, and loud about what does not fit."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.base import AnyArray, EngineSpec, HeadSpec, TensorBatch
from engines.errors import EngineLost, ManifestInvalid, ShapeMismatch
from engines.features import featurize
from engines.hashed import HashedEngine
from engines.load import load_text_model

SPEC = EngineSpec("toy", "0", "numpy", (HeadSpec("a", "single", ("x", "y")), HeadSpec("b", "multi", ("z",))))


def toy(seed: int = 0, bits: int = 8, dims: int = 8, hidden: int = 4) -> dict[str, AnyArray]:
    random = np.random.default_rng(seed)

    def small(*shape: int) -> AnyArray:
        return random.integers(-32767, 32768, shape).astype(np.int16)

    return {
        "table": random.integers(-127, 128, (1 << bits, dims)).astype(np.int8),
        "table_scale": random.random(dims) + 0.5,
        "middle": small(dims, hidden),
        "middle_scale": random.random(hidden) * 1e-4,
        "middle_bias": random.random(hidden),
        "direct": small(dims, 3),
        "direct_scale": random.random(3) * 1e-8,
        "deep": small(hidden, 3),
        "deep_scale": random.random(3) * 1e-8,
        "bias": random.random(3),
    }


MODEL = load_text_model("hashed")


@given(st.lists(st.text(max_size=60), min_size=1, max_size=30), st.integers(1, 30))
@settings(max_examples=40, deadline=None)
def test_logits_are_bit_exact_for_any_batch(texts: list[str], step: int) -> None:
    whole = MODEL.logits(texts).logits
    cut = [MODEL.logits(texts[k : k + step]).logits for k in range(0, len(texts), step)]
    for head in MODEL.spec.heads:
        pieces = np.concatenate([part[head.task] for part in cut])
        assert whole[head.task].tobytes() == pieces.tobytes()


def test_logits_are_bit_exact_for_1_64_1000_and_any_order() -> None:
    words = "we need water food happy sad stock falls hurricane love $TSLA @you http 😀 not good".split()
    random = np.random.default_rng(3)
    texts = [" ".join(random.choice(words, random.integers(0, 40))) for _ in range(1000)]
    whole = MODEL.logits(texts).logits
    order = random.permutation(1000)
    shuffled = MODEL.logits([texts[k] for k in order]).logits
    for step in (1, 64):
        parts = [MODEL.logits(texts[k : k + step]).logits for k in range(0, 1000, step)]
        for task, logits in whole.items():
            assert np.concatenate([p[task] for p in parts]).tobytes() == logits.tobytes()
    for task, logits in whole.items():
        assert shuffled[task].tobytes() == logits[order].tobytes()


def test_matches_exact_rational_arithmetic() -> None:
    """The matrix products, recomputed in Python integers, agree to the last bit."""
    weights = toy()
    bag = featurize(["water now please", "happy", ""], 8)
    got = HashedEngine(SPEC, weights).infer(bag)
    logits = np.concatenate([got.logits["a"], got.logits["b"]], axis=1)
    offsets, buckets = bag.tensors["offsets"].tolist(), bag.tensors["buckets"].tolist()
    w = {k: v.tolist() for k, v in weights.items()}

    def times(vector: list[int], matrix: list[list[int]], scale: list[float]) -> list[float]:
        return [
            float(Fraction(sum(v * r[c] for v, r in zip(vector, matrix, strict=True)))) * s for c, s in enumerate(scale)
        ]

    def cut(x: float) -> int:
        return round(max(-32767.0, min(32767.0, x)))

    for row, (a, b) in enumerate(pairwise(offsets)):
        sums = [sum(w["table"][k][c] for k in buckets[a:b]) for c in range(8)]
        q = [
            cut(float(s) * scale / float(np.sqrt(max(b - a, 1))))
            for s, scale in zip(sums, w["table_scale"], strict=True)
        ]
        middle = times(q, w["middle"], w["middle_scale"])
        h = [cut(max(m + bias, 0.0)) for m, bias in zip(middle, w["middle_bias"], strict=True)]
        direct, deep = times(q, w["direct"], w["direct_scale"]), times(h, w["deep"], w["deep_scale"])
        assert logits[row].tolist() == [x + y + z for x, y, z in zip(direct, deep, w["bias"], strict=True)]


def test_the_longest_text_stays_exact() -> None:
    weights = toy()
    weights["table"][:] = 127
    ids = np.zeros(21_000, np.int32)
    batch = TensorBatch(1, {"buckets": ids, "offsets": np.array([0, len(ids)], np.int64)})
    one = HashedEngine(SPEC, weights).infer(batch).logits["a"]
    assert np.isfinite(one).all()
    assert 21_000 * 127 < 1 << 24


@pytest.mark.parametrize(
    "tensors",
    [
        {},
        {"buckets": np.zeros(1, np.int32), "offsets": np.zeros(3, np.int64)},
        {"buckets": np.zeros(1, np.int64), "offsets": np.array([0, 1], np.int64)},
        {"buckets": np.array([256], np.int32), "offsets": np.array([0, 1], np.int64)},
        {"buckets": np.array([-1], np.int32), "offsets": np.array([0, 1], np.int64)},
        {"buckets": np.zeros(2, np.int32), "offsets": np.array([0, 1], np.int64)},
    ],
)
def test_tensors_that_do_not_fit_are_refused(tensors: dict[str, AnyArray]) -> None:
    with pytest.raises(ShapeMismatch, match="toy"):
        HashedEngine(SPEC, toy()).infer(TensorBatch(1, tensors))


def test_falling_offsets_are_refused() -> None:
    tensors = {"buckets": np.zeros(4, np.int32), "offsets": np.array([0, 3, 1, 4], np.int64)}
    with pytest.raises(ShapeMismatch, match="offsets"):
        HashedEngine(SPEC, toy()).infer(TensorBatch(3, tensors))


@pytest.mark.parametrize("name", ["table", "bias"])
def test_weights_that_do_not_fit_are_refused(name: str) -> None:
    missing = {k: v for k, v in toy().items() if k != name}
    with pytest.raises(ManifestInvalid, match=name):
        HashedEngine(SPEC, missing)
    with pytest.raises(ManifestInvalid):
        HashedEngine(SPEC, {**toy(), name: np.zeros((3, 3, 3))})
    with pytest.raises(ManifestInvalid, match="bias"):
        HashedEngine(SPEC, {**toy(), "bias": np.zeros(4)})


def test_a_closed_engine_says_so() -> None:
    engine = HashedEngine(SPEC, toy())
    engine.close()
    engine.close()
    with pytest.raises(EngineLost, match="closed"):
        engine.infer(featurize(["a"], 8))
