"""Reads the rows of the data sets, and keeps every dev and test text of every set out of training."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.tasks import TEXT_TASKS, TaskSpec

_LINK = re.compile(r"(?:https?://|www\.)\S+|\bhttp\b")
_HANDLE = re.compile(r"@\w+")
_PUNCT = re.compile(r"[\W_]+")
_DEV_SHARE = 10  # one text in ten becomes dev where the set has no dev split


@dataclass(frozen=True, slots=True)
class Rows:
    """`texts` and `truth` float32 [rows, labels]: 1, 0, or -1 for not known; the values of a `regression`."""

    texts: list[str]
    truth: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TaskData:
    """The rows of one task. `dropped`: training rows left out because their text is a dev or test text of some set."""

    spec: TaskSpec
    train: Rows
    dev: Rows
    test: Rows
    dropped: int


def normalise(text: str) -> str:
    """The text as overlap is judged: case, links, handles and punctuation ignored."""
    return _PUNCT.sub(" ", _HANDLE.sub(" ", _LINK.sub(" ", text.lower()))).strip()


def held_texts(root: Path) -> set[str]:
    """Every normalised string of every dev and test row of any set below `root` (a superset of the texts)."""
    held: set[str] = set()
    for path in sorted(root.rglob("*.jsonl.gz")):
        if path.name.startswith(("dev", "test")):
            for row in read_rows(path):
                held.update(normalise(s) for s in _strings(row))
    held.discard("")
    return held


def read_rows(path: Path) -> Iterator[dict[str, object]]:
    """The rows of one `.jsonl.gz` file, in order."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def load_all(root: Path, tasks: Sequence[TaskSpec] = TEXT_TASKS) -> list[TaskData]:
    """All the tasks, with overlapping training rows dropped.

    A set without a dev split gives one text in ten (by crc32 of the normalised text) as dev; those texts train nothing
    in the other sets either.
    """
    splits = {t.task: split_rows(root / t.data_set) for t in tasks}
    carved = {normalise(str(r["text"])) for _, dev, _ in splits.values() for r in dev} - {""}
    held = held_texts(root) | carved
    out = []
    for spec in tasks:
        train, dev, test = splits[spec.task]
        usable = [r for r in train if spec.truth(r) is not None]
        kept = [r for r in usable if normalise(str(r["text"])) not in held]
        out.append(TaskData(spec, _rows(spec, kept), _rows(spec, dev), _rows(spec, test), len(usable) - len(kept)))
    return out


def split_rows(folder: Path) -> tuple[list[dict[str, object]], list[dict[str, object]], list[dict[str, object]]]:
    """(train, dev, public test half) of one data set; see `load_all` for a set without a dev split."""
    train = list(read_rows(folder / "train.jsonl.gz"))
    test = list(read_rows(folder / "test_public.jsonl.gz"))
    if (folder / "dev.jsonl.gz").exists():
        return train, list(read_rows(folder / "dev.jsonl.gz")), test
    held = [zlib.crc32(_carve_key(r).encode()) % _DEV_SHARE == 0 for r in train]
    return (
        [r for r, h in zip(train, held, strict=True) if not h],
        [r for r, h in zip(train, held, strict=True) if h],
        test,
    )


def _carve_key(row: dict[str, object]) -> str:
    """What decides the side of a row: its writer where known (a writer's essays stay together), else its text."""
    writer = row.get("writer")
    return writer if isinstance(writer, str) else normalise(str(row["text"]))


def _rows(spec: TaskSpec, rows: list[dict[str, object]]) -> Rows:
    pairs = [(str(r["text"]), t) for r in rows if (t := spec.truth(r)) is not None]
    truth = np.array([t for _, t in pairs], np.float32).reshape(len(pairs), len(spec.labels))
    return Rows([text for text, _ in pairs], truth)


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _strings(part)
    elif isinstance(value, list):
        for part in value:
            yield from _strings(part)
