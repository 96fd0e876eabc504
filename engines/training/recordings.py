"""RAVDESS and Emo-DB as they lie in `shared/data/av`, and the power mel spectra the voice network trains on."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy.signal import resample_poly

from engines.training.mel import mel_power

EMOTIONS: Final = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
RATE: Final = 16_000


@dataclass(frozen=True, slots=True)
class Recording:
    """One clip. `wave` float32 at 16 kHz; `emotion` and the rest as in the set's `labels.csv`."""

    name: str
    wave: NDArray[np.float32]
    emotion: str
    speaker: str
    statement: str
    sex: str
    repetition: str
    intensity: str


def read_recordings(folder: Path, split: str) -> list[Recording]:
    """The clips of one split, in the order of `labels.csv`."""
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row["split"] == split]
    found = []
    for row in rows:
        wave, rate = soundfile.read(folder / row["file"], dtype="float32")
        if rate != RATE or wave.ndim != 1:
            raise ValueError(f"{row['file']}: expected {RATE} Hz mono, got {rate} Hz, shape {wave.shape}")
        statement = row.get("statement") or row.get("text_code") or ""
        found.append(
            Recording(
                row["file"],
                wave,
                row["emotion"],
                row["speaker"],
                statement,
                row["sex"],
                row.get("repetition", ""),
                row.get("intensity", ""),
            )
        )
    return found


def spectra(recordings: Sequence[Recording], speeds: Sequence[float]) -> list[list[NDArray[np.float32]]]:
    """Power mel spectra [frames, 64] of every clip at every speed; a faster clip is also higher."""
    found = []
    for recording in recordings:
        variants = []
        for speed in speeds:
            part = Fraction(speed).limit_denominator(20)
            wave = resample_poly(recording.wave, part.denominator, part.numerator).astype(np.float32)
            variants.append(mel_power(wave))
        found.append(variants)
    return found
