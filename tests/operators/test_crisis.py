"""Needs by place: rates by hand, and the share without a place for the whole stream alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
from toys import batch_of

from engines.base import EngineSpec
from engines.stub import stub_spec
from operators.crisis import COLUMNS, NEEDS, SIGNALS, crisis
from operators.domain import Sums
from operators.errors import ConfigInvalid

M = 1_000_000
LABELS = stub_spec().head("disaster_message").labels
LINKS = [(0, "place:Houston"), (0, "all:*"), (1, "all:*"), (2, "place:Houston"), (2, "place:Miami"), (2, "all:*")]


def row(**said: float) -> list[int]:
    return [round(said.get(label, 0.0) * M) for label in LABELS]


SCORES = {"disaster_message": [row(water=0.9, request=0.5), row(food=1.0, offer=0.25), row(water=0.6, related=1.0)]}


def test_what_posts_add() -> None:
    added = crisis(stub_spec()).channels(batch_of(["a", "b", "c"], links=LINKS, scores=SCORES))
    rows = [dict(zip(COLUMNS, values, strict=True)) for values in added.tolist()]
    assert [r["water"] for r in rows] == [900_000, 0, 600_000]
    assert [r["food"] for r in rows] == [0, M, 0]
    assert [(r["request"], r["offer"]) for r in rows] == [(500_000, 0), (0, 250_000), (0, 0)]
    assert [r["without_place"] for r in rows] == [0, M, 0]


def test_rates_are_shares_of_posts_and_without_place_is_of_the_whole_stream_only() -> None:
    domain = crisis(stub_spec())
    total = domain.channels(batch_of(["a", "b", "c"], links=LINKS, scores=SCORES)).sum(axis=0)
    n = np.array([3, 3], np.int64)
    derived = domain.derive(Sums.plain(np.stack([total, total]), n, np.array([True, False])))
    whole, place = (dict(zip(SIGNALS, values, strict=True)) for values in derived.value.tolist())
    assert whole["crisis.need.water"] == place["crisis.need.water"] == pytest.approx(0.5)
    assert whole["crisis.need.food"] == pytest.approx(1 / 3)
    assert whole["crisis.request"] == pytest.approx(0.5 / 3)
    assert whole["crisis.without_place"] == pytest.approx(1 / 3)
    assert math.isnan(place["crisis.without_place"])
    assert all(whole[f"crisis.need.{need}"] == 0 for need in NEEDS if need not in ("water", "food"))


def test_the_interval_is_wilsons() -> None:
    """0 of 30: Wilson's upper end is z^2 / (n + z^2)."""
    domain = crisis(stub_spec())
    n = np.array([30], np.int64)
    derived = domain.derive(Sums.plain(np.zeros((1, len(COLUMNS)), np.int64), n, np.array([True])))
    z2 = 1.959963984540054**2
    assert derived.lo[0].tolist() == [0.0] * len(SIGNALS)
    assert derived.hi[0].tolist() == pytest.approx([z2 / (30 + z2)] * len(SIGNALS))


def test_an_engine_without_the_head_is_refused() -> None:
    with pytest.raises(ConfigInvalid, match="no head 'disaster_message'"):
        crisis(EngineSpec("toy", "1", "numpy", ()))
