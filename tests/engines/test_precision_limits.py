"""The gate's limits: what they let through, what they stop, and that the loss is measured on the same rows."""

from __future__ import annotations

import numpy as np
import pytest

from engines.base import F64
from engines.evaluate import drop, evaluate, evaluate_values
from engines.gate import Held, heads_compared, refusals, score
from engines.precisions import HeadGate, SignalGate
from engines.tasks import task_spec
from tests.engines import precise, tiny

SENTIMENT, VAD = task_spec("sentiment3"), task_spec("vad")


def head(**changes: float | str | None) -> HeadGate:
    fields: dict[str, object] = {
        "task": "t", "rows": 1000, "metric": "macro_f1", "reference": 0.8, "value": 0.795, "lower": -0.015,
        "agreement": 0.98, "mean_moved": 0.009, "max_moved": 0.29,
    }  # fmt: skip
    return HeadGate(**{**fields, **changes})  # type: ignore[arg-type]


def test_int8_limits() -> None:
    """The figures of the honest file pass; each limit alone stops (engines.md section 6)."""
    assert refusals("int8", [head()], []) == ()
    for changes, words in (
        ({"agreement": 0.969}, "keep their label"),
        ({"mean_moved": 0.021}, "on average"),
        ({"value": 0.789}, "lost 1.10 points"),
        ({"lower": -0.02}, "may have lost 2.00"),
        ({"mean_moved": float("nan")}, "on average"),
    ):
        (reason,) = refusals("int8", [head(**changes)], [])
        assert words in reason
    assert refusals("int8", [head(agreement=None, metric=None, reference=None, value=None, lower=None)], []) == ()


def test_fp16_limits() -> None:
    assert refusals("fp16", [head(agreement=0.995, max_moved=0.0008, value=0.5)], []) == ()
    assert "keep their label" in refusals("fp16", [head(agreement=0.994, max_moved=0.0)], [])[0]
    assert "moved by" in refusals("fp16", [head(agreement=1.0, max_moved=0.011)], [])[0]
    assert refusals("fp16", [], []) == ("no head was compared",)


def test_float32_undoes_a_cut_so_there_is_no_metric_to_lose() -> None:
    assert refusals("fp32", [head(value=0.7, lower=-0.2)], []) == ()
    assert "keep their label" in refusals("fp32", [head(agreement=0.96)], [])[0]
    assert "on average" in refusals("fp32", [head(mean_moved=0.03)], [])[0]


def test_signals_that_move_are_refused() -> None:
    still = SignalGate("panic", 900, 0, 0, 0.01, 0.09, "row")
    assert refusals("int8", [head()], [still]) == ()
    for moved in (SignalGate("panic", 900, 1, 0, 0.01, 0.11, "row"), SignalGate("panic", 900, 0, 2, 0.0, 0.0, "")):
        assert "panic" in refusals("int8", [head()], [still, moved])[0]


def one_hot(labels: np.ndarray) -> np.ndarray:
    return np.arange(3) == labels[:, None]


def test_the_loss_is_that_of_the_metric_on_the_same_rows() -> None:
    random = np.random.default_rng(5)
    truth = random.integers(0, 3, 400)
    first = np.where(random.random(400) < 0.8, truth, random.integers(0, 3, 400))
    second = np.where(random.random(400) < 0.95, first, random.integers(0, 3, 400))
    hot = one_hot(truth).astype(np.float32)
    lost = drop(SENTIMENT, hot, one_hot(first), one_hot(second))
    p: F64 = hot.astype(np.float64)
    for value, said in ((lost.first, first), (lost.second, second)):
        assert value == pytest.approx(evaluate(SENTIMENT, hot, one_hot(said), p).metrics[0].value)
    assert lost.lower < lost.second - lost.first
    same = drop(SENTIMENT, hot, one_hot(first), one_hot(first))
    assert same.lower == 0.0, "paired: equal decisions lose nothing on any resample"
    truths = random.normal(3, 0.3, (50, 3)).astype(np.float32)
    near: F64 = truths + random.normal(0, 0.1, (50, 3))
    far: F64 = truths + random.normal(0, 1.0, (50, 3))
    values = drop(VAD, truths, near, far)
    assert values.first == pytest.approx(evaluate_values(VAD, truths, near).metrics[0].value, abs=1e-6)
    assert values.lower < values.second - values.first < 0
    with pytest.raises(ValueError, match="three rows"):
        drop(SENTIMENT, hot[:2], one_hot(first)[:2], one_hot(first)[:2])


def test_heads_are_compared_on_their_own_rows_or_on_rows_for_all() -> None:
    told: list[int] = []
    held = [Held("mood", precise.TEXTS[:2], None), Held("", precise.TEXTS, None), Held("foreign", ["a"], None)]
    first, second = (score(precise.model(p), held, told.append) for p in ("fp32", "cpu-int8"))
    found = heads_compared(tiny.HEADS, held, first, second)
    assert [(h.task, h.rows) for h in found] == [("mood", 2), ("mood", 6), ("needs", 6), ("vad", 6)]
    assert all(0 < h.mean_moved <= h.max_moved < 0.2 and h.metric is None for h in found)
    assert found[-1].agreement is None
    assert sum(told) == 2 * 9
    nothing = heads_compared(tiny.HEADS, held, first, first)
    assert all(h.max_moved == 0.0 and h.agreement in (1.0, None) for h in nothing)
