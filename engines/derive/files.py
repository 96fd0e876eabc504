"""From a model that ships to its precision files, each with its parent: what `affect models build` derives."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engines.base import TensorBatch
from engines.derive.float16 import float16
from engines.derive.float32 import float32
from engines.derive.int8 import activation_ranges, dynamic_int8, static_int8
from engines.derive.sensitive import kept_in_float
from engines.precisions import Derived, Precision


@dataclass(frozen=True, slots=True)
class PrecisionFile:
    """One derived file. `parent_sha256`, `parent`: digest of what it was derived from, and in words."""

    precision: Precision
    packed: bytes
    parent_sha256: str
    parent: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.packed).hexdigest()

    @property
    def recorded(self) -> Derived:
        """What is recorded of it, before the gate."""
        name = f"{self.precision}.onnx"
        return Derived(self.precision, name, len(self.packed), self.sha256, self.parent_sha256, self.parent)


def reference(shipped: bytes, given: bytes | None = None) -> PrecisionFile:
    """The float32 graph all others are derived from and judged by.

    Args:
        shipped: the model's own file; its int8 products are undone.
        given: the float32 file that training left behind, which has not lost anything yet; None = there is none.

    Raises:
        ManifestInvalid: no graph of standard operators.
    """
    parent, words = (shipped, "the shipped file, products in float32") if given is None else (given, "training's file")
    digest = hashlib.sha256(parent).hexdigest()
    return PrecisionFile("fp32", float32(parent, _facts("fp32", digest)), digest, words)


def derive(
    precision: Precision,
    whole: PrecisionFile,
    calibration: Sequence[TensorBatch],
    step: Callable[[int], object] = lambda rows: None,
    naive: bool = False,
) -> PrecisionFile:
    """A file of another precision.

    Args:
        whole: the float32 file.
        calibration: rows whose activations fix the steps of `qdq-int8`; the others need none. `step`: told of each row.
        naive: of `qdq-int8`: cut every layer, which the gate must refuse.

    Raises:
        ManifestInvalid, MissingExtra.
    """
    facts = _facts(precision, whole.sha256)
    if precision == "fp16":
        packed = float16(whole.packed, facts)
    elif precision == "cpu-int8":
        packed = dynamic_int8(whole.packed, facts)
    elif precision == "qdq-int8":
        ranges = activation_ranges(whole.packed, calibration, step)
        floats = () if naive else kept_in_float(whole.packed, ranges, calibration[0], step)
        packed = static_int8(whole.packed, ranges, {**facts, "in_float": " ".join(floats)}, naive, floats)
    else:
        return whole
    return PrecisionFile(precision, packed, whole.sha256, whole.precision)


def _facts(precision: Precision, parent: str) -> dict[str, str]:
    return {"precision": precision, "parent_sha256": parent}
