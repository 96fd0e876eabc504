"""The encoder that ships: its manifest, what it says of plain sentences, and that its figures are its own."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from engines.artefacts import ZOO, read_manifest
from engines.base import TextModel
from engines.evaluate import Evaluation, evaluate, evaluate_values
from engines.load import load_text_model
from engines.probability import decided, millionths, probabilities
from engines.tasks import TEXT_TASKS, task_spec
from engines.training.data import read_rows

NAME = "text-affect"
QUICK = ("tweeteval_emotion4", "vad")
"""Tasks with few rows: all of them would take minutes."""


@pytest.fixture(scope="module")
def model() -> TextModel:
    return load_text_model(NAME)


def test_the_manifest_says_what_it_is() -> None:
    manifest = read_manifest(NAME)
    assert [(h.task, h.kind, h.labels, h.lo, h.hi) for h in manifest.heads] == [
        (t.task, t.kind, t.labels, t.lo, t.hi) for t in TEXT_TASKS
    ]
    assert {m.task for m in manifest.metrics} == {t.task for t in TEXT_TASKS}
    assert all(m.lo <= m.value <= m.hi for m in manifest.metrics)
    assert all(d.licence and d.source for d in manifest.data)
    assert all(len(h.thresholds) == len(h.labels) for h in manifest.heads if h.kind == "multi")
    assert (ZOO / NAME / "CARD.md").read_text().startswith(f"# {NAME}@{manifest.version}")
    assert sum(p.stat().st_size for p in (ZOO / NAME).iterdir()) < 36_000_000


@pytest.mark.parametrize(
    ("task", "text", "label"),
    [
        ("sentiment3", "I love this, best day ever!", "positive"),
        ("sentiment3", "This is terrible, I hate it", "negative"),
        ("sentiment3", "not good at all", "negative"),
        ("disaster_message", "We are hungry and have no food, please send food", "food"),
        ("disaster_message", "We need drinking water", "water"),
        ("goemotions28", "Thank you so much!", "gratitude"),
        ("emtract7", "This is scary, I am so afraid of a crash", "fear"),
        ("tweeteval_emotion4", "I am so angry with you right now", "anger"),
        ("tweeteval_emotion4", "I miss her so much, I cannot stop crying", "sadness"),
        ("bullbear3", "$AAPL upgraded to buy, shares jump after earnings beat", "bullish"),
        ("bullbear3", "$AAPL downgraded, shares plunge after earnings miss", "bearish"),
        ("crisis_info6", "Donate to the red cross to help the victims", "Donations and volunteering"),
    ],
)
def test_it_reads_plain_sentences(model: TextModel, task: str, text: str, label: str) -> None:
    head = model.spec.head(task)
    assert head is not None
    holds = decided(head, millionths(head, model.logits([text]).logits[task]))[0]
    assert label in [name for name, yes in zip(head.labels, holds.tolist(), strict=True) if yes]


def test_pleasure_is_above_pain(model: TextModel) -> None:
    vad = model.logits(["What a wonderful, happy day!", "The children died in terrible pain."]).logits["vad"]
    assert vad[0, 0] > 3.2
    assert vad[1, 0] < 2.8
    assert ((vad >= 1) & (vad <= 5)).all()


def test_a_text_keeps_its_bytes_in_any_batch(model: TextModel) -> None:
    words = "we need water food happy sad stock falls hurricane love $TSLA @you http 😀 not good".split()
    random = np.random.default_rng(3)
    texts = [" ".join(random.choice(words, random.integers(0, 30))) for _ in range(40)]
    whole = model.logits(texts).logits
    cut = [model.logits(texts[k : k + 7]).logits for k in range(0, 40, 7)]
    back = model.logits(texts[::-1]).logits
    for head in model.spec.heads:
        assert np.concatenate([c[head.task] for c in cut]).tobytes() == whole[head.task].tobytes()
        assert back[head.task][::-1].tobytes() == whole[head.task].tobytes()


@pytest.mark.data
@pytest.mark.parametrize("task", QUICK)
def test_the_manifests_figures_are_those_of_the_shipped_weights(model: TextModel, task: str) -> None:
    """Within 0.02: integers are equal on every processor, the float32 steps between them are not."""
    root = os.environ["AFFECT_DATA"]
    spec = task_spec(task)
    found = measured(model, task, Path(root) / "text" / spec.data_set / "test_public.jsonl.gz")
    recorded = {m.metric: (m.value, m.rows) for m in read_manifest(NAME).metrics if m.task == task}
    assert recorded == {m.metric: (pytest.approx(m.value, abs=0.02), found.rows) for m in found.metrics}


def measured(model: TextModel, task: str, path: Path) -> Evaluation:
    spec, head = task_spec(task), model.spec.head(task)
    assert head is not None
    rows = [(str(r["text"]), t) for r in read_rows(path) if (t := spec.truth(r)) is not None]
    truth = np.array([t for _, t in rows], np.float32)
    logits = model.logits([text for text, _ in rows]).logits[task]
    if spec.kind == "regression":
        return evaluate_values(spec, truth, logits)
    return evaluate(spec, truth, decided(head, millionths(head, logits)), probabilities(head, logits))
