"""Needs by place, balance, attitude, types: by hand; the share without a place for the whole stream alone."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from toys import batch_of

from engines.base import EngineSpec
from engines.stub import stub_spec
from operators import interval
from operators.crisis import COLUMNS, COUNTED, INFO, NEEDS, OTHER, SCORED, SIGNALS, crisis
from operators.domain import Domain, Sums
from operators.errors import ConfigInvalid

M = 1_000_000
LINKS = [(0, "place:Houston"), (0, "all:*"), (1, "all:*"), (2, "place:Houston"), (2, "place:Miami"), (2, "all:*")]


TEXTS = ["no water, where is FEMA?", "free meals, come and eat", "is it true the bridge is gone?"]


def row(task: str, **said: float) -> list[int]:
    labels = stub_spec().head(task).labels
    return [round(said.get(label.replace(" ", "_"), 0.0) * M) for label in labels]


def message(**said: float) -> list[int]:
    return row("disaster_message", **said)


SCORES = {
    "disaster_message": [
        message(water=0.9, request=0.5), message(food=1.0, offer=0.25, request=0.1), message(water=0.6, related=1.0)
    ],
    "sentiment3": [row("sentiment3", negative=0.8, positive=0.2), row("sentiment3", positive=1), row("sentiment3")],
    "crisis_info6": [
        row("crisis_info6", Affected_individuals=1.0),
        row("crisis_info6", Donations_and_volunteering=0.75, Other_Useful_Information=0.25),
        row("crisis_info6", Other_Useful_Information=1.0),
    ],
    "goemotions28": [row("goemotions28", fear=0.5, neutral=0.5), row("goemotions28", relief=1.0), row("goemotions28")],
}  # fmt: skip


def sums_of(domain: Domain, whole: list[bool]) -> Sums:
    total = domain.channels(batch_of(TEXTS, links=LINKS, scores=SCORES)).sum(axis=0)
    n = np.full(len(whole), 3, np.int64)
    return Sums.plain(np.stack([total] * len(whole)), n, np.array(whole))


def test_what_posts_add() -> None:
    added = crisis(stub_spec()).channels(batch_of(TEXTS, links=LINKS, scores=SCORES))
    rows = [dict(zip(COLUMNS, values, strict=True)) for values in added.tolist()]
    assert [r["water"] for r in rows] == [900_000, 0, 600_000]
    assert [r["food"] for r in rows] == [0, M, 0]
    assert [(r["request"], r["offer"]) for r in rows] == [(500_000, 0), (100_000, 250_000), (0, 0)]
    assert [r["without_place"] for r in rows] == [0, M, 0]
    assert [r["offered"] for r in rows] == [0, 900_000, 0]  # the cue, with what the head leaves of a request
    assert [r["affected_people"] for r in rows] == [M, 0, 0]
    assert [r["donations"] for r in rows] == [0, 750_000, 0]
    assert [(r["fear"], r["joy"]) for r in rows] == [(500_000, 0), (0, M), (0, 0)]
    assert [(r["positive"], r["negative"], r["response"]) for r in rows] == [
        (200_000, 800_000, M),
        (0, 0, 0),
        (0, 0, 0),
    ]
    assert [r["rumour_cue"] for r in rows] == [0, 0, M]


def test_squares_are_of_the_scored_columns() -> None:
    added = crisis(stub_spec()).channels(batch_of(TEXTS, links=LINKS, scores=SCORES))
    assert len(SCORED) + len(COUNTED) <= 30  # kept by author
    for k, name in enumerate(SCORED):
        assert added[:, COLUMNS.index(f"{name}_square")].tolist() == (added[:, k] ** 2 // M).tolist()


def test_rates_are_shares_of_posts_and_without_place_is_of_the_whole_stream_only() -> None:
    domain = crisis(stub_spec())
    derived = domain.derive(sums_of(domain, [True, False]))
    whole, place = (dict(zip(SIGNALS, values, strict=True)) for values in derived.value.tolist())
    assert whole["crisis.need.water"] == place["crisis.need.water"] == pytest.approx(0.5)
    assert whole["crisis.need.food"] == pytest.approx(1 / 3)
    assert whole["crisis.request"] == pytest.approx(0.6 / 3)
    assert whole["crisis.without_place"] == pytest.approx(1 / 3)
    assert math.isnan(place["crisis.without_place"])
    assert all(whole[f"crisis.need.{need}"] == 0 for need in NEEDS if need not in ("water", "food"))


def test_balance_attitude_and_types_by_hand() -> None:
    domain = crisis(stub_spec())
    sums = sums_of(domain, [True])
    derived = domain.derive(sums)
    value = dict(zip(SIGNALS, derived.value[0].tolist(), strict=True))
    assert value["crisis.balance"] == pytest.approx(math.log(1.6 / 1.9))
    assert value["crisis.attitude"] == pytest.approx(-0.6)
    assert value["crisis.response"] == value["crisis.rumour_cue"] == pytest.approx(1 / 3)
    assert value["crisis.info.donations"] == pytest.approx(0.25)
    assert value["crisis.info.other"] == pytest.approx(1.25 / 3)
    assert sum(value[f"crisis.info.{name}"] for name in (*INFO, "other")) == pytest.approx(1.0)
    assert (value["crisis.fear"], value["crisis.joy"]) == (pytest.approx(0.5 / 3), pytest.approx(1 / 3))
    assert all(derived.lo[0] <= derived.value[0])
    assert all(derived.value[0] <= derived.hi[0])
    assert OTHER in stub_spec().head("crisis_info6").labels


def test_without_a_responder_there_is_no_attitude() -> None:
    domain = crisis(stub_spec())
    derived = domain.derive(Sums.plain(np.zeros((1, len(COLUMNS)), np.int64), np.array([30]), np.array([True])))
    assert math.isnan(derived.value[0, SIGNALS.index("crisis.attitude")])
    assert derived.value[0, SIGNALS.index("crisis.balance")] == 0.0


def test_the_interval_of_sure_attitudes_is_wilsons_over_the_posts_that_have_one() -> None:
    """80 praise, 20 blame, 900 posts name nobody: the share 0.8 of about 100."""
    domain = crisis(stub_spec())
    total = np.zeros((1, len(COLUMNS)), np.int64)
    for name, count in (("positive", 80), ("negative", 20), ("response", 100)):
        total[0, COLUMNS.index(name)] = count * M
        if name in SCORED:
            total[0, COLUMNS.index(f"{name}_square")] = count * M
    derived = domain.derive(Sums.plain(total, np.array([1000]), np.array([True])))
    at = SIGNALS.index("crisis.attitude")
    lo, hi = interval.wilson(np.array([0.8]), np.array([100.0]))
    assert derived.value[0, at] == pytest.approx(0.6)
    assert derived.lo[0, at] == pytest.approx(2 * lo[0] - 1, abs=0.002)
    assert derived.hi[0, at] == pytest.approx(2 * hi[0] - 1, abs=0.002)


def test_more_posts_narrow_the_balance() -> None:
    domain = crisis(stub_spec())
    at = SIGNALS.index("crisis.balance")
    widths = []
    for n in (50, 5_000):
        total = np.zeros((1, len(COLUMNS)), np.int64)
        for name in ("request", "offered"):
            total[0, COLUMNS.index(name)] = total[0, COLUMNS.index(f"{name}_square")] = n * M // 5
        derived = domain.derive(Sums.plain(total, np.array([n]), np.array([True])))
        assert derived.value[0, at] == 0
        assert derived.lo[0, at] == pytest.approx(-derived.hi[0, at])
        widths.append(derived.hi[0, at])
    assert widths[1] < widths[0] / 5


def test_types_are_corrected_with_their_own_head() -> None:
    """A head that calls a fifth of each type `other`: undone."""
    spec = stub_spec()
    labels = spec.head("crisis_info6").labels
    confusion = tuple(tuple(float(i == k) * 0.8 + 0.2 * float(labels[k] == OTHER) for k in range(6)) for i in range(6))
    heads = tuple(
        msgspec.structs.replace(h, confusion=confusion) if h.task == "crisis_info6" else h for h in spec.heads
    )
    domain = crisis(msgspec.structs.replace(spec, heads=heads))
    total = np.zeros((1, len(COLUMNS)), np.int64)
    total[0, COLUMNS.index("caution")] = 400 * M
    total[0, COLUMNS.index("donations")] = 240 * M
    values = domain.derive(Sums.plain(total, np.array([1000]), np.array([True])))
    assert domain.correct is not None
    fixed = dict(zip(SIGNALS, domain.correct(values).value[0].tolist(), strict=True))
    assert fixed["crisis.info.caution"] == pytest.approx(0.5)
    assert fixed["crisis.info.donations"] == pytest.approx(0.3)
    assert fixed["crisis.info.other"] == pytest.approx(0.2)
    assert math.isnan(fixed["crisis.need.water"])
    assert math.isnan(fixed["crisis.balance"])


def test_the_interval_is_wilsons() -> None:
    """0 of 30: Wilson's upper end is z^2 / (n + z^2), n brought down by Student's factor."""
    domain = crisis(stub_spec())
    n = np.array([30], np.int64)
    derived = domain.derive(Sums.plain(np.zeros((1, len(COLUMNS)), np.int64), n, np.array([True])))
    z2 = 1.959963984540054**2
    shares = [k for k, name in enumerate(SIGNALS) if name.split(".")[-1] not in ("balance", "attitude", "other")]
    assert derived.lo[0, shares].tolist() == [0.0] * len(shares)
    size = 30 / (1 + (z2 + 1) / 120) ** 2
    assert derived.hi[0, shares].tolist() == pytest.approx([z2 / (size + z2)] * len(shares))


def test_an_engine_without_the_head_is_refused() -> None:
    with pytest.raises(ConfigInvalid, match="no head 'disaster_message'"):
        crisis(EngineSpec("toy", "1", "numpy", ()))
