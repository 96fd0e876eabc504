"""Probabilities: the exponential is right, values stay in range, a row's integers depend on that row alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.base import HeadSpec
from engines.errors import ShapeMismatch
from engines.probability import MILLION, decided, exp_of_negative, millionths, probabilities

SINGLE = HeadSpec("s", "single", ("a", "b", "c"), temperature=1.3)
MULTI = HeadSpec("m", "multi", ("a", "b", "c"), temperature=0.7, thresholds=(0.2, 0.5, 0.9))
logits = st.lists(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3), min_size=1, max_size=9)


@given(st.floats(-60, 0))
@settings(max_examples=200)
def test_the_exponential_is_right(x: float) -> None:
    assert float(exp_of_negative(np.array([x]))[0]) == pytest.approx(math.exp(x), rel=4e-16)


@given(logits, st.sampled_from([SINGLE, MULTI]))
def test_integers_are_in_range_and_independent_of_the_batch(rows: list[list[float]], head: HeadSpec) -> None:
    whole = millionths(head, np.array(rows))
    assert whole.dtype == np.int32
    assert 0 <= whole.min() <= whole.max() <= MILLION
    for k, row in enumerate(rows):
        assert millionths(head, np.array([row])).tolist() == [whole[k].tolist()]
    if head.kind == "single":
        assert np.abs(whole.sum(axis=1) - MILLION).max() <= 2


def test_known_values() -> None:
    even = probabilities(SINGLE, np.array([[2.0, 2.0, 2.0]]))
    assert even[0].tolist() == pytest.approx([1 / 3] * 3)
    p = probabilities(MULTI, np.array([[0.7, 0.0, -0.7]]))[0]
    assert p.tolist() == pytest.approx([1 / (1 + math.exp(-1)), 0.5, 1 / (1 + math.exp(1))])
    biased = HeadSpec("s", "single", ("a", "b"), temperature=2.0, bias=(math.log(3), 0.0))
    assert probabilities(biased, np.array([[1.0, 1.0]]))[0].tolist() == pytest.approx([0.75, 0.25])
    ready = HeadSpec("r", "single", ("a", "b"), temperature=9.0, probability=True)
    assert millionths(ready, np.array([[0.123, 0.877]])).tolist() == [[123_000, 877_000]]


def test_decisions() -> None:
    assert decided(SINGLE, np.array([[3, 5, 5]], np.int32)).tolist() == [[False, True, False]]
    assert decided(MULTI, np.array([[200_000, 499_999, 900_000]], np.int32)).tolist() == [[True, False, True]]
    weighed = HeadSpec("s", "single", ("a", "b", "c"), thresholds=(2.0, 1.0, 0.5))
    assert decided(weighed, np.array([[600_000, 290_000, 160_000]], np.int32)).tolist() == [[False, False, True]]
    assert decided(weighed, np.array([[600_000, 300_000, 150_000]], np.int32)).tolist() == [[True, False, False]]
    plain = HeadSpec("m", "multi", ("a",))
    assert decided(plain, np.array([[499_999], [500_000]], np.int32)).tolist() == [[False], [True]]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ShapeMismatch, match="expected"):
        probabilities(SINGLE, np.zeros((2, 4)))
    with pytest.raises(ShapeMismatch, match="regression"):
        probabilities(HeadSpec("r", "regression", ("a",)), np.zeros((2, 1)))
