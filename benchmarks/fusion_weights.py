"""Weights of the fusion of a seat: the skill of face, voice and text on their own development data.

    AFFECT_DATA=FOLDER python benchmarks/fusion_weights.py [--rows 1784]

Skill is the mean recall of negative, neutral and positive over chance (1/3), 0 = guessing, 1 = never wrong. No set here
has the face, voice and text of one person at a time, so weights of the pool cannot be fitted on pairs: they are equal
weights scaled by skill. For comparison `fit_weights` is run on rows put together by class alone, which is what the
pool would weigh if modalities, given the class, had nothing to do with each other; it is not used.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.harness import table
from engines.faces import majority, read_faces
from engines.load import load_text_model
from engines.load_media import load_face_model, load_voice_model
from operators.calibrate import Calibrate
from operators.circumplex import tones
from operators.classroom import TASK
from operators.detectors import Haar
from operators.face import FACE_TASK, FaceReader
from operators.fuse import fit_weights
from operators.ontology import Ontology
from operators.records import F64, I64
from operators.seat_readings import FACE, TEXT, VOICE, WEIGHTS
from operators.sounds import decode_sound
from operators.speech import VOICE_TASK, VoiceReader

Said = tuple[F64, I64]
"""Distributions over negative, neutral, positive, float64 [n, 3], and the true class of each row."""


def faces(data: Path, most: int) -> Said:
    """FER+, development split, rows whose votes agree."""
    split = read_faces(data / "av" / "fer2013plus" / "dev_publictest.npz")
    top = majority(split.votes)
    reader = FaceReader(load_face_model(research=True), Haar())
    kept = np.flatnonzero(top >= 0)[:most]
    micro = reader.score(list(split.x[kept]))
    return tones(FACE_TASK, micro, reader.labels), _classes(FACE_TASK, [reader.labels[k] for k in top[kept]])


def voices(data: Path, most: int) -> Said:
    """RAVDESS, development speakers."""
    folder = data / "av" / "ravdess-speech"
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row["split"] == "dev"][:most]
    reader = VoiceReader(load_voice_model(research=True))
    micro = reader.score([decode_sound((folder / row["file"]).read_bytes()) for row in rows])
    return tones(VOICE_TASK, micro, reader.labels), _classes(VOICE_TASK, [row["emotion"] for row in rows])


def texts(data: Path, most: int) -> Said:
    """GoEmotions, development split, rows of a single label, by the model a lesson has by default."""
    with gzip.open(data / "text" / "goemotions" / "dev.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [row for row in map(json.loads, lines) if len(row["labels"]) == 1][:most]
    model = load_text_model("hashed", tasks=(TASK,))
    head = model.spec.head(TASK)
    assert head is not None
    micro = Calibrate().calibrate(model.spec, model.logits([row["text"] for row in rows]), [TASK])[TASK]
    return tones(TASK, micro, head.labels), _classes(TASK, [row["labels"][0] for row in rows])


def skill(said: Said) -> float:
    """Mean recall over chance: 0 = guessing, 1 = never wrong."""
    shares, truth = said
    hit = shares.argmax(axis=1) == truth
    recall = float(np.mean([hit[truth == k].mean() for k in range(3) if (truth == k).any()]))
    return max(0.0, (recall - 1 / 3) / (2 / 3))


def scaled(skills: dict[str, float]) -> dict[str, float]:
    """Equal weights scaled by skill, summing to 1."""
    total = sum(skills.values())
    return {name: value / total for name, value in skills.items()}


def of_like_class(said: dict[str, Said], rows: int, seed: int) -> tuple[list[F64], list[int]]:
    """Rows put together from any face, voice and text of the same class: people that there never were."""
    dice = np.random.default_rng(seed)
    truth = dice.integers(0, 3, rows)
    parts = [np.stack([shares[dice.choice(np.flatnonzero(own == k))] for k in truth]) for shares, own in said.values()]
    return parts, truth.tolist()


def _classes(task: str, labels: list[str]) -> I64:
    ontology = Ontology.load()
    return np.array([ontology.place(task, label).valence + 1 for label in labels], np.int64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000, help="most rows of each set")
    most = parser.parse_args().rows
    data = Path(os.environ["AFFECT_DATA"])
    said = {FACE: faces(data, most), VOICE: voices(data, most), TEXT: texts(data, most)}
    skills = {name: skill(one) for name, one in said.items()}
    fitted = fit_weights(list(said), *of_like_class(said, 3_000, seed=1))
    weights = scaled(skills)
    rows = [
        (
            name,
            len(said[name][1]),
            f"{skills[name]:.3f}",
            f"{weights[name]:.3f}",
            f"{WEIGHTS[name]:.3f}",
            f"{fitted[name]:.3f}",
        )
        for name in said
    ]
    table("Weights of the fusion", ["modality", "rows", "skill", "weight", "in use", "by like class"], rows)


if __name__ == "__main__":
    main()
