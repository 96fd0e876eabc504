"""FER+ as it lies in `shared/data/av/fer2013plus`: faces, the taggers' votes, and what the paper makes of them."""

from __future__ import annotations

import lzma
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engines.errors import EngineError
from engines.media import FACE_SIDE

VOTE_ORDER: Final = (
    "neutral",
    "happiness",
    "surprise",
    "sadness",
    "anger",
    "disgust",
    "fear",
    "contempt",
    "unknown",
    "NF",
)
"""Columns of `ferplus_votes`; the first eight are the labels of `ferplus8` in its order."""
CLASSES: Final = 8
UNPACKED_MAX: Final = 1 << 30
"""Most bytes of faces read at a time: 466 thousand of them."""


class FacesInvalid(EngineError):
    """A file of faces that is none."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Faces:
    """Faces of one split. `x` uint8 [n, 48, 48]; `votes` uint8 [n, 10] in `VOTE_ORDER`."""

    x: NDArray[np.uint8]
    votes: NDArray[np.uint8]


def read_faces(path: Path) -> Faces:
    """One split's `.npz`, or any with uint8 `x` [n, 48, 48] (no votes: zeros). `x_grad` is `x` as two-way differences.

    The headers are read before anything is unpacked.

    Raises:
        FacesInvalid: not such a file, another shape or type, or more than `UNPACKED_MAX` bytes of faces.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > UNPACKED_MAX:
            raise FacesInvalid(f"{path} unpacks to {unpacked} bytes, at most {UNPACKED_MAX} are read; cut it in parts")
        with np.load(path, allow_pickle=False) as arrays:
            name = "x" if "x" in arrays.files else "x_grad"
            if name not in arrays.files:
                raise FacesInvalid(f"{path}: expected uint8 `x` [n, 48, 48], got only {', '.join(arrays.files)}")
            x = arrays[name]
            votes = arrays["ferplus_votes"] if "ferplus_votes" in arrays.files else None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, lzma.LZMAError, zlib.error) as error:
        raise FacesInvalid(f"{path} is no archive of plain arrays: {error}; give an .npz") from error
    if x.dtype != np.uint8 or x.ndim != 3 or x.shape[1:] != (FACE_SIDE, FACE_SIDE):
        raise FacesInvalid(f"{path}: `{name}` expected uint8 [n, 48, 48], got {x.dtype}{list(x.shape)}")
    if votes is None:
        votes = np.zeros((len(x), len(VOTE_ORDER)), np.uint8)
    if votes.dtype != np.uint8 or votes.shape != (len(x), len(VOTE_ORDER)):
        raise FacesInvalid(f"{path}: `ferplus_votes` expected uint8 [{len(x)}, 10], got {votes.dtype}{votes.shape}")
    if name == "x_grad":
        x = x.cumsum(1, dtype=np.uint8).cumsum(2, dtype=np.uint8)
    return Faces(x, votes)


def distribution(votes: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """(share of votes per label, float32 [n, 8]; rows fit for training, bool [n]).

    Single votes are taken for slips (Barsoum et al. 2016). A row trains when a label, not "unknown" or "NF", leads.
    """
    kept = np.where(votes > 1, votes, 0).astype(np.float32)
    labels = kept[:, :CLASSES]
    total = labels.sum(1, keepdims=True)
    fit = (kept.argmax(1) < CLASSES) & (total[:, 0] > 0)
    return labels / np.maximum(total, 1.0), fit


def majority(votes: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The label of each row by the paper's majority rule, int64 [n]; -1 where it drops the row.

    Single votes removed, a label must have more than half of what is left, and be neither "unknown" nor "NF".
    """
    kept = np.where(votes > 1, votes, 0).astype(np.int64)
    top = kept.argmax(1)
    agreed = 2 * kept.max(1) > kept.sum(1)
    return np.where(agreed & (top < CLASSES), top, -1)


def picture_facts(x: NDArray[np.uint8]) -> dict[str, NDArray[np.float64]]:
    """What a face's picture is like apart from its face, float64 [n] each: light, contrast, sharpness and framing.

    `sharpness`: deviation of the Laplacian over that of the pixels. `symmetry`: correlation with the mirror image, low
    for turned or one-sidedly lit faces. `frame`: how much brighter the border of 4 pixels is than the rest.
    """
    pixels = x.astype(np.float32)
    deviation = pixels.std((1, 2)) + 1.0
    inner = pixels[:, 1:-1, 1:-1]
    around = pixels[:, :-2, 1:-1] + pixels[:, 2:, 1:-1] + pixels[:, 1:-1, :-2] + pixels[:, 1:-1, 2:]
    centred = pixels - pixels.mean((1, 2), keepdims=True)
    middle = pixels[:, 4:-4, 4:-4]
    border = (pixels.sum((1, 2)) - middle.sum((1, 2))) / (x.shape[1] * x.shape[2] - middle[0].size)
    facts = {
        "brightness": pixels.mean((1, 2)),
        "contrast": deviation,
        "sharpness": (around - 4 * inner).std((1, 2)) / deviation,
        "symmetry": (centred * centred[:, :, ::-1]).mean((1, 2)) / deviation**2,
        "frame": border - middle.mean((1, 2)),
    }
    return {name: values.astype(np.float64) for name, values in facts.items()}
