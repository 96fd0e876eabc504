"""The tiny encoder in every precision, and a zoo and models folder that hold them."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import msgspec

from engines.artefacts import Manifest, write_model
from engines.base import TextModel
from engines.derive.files import PrecisionFile, derive, reference
from engines.load import encoder
from engines.precisions import PRECISIONS, Precision, Verdict, keep
from tests.engines import tiny

TEXTS = ["we need water", "happy happy!", "the stock falls", "not good a b c d e", "food and love", ""]


def verdict(passed: bool = True) -> Verdict:
    return Verdict(passed, () if passed else ("moved too far",), "int8", "", "a test", (), (), "")


@cache
def manifest() -> Manifest:
    digest = hashlib.sha256(tiny.packed()).hexdigest()
    return Manifest(
        name="text-affect", version=digest[:8], backend="onnx-cpu", file="model.onnx", sha256=digest, heads=tiny.HEADS,
        settings={"max_tokens": 24}, data=(), metrics=(), intended_use="tests", limits="", research_only=False,
        training_command="", seed=0,
    )  # fmt: skip


@cache
def whole() -> PrecisionFile:
    return reference(tiny.packed())


@cache
def file(precision: Precision) -> PrecisionFile:
    return derive(precision, whole(), [tiny.model().featurize(TEXTS)])


@cache
def model(precision: Precision) -> TextModel:
    return encoder(manifest(), file(precision).packed, precision=precision)


def zoo(folder: Path) -> Path:
    write_model(manifest(), tiny.packed(), "# tiny\n", folder)
    return folder


def kept(home: Path, passed: bool = True) -> Path:
    for precision in PRECISIONS:
        made = file(precision)
        keep(manifest(), msgspec.structs.replace(made.recorded, verdict=verdict(passed)), made.packed, home)
    return home
