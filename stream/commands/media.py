"""`affect score` and `affect eval` for faces and voices: files in, calibrated probabilities out, one file at a time."""

from __future__ import annotations

import argparse
import csv
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from engines.artefacts import Manifest
from engines.base import F64, HeadSpec
from engines.errors import ManifestInvalid
from engines.evaluate import Evaluation, evaluate
from engines.faces import majority, picture_facts, read_faces
from engines.load_media import FACE, VOICE, licences, load_face_model, load_voice_model, media_manifest
from engines.media import FACE_SIDE
from engines.probability import decided, millionths, probabilities
from engines.shortcuts import numbered, parts
from engines.tasks import MEDIA_TASKS, TaskSpec, task_spec
from operators.detectors import Detector, Haar
from operators.errors import Rejected
from operators.face import FACE_TASK, FaceReader, level
from operators.pictures import Grey, decode_grey, resized
from operators.records import I32, MICRO
from operators.sounds import Sound, decode_sound
from operators.speech import VoiceReader
from stream.errors import UsageError

TASKS: Final = tuple(spec.task for spec in MEDIA_TASKS)
BATCH: Final = 32
CROP_MAX: Final = 100
"""Pictures of no more pixels a side are taken for faces cut out already."""
_PICTURES: Final = (".png", ".jpg", ".jpeg")
_SOUNDS: Final = (".wav", ".flac")
_FACTORS: Final = ("speaker", "sex", "statement", "repetition", "intensity")
"""Columns of `labels.csv` that a score should not follow (`intensity`: it may, and is shown beside)."""
_SEARCHED: Final = 1.4
"""A picture at most so far from square is taken for a face where none is found in it."""


def score(args: argparse.Namespace) -> int:
    """Score every face of an `.npz`, every picture or every sound of a folder, in order of their names.

    A file that cannot be scored gives a row without scores that says why. Exit code 1 where no file could be.
    """
    reader = _reader(args.task, args.engine)
    rows = scored = 0
    encoder = msgspec.json.Encoder()
    items = _faces(args.input) if args.task == FACE_TASK else _sounds(args.input)
    with tqdm(unit="file", disable=not sys.stderr.isatty()) as bar:
        while batch := list(islice(items, BATCH)):
            good = [item for _, item in batch if not isinstance(item, str)]
            micro = reader.score(good)  # type: ignore[arg-type]
            lines = _lines(batch, micro, reader.labels)
            sys.stdout.buffer.write(encoder.encode_lines(lines))
            sys.stdout.buffer.flush()
            rows, scored = rows + len(batch), scored + len(good)
            bar.update(len(batch))
    if rows > scored:
        sys.stderr.write(f"{rows - scored} of {rows} could not be scored: see `error` in their rows\n")
    return 0 if scored or not rows else 1


@dataclass(frozen=True, slots=True)
class Scored:
    """Labelled rows of a task and what the model says of them. `skipped`: left out, no agreement on them.

    `facts`: what else is known of every row: of a voice the columns of `labels.csv`, of a face its picture.
    """

    head: HeadSpec
    logits: F64
    emotion: NDArray[np.int64]
    where: str
    skipped: int
    facts: dict[str, list[str] | F64]

    def factors(self) -> dict[str, NDArray[np.int64]]:
        """The facts as numbered groups; measures in fifths."""
        return {name: numbered(v) if isinstance(v, list) else parts(v) for name, v in self.facts.items()}


def labelled_scores(args: argparse.Namespace) -> Scored:
    """Score the labelled rows of `--data`, or of the public test half."""
    spec = task_spec(args.task)
    reader = _reader(args.task, args.engine)
    path = args.data if args.data is not None else _public_half(spec)
    head = reader.model.spec.head(spec.task)
    if head is None:
        raise ManifestInvalid(f"model {reader.model.spec.model_id!r} has no head {spec.task}")
    where = f"{reader.model.spec.model_id} on {path}"
    if isinstance(reader, FaceReader):
        faces = read_faces(path)
        top = majority(faces.votes)
        if not (top >= 0).any():
            raise UsageError(f"{path}: no face with `ferplus_votes` that agree; give a split of FER+")
        x, emotion = faces.x[top >= 0], top[top >= 0]
        logits = reader.model.logits(x).logits[spec.task]
        return Scored(head, logits, emotion, where, int((top < 0).sum()), dict(picture_facts(x)))
    rows = labelled(path, spec)
    sounds = [decode_sound((path / r["file"]).read_bytes()) for r in tqdm(rows, disable=not sys.stderr.isatty())]
    emotion = np.array([spec.labels.index(r["emotion"]) for r in rows], np.int64)
    known = {name: [r[name] for r in rows] for name in _FACTORS if all(r.get(name) for r in rows)}
    return Scored(head, reader.logits(sounds), emotion, where, 0, {n: v for n, v in known.items() if len(set(v)) > 1})


def measure(args: argparse.Namespace) -> tuple[Evaluation, str, int]:
    """(what was measured, which model on which data, rows left out)."""
    spec, scored = task_spec(args.task), labelled_scores(args)
    truth = np.eye(len(spec.labels), dtype=np.float32)[scored.emotion]
    chosen = decided(scored.head, millionths(scored.head, scored.logits))
    found = evaluate(spec, truth, chosen, probabilities(scored.head, scored.logits))
    return found, scored.where, scored.skipped


def labelled(folder: Path, spec: TaskSpec) -> list[dict[str, str]]:
    """The test rows of a set of recordings, as its `labels.csv` lists them.

    Raises:
        UsageError: no such file, or a label that the task does not have.
    """
    try:
        with (folder / "labels.csv").open(encoding="utf-8", newline="") as lines:
            rows = [row for row in csv.DictReader(lines) if row.get("split") == "test"]
    except OSError as error:
        raise UsageError(f"cannot read {folder}/labels.csv: {error.strerror}; give a folder of recordings") from error
    wrong = sorted({row.get("emotion", "") for row in rows} - set(spec.labels))
    if wrong or not rows:
        raise UsageError(
            f"{folder}/labels.csv: expected test rows with labels of {spec.task}, got {', '.join(wrong) or 'no rows'}"
        )
    return rows


def face_of(picture: Grey, detector: Detector) -> Grey | None:
    """The largest face of a picture as uint8 [48, 48]; None where there is none.

    A small picture, and one near square without a face that is found, are taken for a face cut out already.
    """
    if max(picture.shape) > CROP_MAX:
        found = detector.find(picture)
        if found:
            return level(picture, found[0])
        if max(picture.shape) > _SEARCHED * min(picture.shape):
            return None
    return resized(picture, FACE_SIDE, FACE_SIDE)


def _reader(task: str, engine: str) -> FaceReader | VoiceReader:
    """The reader of a task; that its weights are for research is said on stderr, since scoring a file is research."""
    if task == FACE_TASK:
        name = FACE if engine == "auto" else engine
        _notice(media_manifest(name, "face", research=True))
        return FaceReader(load_face_model(name, research=True), Haar())
    name = VOICE if engine == "auto" else engine
    _notice(media_manifest(name, "voice", research=True))
    return VoiceReader(load_voice_model(name, research=True))


def _notice(manifest: Manifest) -> None:
    if manifest.research_only:
        sys.stderr.write(f"{manifest.name}@{manifest.version} is for research only ({licences(manifest)})\n")


def _lines(batch: Sequence[tuple[object, object]], micro: I32, labels: Sequence[str]) -> list[dict[str, object]]:
    values = iter((micro / MICRO).tolist())
    best = iter(micro.argmax(1).tolist() if len(micro) else [])
    return [
        {"id": key, "scores": {}, "labels": [], "error": item}
        if isinstance(item, str)
        else {"id": key, "scores": dict(zip(labels, next(values), strict=True)), "labels": [labels[next(best)]]}
        for key, item in batch
    ]


def _faces(path: Path | None) -> Iterator[tuple[object, Grey | str]]:
    """(row number or file name, face or why there is none)."""
    if path is None:
        raise UsageError("affect score: faces come from --input: an .npz with uint8 `x` [n, 48, 48], or a folder")
    if not path.is_dir():
        yield from enumerate(read_faces(path).x)
        return
    detector = Haar()
    for name, file in _files(path, _PICTURES):
        try:
            face = face_of(decode_grey(file.read_bytes()), detector)
            yield name, "no_face: none was found in it" if face is None else face
        except Rejected as error:
            yield name, str(error)


def _sounds(path: Path | None) -> Iterator[tuple[object, Sound | str]]:
    if path is None or not path.is_dir():
        raise UsageError(f"affect score: voices come from --input, a folder of {' and '.join(_SOUNDS)}; got {path}")
    for name, file in _files(path, _SOUNDS):
        try:
            yield name, decode_sound(file.read_bytes())
        except Rejected as error:
            yield name, str(error)


def _files(folder: Path, endings: Sequence[str]) -> list[tuple[str, Path]]:
    """(name below the folder, path) of its files with those endings, in order of their names; its own folders too."""
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in endings and p.is_file())
    if not found:
        raise UsageError(f"{folder}: no file that ends in {', '.join(endings)}")
    return [(p.relative_to(folder).as_posix(), p) for p in found]


def _public_half(spec: TaskSpec) -> Path:
    root = os.environ.get("AFFECT_DATA")
    if not root:
        raise UsageError("give --data, or set AFFECT_DATA to the folder that holds av/")
    folder = Path(root) / "av" / spec.data_set
    return folder / "test_privatetest.npz" if spec.task == FACE_TASK else folder
