"""The market signals by hand: what a post adds, and what sums become."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import batch_of

from engines.base import EngineSpec, HeadSpec
from engines.stub import stub_spec
from operators.domain import Domain, Sums
from operators.errors import ConfigInvalid
from operators.market import COLUMNS, SIGNALS, market

M = 1_000_000
EMTRACT = stub_spec().head("emtract7").labels
BULLBEAR = stub_spec().head("bullbear3").labels


def scores(posts: list[tuple[dict[str, float], dict[str, float]]]) -> dict[str, list[list[int]]]:
    return {
        "emtract7": [[round(e.get(label, 0.0) * M) for label in EMTRACT] for e, _ in posts],
        "bullbear3": [[round(b.get(label, 0.0) * M) for label in BULLBEAR] for _, b in posts],
    }


def values_of(domain: Domain, posts: list[tuple[dict[str, float], dict[str, float]]]) -> dict[str, tuple[float, ...]]:
    batch = batch_of(["t"] * len(posts), scores=scores(posts))
    total = domain.channels(batch).sum(axis=0)
    n = np.array([len(posts)], np.int64)
    derived = domain.derive(Sums.plain(total[None, :], n, np.array([False])))
    columns = zip(derived.value[0].tolist(), derived.lo[0].tolist(), derived.hi[0].tolist(), strict=True)
    return dict(zip(domain.signals, columns, strict=True))


FOUR = [
    ({"happy": 0.9, "neutral": 0.1}, {"bullish": 0.8, "neutral": 0.2}),
    ({"fear": 0.5, "sad": 0.25, "neutral": 0.25}, {"bearish": 1.0}),
    ({"anger": 0.2, "disgust": 0.3, "surprise": 0.5}, {"neutral": 1.0}),
    ({"neutral": 1.0}, {"bullish": 0.6, "bearish": 0.2, "neutral": 0.2}),
]


def test_what_one_post_adds() -> None:
    domain = market(stub_spec())
    added = domain.channels(batch_of(["a", "b"], scores=scores(FOUR[:2])))
    first, second = (dict(zip(COLUMNS, row, strict=True)) for row in added.tolist())
    assert first["joy"] == 900_000
    assert (first["bull"], first["bear"]) == (800_000, 0)
    assert (first["valence_square"], first["leaning_square"], first["joy_square"]) == (810_000, 640_000, 810_000)
    assert (second["fear"], second["sadness"], second["valence_square"]) == (500_000, 250_000, 562_500)
    assert (second["bear"], second["leaning_square"]) == (1_000_000, 1_000_000)


def test_every_signal_of_four_posts_by_hand() -> None:
    got = {name: value for name, (value, _, _) in values_of(market(stub_spec()), FOUR).items()}
    bull, bear = Fraction(14, 10), Fraction(12, 10)
    b, s = float((bull - bear) / (bull + bear)), float((bull - bear) / 4)
    want = {
        "neutral": 1.35 / 4, "joy": 0.9 / 4, "sadness": 0.25 / 4, "anger": 0.2 / 4, "disgust": 0.3 / 4,
        "surprise": 0.5 / 4, "fear": 0.5 / 4, "valence": (0.9 - 0.25 - 0.2 - 0.3 - 0.5) / 4, "bullishness": b,
        "agreement": 1 - math.sqrt(1 - b * b), "disagreement": math.sqrt(1 - s * s), "buzz": math.log(5),
        "panic": 0.0, "conviction": 1 / 4, "concentration": 1 / 4, "near_duplicates": 0.0,
    }  # fmt: skip
    assert got == pytest.approx({f"market.{name}": value for name, value in want.items()}, abs=1e-12)
    assert sum(got[f"market.{e}"] for e in list(want)[:7]) == pytest.approx(1.0)


def test_valence_interval_comes_from_the_posts_own_spread() -> None:
    valences = [0.9, -0.75, -0.5, 0.0]
    m = sum(valences) / 4
    spread = sum((v - m) ** 2 for v in [*valences, 1.0, -1.0])
    half = 1.959963984540054 * math.sqrt(spread / 36)
    value, lo, hi = values_of(market(stub_spec()), FOUR)["market.valence"]
    assert (value, lo, hi) == pytest.approx((m, m - half, m + half), abs=1e-6)


def test_without_bulls_and_bears_bullishness_is_unknown_and_not_zero() -> None:
    got = values_of(market(stub_spec()), [({"neutral": 1.0}, {"neutral": 1.0})] * 3)
    assert all(math.isnan(x) for x in (*got["market.bullishness"], *got["market.agreement"]))
    assert got["market.disagreement"][0] == 1.0
    assert got["market.valence"][0] == 0.0


@pytest.mark.parametrize(("side", "bullishness"), [("bullish", 1.0), ("bearish", -1.0)])
def test_when_all_agree(side: str, bullishness: float) -> None:
    got = values_of(market(stub_spec()), [({"neutral": 1.0}, {side: 1.0})] * 50)
    assert got["market.bullishness"][0] == bullishness
    assert got["market.agreement"][0] == 1.0
    assert got["market.disagreement"][0] == 0.0
    assert abs(got["market.bullishness"][1 if bullishness > 0 else 2]) < 1.0


def test_one_author_widens_and_moves_nothing() -> None:
    domain = market(stub_spec())
    total = domain.channels(batch_of(["t"] * 4, scores=scores(FOUR))).sum(axis=0)[None, :] * 25
    n = np.array([100], np.int64)
    many, one = (
        domain.derive(replace(Sums.plain(total, n, np.array([False])), n_eff=np.array([size]))) for size in (100.0, 1.0)
    )
    assert many.value.tolist() == one.value.tolist()
    wide = (one.hi - one.lo)[0] > (many.hi - many.lo)[0]
    assert [name for name, wider in zip(SIGNALS, wide.tolist(), strict=True) if not wider] == [
        "market.buzz",
        "market.concentration",
        "market.near_duplicates",
    ]


seven = st.lists(st.integers(0, 1000), min_size=7, max_size=7).filter(any)
three = st.lists(st.integers(0, 1000), min_size=3, max_size=3).filter(any)


@given(st.lists(st.tuples(seven, three), min_size=1, max_size=12))
def test_values_lie_in_their_range_and_in_their_interval(posts: list[tuple[list[int], list[int]]]) -> None:
    made = [
        (
            {label: v / sum(e) for label, v in zip(EMTRACT, e, strict=True)},
            {label: v / sum(b) for label, v in zip(BULLBEAR, b, strict=True)},
        )
        for e, b in posts
    ]
    for name, (value, lo, hi) in values_of(market(stub_spec()), made).items():
        if math.isnan(value):
            continue
        low = -1.0 if name in ("market.valence", "market.bullishness") else 0.0
        high = math.inf if name == "market.buzz" else 1.0
        assert low - 1e-9 <= lo <= value + 1e-9, name
        assert value - 1e-9 <= hi <= high + 1e-9, name


def test_a_head_or_label_that_is_missing_is_named() -> None:
    with pytest.raises(ConfigInvalid, match="no head 'emtract7'"):
        market(EngineSpec("toy", "1", "numpy", ()))
    heads = (HeadSpec("emtract7", "single", EMTRACT), HeadSpec("bullbear3", "single", ("bullish", "neutral")))
    with pytest.raises(ConfigInvalid, match=r"lacks the labels.*bearish"):
        market(EngineSpec("toy", "1", "numpy", heads))
