"""Derives the precision files of a model and has each judged; or has those that are there judged anew."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from engines.artefacts import ZOO, Manifest, read_packed
from engines.derive.files import PrecisionFile, derive, reference
from engines.errors import UnknownModel
from engines.load import encoder
from engines.precisions import Derived, Precision, Verdict, folder, keep, read_derived, read_record
from stream.errors import UsageError
from stream.precision_gate import Judge, Step, calibration_texts, validation_rows, versions
from stream.signal_gate import Play

Found = tuple[Precision, Verdict]


@dataclass(frozen=True, slots=True)
class Work:
    """What is built or judged, and with what.

    Attributes:
        source: float32 file left by training; None = the shipped file is the parent.
        data: folder that holds `text/`; None = texts of the bundled scenarios judge and calibrate.
        rows: rows of each head that judge. plays: scenarios that are replayed. home: folder of the files.
    """

    manifest: Manifest
    source: Path | None
    data: str | None
    rows: int
    plays: Sequence[Play]
    home: Path
    zoo: Path = ZOO


def build(work: Work, asked: Sequence[Precision], step: Step) -> Iterator[Found]:
    """Derive what is asked for; (precision, verdict) of each, recorded. What was judged is not judged again.

    Raises:
        UsageError, ManifestInvalid, MissingExtra.
    """
    shipped = read_packed(work.manifest, work.zoo)
    whole = reference(shipped, _given(work.source))
    record = read_record(work.manifest, work.home)
    fresh = []
    for precision in asked:
        batches = []
        if precision == "qdq-int8":
            texts = calibration_texts(work.manifest, work.data)
            batches = [encoder(work.manifest, shipped).featurize(texts)]
        step(f"deriving {precision}", 0)
        file = derive(precision, whole, batches, lambda rows: step("calibrating qdq-int8", rows))
        known = record.find(precision)
        if known is not None and _same(known, file) and known.verdict is not None:
            keep(work.manifest, known, file.packed, work.home)
            yield precision, known.verdict
        else:
            keep(work.manifest, file.recorded, file.packed, work.home)  # unjudged, loading refuses it
            fresh.append(file)
    yield from _judged(work, shipped, whole, fresh, step)


def verify(work: Work, asked: Sequence[Precision], step: Step) -> Iterator[Found]:
    """Judge recorded files anew; the record takes the new verdicts.

    Raises:
        UnknownModel: none of those asked for was built.
        UsageError: their float32 parent is not here.
    """
    shipped = read_packed(work.manifest, work.zoo)
    record = read_record(work.manifest, work.home)
    there = [f for f in record.files if f.precision in asked]
    if not there:
        raise UnknownModel(
            f"{work.manifest.name}: no {' or '.join(asked)} in {folder(work.manifest, work.home)}; build it:"
            f" `affect models build {work.manifest.name}`"
        )
    known = record.find("fp32")
    whole = reference(shipped, _given(work.source)) if known is None else _file(work, known)
    for derived in there:
        if derived.precision != "fp32" and derived.parent_sha256 != whole.sha256:
            raise UsageError(
                f"{work.manifest.name}:{derived.precision} was derived from {derived.parent_sha256[:12]}, the float32"
                f" file here is {whole.sha256[:12]}; give the one it came from with --from FILE.onnx, or build it anew"
            )
    yield from _judged(work, shipped, whole, [_file(work, d) for d in there], step)


def _judged(
    work: Work, shipped: bytes, whole: PrecisionFile, files: Sequence[PrecisionFile], step: Step
) -> Iterator[Found]:
    if not files:
        return
    held, words = validation_rows(work.manifest, work.data, work.rows)
    judge = Judge(work.manifest, shipped, whole, held, words, work.plays, step)
    for file in files:
        verdict = judge.judge(file)
        keep(work.manifest, msgspec.structs.replace(file.recorded, verdict=verdict), None, work.home)
        yield file.precision, verdict


def _same(known: Derived, file: PrecisionFile) -> bool:
    """The very file that was judged, with the packages that are here."""
    return known.sha256 == file.sha256 and known.verdict is not None and known.verdict.versions == versions()


def _file(work: Work, derived: Derived) -> PrecisionFile:
    packed = read_derived(work.manifest, derived, work.home)
    return PrecisionFile(derived.precision, packed, derived.parent_sha256, derived.parent)


def _given(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"--from {path}: {error.strerror}; give the float32 ONNX file that training left") from error
