"""Other languages: how well they are told, and what an English model says of them, beside English and beside chance.

    AFFECT_DATA=... python benchmarks/bench_languages.py [--engine text-affect] [--rows 300]

`told`: share of texts whose language is detected right. `null`: share that is left out unless `--languages all` says.
`macro-F1`: of the model's answer over the labels that the set shares with the head; `chance`: of the same answers dealt
out at random. Where F1 is near chance a number would be a guess, and null is the honest answer. A second table: what is
left out of the sets that the heads were trained on, where leaving out is an error (but for rows that are foreign).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.bench_domains import macro_f1
from benchmarks.harness import table
from engines.base import TextModel
from engines.load import load_text_model
from engines.tasks import TEXT_TASKS, task_spec
from engines.training.data import read_rows
from operators.language import detect
from operators.readable import readable

FEELINGS = {"happy": "happy", "happiness": "happy", "joy": "happy", "sad": "sad", "sadness": "sad", "angry": "anger",
            "anger": "anger", "disgust": "disgust", "surprise": "surprise", "fear": "fear", "neutral": "neutral",
            "others": "neutral"}  # fmt: skip
"""Their word -> label of `emtract7`."""
SETS = (
    ("emoevent/en", "en", "emtract7"),
    ("xed/en", "en", "emtract7"),
    ("emoevent/es", "es", "emtract7"),
    ("xed/fi", "fi", "emtract7"),
    ("smp2020_ewect/usual", "zh", "emtract7"),
    ("banemo", "bn", "emtract7"),
    ("sentipers", "fa", "sentiment3"),
)


def label(row: Mapping[str, object], task: str) -> str | None:
    """The row's one label of `task`, or None."""
    if task == "sentiment3":
        polarity = row["polarity"]
        assert isinstance(polarity, int | float)
        return "positive" if polarity > 0 else "negative" if polarity < 0 else "neutral"
    found = row["labels"] if "labels" in row else [row["emotion"]]
    assert isinstance(found, list)
    return FEELINGS.get(str(found[0]).lower()) if len(found) == 1 else None


def line(root: Path, data_set: str, lang: str, task: str, model: TextModel, most: int) -> tuple[object, ...]:
    """One row of the table."""
    head = model.spec.head(task)
    assert head is not None
    rows = list(read_rows(root / data_set / "test_public.jsonl.gz"))
    pairs = [(str(r["text"]), head.labels.index(name)) for r in rows if (name := label(r, task)) is not None][:most]
    texts, truth = [t for t, _ in pairs], np.array([k for _, k in pairs])
    codes = [detect(text) for text in texts]
    null = np.mean([not readable(code, task_spec(task).languages) for code in codes])
    said = model.logits(texts).logits[task].argmax(axis=1)
    value, lo, hi = macro_f1(truth, said)
    random = np.random.default_rng(0)
    chance = float(np.mean([macro_f1(truth, random.permutation(said))[0] for _ in range(20)]))
    told = np.mean([code == lang for code in codes])
    return (data_set, lang, len(texts), f"{told:.1%}", f"{null:.1%}", task, f"{value:.3f}", f"{lo:.3f} - {hi:.3f}",
            f"{chance:.3f}")  # fmt: skip


def own(root: Path) -> list[tuple[object, ...]]:
    """The second table: (task, data set, rows, texts left out, their share, the languages they were taken for)."""
    found: list[tuple[object, ...]] = []
    for spec in TEXT_TASKS:
        texts = [str(row["text"]) for row in read_rows(root / spec.data_set / "test_public.jsonl.gz")]
        taken = Counter(code for text in texts if not readable(code := detect(text), spec.languages))
        often = ", ".join(f"{code} {n}" for code, n in taken.most_common(4))
        found.append((spec.task, spec.data_set, len(texts), taken.total(), f"{taken.total() / len(texts):.2%}", often))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--rows", type=int, default=300, help="rows a set at most (default: 300)")
    options = parser.parse_args()
    root = os.environ.get("AFFECT_DATA")
    if not root:
        print("AFFECT_DATA is not set: no labelled data here")
        return 0
    model = load_text_model(options.engine, threads=0, tasks=("emtract7", "sentiment3"))
    lines = [line(Path(root) / "text", *one, model, options.rows) for one in SETS]
    columns = ("data set", "language", "rows", "told", "null", "head", "macro-F1", "95 % interval", "chance")
    table(f"Languages, {model.spec.model_id}", columns, lines)
    table(
        "Left out of the heads' own sets",
        ("head", "data set", "rows", "null", "share", "taken for"),
        own(Path(root) / "text"),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
