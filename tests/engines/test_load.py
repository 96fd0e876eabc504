"""The loader: names, reasons, and the artefact that ships."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from engines.artefacts import ZOO, read_manifest
from engines.errors import ManifestInvalid, UnknownModel
from engines.evaluate import evaluate
from engines.load import load_text_model
from engines.probability import decided, millionths, probabilities
from engines.tasks import TEXT_TASKS, task_spec
from engines.training.data import read_rows


def test_names() -> None:
    hashed = load_text_model("hashed")
    assert hashed.spec.model_id == load_text_model("hashed-bag").spec.model_id
    assert hashed.reason == ""
    auto = load_text_model("auto", tasks=("crisis_info6",))
    assert auto.spec == load_text_model("text-affect").spec
    assert "hashed" not in auto.reason  # nothing better than it was refused but backends
    assert load_text_model("stub").spec.name == "stub"


@pytest.mark.parametrize("name", ["bert", "", "../hashed-bag", "hashed-bag/"])
def test_unknown_names_list_what_there_is(name: str) -> None:
    with pytest.raises(UnknownModel, match="auto, cascade, stub, hashed, hashed-bag"):
        load_text_model(name)


def test_an_empty_zoo_is_no_silent_downgrade(tmp_path: Path) -> None:
    with pytest.raises(UnknownModel, match="hashed"):
        load_text_model("auto", tmp_path)


def test_settings_must_fit_the_table(tmp_path: Path) -> None:
    folder = tmp_path / "hashed-bag"
    folder.mkdir()
    (folder / "weights.npz").write_bytes((ZOO / "hashed-bag" / "weights.npz").read_bytes())
    manifest = (ZOO / "hashed-bag" / "manifest.json").read_text()
    (folder / "manifest.json").write_text(manifest.replace('"bits": 1', '"bits": 2'))
    with pytest.raises(ManifestInvalid, match="bits"):
        load_text_model("hashed", tmp_path)


def test_the_shipped_model_has_the_nine_heads_and_says_what_it_is() -> None:
    manifest = read_manifest("hashed-bag")
    assert [(h.task, h.kind, h.labels) for h in manifest.heads] == [(t.task, t.kind, t.labels) for t in TEXT_TASKS]
    assert {m.task for m in manifest.metrics} == {t.task for t in TEXT_TASKS}
    assert all(m.lo <= m.value <= m.hi for m in manifest.metrics)
    assert all(d.licence and d.source for d in manifest.data)
    assert all(h.temperature > 0 for h in manifest.heads)
    assert all(len(h.thresholds) == len(h.labels) for h in manifest.heads if h.kind == "multi")
    assert (ZOO / manifest.name / "CARD.md").read_text().startswith(f"# {manifest.name}@{manifest.version}")
    assert sum(p.stat().st_size for p in (ZOO / manifest.name).iterdir()) < 11_000_000


@pytest.mark.parametrize(
    ("task", "text", "label"),
    [
        ("sentiment3", "I love this, best day ever!", "positive"),
        ("sentiment3", "This is terrible, I hate it", "negative"),
        ("disaster_message", "We are hungry and have no food, please send food", "food"),
        ("disaster_message", "We need drinking water", "water"),
        ("goemotions28", "Thank you so much!", "gratitude"),
        ("emtract7", "This is scary, I am so afraid of a crash", "fear"),
        ("bullbear3", "$AAPL upgraded to buy, shares jump after earnings beat", "bullish"),
        ("bullbear3", "$AAPL downgraded, shares plunge after earnings miss", "bearish"),
        ("crisis_info6", "Donate to the red cross to help the victims", "Donations and volunteering"),
    ],
)
def test_the_shipped_model_reads_plain_sentences(task: str, text: str, label: str) -> None:
    model = load_text_model("hashed")
    head = model.spec.head(task)
    assert head is not None
    holds = decided(head, millionths(head, model.logits([text]).logits[task]))[0]
    assert label in [name for name, yes in zip(head.labels, holds.tolist(), strict=True) if yes]


@pytest.mark.data
@pytest.mark.parametrize("task", [t.task for t in TEXT_TASKS if t.kind != "regression"])
def test_the_manifests_figures_are_those_of_the_shipped_weights(task: str) -> None:
    root = os.environ["AFFECT_DATA"]
    spec = task_spec(task)
    manifest = read_manifest("hashed-bag")
    rows = [
        (r, t) for r in read_rows(Path(root) / "text" / spec.data_set / "test_public.jsonl.gz") if (t := spec.truth(r))
    ]
    model = load_text_model("hashed")
    head = model.spec.head(task)
    assert head is not None
    logits = model.logits([str(r["text"]) for r, _ in rows]).logits[task]
    found = evaluate(
        spec,
        np.array([t for _, t in rows], np.float32),
        decided(head, millionths(head, logits)),
        probabilities(head, logits),
    )
    recorded = {m.metric: (m.value, m.rows) for m in manifest.metrics if m.task == task}
    assert recorded == {m.metric: (pytest.approx(m.value, abs=1e-9), found.rows) for m in found.metrics}
