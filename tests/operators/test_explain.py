"""What moved a value: parts that add up for every formula, Kitagawa's for a mean, influence against its definition."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.stub import stub_spec
from operators.crisis import crisis
from operators.domain import Domain, Norms, Sums
from operators.explain import PARTS, Groups, decompose, influence, values
from operators.market import COLUMNS, SIGNALS, market
from operators.records import MICRO
from operators.social import social

MARKET = market(stub_spec())
DOMAINS = (MARKET, crisis(stub_spec()), social(stub_spec()))
Post = tuple[int, list[int]]
"""Group and scores in millionths."""


def groups_of(domain: Domain, posts: list[Post], usual: Norms | None = None) -> Groups:
    """A window of one entity in three groups; scores are dealt to the linear columns in turn."""
    scores = np.zeros((len(posts), domain.linear), np.int64)
    for k, (_, given_scores) in enumerate(posts):
        scores[k] = np.resize(np.array(given_scores), domain.linear)
    channels = domain.contributions(scores)
    weight, columns = np.zeros((1, 3)), np.zeros((1, 3, channels.shape[1]))
    for k, (group, _) in enumerate(posts):
        weight[0, group] += MICRO
        columns[0, group] += channels[k]
    sums = Sums.plain(channels.sum(axis=0)[None, :], np.array([len(posts)]), np.array([True]))
    return Groups(sums, weight, columns, usual)


def usual_of(domain: Domain, seed: int) -> Norms:
    assert domain.history is not None
    rng = np.random.default_rng(seed)
    tracked = len(domain.history.tracked)
    return Norms(rng.uniform(0.05, 0.9, (1, tracked)), rng.uniform(0.01, 0.3, (1, tracked)))


a_post = st.tuples(st.integers(0, 2), st.lists(st.integers(0, MICRO), min_size=3, max_size=8))
windows = st.lists(a_post, min_size=1, max_size=12)


@pytest.mark.parametrize("domain", DOMAINS, ids=lambda domain: domain.name)
@settings(max_examples=20, deadline=None)
@given(one=windows, two=windows, seed=st.integers(0, 99))
def test_the_parts_add_up_for_every_signal(domain: Domain, one: list[Post], two: list[Post], seed: int) -> None:
    past = [None if domain.history is None else usual_of(domain, seed + k) for k in (0, 1)]
    before, now = groups_of(domain, one, past[0]), groups_of(domain, two, past[1])
    change, parts = decompose(domain, before, now)
    first, last = (values(domain, w.sums, w.usual).value for w in (before, now))
    np.testing.assert_array_equal(change, last - first)
    known = np.isfinite(change)
    assert np.isnan(parts[~known]).all()
    scale = np.maximum(1.0, np.maximum(np.abs(first), np.abs(last)))[known]
    assert (np.abs(parts.sum(axis=-1) - change)[known] <= 1e-9 * scale).all()


@settings(max_examples=40, deadline=None)
@given(one=windows, two=windows)
def test_of_a_mean_they_are_kitagawas(one: list[Post], two: list[Post]) -> None:
    before, now = groups_of(MARKET, one), groups_of(MARKET, two)
    _, parts = decompose(MARKET, before, now)
    at = COLUMNS.index("joy")
    level = mix = 0.0
    for g in range(3):
        (w0, s0), (w1, s1) = ((w.weight[0, g], w.columns[0, g, at]) for w in (before, now))
        if w0 == w1 == 0:
            continue
        m0, m1 = s0 / w0 if w0 else s1 / w1, s1 / w1 if w1 else s0 / w0
        p0, p1 = w0 / before.weight.sum(), w1 / now.weight.sum()
        level += (p0 + p1) / 2 * (m1 - m0)
        mix += (p1 - p0) * (m0 + m1) / 2
    np.testing.assert_allclose(parts[0, SIGNALS.index("market.joy")], [level, mix, 0, 0], rtol=0, atol=1e-12)


def test_each_part_is_seen_where_only_it_changes() -> None:
    calm, glad = [MICRO // 10] * 11, [MICRO // 2] * 11
    base = groups_of(MARKET, [(0, calm)] * 4 + [(1, glad)] * 4)
    joy, buzz = SIGNALS.index("market.joy"), SIGNALS.index("market.buzz")

    def parts_of(posts: list[Post], signal: int) -> dict[str, float]:
        found = decompose(MARKET, base, groups_of(MARKET, posts))[1][0, signal]
        return {name: round(part, 9) for name, part in zip(PARTS, found.tolist(), strict=True) if abs(part) > 1e-9}

    assert parts_of([(0, calm)] * 2 + [(1, glad)] * 6, joy) == {"mix": 0.1}
    assert parts_of([(0, glad)] * 4 + [(1, glad)] * 4, joy) == {"level": 0.2}
    assert parts_of([(0, calm)] * 8 + [(1, glad)] * 8, joy) == {}
    assert parts_of([(0, calm)] * 8 + [(1, glad)] * 8, buzz) == {"volume": pytest.approx(np.log(17 / 9), abs=1e-9)}
    assert parts_of([(0, calm)] * 4 + [(1, glad)] * 4 + [(2, [0])] * 2, joy) == {"mix": -0.06}


def test_another_past_is_a_part_of_its_own() -> None:
    now = groups_of(MARKET, [(0, [MICRO // 3] * 11)] * 30, Norms(np.full((1, 4), 0.2), np.full((1, 4), 0.1)))
    later = replace(now, usual=Norms(np.full((1, 4), 0.3), np.full((1, 4), 0.1)))
    _, parts = decompose(MARKET, now, later)
    assert (np.abs(parts[0, len(SIGNALS) :, :3]) < 1e-12).all()
    assert (parts[0, len(SIGNALS), 3]) < 0  # buzz z: more is usual now


def joys(posts: list[int]) -> tuple[Sums, np.ndarray]:
    """Posts that are glad, the rest of the mass is neutral; a fifth is bullish."""
    channels = np.zeros((len(posts), len(COLUMNS)), np.int64)
    channels[:, COLUMNS.index("joy")] = posts
    channels[:, COLUMNS.index("bull")] = MICRO // 5
    n = len(posts)
    return Sums.plain(channels.sum(axis=0)[None, :], np.array([n]), np.array([False])), channels


@given(st.lists(st.integers(0, MICRO), min_size=2, max_size=15))
def test_leave_one_out_of_a_mean(posts: list[int]) -> None:
    sums, channels = joys(posts)
    moved = influence(MARKET, sums, np.full(len(posts), float(MICRO)), channels)[:, SIGNALS.index("market.joy")]
    mean = sum(posts) / len(posts)
    for k, by in enumerate(moved.tolist()):
        others = posts[:k] + posts[k + 1 :]
        assert by * MICRO == pytest.approx(mean - sum(others) / len(others), abs=1e-3)


def test_a_hushed_post_moves_less() -> None:
    sums, channels = joys([0, MICRO, MICRO])
    heavy = influence(MARKET, sums, np.array([1.0, 1.0, 1.0]) * MICRO, channels)
    light = influence(MARKET, sums, np.array([1.0, 1.0, 0.01]) * MICRO, channels)
    at = SIGNALS.index("market.joy")
    assert abs(light[2, at]) < abs(heavy[2, at]) / 10


def test_a_single_post_moves_nothing() -> None:
    sums, channels = joys([250_000])
    assert (influence(MARKET, sums, np.array([float(MICRO)]), channels) == 0).all()
