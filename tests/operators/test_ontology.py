"""The roll-up: mass kept to the unit, every label placed, primaries the sums of their secondaries."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from operators.errors import ConfigInvalid
from operators.ontology import ONTOLOGY_VERSION, PRIMARIES, Ontology, shares
from operators.records import MICRO

ONTOLOGY = Ontology.load()
SHARED = Path(os.environ.get("AFFECT_DATA", "/nonexistent")).parent / "ontology" / "label_map.csv"


def masses(labels: int) -> st.SearchStrategy[np.ndarray]:
    cells = st.one_of(st.just(0), st.integers(0, 9), st.integers(0, MICRO))
    return hnp.arrays(np.int32, st.tuples(st.integers(0, 5), st.just(labels)), elements=cells)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(ONTOLOGY.schemes), st.data())
def test_mass_is_kept_for_every_scheme(scheme: str, data: st.DataObject) -> None:
    labels = ONTOLOGY.labels(scheme)
    micro = data.draw(masses(len(labels)))
    before = micro.copy()
    rolled = ONTOLOGY.roll_up(scheme, micro, labels)
    n = len(micro)
    assert (micro == before).all()
    assert rolled.primary.shape == (n, 6)
    assert rolled.secondary.shape == (n, 25)
    assert {a.dtype for a in (rolled.primary, rolled.secondary, rolled.none, rolled.other, rolled.valence)} == {
        np.dtype(np.int64)
    }
    assert (rolled.primary.sum(axis=1) + rolled.none + rolled.other == MICRO).all()
    assert (np.abs(rolled.valence) <= MICRO).all()
    assert min(int(a.min()) for a in (rolled.primary, rolled.none, rolled.other) if a.size) >= 0 if n else True
    primary_of = list(ONTOLOGY.tree.values())
    for k, name in enumerate(PRIMARIES):
        own = [j for j, p in enumerate(primary_of) if p == name]
        assert (rolled.secondary[:, own].sum(axis=1) == rolled.primary[:, k]).all()
    assert (rolled.none[~micro.any(axis=1)] == MICRO).all()


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 30).flatmap(masses))
def test_shares_sum_to_one_and_stay_within_a_unit(micro: np.ndarray) -> None:
    out = shares(micro)
    total = micro.sum(axis=1, dtype=np.int64)
    assert (out.sum(axis=1) == np.where(total > 0, MICRO, 0)).all()
    for row, mass, whole in zip(out.tolist(), micro.tolist(), total.tolist(), strict=True):
        for got, m in zip(row, mass, strict=True):
            assert (not whole and got == 0) or abs(got * whole - m * MICRO) < whole
    assert (shares(out.astype(np.int32)) == out).all()


def test_rows_do_not_see_each_other() -> None:
    rng = np.random.default_rng(1)
    labels = ONTOLOGY.labels("goemotions28")
    micro = rng.integers(0, MICRO, (50, len(labels))).astype(np.int32)
    whole = ONTOLOGY.roll_up("goemotions28", micro, labels)
    for k in range(0, 50, 7):
        one = ONTOLOGY.roll_up("goemotions28", micro[k : k + 1], labels)
        assert (one.primary[0] == whole.primary[k]).all()
        assert one.valence[0] == whole.valence[k]


def test_ties_go_to_the_lower_label() -> None:
    assert shares(np.array([[1, 1, 1]], np.int32)).tolist() == [[333_334, 333_333, 333_333]]


def test_the_tree_is_whole() -> None:
    assert len(ONTOLOGY.secondaries) == 25
    assert set(ONTOLOGY.tree.values()) == set(PRIMARIES)
    assert sum(map(len, ONTOLOGY.tertiaries.values())) == 135
    assert list(dict.fromkeys(ONTOLOGY.tree.values())) == list(PRIMARIES)
    assert ONTOLOGY.version == ONTOLOGY_VERSION == "parrott-1"


def test_every_label_has_its_place() -> None:
    for (scheme, label), place in ONTOLOGY.places.items():
        assert place.valence in (-1, 0, 1), (scheme, label)
        if place.primary in PRIMARIES:
            assert ONTOLOGY.tree[place.secondary] == place.primary, (scheme, label)
        else:
            assert place.primary in ("none", "other"), (scheme, label)
            assert place.secondary == "", (scheme, label)


@pytest.mark.data
@pytest.mark.skipif(not SHARED.is_file(), reason="AFFECT_DATA is not set or has no ontology/ beside it")
def test_our_map_agrees_with_the_given_one() -> None:
    with SHARED.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == len(ONTOLOGY.places)
    for row in rows:
        place = ONTOLOGY.place(row["source_scheme"], row["source_label"])
        given_place = (row["parrott_primary"], row["parrott_secondary"], int(row["valence_sign"]))
        assert (place.primary, place.secondary, place.valence) == given_place, row


def test_channels_stand_beside_the_tree() -> None:
    labels = ("neutral", "happy", "sad", "anger", "disgust", "surprise", "fear")
    rolled = ONTOLOGY.roll_up("emtract7", np.array([[0, 0, 0, 300_000, 700_000, 0, 0]], np.int32), labels)
    assert rolled.channels["disgust"].tolist() == [700_000]
    assert rolled.primary[0].tolist() == [0, 0, 0, MICRO, 0, 0]
    assert rolled.valence.tolist() == [-MICRO]

    stance = ONTOLOGY.roll_up(
        "bullbear3", np.array([[600_000, 300_000, 100_000]], np.int32), ("bullish", "neutral", "bearish")
    )
    assert {k: int(v[0]) for k, v in stance.channels.items()} == {
        "stance.bullish": 600_000,
        "stance.neutral": 300_000,
        "stance.bearish": 100_000,
    }
    assert (int(stance.none[0]), int(stance.other[0]), int(stance.valence[0])) == (300_000, 700_000, 500_000)

    needs = ONTOLOGY.roll_up("disaster_message", np.array([[900_000, 800_000]], np.int32), ("water", "request"))
    assert {k: int(v[0]) for k, v in needs.channels.items()} == {"need.water": 900_000, "message.request": 800_000}
    assert int(needs.other[0]) == MICRO


@pytest.mark.parametrize(
    ("task", "labels", "micro", "message"),
    [
        ("nosuch", ("joy",), [[1]], "goemotions28"),
        ("ekman6", ("joy", "hope"), [[1, 1]], "hope"),
        ("ekman6", ("joy", "fear"), [[1]], r"\(1, 1\)"),
        ("ekman6", ("joy",), [[-1]], "regression"),
    ],
)
def test_wrong_use_is_named(task: str, labels: tuple[str, ...], micro: list[list[int]], message: str) -> None:
    with pytest.raises(ConfigInvalid, match=message):
        ONTOLOGY.roll_up(task, np.array(micro, np.int32), labels)
