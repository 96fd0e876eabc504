"""Topic emotions: shares of the six primaries and of none sum to one; disgust and valence beside them."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import batch_of

from engines.base import EngineSpec
from engines.stub import stub_spec
from operators.domain import Norms, Sums
from operators.errors import ConfigInvalid
from operators.social import COLUMNS, MIXED, SIGNALS, compare, derive, social

M = 1_000_000
LABELS = stub_spec().head("goemotions28").labels
DOMAIN = social(stub_spec())


def values_of(rows: list[list[int]]) -> dict[str, float]:
    batch = batch_of(["t"] * len(rows), scores={"goemotions28": rows})
    n = np.array([len(rows)], np.int64)
    total = DOMAIN.channels(batch).sum(axis=0)[None, :]
    derived = DOMAIN.derive(Sums.plain(total, n, np.array([False])))
    return dict(zip(DOMAIN.signals, derived.value[0].tolist(), strict=True))


def one(label: str) -> list[int]:
    return [M if name == label else 0 for name in LABELS]


def test_what_readers_feel_is_no_signal_of_what_writers_feel() -> None:
    spec = stub_spec()
    for feels, fits in (("", True), ("writer", True), ("reader", False)):
        heads = tuple(msgspec.structs.replace(h, feels=feels) if h.task == "goemotions28" else h for h in spec.heads)
        other = msgspec.structs.replace(spec, heads=heads)
        if fits:
            assert social(other).signals == DOMAIN.signals
        else:
            with pytest.raises(ConfigInvalid, match="says what readers feel"):
                social(other)


@pytest.mark.parametrize(
    ("label", "signal", "valence"),
    [("joy", "joy", 1), ("love", "love", 1), ("fear", "fear", -1), ("sadness", "sadness", -1), ("anger", "anger", -1),
     ("neutral", "neutral", 0)],
)  # fmt: skip
def test_a_pure_post_is_all_in_one_share(label: str, signal: str, valence: int) -> None:
    got = values_of([one(label)])
    assert got[f"social.{signal}"] == pytest.approx(1.0, abs=1e-5)
    assert got["social.valence"] == pytest.approx(valence, abs=1e-5)


def test_disgust_counts_under_anger_and_as_its_own_channel() -> None:
    got = values_of([one("disgust"), one("joy")])
    assert got["social.disgust"] == pytest.approx(0.5, abs=1e-5)
    assert got["social.anger"] == pytest.approx(0.5, abs=1e-5)
    assert got["social.joy"] == pytest.approx(0.5, abs=1e-5)


@given(st.lists(st.lists(st.integers(0, M), min_size=28, max_size=28), min_size=1, max_size=5))
def test_the_primaries_and_none_take_at_most_all_the_mass(rows: list[list[int]]) -> None:
    got = values_of(rows)
    shares = [got[f"social.{name}"] for name in ("love", "joy", "surprise", "anger", "sadness", "fear", "neutral")]
    assert all(-1e-9 <= share <= 1 + 1e-9 for share in shares)
    assert sum(shares) <= 1 + 1e-6
    assert -1 <= got["social.valence"] <= 1


def test_names() -> None:
    assert len(DOMAIN.columns) == len(COLUMNS)
    assert len(SIGNALS) == len(set(SIGNALS)) == 9 + 2 + 15
    with pytest.raises(ConfigInvalid, match="no head 'goemotions28'"):
        social(EngineSpec("toy", "1", "numpy", ()))


def test_secondary_emotions_lie_within_their_primary() -> None:
    got = values_of([one("nervousness"), one("fear"), one("excitement"), one("pride"), one("annoyance")])
    assert got["social.secondary.nervousness"] == pytest.approx(0.2, abs=1e-5)
    assert got["social.secondary.horror"] == pytest.approx(0.2, abs=1e-5)
    assert got["social.fear"] == pytest.approx(0.4, abs=1e-5)
    assert got["social.secondary.zest"] + got["social.secondary.pride"] == pytest.approx(got["social.joy"], abs=1e-5)
    assert got["social.secondary.irritation"] == pytest.approx(got["social.anger"], abs=1e-5)


def test_entropy_from_one_feeling_to_all_alike() -> None:
    assert values_of([one("joy")] * 5)["social.entropy"] == pytest.approx(0.0, abs=1e-4)
    even = [one(label) for label in ("love", "joy", "surprise", "anger", "sadness", "fear", "neutral")]
    assert values_of(even)["social.entropy"] == pytest.approx(1.0, abs=1e-4)
    half = values_of([one("joy"), one("fear")])["social.entropy"]
    assert half == pytest.approx(math.log(2) / math.log(7), abs=1e-4)


def drift(now: list[str], usual: dict[str, float]) -> tuple[float, float, float]:
    batch = batch_of(["t"] * len(now), scores={"goemotions28": [one(label) for label in now]})
    n = np.array([len(now)], np.int64)
    sums = Sums.plain(DOMAIN.channels(batch).sum(axis=0)[None, :], n, np.array([False]))
    mean = np.array([[3.0, *(usual.get(name, 0.0) for name in MIXED)]])
    found = compare(sums, derive(sums), Norms(mean, np.ones_like(mean)))
    return float(found.value[0, 0]), float(found.lo[0, 0]), float(found.hi[0, 0])


def test_drift_is_the_jensen_shannon_divergence_in_bits() -> None:
    assert drift(["joy"] * 40, {"joy": 1.0})[0] == pytest.approx(0.0, abs=1e-4)
    assert drift(["joy"] * 40, {"fear": 1.0})[0] == pytest.approx(1.0, abs=1e-3)
    value, lo, hi = drift(["joy", "fear"] * 30, {"joy": 0.25, "fear": 0.75})
    by_hand = (0.5 * math.log2(0.5 / 0.375) + 0.5 * math.log2(0.5 / 0.625) + 0.25 * math.log2(0.25 / 0.375)
               + 0.75 * math.log2(0.75 / 0.625)) / 2  # fmt: skip
    assert value == pytest.approx(by_hand, abs=1e-4)
    assert 0 <= lo < value < hi <= 1
    assert math.isnan(drift(["joy"] * 40, dict.fromkeys(MIXED, float("nan")))[0])
