"""Face and voice engines keep the promises of `engines.base.Engine`; research weights load for research alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engines.base import ScoreBatch, TensorBatch
from engines.errors import EngineLost, ResearchOnly, ShapeMismatch, UnknownModel
from engines.load import load_text_model
from engines.load_media import load_face_model, load_voice_model
from engines.media import SOUND_MAX
from tests.engines import tiny_media

RANDOM = np.random.default_rng(3)
FACES = RANDOM.integers(0, 256, (5, 48, 48)).astype(np.uint8)
SOUNDS = [RANDOM.normal(size=n).astype(np.float32) * 0.1 for n in (16_000, 600, 33_333)]


@pytest.fixture(params=["face", "voice"])
def ask(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Callable[[list[int]], ScoreBatch], object]:
    """(task, score the rows of those numbers, the engine)."""
    if request.param == "face":
        face = tiny_media.face_model(tmp_path)
        return "ferplus8", lambda rows: face.logits(FACES[rows]), face.engine
    voice = tiny_media.voice_model(tmp_path)
    return "ravdess8", lambda rows: voice.logits([SOUNDS[k] for k in rows]), voice.engine


def test_a_row_depends_on_itself_alone_bit_for_bit(ask: tuple[str, Callable[[list[int]], ScoreBatch], object]) -> None:
    task, score, _ = ask
    whole, back = score([0, 1, 2]).logits[task], score([2, 1, 0]).logits[task]
    assert whole.shape == (3, 8)
    assert whole.dtype == np.float64
    assert np.isfinite(whole).all()
    assert len({row.tobytes() for row in whole}) == 3, "different rows, different logits"
    assert back[::-1].tobytes() == whole.tobytes()
    assert np.concatenate([score([k]).logits[task] for k in range(3)]).tobytes() == whole.tobytes()
    assert score([]).logits[task].shape == (0, 8)


def test_foreign_tensors_and_closed_engines_are_refused(
    ask: tuple[str, Callable[[list[int]], ScoreBatch], object],
) -> None:
    _, score, engine = ask
    for wrong in ({}, {"x": np.zeros((1, 47, 48), np.uint8)}, {"x": np.zeros((1, 48, 48))}):
        with pytest.raises(ShapeMismatch):
            engine.infer(TensorBatch(1, wrong))  # type: ignore[attr-defined]
    bad = np.full(1000, np.nan, np.float32)
    for offsets in ([0, 1000], [0, 900], [0, 400, 1000]):
        places = np.array(offsets, np.int64)
        with pytest.raises(ShapeMismatch):
            engine.infer(TensorBatch(len(places) - 1, {"samples": bad, "offsets": places}))  # type: ignore[attr-defined]
    engine.close()  # type: ignore[attr-defined]
    with pytest.raises(EngineLost, match="closed"):
        score([0])


def test_level_and_light_do_not_matter_to_them(tmp_path: Path) -> None:
    voice, face = tiny_media.voice_model(tmp_path), tiny_media.face_model(tmp_path)
    loud, quiet = (voice.logits([SOUNDS[0] * np.float32(k)]).logits["ravdess8"] for k in (1.0, 0.01))
    np.testing.assert_allclose(loud, quiet, atol=2e-3)
    dim = (FACES // 4 + 90).astype(np.uint8)
    bright, dark = (face.logits(x).logits["ferplus8"] for x in (FACES // 4 * 4, dim))
    np.testing.assert_allclose(bright, dark, atol=2e-2)
    both = face.logits(np.concatenate([FACES[:1], FACES[:1, :, ::-1]])).logits["ferplus8"]
    np.testing.assert_allclose(both[0], both[1], atol=1e-5, err_msg="a face and its mirror image")


def test_a_long_sound_is_the_mean_of_its_pieces_and_a_short_one_is_filled_up(tmp_path: Path) -> None:
    voice = tiny_media.voice_model(tmp_path)
    long = RANDOM.normal(size=SOUND_MAX + 1000).astype(np.float32)
    halves = np.array_split(long, 2)
    want = voice.logits(halves).logits["ravdess8"].mean(0)
    found = voice.logits([SOUNDS[0], long, np.zeros(0, np.float32)]).logits["ravdess8"]
    np.testing.assert_allclose(found[1], want, rtol=1e-12)
    assert np.isfinite(found).all()
    with pytest.raises(ShapeMismatch, match="float32"):
        voice.logits([np.zeros(1000)])  # type: ignore[list-item]


def test_research_weights_load_only_for_research_and_are_no_text_models(tmp_path: Path) -> None:
    zoo = tiny_media.write_zoo(tmp_path)
    for load, name in ((load_face_model, "tiny-face"), (load_voice_model, "tiny-voice")):
        with pytest.raises(ResearchOnly, match=r"research only.*toys") as refused:
            load(name, zoo)
        assert refused.value.exit_code == 78
        load(name, zoo, research=True)
        with pytest.raises(UnknownModel, match="reads a"):
            load_text_model(name, zoo)
    with pytest.raises(UnknownModel, match="there is: tiny-voice"):
        load_voice_model("tiny-face", zoo, research=True)
