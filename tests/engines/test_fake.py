"""The engine for tests: every kind of head, texts apart, and lost when it is told to be."""

from __future__ import annotations

import numpy as np
import pytest

from engines import stub
from engines.errors import EngineLost
from engines.fake import FakeEngine
from engines.load import load_text_model
from engines.tasks import TEXT_TASKS


def test_it_has_every_head_and_tells_texts_apart() -> None:
    model = load_text_model("fake")
    assert [h.task for h in model.spec.heads] == [t.task for t in TEXT_TASKS]
    assert {h.kind for h in model.spec.heads} == {"single", "multi", "regression"}
    logits = model.logits(["we need water", "so happy"]).logits
    assert all(np.abs(x[0] - x[1]).max() > 0.01 for x in logits.values())


def test_it_is_lost_from_the_call_it_is_told_on() -> None:
    engine = FakeEngine(fails_at=2)
    batch = stub.featurize(["a"])
    engine.infer(batch)
    for _ in range(2):
        with pytest.raises(EngineLost, match="lost; load it again"):
            engine.infer(batch)
