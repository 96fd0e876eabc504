"""The gate's negative model, on the encoder that ships: cutting every layer by its largest activation is refused."""

from __future__ import annotations

import numpy as np

from engines.artefacts import read_manifest, read_packed
from engines.derive.files import derive, reference
from engines.load import encoder
from stream.precision_gate import CALIBRATION_SEED, FIXTURE_SEED, Judge, scenario_texts
from stream.precision_gate import validation_rows as rows_that_judge
from stream.signal_gate import Play


def test_the_naive_file_is_refused_and_moves_more_than_the_honest_one() -> None:
    manifest = read_manifest("text-affect")
    shipped = read_packed(manifest)
    whole = reference(shipped)
    batch = encoder(manifest, shipped).featurize(scenario_texts(CALIBRATION_SEED, 45))
    honest, naive = (derive("qdq-int8", whole, [batch], naive=cut_all) for cut_all in (False, True))
    assert len(naive.packed) < len(honest.packed) < len(whole.packed)
    held, words = rows_that_judge(manifest, None, 30)
    assert "no labels" in words
    assert len(held[0].texts) == len(scenario_texts(FIXTURE_SEED, 30))
    judge = Judge(manifest, shipped, whole, held, words, [Play("panic", 8, 40)])
    refused = judge.judge(naive)
    assert not refused.passed
    assert refused.reasons
    judge.plays = []
    moved = [np.mean([h.mean_moved for h in v.heads]) for v in (judge.judge(honest), refused)]
    assert 0 < moved[0] < moved[1]
    half = judge.judge(derive("fp16", whole, []))
    assert half.passed, half.reasons
