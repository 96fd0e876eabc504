"""Which runs make the model: the best on dev, and those that make the average better. Needs torch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed: `make encoder` makes the environment that has it")

from engines.training.text_affect import soup

F32 = np.ndarray


def run(*values: float) -> dict[str, F32]:
    return {"head.bias": np.array(values, np.float32)}


def near(weights: Mapping[str, F32]) -> dict[str, float]:
    """Two heads, each the better the nearer its weight is to 1."""
    first, second = 1.0 - np.abs(weights["head.bias"] - 1.0)
    return {"a": float(first), "b": float(second)}


def test_runs_join_best_first_where_dev_gets_better() -> None:
    runs = {"3": run(0.5, 0.5), "5": run(1.2, 1.0), "7": run(0.8, 0.98), "9": run(0.9, 1.14)}
    weights, told = soup(runs, near)
    np.testing.assert_allclose(weights["head.bias"], [1.0, 0.99], atol=1e-6)
    assert told.endswith(
        "3 0.5000, 5 0.9000, 7 0.8900, 9 0.8800, 5 + 7 0.9950, 5 + 7 + 9 0.9633, 5 + 7 + 3 0.8300. Kept: 5 + 7."
    )


def test_one_run_is_the_model() -> None:
    weights, told = soup({"7": run(0.25, 0.75)}, near)
    assert weights["head.bias"].tolist() == [0.25, 0.75]
    assert told.endswith("7 0.5000. Kept: 7.")
