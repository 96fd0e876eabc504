"""Calibration: integers that no batch changes, the stub exactly, heads that are not there refused."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.base import EngineSpec, HeadSpec, ScoreBatch
from engines.load import load_text_model
from operators.calibrate import Calibrate
from operators.errors import ConfigInvalid
from operators.records import MICRO

MODEL = load_text_model("hashed")
TASKS = tuple(h.task for h in MODEL.spec.heads if h.kind != "regression")


@given(st.lists(st.text(max_size=50), min_size=1, max_size=20))
@settings(max_examples=40, deadline=None)
def test_a_texts_millionths_depend_on_it_alone(texts: list[str]) -> None:
    calibrate = Calibrate()
    whole = calibrate.calibrate(MODEL.spec, MODEL.logits(texts), TASKS)
    for k, text in enumerate(texts):
        one = calibrate.calibrate(MODEL.spec, MODEL.logits([text]), TASKS)
        for task in TASKS:
            assert one[task][0].tolist() == whole[task][k].tolist()
            assert 0 <= whole[task].min() <= whole[task].max() <= MICRO


def test_the_stub_is_exact() -> None:
    model = load_text_model("stub")
    texts = [f"text {k}" for k in range(500)]
    micro = Calibrate().calibrate(model.spec, model.logits(texts), ["sentiment3", "disaster_message"])
    scores = [zlib.crc32(t.encode()) % 1000 for t in texts]
    assert micro["sentiment3"].tolist() == [[s * 1000, MICRO - s * 1000, 0] for s in scores]
    assert micro["disaster_message"][:, 35].tolist() == [s * 1000 for s in scores]
    assert list(micro) == ["sentiment3", "disaster_message"]


def test_temperature_softens_and_keeps_the_order() -> None:
    raw = ScoreBatch({"t": np.array([[2.0, 1.0, 0.0]])}, 0.0)
    tops = []
    for temperature in (0.5, 1.0, 2.0):
        spec = EngineSpec("e", "1", "numpy", (HeadSpec("t", "single", ("a", "b", "c"), temperature),))
        row = Calibrate().calibrate(spec, raw)["t"][0].tolist()
        assert row == sorted(row, reverse=True)
        tops.append(row[0])
    assert tops == sorted(tops, reverse=True)
    assert tops[1] == round(MICRO / (1 + np.exp(-1.0) + np.exp(-2.0)))


def test_decide() -> None:
    single = HeadSpec("s", "single", ("a", "b"))
    multi = HeadSpec("m", "multi", ("a", "b"), thresholds=(0.3, 0.7))
    micro = np.array([[400_000, 600_000], [200_000, 700_000], [0, 0]], np.int32)
    assert Calibrate().decide(single, micro) == [["b"], ["b"], ["a"]]
    assert Calibrate().decide(multi, micro) == [["a"], ["b"], []]


def test_a_missing_head_is_named() -> None:
    with pytest.raises(ConfigInvalid, match="no head 'parrott'; it has: goemotions28"):
        Calibrate().calibrate(MODEL.spec, MODEL.logits(["a"]), ["parrott"])
