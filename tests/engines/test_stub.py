"""The stub: crc32 % 1000 / 1000, exactly."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.base import TensorBatch
from engines.errors import ShapeMismatch
from engines.load import load_text_model
from engines.probability import millionths
from engines.stub import POSITIVE, StubEngine


@given(st.lists(st.text(max_size=20), min_size=1, max_size=5))
def test_every_head_is_exact(texts: list[str]) -> None:
    model = load_text_model("stub")
    logits = model.logits(texts).logits
    expected = [zlib.crc32(t.encode("utf-8", "surrogatepass")) % 1000 * 1000 for t in texts]
    for head in model.spec.heads:
        micro = millionths(head, logits[head.task])
        if head.task == "disaster_message":
            assert (micro == np.array(expected)[:, None]).all()
            continue
        positive, neutral = POSITIVE[head.task]
        by_label = dict(zip(head.labels, micro.T.tolist(), strict=True))
        assert by_label.pop(positive) == expected
        assert by_label.pop(neutral) == [1_000_000 - s for s in expected]
        assert all(not any(values) for values in by_label.values())


def test_it_has_the_six_tasks_and_refuses_other_tensors() -> None:
    engine = StubEngine()
    assert [len(h.labels) for h in engine.spec.heads] == [28, 3, 7, 3, 36, 6]
    with pytest.raises(ShapeMismatch, match="thousandths"):
        engine.infer(TensorBatch(1, {}))
    engine.close()
