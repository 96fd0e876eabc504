"""Fusion: agreement and discord, missing modalities, weights from development data, alignment to within 100 ms."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.errors import ConfigInvalid
from operators.fuse import MOST_MOMENTS, NEAR_MS, STEP_MS, Fused, Fusion, divergence, fit_weights, pooled
from operators.records import F64

WEIGHTS = {"face": 0.5, "voice": 0.3, "text": 0.2}
SAD, GLAD, EVEN = np.array([0.8, 0.1, 0.1]), np.array([0.1, 0.1, 0.8]), np.ones(3) / 3
shares = st.lists(st.floats(0.0, 1.0), min_size=3, max_size=3).filter(lambda p: sum(p) > 0.01).map(np.array)
weight = st.floats(0.05, 1.0)


@given(shares, shares, weight, weight)
def test_discord_is_nought_for_equals_and_one_for_strangers(p: F64, q: F64, a: float, b: float) -> None:
    p, q, own = p / p.sum(), q / q.sum(), np.array([a, b])
    assert divergence(np.stack([p, p]), own) == pytest.approx(0.0, abs=1e-9)
    assert divergence(np.eye(3)[:2], own) == pytest.approx(1.0)
    assert 0.0 <= divergence(np.stack([p, q]), own) <= 1.0
    assert divergence(np.stack([p, q]), own) == pytest.approx(divergence(np.stack([q, p]), own[::-1]), abs=1e-9)


@given(shares, shares, weight, weight)
def test_discord_grows_as_one_moves_away(p: F64, q: F64, a: float, b: float) -> None:
    p, q, own = p / p.sum(), q / q.sum(), np.array([a, b])
    steps = [divergence(np.stack([p, p + t * (q - p)]), own) for t in np.linspace(0.0, 1.0, 8)]
    assert all(after >= before - 1e-9 for before, after in itertools.pairwise(steps))


def test_two_with_equal_weights_are_the_textbook_divergence() -> None:
    """In bits, from the definition (Lin 1991)."""
    middle = (SAD + GLAD) / 2
    want = sum(float((p * np.log2(p / middle)).sum()) for p in (SAD, GLAD)) / 2
    assert divergence(np.stack([SAD, GLAD]), np.ones(2)) == pytest.approx(want)


def fused(said: dict[str, F64]) -> Fused:
    found = pooled(WEIGHTS, said)
    assert found is not None
    return found


def test_whatever_is_missing_confidence_falls_and_it_is_named() -> None:
    said = {"face": SAD, "voice": GLAD, "text": EVEN}
    whole = fused(said)
    assert (whole.confidence, whole.missing) == (1.0, ())
    assert whole.shares == pytest.approx(0.5 * SAD + 0.3 * GLAD + 0.2 * EVEN)
    for size in (1, 2):
        for gone in itertools.combinations(said, size):
            part = fused({name: p for name, p in said.items() if name not in gone})
            assert part.missing == gone
            assert part.confidence == pytest.approx(1 - sum(WEIGHTS[name] for name in gone))
            assert part.shares.sum() == pytest.approx(1.0)
            assert (part.ambivalence is None) == (size == 2)
    assert pooled(WEIGHTS, {}) is None
    assert pooled({"face": 1.0, "voice": 0.0}, {"voice": SAD}) is None


def test_what_is_no_distribution_is_refused() -> None:
    for bad in (np.zeros(3), np.array([0.5, -0.1, 0.6]), np.array([np.nan, 0.5, 0.5]), np.ones((2, 3))):
        with pytest.raises(ConfigInvalid, match="face"):
            pooled(WEIGHTS, {"face": bad})
    with pytest.raises(ConfigInvalid, match="smell"):
        pooled(WEIGHTS, {"smell": SAD})
    for weights in ({}, {"face": 0.0}, {"face": -1.0, "voice": 2.0}):
        with pytest.raises(ConfigInvalid, match="weights"):
            Fusion(weights)


def readings(rows: int, sharp: tuple[float, ...], seed: int) -> tuple[list[F64], list[int]]:
    """Modalities that see the true class as `sharp` says: 0 = noise."""
    dice = np.random.default_rng(seed)
    truth = dice.integers(0, 3, rows)
    said = []
    for one in sharp:
        logits = dice.normal(0, 1.4, (rows, 3)) + one * np.eye(3)[truth]
        said.append(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))
    return said, truth.tolist()


def loss(weights: tuple[float, ...], said: list[F64], truth: list[int]) -> float:
    pool = sum(w * p for w, p in zip(weights, said, strict=True))
    return -float(np.log(np.asarray(pool)[np.arange(len(truth)), truth]).mean())


def test_weights_are_those_a_search_over_all_of_them_finds() -> None:
    said, truth = readings(600, (1.6, 1.4, 0.0), seed=1)
    found = fit_weights(list(WEIGHTS), said, truth)
    grid = [k / 20 for k in range(21)]
    best = min(((a, b, 1 - a - b) for a in grid for b in grid if a + b <= 1 + 1e-9), key=lambda w: loss(w, said, truth))
    assert loss(tuple(found.values()), said, truth) <= loss(best, said, truth) + 1e-6
    assert sum(found.values()) == pytest.approx(1.0)
    assert found["face"] > found["voice"] > found["text"]
    assert found["text"] < 0.1, "noise gets next to no weight"
    fresh, labels = readings(600, (1.6, 1.4, 0.0), seed=2)
    assert loss(tuple(found.values()), fresh, labels) < 0.99 * min(
        loss((1, 0, 0), fresh, labels), loss((1 / 3, 1 / 3, 1 / 3), fresh, labels)
    )


def test_rows_a_modality_did_not_see_do_not_count_against_it() -> None:
    said, truth = readings(900, (2.0, 2.0), seed=3)
    said[1][::2] = np.nan
    found = fit_weights(["face", "voice"], said, truth)
    assert found["voice"] == pytest.approx(0.5, abs=0.15)
    for wrong in ((said, truth[:-1]), ([said[0]], truth), (said, [*truth[:-1], 3])):
        with pytest.raises(ConfigInvalid):
            fit_weights(["face", "voice"], *wrong)
    with pytest.raises(ConfigInvalid, match="nothing to learn"):
        fit_weights(["face"], [np.full((2, 3), np.nan)], [0, 1])


def test_readings_meet_at_the_moment_within_100_ms_of_them() -> None:
    for offset in range(-250, 251):
        fusion = Fusion(WEIGHTS)
        fusion.add("face", 10_000, SAD)
        fusion.add("voice", 10_000 + offset, GLAD)
        told = list(fusion.tell(20_000))
        together = -NEAR_MS <= offset < NEAR_MS
        assert len(told) == (1 if together else 2), offset
        assert all(one.at_ms % STEP_MS == 0 for one in told)
        assert {one.missing for one in told} == ({("text",)} if together else {("voice", "text"), ("face", "text")})


def test_what_is_told_does_not_depend_on_the_order_and_late_ones_are_counted() -> None:
    dice = random.Random(4)
    said = [(dice.choice(list(WEIGHTS)), dice.randrange(5_000), dice.choice((SAD, GLAD, EVEN))) for _ in range(200)]
    outcomes = []
    for _ in range(3):
        dice.shuffle(said)
        fusion = Fusion(WEIGHTS)
        for one in [*said, *dice.sample(said, 50)]:  # some of them come twice
            fusion.add(*one)
        outcomes.append([(f.at_ms, f.missing, f.ambivalence, f.shares.tolist()) for f in fusion.tell(10_000)])
        assert fusion.late == 0
        fusion.add("face", 1_000, SAD)
        assert (fusion.late, list(fusion.tell(20_000))) == (1, [])
    assert outcomes[0] == outcomes[1] == outcomes[2]


def test_moments_wait_for_those_to_come_but_not_without_bound() -> None:
    fusion = Fusion(WEIGHTS, patience_ms=1_000)
    fusion.add("face", 0, SAD)
    assert list(fusion.tell(NEAR_MS + 999)) == []
    assert [f.at_ms for f in fusion.tell(NEAR_MS + 1_000)] == [0]
    for k in range(1, MOST_MOMENTS + 11):
        fusion.add("voice", k * STEP_MS, GLAD)
    assert len(list(fusion.tell(0))) == 10
