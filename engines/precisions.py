"""Precision files of a model: where they lie, what is recorded of each, and that nothing ungated is ever opened.

A model ships in one precision. `affect models build` derives the others into a folder of the user's (the package may be
read-only): `MODELS/NAME@VERSION/PRECISION.onnx`, beside `precisions.json`. MODELS is `AFFECT_MODELS`, else
`$XDG_CACHE_HOME/affectstream/models`, else `~/.cache/affectstream/models`.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Final, Literal, get_args

import msgspec

from engines.artefacts import Manifest, models_home
from engines.errors import ManifestInvalid, PrecisionRefused, UnknownModel

Precision = Literal["fp32", "fp16", "cpu-int8", "qdq-int8"]
PRECISIONS: Final[tuple[Precision, ...]] = get_args(Precision)
"""fp32: the reference. fp16: typed graph for a GPU. cpu-int8: activations cut at run time. qdq-int8: explicit Q/DQ."""
FILE_MAX_BYTES: Final = 1 << 30
RECORD: Final = "precisions.json"


class HeadGate(msgspec.Struct, frozen=True):
    """One head of a file against the reference.

    Attributes:
        rows: rows compared. metric, reference, value: headline figure of both, None where rows had no labels.
        lower: lower end of the 95 % interval of `value - reference`, a paired bootstrap over the rows.
        agreement: share of rows with the same most probable label; None for a regression.
        mean_moved, max_moved: |difference of probability|, of a regression |difference| / (hi - lo).
    """

    task: str
    rows: int
    metric: str | None
    reference: float | None
    value: float | None
    lower: float | None
    agreement: float | None
    mean_moved: float
    max_moved: float


class SignalGate(msgspec.Struct, frozen=True):
    """Rows of a replay with a file against those with the reference, |difference of value| / (hi - lo).

    Attributes:
        replay: what was replayed. rows: values compared. beyond: rows moved by more than a tenth of their interval.
        lost: rows with a value on one side alone. most: the largest move, in row `worst`. typical: root of the mean
            square over all rows; loudest: the signal whose own is largest, and that.
    """

    replay: str
    rows: int
    beyond: int
    lost: int
    typical: float
    most: float
    worst: str
    loudest: str = ""
    loudest_typical: float = 0.0


class Verdict(msgspec.Struct, frozen=True):
    """What the gate said. `reasons`: why not, empty where it passed.

    `rule`: fp16 or int8, whose limits held. `against`: sha256 of the reference file. `validation`: which rows.
    """

    passed: bool
    reasons: tuple[str, ...]
    rule: str
    against: str
    validation: str
    heads: tuple[HeadGate, ...]
    signals: tuple[SignalGate, ...]
    versions: str


class Derived(msgspec.Struct, frozen=True):
    """One precision file. `parent_sha256`: the file it was derived from; `verdict` None: not gated yet."""

    precision: Precision
    file: str
    size: int
    sha256: str
    parent_sha256: str
    parent: str
    verdict: Verdict | None = None


class Record(msgspec.Struct, frozen=True):
    """`precisions.json`: the files of one version of one model."""

    name: str
    sha256: str
    files: tuple[Derived, ...] = ()

    def find(self, precision: str) -> Derived | None:
        return next((f for f in self.files if f.precision == precision), None)


def folder(manifest: Manifest, home: Path | None = None) -> Path:
    """The folder of one version of a model; it need not be there."""
    return (models_home() if home is None else home) / f"{manifest.name}@{manifest.version}"


def read_record(manifest: Manifest, home: Path | None = None) -> Record:
    """What was derived of this version; empty where nothing was.

    Raises:
        ManifestInvalid: the record is malformed, or of another model.
    """
    path = folder(manifest, home) / RECORD
    try:
        record = msgspec.json.decode(path.read_bytes(), type=Record)
    except FileNotFoundError:
        return Record(manifest.name, manifest.sha256)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ManifestInvalid(f"{path}: {error}; delete the folder and build it anew") from error
    if record.sha256 != manifest.sha256:
        raise ManifestInvalid(
            f"{path}: expected the files of sha256 {manifest.sha256[:12]}, got those of {record.sha256[:12]}; delete"
            " the folder and build it anew"
        )
    return record


def keep(manifest: Manifest, derived: Derived, packed: bytes | None, home: Path | None = None) -> Path:
    """Write a file (None: it is there already) and then its line in the record; each whole or not at all.

    Raises:
        ManifestInvalid: the folder cannot be written.
    """
    place = folder(manifest, home)
    try:
        place.mkdir(parents=True, exist_ok=True)
        if packed is not None:
            _write(place / derived.file, packed)
        record = read_record(manifest, home)
        others = tuple(f for f in record.files if f.precision != derived.precision)
        files = tuple(sorted((*others, derived), key=lambda f: PRECISIONS.index(f.precision)))
        text = msgspec.json.format(msgspec.json.encode(msgspec.structs.replace(record, files=files)), indent=1)
        _write(place / RECORD, text + b"\n")
    except OSError as error:
        raise ManifestInvalid(
            f"cannot write {place}: {error.strerror}; set AFFECT_MODELS to a folder that can be written"
        ) from error
    return place / derived.file


def read_derived(manifest: Manifest, derived: Derived, home: Path | None = None) -> bytes:
    """The bytes of a recorded file, its digest checked.

    Raises:
        ManifestInvalid: missing, too large, or another digest than recorded.
    """
    path = folder(manifest, home) / derived.file
    again = f"run `affect models build {manifest.name} --precision {derived.precision}`"
    try:
        if path.name != f"{derived.precision}.onnx" or path.stat().st_size > FILE_MAX_BYTES:
            raise ManifestInvalid(
                f"{path}: expected {derived.precision}.onnx of at most {FILE_MAX_BYTES} bytes; {again}"
            )
        packed = path.read_bytes()
    except OSError as error:
        raise ManifestInvalid(f"cannot read {path}: {error.strerror}; {again}") from error
    digest = hashlib.sha256(packed).hexdigest()
    if digest != derived.sha256:
        raise ManifestInvalid(f"{path}: sha256 expected {derived.sha256}, got {digest}; {again}")
    return packed


def open_derived(manifest: Manifest, precision: str, home: Path | None = None) -> tuple[Derived, bytes]:
    """A derived file that passed the gate, and what is recorded of it.

    Raises:
        UnknownModel: no such precision, or it was not built.
        PrecisionRefused: the gate refused it, or never saw it.
        ManifestInvalid: the file is missing or not the one recorded.
    """
    if precision not in PRECISIONS:
        raise UnknownModel(f"precision {precision!r} of {manifest.name!r}: expected one of {', '.join(PRECISIONS)}")
    found = read_record(manifest, home).find(precision)
    again = f"`affect models build {manifest.name} --precision {precision}`"
    if found is None:
        raise UnknownModel(
            f"{manifest.name}@{manifest.version} has no {precision} file in {folder(manifest, home)}; build it: {again}"
        )
    if found.verdict is None:
        raise PrecisionRefused(f"{manifest.name}:{precision} was never gated; run {again}")
    if not found.verdict.passed:
        raise PrecisionRefused(
            f"{manifest.name}:{precision} was refused by the gate: {'; '.join(found.verdict.reasons)}; use another"
            f" precision (`affect engine verify {manifest.name}` shows all)"
        )
    return found, read_derived(manifest, found, home)


def _write(path: Path, data: bytes) -> None:
    """Write beside, flush to disk, rename."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
    Path(file.name).chmod(0o644)
    Path(file.name).replace(path)
