"""A model on disk: `<zoo>/<name>/manifest.json` beside its weights, checked by sha256 before they are parsed.

Models come with the package, in `ZOO`, or were imported by the user (`affect models import`), into `imported_zoo()`.
Whoever asks `ZOO` is told of both; no imported model has the name of a shipped one.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec
import numpy as np

from engines.base import AnyArray, EngineSpec, HeadSpec
from engines.errors import ManifestInvalid, UnknownModel

ZOO: Final = Path(__file__).parent / "zoo"
WEIGHTS_MAX_BYTES: Final = 64 << 20
"""Largest weights file that is read, packed or unpacked: a manifest cannot make the process fill its memory."""
IMPORTED_MAX_BYTES: Final = 1 << 30
"""The same for a model that the user took in: BERT-large has 1.3 GB in float32 and is too large, BERT-base is not."""

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


ModelKind = Literal["text", "face", "voice"]


class DataSource(msgspec.Struct, frozen=True):
    """A data set the model was trained on. `licence`: as stated by the mirror. `rows`: training rows used."""

    name: str
    licence: str
    source: str
    rows: int
    dropped_overlap: int


class MetricRow(msgspec.Struct, frozen=True):
    """One measured figure of one head: `value` with a 95 % bootstrap interval [lo, hi] on `rows` rows of `data`.

    The calibration errors are of dev, before and after calibration; None for a regression. `ece_floor`: what a head
    without any error would show on the dev rows by luck.
    """

    task: str
    metric: str
    value: float
    lo: float
    hi: float
    rows: int
    data: str
    published: str
    ece_before: float | None
    ece_after: float | None
    ece_floor: float | None = None


class Manifest(msgspec.Struct, frozen=True):
    """What a model is, answers, was made from, and may be used for.

    `version` is the first 8 hex digits of `sha256`, the digest of `file`, which lies beside the manifest.
    `settings` are what the loader needs to build the engine and its featuriser (`bits` for the hashed bag, `max_tokens`
    for an encoder). `kind`: what the model reads.
    """

    name: str
    version: str
    backend: str
    file: str
    sha256: str
    heads: tuple[HeadSpec, ...]
    settings: dict[str, int]
    data: tuple[DataSource, ...]
    metrics: tuple[MetricRow, ...]
    intended_use: str
    limits: str
    research_only: bool
    training_command: str
    seed: int
    kind: ModelKind = "text"

    @property
    def spec(self) -> EngineSpec:
        """What the engine built from this manifest answers."""
        return EngineSpec(self.name, self.version, self.backend, self.heads)


def models_home(env: Mapping[str, str] | None = None) -> Path:
    """Where files of the user's lie: `AFFECT_MODELS`, else the cache folder (see `engines.precisions`)."""
    known = os.environ if env is None else env
    if known.get("AFFECT_MODELS"):
        return Path(known["AFFECT_MODELS"])
    cache = known.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "affectstream" / "models"


def imported_zoo() -> Path:
    """Where imported models lie."""
    return models_home() / "imported"


def names(zoo: Path = ZOO) -> list[str]:
    """The models that lie in the zoo, sorted; behind those of `ZOO`, the imported ones."""
    found = _names(zoo)
    return found + [n for n in _names(imported_zoo()) if n not in found] if zoo == ZOO else found


def model_file(name: str, zoo: Path = ZOO, file: str = "") -> Path:
    """Where a model lies (or a file of it): in the zoo, or with the imported ones."""
    if zoo == ZOO and name not in _names(zoo) and name in _names(imported_zoo()):
        zoo = imported_zoo()
    return zoo / name / file


def _names(zoo: Path) -> list[str]:
    return sorted(p.parent.name for p in zoo.glob("*/manifest.json"))


def read_manifest(name: str, zoo: Path = ZOO) -> Manifest:
    """The manifest of one model, checked.

    Raises:
        UnknownModel: no such folder; the message lists what there is.
        ManifestInvalid: malformed, or naming a file outside its folder.
    """
    if not _NAME.fullmatch(name) or name not in names(zoo):
        raise UnknownModel(f"model {name!r} is not in the zoo {zoo}; there is: {', '.join(names(zoo)) or 'nothing'}")
    path = model_file(name, zoo, "manifest.json")
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ManifestInvalid(
            f"model {name!r}: {path}: {error}; rebuild it with `python -m engines.training`, or import it anew"
        ) from error
    if manifest.name != name:
        raise ManifestInvalid(f"model {name!r}: {path}: expected name {name!r}, got {manifest.name!r}")
    if not _FILE.fullmatch(manifest.file):
        raise ManifestInvalid(
            f"model {name!r}: {path}: file expected a plain name beside the manifest, got {manifest.file!r}"
        )
    if manifest.version != manifest.sha256[:8]:
        raise ManifestInvalid(
            f"model {name!r}: {path}: version expected {manifest.sha256[:8]!r}, got {manifest.version!r}"
        )
    return manifest


def read_packed(manifest: Manifest, zoo: Path = ZOO) -> bytes:
    """The weights file as it lies, its digest checked.

    Raises:
        ManifestInvalid: missing, too large, or another digest than recorded.
    """
    folder = model_file(manifest.name, zoo).resolve()
    most = IMPORTED_MAX_BYTES if folder.parent == imported_zoo().resolve() else WEIGHTS_MAX_BYTES
    path = (folder / manifest.file).resolve()
    if path.parent != folder:
        raise ManifestInvalid(
            f"model {manifest.name!r}: {manifest.file!r} leads outside {folder}; keep the file beside the manifest"
        )
    try:
        size = path.stat().st_size
        packed = path.read_bytes() if size <= most else b""
    except OSError as error:
        raise ManifestInvalid(
            f"model {manifest.name!r}: cannot read {path}: {error.strerror}; restore it from git"
        ) from error
    if size > most:
        raise ManifestInvalid(f"model {manifest.name!r}: {path} has {size} bytes, at most {most} are read")
    digest = hashlib.sha256(packed).hexdigest()
    if digest != manifest.sha256:
        raise ManifestInvalid(
            f"model {manifest.name!r}: {path}: sha256 expected {manifest.sha256}, got {digest}; restore both files"
        )
    return packed


def read_weights(manifest: Manifest, zoo: Path = ZOO) -> dict[str, AnyArray]:
    """The arrays of the weights file. Nothing is unpickled; the digest is checked before the file is parsed.

    Raises:
        ManifestInvalid: missing, too large, another digest than recorded, or not an archive of plain arrays.
    """
    packed = read_packed(manifest, zoo)
    path = zoo / manifest.name / manifest.file
    try:
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > WEIGHTS_MAX_BYTES:
            raise ManifestInvalid(
                f"model {manifest.name!r}: {path} unpacks to {unpacked} bytes, at most {WEIGHTS_MAX_BYTES}"
            )
        with np.load(io.BytesIO(packed), allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}
    except (ValueError, zipfile.BadZipFile, OSError) as error:
        raise ManifestInvalid(f"model {manifest.name!r}: {path} is no archive of plain arrays: {error}") from error


def pack_weights(weights: dict[str, AnyArray]) -> bytes:
    """The weights as `.npz` bytes, the same bytes for the same arrays (no clock in the archive)."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for key in sorted(weights):
            array = io.BytesIO()
            np.lib.format.write_array(array, np.ascontiguousarray(weights[key]), allow_pickle=False)
            archive.writestr(
                zipfile.ZipInfo(f"{key}.npy", (1980, 1, 1, 0, 0, 0)), array.getvalue(), zipfile.ZIP_DEFLATED
            )
    return out.getvalue()


def write_model(manifest: Manifest, packed: bytes, card: str, zoo: Path = ZOO) -> Path:
    """Write weights, card and manifest (last, so that a half-written model does not load); the folder."""
    folder = zoo / manifest.name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / manifest.file).write_bytes(packed)
    (folder / "CARD.md").write_text(card, encoding="utf-8")
    (folder / "manifest.json").write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n")
    return folder
