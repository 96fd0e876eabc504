"""Numbers of seats in a minute: synchrony against numpy, who has something to say, what is flagged."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from operators.group_affect import EYES_LEAST, MISSED, NOTES, WATCHED, flags, numbers, synchrony, told
from operators.participation import AT, COLUMNS, STEPS
from operators.records import I64, MICRO


def seats(*rows: dict[str, float]) -> I64:
    sums = np.zeros((len(rows), len(COLUMNS)), np.int64)
    for k, row in enumerate(rows):
        for name, value in row.items():
            sums[k, AT[name]] = round(value * MICRO)
    return sums


def test_synchrony_is_the_mean_correlation_with_every_other_seat() -> None:
    dice = np.random.default_rng(4)
    curve = dice.random((9, STEPS))
    curve[3] = 0.5  # never moves
    there = np.ones(curve.shape, np.bool_)
    found = synchrony(curve, there)
    moving = [k for k in range(9) if k != 3]
    want = np.corrcoef(curve[moving])
    for row, k in enumerate(moving):
        assert found[k] == pytest.approx((want[row].sum() - 1) / 7, abs=1e-12)
    assert found[3] == 0.0
    pairs = [np.corrcoef(curve[a], curve[b])[0, 1] for a, b in itertools.combinations(moving, 2)]
    assert found[moving].mean() == pytest.approx(np.mean(pairs), abs=1e-12)


def test_seats_that_move_together_are_in_step_and_others_are_not() -> None:
    steps = np.linspace(0, 1, STEPS)
    there = np.ones((2, STEPS), np.bool_)
    assert synchrony(np.stack([steps, 0.2 + 0.5 * steps]), there).tolist() == pytest.approx([1.0, 1.0])
    assert synchrony(np.stack([steps, 1 - steps]), there).tolist() == pytest.approx([-1.0, -1.0])
    few = there.copy()
    few[1, 5:] = False
    assert synchrony(np.stack([steps, steps]), few).tolist() == [0.0, 0.0]


def test_the_numbers_of_a_seat() -> None:
    row = {
        "frames": 300, "seen": 240, "away": 45, "eyes": 60, "shut": 15, "looks": 12, "expression": 3.0,
        "moments": 250, "sure": 100.0, "feeling": -50.0, "clashes": 40, "clash": 10.0,
        "no_picture": 50, "no_sound": 200, "no_text": 250, "looked": 240, "task": 120.0, "ended": 2, "resolved": 1,
        "sounds": 4, "tone": -1.0,
    }  # fmt: skip
    want = {
        "attention": 0.8, "distraction": 0.15, "fatigue": 0.25, "engagement.seen": 0.375, "expression": 0.25,
        "feeling": -0.2, "ambivalence": 0.25, "confidence": 0.4, "missing.picture": 0.2, "missing.sound": 0.8,
        "missing.text": 1.0, "resolved": 0.5, "tone": -0.25, "synchrony": 0.0,
    }  # fmt: skip
    found, said = numbers(seats(row, {})), told(seats(row, {}))
    assert set(found) == set(said) == set(WATCHED) == set(want)
    assert {name: pytest.approx(value[0]) for name, value in found.items()} == want
    assert all(value[1] == 0 for value in found.values())
    assert {name for name, value in said.items() if value[0]} == set(WATCHED) - {"synchrony"}
    assert not any(value[1] for value in said.values())
    few = {**row, "eyes": EYES_LEAST - 1}
    assert not told(seats(few))["fatigue"][0]


def test_what_is_missing_is_flagged_where_it_counts() -> None:
    values: dict[str, float | None] = {"missing.sound": 1.0, "missing.text": MISSED, "missing.picture": 0.2}
    found = flags(values)
    for name in ("feeling", "ambivalence", "confidence"):
        assert found[name].endswith("missing in so many moments: sound 100%, text 50%")
    assert found["fatigue"] == NOTES["fatigue"]
    assert flags({"missing.sound": None}) == NOTES
