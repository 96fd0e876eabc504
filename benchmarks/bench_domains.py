"""Out of domain: what the emotion head loses on text of another kind, through the ontology's map to six primaries.

    AFFECT_DATA=... python benchmarks/bench_domains.py [--engine text-affect] [--rows 400]

`goemotions28` (Reddit comments) is rolled up to Parrott's primaries or none; the largest is the answer. Rows are kept
whose labels lie under exactly one primary, or all under none; macro-F1 over the classes that occur, 95 % bootstrap
interval. Labels of other schemes mean other things: part of the drop is the map's, not the model's.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.harness import table
from engines.base import TextModel
from engines.load import load_text_model
from engines.training.data import read_rows
from operators.calibrate import Calibrate
from operators.ontology import PRIMARIES, Ontology

CLASSES = (*PRIMARIES, "none")
EMORY = {"Neutral": "none", "Joyful": "joy", "Peaceful": "joy", "Powerful": "joy", "Scared": "fear", "Mad": "anger",
         "Sad": "sadness"}  # fmt: skip
"""The scheme of EmoryNLP (Willcox's wheel) is not in the ontology; its words are clear."""
SETS = (
    ("goemotions", "Reddit comments (in domain)"),
    ("stockemotions", "StockTwits posts"),
    ("github_emotion", "GitHub issues and reviews"),
    ("stackoverflow_emotion", "Stack Overflow posts"),
    ("emorynlp", "lines of a television series"),
)


def primary(data_set: str, row: Mapping[str, object], ontology: Ontology) -> str | None:
    """The one class of a row, or None."""
    if data_set == "emorynlp":
        return EMORY[str(row["emotion"])]
    if data_set == "stockemotions":
        return ontology.place("stockemotions12", str(row["emotion"])).primary
    if data_set == "goemotions":
        names = row["labels"]
        assert isinstance(names, list)
        found = {ontology.place("goemotions28", str(name)).primary for name in names}
    else:
        marks = row["labels"]
        assert isinstance(marks, dict)
        found = {ontology.place("se_emotions6", name.capitalize()).primary for name, mark in marks.items() if mark}
        found = found or {"none"}
    return found.pop() if len(found) == 1 else None


def answers(model: TextModel, texts: Sequence[str], ontology: Ontology) -> NDArray[np.int64]:
    """The class of each text, as a place in `CLASSES`."""
    head = model.spec.head("goemotions28")
    assert head is not None
    micro = Calibrate().calibrate(model.spec, model.logits(texts), [head.task])[head.task]
    rolled = ontology.roll_up(head.task, micro, head.labels)
    return np.concatenate([rolled.primary, (rolled.none + rolled.other)[:, None]], axis=1).argmax(axis=1)


def macro_f1(truth: NDArray[np.int64], said: NDArray[np.int64]) -> tuple[float, float, float]:
    """(macro-F1 over the classes that occur, and its 95 % interval over resampled rows)."""
    there = np.unique(truth)
    hits = np.stack([(truth == k) & (said == k) for k in there], axis=1).astype(np.float64)
    both = np.stack([(truth == k).astype(np.float64) + (said == k) for k in there], axis=1)
    random = np.random.default_rng(0)
    drawn = [np.bincount(random.integers(0, len(truth), len(truth)), minlength=len(truth)) for _ in range(1000)]
    weights = np.stack([np.ones(len(truth)), *drawn])
    found = (2 * (weights @ hits) / np.maximum(weights @ both, 1)).mean(axis=1)
    lo, hi = np.percentile(found[1:], [2.5, 97.5])
    return float(found[0]), float(lo), float(hi)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--rows", type=int, default=400, help="rows a set at most (default: 400)")
    options = parser.parse_args()
    root = os.environ.get("AFFECT_DATA")
    if not root:
        print("AFFECT_DATA is not set: no labelled data here")
        return 0
    ontology = Ontology.load()
    model = load_text_model(options.engine, threads=0, tasks=("goemotions28",))
    lines, first = [], None
    for data_set, kind in SETS:
        rows = list(read_rows(Path(root) / "text" / data_set / "test_public.jsonl.gz"))
        pairs = [(str(r["text"]), CLASSES.index(c)) for r in rows if (c := primary(data_set, r, ontology)) is not None]
        pairs = pairs[: options.rows]
        truth = np.array([c for _, c in pairs])
        value, lo, hi = macro_f1(truth, answers(model, [t for t, _ in pairs], ontology))
        first = value if first is None else first
        classes = len(np.unique(truth))
        lines.append(
            (data_set, kind, len(pairs), classes, f"{value:.3f}", f"{lo:.3f} - {hi:.3f}", f"{value - first:+.3f}")
        )
    columns = ("data set", "texts", "rows", "classes", "macro-F1", "95 % interval", "against in domain")
    table(f"Six primaries and none, {model.spec.model_id}", columns, lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
