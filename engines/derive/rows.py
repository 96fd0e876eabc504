"""Rows for the gate and for calibration out of the labelled data: dev rows judge, training rows calibrate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from engines.base import HeadSpec
from engines.gate import Held
from engines.tasks import TEXT_TASKS
from engines.training.data import split_rows


def held_rows(root: Path, heads: Sequence[HeadSpec], most: int) -> list[Held]:
    """Labelled dev rows of every head that has a data set below `root`, at most `most` of each, the same every time."""
    found = []
    for spec in TEXT_TASKS:
        if spec.task not in {h.task for h in heads} or not (root / spec.data_set / "train.jsonl.gz").exists():
            continue
        _, dev, _ = split_rows(root / spec.data_set)
        pairs = [(str(r["text"]), said) for r in dev if (said := spec.truth(r)) is not None]
        chosen = np.sort(np.random.default_rng(0).permutation(len(pairs))[:most]).tolist()
        if chosen:
            truth = np.array([pairs[k][1] for k in chosen], np.float32)
            found.append(Held(spec.task, [pairs[k][0] for k in chosen], truth))
    return found


def training_texts(root: Path, heads: Sequence[HeadSpec], each: int) -> list[str]:
    """Training texts, `each` of every head's data set below `root`, the same every time."""
    found: list[str] = []
    for spec in TEXT_TASKS:
        if spec.task in {h.task for h in heads} and (root / spec.data_set / "train.jsonl.gz").exists():
            train, _, _ = split_rows(root / spec.data_set)
            chosen = np.random.default_rng(0).permutation(len(train))[:each].tolist()
            found += [str(train[k]["text"]) for k in chosen]
    return found
