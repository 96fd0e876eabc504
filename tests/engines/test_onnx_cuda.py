"""The CUDA provider's engine with the CPU provider in its place: padding, order, and refusals with their reason."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from engines.base import TextModel
from engines.buckets import Buckets
from engines.errors import EngineLost, ManifestInvalid
from engines.onnx_cuda import PROVIDER, OnnxCudaEngine, refusal
from engines.wordpieces import WordPieces
from tests.engines import precise, tiny

TEXTS = ["we need water", "", "happy happy!", "the stock falls https://x.y", "not good 😀", "a b c d e " * 20, "food"]
BUCKETS = Buckets((8, 16, 32), (1, 2, 4), steady=4)


def model(packed: bytes) -> TextModel:
    engine = OnnxCudaEngine(tiny.spec(), packed, BUCKETS, len(tiny.VOCABULARY), "CPUExecutionProvider")
    return TextModel(WordPieces(tiny.VOCABULARY, 24).featurize, engine)


def outputs(made: TextModel) -> np.ndarray:
    logits = made.engine.infer(made.featurize(TEXTS)).logits
    return np.concatenate([logits[h.task] for h in tiny.HEADS], 1)


def test_padded_batches_give_what_single_rows_give() -> None:
    want = outputs(tiny.model(int8=False))
    np.testing.assert_allclose(outputs(model(tiny.packed(int8=False))), want, atol=3e-5)
    np.testing.assert_allclose(outputs(model(precise.file("fp16").packed)), want, atol=0.2)


@pytest.mark.skipif(not refusal(), reason="this onnxruntime has the CUDA provider")
def test_a_cpu_build_is_refused_with_what_to_install() -> None:
    assert "install onnxruntime-gpu in the place of onnxruntime" in refusal()
    with pytest.raises((EngineLost, ManifestInvalid), match=f"{PROVIDER}|cannot load"):
        OnnxCudaEngine(tiny.spec(), tiny.packed(int8=False), BUCKETS, len(tiny.VOCABULARY))


def test_no_onnxruntime_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert "not installed" in refusal()


def test_a_closed_engine_and_a_wrong_file_say_so() -> None:
    made = model(tiny.packed(int8=False))
    made.engine.close()
    with pytest.raises(EngineLost, match="closed"):
        made.logits(TEXTS)
    with pytest.raises(ManifestInvalid, match="cannot load"):
        model(b"nothing")
