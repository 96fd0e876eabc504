"""Calibration of a head that was trained with weighted classes: planted truth, found again."""

from __future__ import annotations

import numpy as np
import pytest

from engines.base import F64
from engines.evaluate import calibration_error
from engines.probability import decided, millionths, probabilities
from engines.tasks import task_spec
from engines.training.calibration import bias_corrected, fit_head
from operators.correct import correct_shares
from operators.domain import Derived

SPEC = task_spec("sentiment3")
PRIOR = np.array([0.4, 0.5, 0.1])
WEIGHTS = np.array([0.8, 0.6, 3.5])
"""What each class counted in training: a network so trained says log(weight) too much for it."""


def drawn(prior: F64, rows: int, seed: int) -> tuple[F64, F64]:
    """(logits of an overconfident network trained with `WEIGHTS`, truth) of rows with these shares of the classes."""
    random = np.random.default_rng(seed)
    label = random.choice(3, rows, p=prior)
    seen = np.eye(3)[label] * 1.5 + random.normal(size=(rows, 3))  # evidence: log-likelihood ratios are 1.5 * seen
    exact = 1.5 * seen + np.log(PRIOR)
    return 1.8 * (exact + np.log(WEIGHTS)), np.eye(3, dtype=np.float32)[label]


def test_the_temperature_and_the_biases_that_were_planted_are_found() -> None:
    logits, truth = drawn(PRIOR, 20_000, 1)
    temperature, bias = bias_corrected(logits, truth)
    assert temperature == pytest.approx(1.8, rel=0.03)
    wanted = -np.log(WEIGHTS)
    assert np.array(bias) == pytest.approx(wanted - wanted.mean(), abs=0.07)
    assert sum(bias) == pytest.approx(0.0, abs=1e-3)


def test_probabilities_become_right_and_decisions_keep_to_the_headline() -> None:
    logits, truth = drawn(PRIOR, 3000, 2)
    head, before, after = fit_head(SPEC, logits, truth)
    assert before > 0.08
    assert after < 0.03
    fresh, known = drawn(PRIOR, 3000, 3)
    p = probabilities(head, fresh)
    assert calibration_error(SPEC, known, p) < 0.03
    assert np.abs(p.mean(0) - known.mean(0)).max() < 0.02, "mean probabilities are the shares"
    # The headline of sentiment3 is average recall: decisions must not follow the rare class being rare.
    chosen = decided(head, millionths(head, fresh))

    def recall(said: np.ndarray) -> float:  # type: ignore[type-arg]
        return float(np.mean([said[known[:, k] > 0, k].mean() for k in range(3)]))

    assert recall(chosen) > recall(np.eye(3, dtype=bool)[p.argmax(1)]) + 0.03


def test_under_a_shift_of_the_mix_the_corrected_share_is_nearer_the_truth() -> None:
    logits, truth = drawn(PRIOR, 4000, 4)
    head, _, _ = fit_head(SPEC, logits, truth)
    for k, mix in enumerate(([0.1, 0.2, 0.7], [0.8, 0.1, 0.1], [0.05, 0.9, 0.05])):
        shifted, known = drawn(np.array(mix), 4000, 5 + k)
        read = probabilities(head, shifted).mean(0)[None]
        corrected = correct_shares(head, SPEC.labels, Derived(read, read - 0.01, read + 0.01))
        assert corrected is not None
        off = [np.abs(found - known.mean(0)).sum() for found in (read[0], corrected.value[0])]
        assert off[1] < 0.35 * off[0], (mix, off)
