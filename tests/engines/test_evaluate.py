"""Metrics, by hand-counted examples."""

from __future__ import annotations

import numpy as np
import pytest

from engines.errors import UnknownModel
from engines.evaluate import calibration_error, evaluate, evaluate_values
from engines.tasks import NEED_LABELS, TEXT_TASKS, task_spec

SENTIMENT = task_spec("sentiment3")


def rows(columns: list[int], labels: int) -> np.ndarray:
    return np.eye(labels, dtype=np.float32)[columns]


def test_single_label_figures() -> None:
    truth, said = rows([0, 0, 0, 1, 1, 2], 3), rows([0, 0, 1, 1, 1, 0], 3)
    found = evaluate(SENTIMENT, truth, said > 0, said.astype(float))
    values = {m.metric: m.value for m in found.metrics}
    assert values["average_recall"] == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert values["macro_f1"] == pytest.approx((2 / 3 + 4 / 5 + 0) / 3)
    assert [s.support for s in found.labels] == [3, 2, 1]
    assert found.labels[0].precision == pytest.approx(2 / 3)
    assert all(m.lo <= m.value <= m.hi for m in found.metrics)
    emtract = evaluate(task_spec("emtract7"), rows([0, 1], 7), rows([0, 2], 7) > 0, rows([0, 2], 7).astype(float))
    assert {m.metric: m.value for m in emtract.metrics}["accuracy"] == 0.5


def test_labels_that_never_occur_are_no_part_of_the_mean() -> None:
    truth, said = rows([0, 1], 3), rows([0, 1], 3)
    found = evaluate(SENTIMENT, truth, said > 0, said.astype(float))
    assert [m.value for m in found.metrics] == [1.0, 1.0]


def test_needs_are_pooled_and_unsure_cells_left_out() -> None:
    spec = task_spec("disaster_message")
    truth = np.zeros((4, 36), np.float32)
    said = np.zeros((4, 36), np.bool_)
    water, food, related = (spec.labels.index(x) for x in ("water", "food", "related"))
    truth[0, water], truth[1, food], truth[2, water] = 1, 1, 1
    said[0, water] = said[3, food] = True  # one hit, one false alarm, two misses
    truth[:, related] = -1
    said[:, related] = True
    found = evaluate(spec, truth, said, said.astype(float))
    assert found.metrics[0].metric == "need_micro_f1"
    assert found.metrics[0].value == pytest.approx(2 * 1 / (3 + 2))
    assert found.labels[related].support == 0
    assert len(NEED_LABELS) == 13


def test_calibration_error() -> None:
    p = np.array([[0.9, 0.1, 0.0]] * 10)
    truth = rows([0] * 6 + [1] * 4, 3)
    assert calibration_error(SENTIMENT, truth, p) == pytest.approx(0.3)
    assert calibration_error(SENTIMENT, rows([0] * 9 + [1], 3), p) == pytest.approx(0.0)


def test_the_interval_is_that_of_a_known_share() -> None:
    random = np.random.default_rng(5)
    truth = rows([0] * 400, 7)
    said = rows(random.choice(2, 400, p=[0.7, 0.3]).tolist(), 7)
    accuracy = evaluate(task_spec("emtract7"), truth, said > 0, said.astype(float)).metrics[1]
    half = 1.96 * (accuracy.value * (1 - accuracy.value) / 400) ** 0.5
    assert accuracy.lo == pytest.approx(accuracy.value - half, abs=0.01)
    assert accuracy.hi == pytest.approx(accuracy.value + half, abs=0.01)


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="agree"):
        evaluate(SENTIMENT, np.zeros((0, 3), np.float32), np.zeros((0, 3), np.bool_), np.zeros((0, 3)))


def test_truth_of_rows_as_they_lie_in_the_data() -> None:
    go = task_spec("goemotions28")
    assert [n for n, t in zip(go.labels, go.truth({"labels": ["joy", "love"]}) or [], strict=True) if t] == [
        "joy",
        "love",
    ]
    assert task_spec("crisis_info6").truth({"info_type": "Not labeled"}) is None
    assert SENTIMENT.truth({}) is None
    assert go.truth({"labels": []}) is None
    disaster = task_spec("disaster_message").truth({"labels": {"related": 2, "water": 1, "food": 0}})
    assert disaster is not None
    spec = task_spec("disaster_message")
    assert [disaster[spec.labels.index(x)] for x in ("related", "water", "food", "offer")] == [-1.0, 1.0, 0.0, -1.0]
    with pytest.raises(UnknownModel, match="goemotions28"):
        task_spec("nothing")


def test_labels_are_those_of_the_ontology() -> None:
    from operators.ontology import Ontology

    ontology = Ontology.load()
    for spec in (t for t in TEXT_TASKS if t.kind != "regression"):  # the map has labels, not values
        assert ontology.labels(spec.task) == spec.labels


def test_values_are_judged_by_their_correlation() -> None:
    random = np.random.default_rng(1)
    truth = random.normal(3, 1, (200, 3)).astype(np.float32)
    said = truth * 0.5 + random.normal(0, [0.1, 0.5, 5.0], (200, 3))
    found = evaluate_values(task_spec("vad"), truth, said)
    r = [float(np.corrcoef(truth[:, k], said[:, k])[0, 1]) for k in range(3)]
    assert [m.metric for m in found.metrics] == ["pearson", "pearson_V", "pearson_A", "pearson_D"]
    assert [m.value for m in found.metrics] == pytest.approx([np.mean(r), *r], abs=1e-6)
    assert all(m.lo < m.value < m.hi for m in found.metrics)
    assert (found.ece, found.labels, found.rows) == (None, (), 200)
    constant = evaluate_values(task_spec("vad"), truth, np.ones((200, 3)))
    assert [m.value for m in constant.metrics] == [0.0] * 4
    with pytest.raises(ValueError, match="agree"):
        evaluate_values(task_spec("vad"), truth, said[:5])


def test_a_regressions_truth_is_its_fields_within_range() -> None:
    vad = task_spec("vad")
    assert vad.truth({"V": 3, "A": 2.5, "D": 5.0}) == [3.0, 2.5, 5.0]
    for row in ({"V": 3, "A": 2.5}, {"V": 3, "A": 0.5, "D": 3}, {"V": "3", "A": 3, "D": 3}):
        assert vad.truth(row) is None
