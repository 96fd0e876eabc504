"""Requests as one batch, and apart again: the digits are those of each alone, wherever the batch is cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.base import TextModel
from engines.batching import apart, check, join, kin, length, part
from engines.joined import join as join_models
from engines.load import load_text_model
from tests.engines.serving import tiny_model

MODELS = {name: load_text_model(name) for name in ("stub", "hashed")} | {"pieces": tiny_model()}
MODELS["joined"] = join_models([(MODELS["pieces"], ("needs", "mood")), (MODELS["hashed"], ("emtract7",))])


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
@given(
    parts=st.lists(
        st.lists(st.sampled_from(["water now", "", "so happy :)", "a b c " * 9]), max_size=4), min_size=1, max_size=4
    )
)
def test_a_joined_batch_is_scored_as_its_parts(model: TextModel, parts: list[list[str]]) -> None:
    batches = [model.featurize(texts) for texts in parts]
    for batch in batches:
        check(batch)
    assert len({kin(batch) for batch in batches}) == 1
    whole = join(batches)
    check(whole)
    assert whole.rows == sum(map(len, parts))
    assert length(whole) * max(1, whole.rows) == pytest.approx(sum(length(b) * b.rows for b in batches), abs=1.0)
    if len(parts[0]) > 1:
        cut = part(whole, 1, len(parts[0]))
        check(cut)
        alone = model.engine.infer(model.featurize(parts[0][1:])).logits
        assert {t: s.tobytes() for t, s in model.engine.infer(cut).logits.items()} == {
            t: s.tobytes() for t, s in alone.items()
        }
    scored = apart(model.engine.infer(whole), [b.rows for b in batches])
    for batch, got in zip(batches, scored, strict=True):
        for task, logits in model.engine.infer(batch).logits.items():
            assert got.logits[task].tobytes() == logits.tobytes()
            assert got.logits[task].dtype == np.float64
