"""The audit finds a shortcut that was put there, and none where there is none."""

from __future__ import annotations

import numpy as np

from engines.faces import picture_facts
from engines.shortcuts import audit, numbered, parts

RANDOM = np.random.default_rng(2)
ROWS = 400
EMOTION = RANDOM.integers(0, 4, ROWS)
SPEAKER = RANDOM.integers(0, 5, ROWS)
NOISE = RANDOM.normal(size=(ROWS, 4)) * 0.5


def test_a_planted_shortcut_is_found_and_named() -> None:
    honest = np.eye(4)[EMOTION] * 2 + NOISE
    follows = honest * 0.4 + RANDOM.normal(size=(5, 4))[SPEAKER] * 1.5
    found = {}
    for name, scores in (("honest", honest), ("follows", follows)):
        report = audit("toy", scores, EMOTION, {"speaker": SPEAKER})
        found[name] = report.factors[0]
        assert report.rows == ROWS
    assert found["honest"].verdict == "none"
    assert found["honest"].ratio < 0.05
    assert abs(found["honest"].told - 0.2) < 0.08
    assert found["follows"].verdict == "SHORTCUT"
    assert found["follows"].p < 0.01
    assert found["follows"].told > 0.6 > 0.3 > found["follows"].told_chance


def test_a_factor_that_goes_with_the_emotion_is_not_blamed_for_it() -> None:
    mostly = np.where(RANDOM.random(ROWS) < 0.8, EMOTION, RANDOM.integers(0, 4, ROWS))
    scores = np.eye(4)[EMOTION] * 2 + NOISE
    report = audit("toy", scores, EMOTION, {"prompt": mostly})
    assert report.emotion > 0.5
    assert report.factors[0].verdict == "none"


def test_groups_and_picture_facts() -> None:
    assert parts(np.array([5.0, 1.0, 3.0, 2.0, 4.0])).tolist() == [4, 0, 2, 1, 3]
    assert numbered(["b", "a", "b"]).tolist() == [1, 0, 1]
    dark = np.full((48, 48), 20, np.uint8)
    bright = np.full((48, 48), 200, np.uint8)
    half = np.zeros((48, 48), np.uint8)
    half[:, 24:] = 200
    facts = picture_facts(np.stack([dark, bright, half]))
    assert facts["brightness"].tolist() == [20, 200, 100]
    assert facts["symmetry"][2] < -0.9
    assert facts["contrast"][2] > 90
