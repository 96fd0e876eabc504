"""The teacher's word: the same for a text in any batch, asked once, never about a dev or test text. Needs torch."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: `make encoder` makes the environment that has it")

from engines.training import teacher  # noqa: E402
from engines.training.encoder import Encoder, Shape  # noqa: E402
from engines.training.fine_tune import HeadLoss  # noqa: E402
from engines.training.teacher import outputs, told, unlabelled  # noqa: E402
from engines.training.text import Examples, Recipe, in_units, train  # noqa: E402
from engines.wordpieces import WordPieces  # noqa: E402
from tests.engines import tiny  # noqa: E402

SHAPE = Shape(len(tiny.VOCABULARY), tiny.POSITIONS, tiny.WIDTH, tiny.LAYERS, tiny.ATTENTION, tiny.INNER)
PIECES = WordPieces(list(tiny.VOCABULARY), 16)
TEXTS = ["happy", "the water is sad", "need food food food", "", "not good !"]


def encoder() -> Encoder:
    torch.manual_seed(3)
    return Encoder(SHAPE, 5).eval()


def test_a_text_is_answered_alike_in_any_batch() -> None:
    together = outputs(encoder(), PIECES, TEXTS, "cpu", half=False)
    alone = np.concatenate([outputs(encoder(), PIECES, [text], "cpu", half=False) for text in TEXTS])
    assert together.shape == (5, 5)
    assert np.allclose(together, alone, atol=1e-6)
    assert not np.allclose(together[0], together[1], atol=1e-3)


def test_an_interrupted_teacher_is_not_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher, "_PART", 2)
    whole = told(encoder(), PIECES, TEXTS, False, tmp_path)
    assert np.allclose(whole, outputs(encoder(), PIECES, TEXTS, "cpu", half=False), atol=1e-6)
    parts = sorted(tmp_path.iterdir())
    assert len(parts) == 3
    parts[1].unlink()
    asked: list[int] = []
    monkeypatch.setattr(
        teacher, "outputs", lambda e, p, some, d, h: asked.append(len(some)) or outputs(e, p, some, d, h)
    )
    assert np.array_equal(told(encoder(), PIECES, TEXTS, False, tmp_path), whole)
    assert len(asked) == 1


def test_dev_and_test_texts_are_never_asked_about(tmp_path: Path) -> None:
    def put(path: str, *texts: str) -> None:
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        with gzip.open(file, "wt", encoding="utf-8") as out:
            out.writelines(json.dumps({"text": text}) + "\n" for text in texts)

    for name in teacher.UNLABELLED:
        put(f"{name}/train.jsonl.gz")
    put("tweeteval/emoji/train.jsonl.gz", "One text", "Held out @me!", "one TEXT", "another", "")
    put("elsewhere/test_public.jsonl.gz", "held out @somebody")
    assert unlabelled(tmp_path) == (["One text", "another"], 1)


def test_a_student_learns_from_the_teachers_word_alone() -> None:
    """Two words, no labels: the student ends with the teacher's share of a head of one label, and its value."""
    buckets = np.array([1, 2] * 256, np.int32)
    soft = np.tile(np.array([[2.0, -2.0, 1.0], [-1.0, 1.0, -1.0]], np.float32), (256, 1))
    nothing = np.full_like(soft, np.nan)
    examples = Examples(buckets, np.arange(513), nothing, soft)
    ones = np.ones(2, np.float32)
    losses = [HeadLoss("mood", "single", 0, 2, ones, 1.0), HeadLoss("value", "regression", 2, 3, ones[:1], 1.0)]
    recipe = Recipe(bits=4, dims=8, hidden=8, epochs=60, batch_size=64, feature_dropout=0.0, dropout=0.0)
    net = train(examples, losses, recipe)
    in_units(net, 2, np.array([3.0], np.float32), np.array([0.5], np.float32))
    with torch.no_grad():
        said = net(torch.from_numpy(buckets[:2]), torch.tensor([0, 1, 2])).numpy()
    share = 1 / (1 + np.exp(said[:, 1] - said[:, 0]))
    assert np.allclose(share, [1 / (1 + np.exp(-4.0)), 1 / (1 + np.exp(2.0))], atol=0.03)
    assert np.allclose(said[:, 2], [3.5, 2.5], atol=0.05)
