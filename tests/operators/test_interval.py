"""Intervals against the textbook, in exact fractions, and what they promise at the ends."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.interval import Z95, mean, share, wilson

Z = Fraction(1959963984540054, 10**15)


def textbook(successes: Fraction, n: Fraction) -> tuple[float, float]:
    """Roots of (p - x)^2 = z^2 x (1 - x) / n: Wilson 1927, solved as a quadratic."""
    p = successes / n
    a, b, c = 1 + Z * Z / n, -(2 * p + Z * Z / n), p * p
    root = math.sqrt(b * b - 4 * a * c)
    return (-float(b) - root) / (2 * float(a)), (-float(b) + root) / (2 * float(a))


@given(st.integers(0, 200), st.integers(1, 200))
def test_wilson_solves_its_equation(successes: int, n: int) -> None:
    successes = min(successes, n)
    lo, hi = wilson(np.array([successes / n]), np.array([float(n)]))
    want_lo, want_hi = textbook(Fraction(successes), Fraction(n))
    assert lo[0] == pytest.approx(max(want_lo, 0.0), abs=1e-9)
    assert hi[0] == pytest.approx(min(want_hi, 1.0), abs=1e-9)


def test_wilson_by_a_published_example() -> None:
    """81 of 263 (Newcombe 1998, table I): 0.2553 to 0.3662."""
    lo, hi = wilson(np.array([81 / 263]), np.array([263.0]))
    assert (round(float(lo[0]), 4), round(float(hi[0]), 4)) == (0.2553, 0.3662)


@given(st.floats(0, 1), st.floats(1e-6, 1e9))
def test_wilson_holds_the_share_and_stays_in_range(share: float, n: float) -> None:
    lo, hi = wilson(np.array([share]), np.array([n]))
    assert 0 <= lo[0] <= share <= hi[0] <= 1


@given(st.floats(0, 1), st.floats(1, 1e6))
def test_more_posts_make_it_narrower(share: float, n: float) -> None:
    (lo, lo4), (hi, hi4) = (x.tolist() for x in wilson(np.array([share, share]), np.array([n, 4 * n])))
    assert hi4 - lo4 < hi - lo


def test_wilson_of_unknown_is_unknown() -> None:
    lo, hi = wilson(np.array([np.nan]), np.array([5.0]))
    assert np.isnan(lo[0])
    assert np.isnan(hi[0])


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=30))
def test_mean_interval_adds_one_pseudo_post_at_each_end(values: list[float]) -> None:
    n = len(values)
    m = math.fsum(values) / n
    square = math.fsum(v * v for v in values) / n
    spread = math.fsum((v - m) ** 2 for v in [*values, 1.0, -1.0])  # about the mean of the posts
    half = Z95 * math.sqrt(spread / (n + 2) / (n + 2))
    lo, hi = mean(np.array([m]), np.array([square]), np.array([float(n)]), -1.0, 1.0)
    assert lo[0] == pytest.approx(max(m - half, -1), abs=1e-6)
    assert hi[0] == pytest.approx(min(m + half, 1), abs=1e-6)
    assert lo[0] <= m <= hi[0]


def test_equal_posts_do_not_claim_certainty() -> None:
    lo, hi = mean(np.array([0.5]), np.array([0.25]), np.array([25.0]), -1.0, 1.0)
    assert hi[0] - lo[0] > 0.05


def test_mean_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    draws = rng.beta(2, 5, (4_000, 40)) * 2 - 1
    truth = 2 * 2 / 7 - 1
    m = draws.mean(axis=1)
    lo, hi = mean(m, (draws**2).mean(axis=1), np.full(4_000, 40.0), -1.0, 1.0)
    assert 0.94 < float(((lo <= truth) & (truth <= hi)).mean()) < 0.995


@given(st.integers(0, 200), st.integers(2, 200))
def test_hard_scores_give_wilsons_interval(successes: int, n: int) -> None:
    p = min(successes, n) / n
    lo, hi = share(np.array([p]), np.array([p]), np.array([float(n)]))
    student = (1 + (Z95**2 + 1) / (4 * n)) ** 2
    want_lo, want_hi = wilson(np.array([p]), np.array([n / student]))
    assert (lo[0], hi[0]) == pytest.approx((want_lo[0], want_hi[0]), abs=1e-9)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=40))
def test_soft_scores_never_widen_it_and_hold_the_mean(scores: list[float]) -> None:
    n, p = float(len(scores)), math.fsum(scores) / len(scores)
    square = math.fsum(x * x for x in scores) / n
    lo, hi = share(np.array([p]), np.array([square]), np.array([n]))
    wide_lo, wide_hi = wilson(np.array([p]), np.array([n / (1 + (Z95**2 + 1) / (4 * n)) ** 2]))
    assert wide_lo[0] - 1e-9 <= lo[0] <= p + 1e-9
    assert p - 1e-9 <= hi[0] <= wide_hi[0] + 1e-9


@pytest.mark.parametrize(("a", "b"), [(0.2, 0.6), (1.0, 1.0), (3.0, 7.0), (1.0, 9.0)])
@pytest.mark.parametrize("n", [30, 60, 200])
def test_share_covers_the_truth_as_often_as_it_says(a: float, b: float, n: int) -> None:
    draws = np.random.default_rng(5).beta(a, b, (4_000, n))
    m, truth = draws.mean(axis=1), a / (a + b)
    lo, hi = share(m, (draws**2).mean(axis=1), np.full(4_000, float(n)))
    assert 0.93 < float(((lo <= truth) & (truth <= hi)).mean()) < 0.995


@pytest.mark.parametrize(("n", "least"), [(22, 0.95), (40, 0.87), (80, 0.88), (200, 0.92)])
def test_a_rare_emotion_is_held_less_often_but_not_seldom(n: int, least: float) -> None:
    """Three in a hundred say it loudly, the others hardly at all: the worst of what the scenarios have."""
    random = np.random.default_rng(1)
    loud = random.random((4_000, n)) < 0.03
    draws = np.where(loud, random.beta(3, 3, (4_000, n)), random.beta(0.4, 19.6, (4_000, n)))
    truth = 0.03 * 0.5 + 0.97 * 0.02
    m = draws.mean(axis=1)
    lo, hi = share(m, (draws**2).mean(axis=1), np.full(4_000, float(n)))
    assert least < float(((lo <= truth) & (truth <= hi)).mean()) < 0.995
