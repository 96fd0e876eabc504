"""`affect engine bench` and what it is made of: rows of the length asked for, operations counted, a limit above 0."""

from __future__ import annotations

import json

import numpy as np
import pytest

from engines.artefacts import read_manifest, read_packed
from engines.derive.operations import Operations
from engines.errors import ManifestInvalid
from engines.load import load_text_model
from stream.cli import main
from stream.engine_speed import BUCKETS, matrix_limit, measure, texts
from tests.engines import tiny


@pytest.mark.parametrize("int8", [False, True])
def test_operations_are_those_of_the_products(int8: bool) -> None:
    count = Operations(tiny.packed(int8))
    for n in (2, 5, 24):
        linears = tiny.WIDTH * 3 * tiny.WIDTH + tiny.WIDTH * tiny.WIDTH + 2 * tiny.WIDTH * tiny.INNER
        by_hand = tiny.LAYERS * 2 * (n * linears + 2 * n * n * tiny.WIDTH) + 2 * tiny.WIDTH * tiny.OUTPUTS
        assert count(n) == by_hand


def test_what_is_no_encoder_is_refused() -> None:
    with pytest.raises(ManifestInvalid, match="ONNX"):
        Operations(b"\xff not protobuf")
    with pytest.raises(ManifestInvalid, match="inputs"):
        Operations(b"")


def test_rows_have_the_tokens_of_their_bucket() -> None:
    model = load_text_model("text-affect")
    for bucket in BUCKETS:
        offsets = model.featurize(texts(5, bucket - 2)).tensors["offsets"]
        assert np.diff(offsets).tolist() == [bucket] * 5


def test_a_measurement_is_a_rate_and_a_share() -> None:
    limit = matrix_limit()
    assert limit > 0
    found = measure(tiny.model(), 16, 3, limit, lambda tokens: 1e6 * tokens)
    assert found.share == pytest.approx(1e6 * round(found.tokens) * found.texts_per_s / limit)
    assert measure(load_text_model("stub"), 16, 3, limit, None).share is None


def test_bench_prints_a_line_a_bucket(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engine", "bench", "text-affect", "--texts", "1", "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [f["bucket"] for f in found] == list(BUCKETS)
    assert all(f["texts_per_s"] > 0 and f["share"] > 0 and "onnxruntime" in f["machine"] for f in found)
    assert {f["engine"] for f in found} == {load_text_model("text-affect").spec.model_id}
    assert read_packed(read_manifest("hashed-bag"))
    assert main(["engine", "bench", "hashed", "--texts", "2"]) == 0
    assert "matrix limit" in capsys.readouterr().out
