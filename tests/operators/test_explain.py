"""Influence against the definition: the value over all posts minus the value over all others."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.stub import stub_spec
from operators.explain import influence
from operators.market import COLUMNS, market

MARKET = market(stub_spec())


def channels_of(posts: list[tuple[int, int]]) -> np.ndarray:
    """(joy, bull) of each post in millionths; the rest of the mass is neutral, and neither bull nor bear."""
    out = np.zeros((len(posts), len(COLUMNS)), np.int64)
    out[:, COLUMNS.index("joy")] = [joy for joy, _ in posts]
    out[:, COLUMNS.index("bull")] = [bull for _, bull in posts]
    return out


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 10**6)), min_size=2, max_size=15))
def test_leave_one_out_of_a_mean(posts: list[tuple[int, int]]) -> None:
    value, moved = influence(MARKET, "market.joy", channels_of(posts), whole=False)
    joys = [joy / 1e6 for joy, _ in posts]
    mean = sum(joys) / len(joys)
    assert value == pytest.approx(mean)
    for k, moved_by in enumerate(moved.tolist()):
        others = joys[:k] + joys[k + 1 :]
        assert moved_by == pytest.approx(mean - sum(others) / len(others), abs=1e-9)


def test_the_loudest_post_moves_most() -> None:
    _, moved = influence(MARKET, "market.joy", channels_of([(0, 1), (10**6, 1), (1_000, 1)]), whole=True)
    assert int(np.abs(moved).argmax()) == 1


def test_a_single_post_moves_nothing() -> None:
    value, moved = influence(MARKET, "market.joy", channels_of([(250_000, 0)]), whole=False)
    assert (value, moved.tolist()) == (0.25, [0.0])


def test_what_is_undefined_without_the_post_counts_as_zero() -> None:
    _, moved = influence(MARKET, "market.bullishness", channels_of([(0, 10**6), (0, 0)]), whole=False)
    assert moved.tolist() == [0.0, 0.0]
