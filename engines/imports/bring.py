"""From a given directory to a model of ours: read, checked, built, compared with itself as it was given."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx

from engines.artefacts import IMPORTED_MAX_BYTES, DataSource, Manifest
from engines.base import F64, HeadSpec, TensorBatch
from engines.errors import ImportRefused
from engines.imports import bert, foreign
from engines.imports.files import read_bytes
from engines.imports.given import Given, Kind, read_tensors
from engines.imports.probe import probe
from engines.load import encoder
from engines.training.graph import build

LENGTHS: Final = (2, 3, 7, 24)
"""Tokens of the rows that are compared; an ONNX file is given one of the longest as well."""
MOVED: Final = 1e-3
"""Logits may differ by so much, relative to 1 + their size: float32 against float64, or against other kernels."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """`labels` of `task` in order; `plan`: the given outputs that mean each; `languages` it reads,
    ISO 639-1, empty for any; `command`: for the manifest."""

    name: str
    task: str
    kind: Kind
    labels: tuple[str, ...]
    plan: foreign.Plan
    research_only: bool
    languages: tuple[str, ...]
    command: str


@dataclass(frozen=True, slots=True)
class Brought:
    """A finished model. `rows` were compared, `moved` is the largest relative difference of a logit."""

    manifest: Manifest
    packed: bytes
    card: str
    rows: int
    moved: float


def bring(given: Given, wanted: Wanted) -> Brought:
    """Build the model and compare it.

    Raises:
        ImportRefused: anything about the files, or the outputs differ. MissingExtra.
    """
    packed, rows, known = _onnx(given, wanted) if given.path.suffix == ".onnx" else _bert(given, wanted)
    if len(packed) > IMPORTED_MAX_BYTES:
        raise ImportRefused(f"{given.path}: becomes {len(packed)} bytes, at most {IMPORTED_MAX_BYTES} are loaded")
    digest = hashlib.sha256(packed).hexdigest()
    licence = "for research alone, as was said at the import" if wanted.research_only else "not known here"
    cleaner = "bytepairs" if given.tokeniser.merges else "wordpieces"
    manifest = Manifest(
        name=wanted.name,
        version=digest[:8],
        backend="onnx-cpu",
        file="model.onnx",
        sha256=digest,
        heads=(HeadSpec(wanted.task, wanted.kind, wanted.labels, languages=wanted.languages),),
        settings={"max_tokens": given.max_tokens},
        data=(DataSource("not known here", licence, given.path.name, 0, 0),),
        metrics=(),
        intended_use="Imported; what it is for, whoever trained it knows.",
        limits="Nothing was measured or calibrated: temperature 1, thresholds .5. Its training data and licence are not"
        f" known here. Texts are cleaned as engines/{cleaner}.py says.",
        research_only=wanted.research_only,
        training_command=wanted.command,
        seed=0,
    )
    moved = _moved(manifest, packed, rows, known)
    if not moved <= MOVED:
        raise ImportRefused(f"{given.path}: as built it differs by {moved:.2g}, at most {MOVED} is float32; report it")
    return Brought(manifest, packed, _card(given, wanted, manifest, len(rows), moved), len(rows), moved)


def model_name(text: str) -> str:
    """A name that a model may have, made of a folder's."""
    return re.sub(r"[^a-z0-9_-]+", "-", text.lower()).strip("-_")[:64]


def _bert(given: Given, wanted: Wanted) -> tuple[bytes, list[list[int]], F64]:
    bert.require(given)
    theirs = bert.checked(given, read_tensors(given.path))
    weights = bert.ours(given.config, theirs, len(given.tokeniser.pieces))
    built = build(weights, given.config.num_attention_heads, given.config.layer_norm_eps, {}, int8=False)
    rows = _rows(given, LENGTHS)
    raw = np.stack([bert.forward(given.config, theirs, row) for row in rows])
    packed = foreign.finish(onnx.load_from_string(built), wanted.plan, wanted.kind, given.tokeniser)
    return packed, rows, foreign.gathered(raw, wanted.plan, wanted.kind)


def _onnx(given: Given, wanted: Wanted) -> tuple[bytes, list[list[int]], F64]:
    where = str(given.path)
    packed = read_bytes(given.path, IMPORTED_MAX_BYTES)
    model = foreign.parse(packed, where)
    names = foreign.inputs(model, where)
    rows = _rows(given, (*LENGTHS, given.max_tokens))
    raw = probe(packed, names, rows, where)
    if raw.ndim != 2 or raw.shape[1] != len(given.labels):
        raise ImportRefused(f"{where}: expected {len(given.labels)} logits, one a label, got {list(raw.shape)[1:]}")
    finished = foreign.finish(foreign.adopt(model, names), wanted.plan, wanted.kind, given.tokeniser)
    return finished, rows, foreign.gathered(raw, wanted.plan, wanted.kind)


def _rows(given: Given, lengths: Sequence[int]) -> list[list[int]]:
    """Rows of any pieces; the same every time."""
    random = np.random.default_rng(0)
    return [random.integers(0, len(given.tokeniser.pieces), min(n, given.max_tokens)).tolist() for n in lengths]


def _moved(manifest: Manifest, packed: bytes, rows: Sequence[Sequence[int]], known: F64) -> float:
    model = encoder(manifest, packed)  # the tokeniser too is built once before anything is written
    engine = model.engine
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    ids = np.concatenate([np.array(row, np.int32) for row in rows])
    found = engine.infer(TensorBatch(len(rows), {"ids": ids, "offsets": offsets})).logits[manifest.heads[0].task]
    engine.close()
    return float((np.abs(found - known) / (1 + np.abs(known))).max())


def _card(given: Given, wanted: Wanted, manifest: Manifest, rows: int, moved: float) -> str:
    lines = [
        f"# {manifest.name}@{manifest.version}",
        "",
        f"Imported from `{given.path.name}` by `{wanted.command}`. {manifest.limits}",
        "",
        f"Compared with the given weights on {rows} rows of pieces: the largest relative difference of a logit is"
        f" {moved:.2g}.",
        "",
        f"| {wanted.task} ({wanted.kind}) | the model's own labels |",
        "| --- | --- |",
        *(
            f"| {label} | {', '.join(given.labels[k] for k in own) or 'never said'} |"
            for label, own in zip(wanted.labels, wanted.plan, strict=True)
        ),
    ]
    return "\n".join(lines) + "\n"
