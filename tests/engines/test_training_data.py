"""The training rows: no dev or test text of any set is among them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from engines.tasks import TEXT_TASKS
from engines.training.data import held_texts, load_all, normalise

TASKS = [t for t in TEXT_TASKS if t.kind != "regression"]


def write(path: Path, rows: list[dict[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8") as out:
        out.writelines(json.dumps(row) + "\n" for row in rows)


def label(task: str) -> object:
    return {"goemotions28": ["joy"], "disaster_message": {"water": 1, "related": 2}}.get(
        task, next(t.labels[0] for t in TASKS if t.task == task)
    )


def make(root: Path) -> None:
    for t in TASKS:
        train = [{"text": f"{t.task} train {k} alpha", t.field: label(t.task)} for k in range(200)]
        train += [{"text": "@me THE Last, text! http://x.example", t.field: label(t.task)}]
        train += [{"text": "unlabelled", t.field: None}]
        write(root / t.data_set / "train.jsonl.gz", train)
        write(root / t.data_set / "test_public.jsonl.gz", [{"text": f"{t.task} own test", t.field: label(t.task)}])
    write(root / "goemotions" / "dev.jsonl.gz", [{"text": "sentiment3 train 7 alpha", "labels": ["joy"]}])
    write(root / "another" / "deep" / "dev.jsonl.gz", [{"turns": [{"utterance": "the last text"}]}])


def test_no_dev_or_test_text_of_any_set_trains(tmp_path: Path) -> None:
    make(tmp_path)
    data = {d.spec.task: d for d in load_all(tmp_path, TASKS)}
    held = held_texts(tmp_path)
    assert {"the last text", "sentiment3 train 7 alpha", "emtract7 own test"} <= held
    carved = {normalise(t) for d in data.values() for t in d.dev.texts}
    for d in data.values():
        assert not {normalise(t) for t in d.train.texts} & (held | carved)
        assert d.train.truth.shape == (len(d.train.texts), len(d.spec.labels))
    assert sum(d.dropped for d in data.values()) >= 4
    assert "sentiment3 train 7 alpha" not in data["sentiment3"].train.texts
    assert data["goemotions28"].dev.texts == ["sentiment3 train 7 alpha"]
    assert 5 <= len(data["emtract7"].dev.texts) <= 40
    assert len(data["emtract7"].train.texts) + len(data["emtract7"].dev.texts) in (200, 201)


def test_normalise_ignores_case_links_handles_and_punctuation() -> None:
    assert normalise("RT @Bob: It's http://t.co/x  GREAT!!") == "rt it s great"
