"""Corrected shares: exact where the confusions are, nearer the truth when the mix shifts, and never out of range."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.base import HeadSpec
from engines.load import load_text_model
from operators.correct import correct_shares, corrector, on_simplex
from operators.domain import Derived

LABELS = ("calm", "joy", "fear")
CONFUSION = ((0.7, 0.2, 0.1), (0.15, 0.75, 0.1), (0.3, 0.1, 0.6))
SINGLE = HeadSpec("toy", "single", LABELS, confusion=CONFUSION)
MULTI = HeadSpec("needs", "multi", ("water", "offer"), confusion=((0.05, 0.65), (0.001, 0.02)))


def shares(*rows: list[float], half: float = 0.05) -> Derived:
    value = np.array(rows)
    return Derived(value, value - half, value + half)


mixes = st.lists(st.floats(0.01, 1), min_size=3, max_size=3).map(lambda m: [x / sum(m) for x in m])


@given(mixes)
def test_the_confusion_is_undone(mix: list[float]) -> None:
    """What the model would report of a known mix comes back as that mix."""
    seen = (np.array(mix) @ np.array(CONFUSION)).tolist()
    found = correct_shares(SINGLE, LABELS, shares(seen))
    assert found is not None
    assert found.value[0].tolist() == pytest.approx(mix, abs=1e-9)
    assert np.all(found.lo <= found.value + 1e-12)
    assert np.all(found.hi >= found.value - 1e-12)
    assert np.all(found.hi - found.lo >= 0.09) or found.lo.min() == 0 or found.hi.max() == 1


@given(mixes, st.floats(0.001, 0.2))
def test_the_interval_holds_the_share_as_read_too(mix: list[float], half: float) -> None:
    found = correct_shares(SINGLE, LABELS, shares(mix, half=half))
    assert found is not None
    assert np.all(found.lo <= np.minimum(found.value, mix) + 1e-12)
    assert np.all(found.hi >= np.maximum(found.value, mix) - 1e-12)


def test_labels_in_another_order() -> None:
    order = ["fear", "calm", "joy"]
    seen = np.array([0.2, 0.3, 0.5]) @ np.array(CONFUSION)
    found = correct_shares(SINGLE, order, shares([seen[2], seen[0], seen[1]]))
    assert found is not None
    assert found.value[0].tolist() == pytest.approx([0.5, 0.2, 0.3])


def test_rates_of_independent_labels_are_stretched_and_a_head_that_cannot_tell_says_nothing() -> None:
    found = correct_shares(MULTI, ("water", "offer"), shares([0.35, 0.01], [0.01, 0.01]))
    assert found is not None
    assert found.value[:, 0].tolist() == pytest.approx([0.5, 0.0])
    assert found.hi[0, 0] == pytest.approx(0.35 / 0.6)
    assert found.lo[0, 0] == pytest.approx(0.35)  # not (0.30 - 0.05) / 0.6: it reaches to the rate as read
    assert np.isnan(found.value[:, 1]).all()


def test_what_cannot_be_undone_is_none() -> None:
    flat = HeadSpec("toy", "single", LABELS, confusion=((0.34, 0.33, 0.33), (0.33, 0.34, 0.33), (0.33, 0.33, 0.34)))
    assert correct_shares(flat, LABELS, shares([0.3, 0.3, 0.4])) is None
    assert correct_shares(SINGLE, LABELS[:2], shares([0.3, 0.3])) is None
    assert correct_shares(HeadSpec("toy", "single", LABELS), LABELS, shares([0.3, 0.3, 0.4])) is None
    assert corrector(None, LABELS, 0) is None


def test_a_corrector_leaves_other_signals_alone() -> None:
    correct = corrector(SINGLE, LABELS, 1)
    assert correct is not None
    out = correct(shares([0.9, 0.4, 0.3, 0.3, 0.7], [np.nan] * 5))
    assert np.isnan(out.value[0, [0, 4]]).all()
    assert out.value[0, 1:4].sum() == pytest.approx(1.0)
    assert np.isnan(out.value[1]).all()


@given(st.lists(st.lists(st.floats(-2, 2), min_size=4, max_size=4), min_size=1, max_size=5))
def test_the_simplex_is_reached_by_the_nearest_point(rows: list[list[float]]) -> None:
    points = np.array(rows)
    found = on_simplex(points)
    assert found.sum(axis=1).tolist() == pytest.approx([1.0] * len(rows))
    assert found.min() >= 0
    corner = np.eye(4)
    for k in range(len(rows)):  # no corner, nor the centre, is nearer
        for other in (*corner, np.full(4, 0.25)):
            assert ((points[k] - found[k]) ** 2).sum() <= ((points[k] - other) ** 2).sum() + 1e-9


def test_rows_do_not_depend_on_how_many_there_are() -> None:
    many = np.random.default_rng(0).dirichlet([1, 1, 1], 500)
    whole = correct_shares(SINGLE, LABELS, Derived(many, many, many))
    one = correct_shares(SINGLE, LABELS, Derived(many[7:8], many[7:8], many[7:8]))
    assert whole is not None
    assert one is not None
    assert whole.value[7].tolist() == one.value[0].tolist()


def test_under_a_shift_of_the_mix_the_corrected_share_is_nearer_the_truth() -> None:
    """Posts drawn by label from a made-up model; dev is balanced, the window is half fear."""
    random = np.random.default_rng(1)
    alphas = np.array([[6, 2, 1], [1.5, 6, 1], [3, 1, 5.0]])
    dev = [random.dirichlet(a, 4_000) for a in alphas]
    head = HeadSpec("toy", "single", LABELS, confusion=tuple(tuple(d.mean(axis=0).tolist()) for d in dev))
    truth = np.array([0.3, 0.2, 0.5])
    raw_error = corrected_error = 0.0
    for _ in range(200):
        label = random.choice(3, 300, p=truth)
        seen = np.array([random.dirichlet(alphas[k]) for k in label]).mean(axis=0)
        found = correct_shares(head, LABELS, shares(seen.tolist()))
        assert found is not None
        raw_error += float(np.abs(seen - truth).sum())
        corrected_error += float(np.abs(found.value[0] - truth).sum())
    assert corrected_error < raw_error / 2


def test_the_shipped_model_knows_its_confusions() -> None:
    spec = load_text_model("hashed").spec
    head = spec.head("emtract7")
    assert head is not None
    assert np.array(head.confusion).shape == (7, 7)
    assert np.array(head.confusion).sum(axis=1).tolist() == pytest.approx([1.0] * 7, abs=1e-3)
    assert correct_shares(head, head.labels, shares([1 / 7] * 7)) is not None
