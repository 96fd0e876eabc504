"""Where faces are: OpenCV's Haar cascade, or YuNet where the user supplies its file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np

from operators.errors import ConfigInvalid
from operators.pictures import Grey, opencv, resized

SIDE_MAX: Final = 240
"""Pictures are searched at no more than so many pixels of the shorter side."""
FACES_MAX: Final = 32
"""Most faces of one picture: the largest."""
_AS_HAAR: Final = 1.12
"""Side of the cascade's square over the mean side of YuNet's box of the same face (two pictures): one cut for both."""
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Found:
    """One face: box in pixels of the picture; `eyes`: the picture's left one, then the right one, where they are known.

    `nose` too where the detector says it.
    """

    x: float
    y: float
    w: float
    h: float
    eyes: tuple[Point, Point] | None = None
    nose: Point | None = None

    def moved(self, across: float, down: float) -> Found:
        """The face so many pixels to the right and down."""
        eyes = nose = None
        if self.eyes is not None:
            (x1, y1), (x2, y2) = self.eyes
            eyes = ((x1 + across, y1 + down), (x2 + across, y2 + down))
        if self.nose is not None:
            nose = (self.nose[0] + across, self.nose[1] + down)
        return Found(self.x + across, self.y + down, self.w, self.h, eyes, nose)


class Detector(Protocol):
    """Finds faces in grey pictures. Not thread-safe."""

    def find(self, grey: Grey) -> list[Found]:
        """The faces, largest first, at most `FACES_MAX`."""
        ...


class Haar:
    """The frontal-face cascade that comes with OpenCV < 5 (Viola & Jones 2001), and its eye cascade inside each face.

    Args:
        smallest: least side of a face as a share of the picture's shorter side; halving it costs four times the time.

    Raises:
        ConfigInvalid: this OpenCV has no cascades.
    """

    def __init__(self, smallest: float = 1 / 6) -> None:
        cv2 = opencv()
        if not hasattr(cv2, "CascadeClassifier"):
            raise ConfigInvalid(
                f"OpenCV {cv2.__version__} has no cascades; install opencv-python-headless<5, or give a YuNet file"
            )
        folder = Path(cv2.data.haarcascades)
        self._faces = cv2.CascadeClassifier(os.fspath(folder / "haarcascade_frontalface_alt2.xml"))
        self._eyes = cv2.CascadeClassifier(os.fspath(folder / "haarcascade_eye_tree_eyeglasses.xml"))
        if self._faces.empty() or self._eyes.empty():
            raise ConfigInvalid(f"no cascades in {folder}; install opencv-python-headless<5 anew")
        self._smallest = smallest

    def find(self, grey: Grey) -> list[Found]:
        """The faces, largest first."""
        small, factor = _searched(grey)
        least = max(24, round(min(small.shape) * self._smallest))
        boxes = self._faces.detectMultiScale(small, scaleFactor=1.15, minNeighbors=4, minSize=(least, least))
        found = []
        for x, y, w, h in sorted(np.asarray(boxes).reshape(-1, 4).tolist(), key=lambda b: -b[2])[:FACES_MAX]:
            box = Found(x * factor, y * factor, w * factor, h * factor)
            found.append(Found(box.x, box.y, box.w, box.h, self._pair(grey, box)))
        return found

    def _pair(self, grey: Grey, box: Found) -> tuple[Point, Point] | None:
        """The two eyes of a face, None where not exactly a plausible pair is seen."""
        top, left, side = int(box.y + 0.15 * box.h), int(box.x), int(box.w)
        part = grey[max(0, top) : top + side // 2, max(0, left) : left + side]
        if min(part.shape) < 12:
            return None
        width = min(part.shape[1], 120)
        factor = part.shape[1] / width
        small = resized(np.ascontiguousarray(part), width, max(12, round(part.shape[0] / factor)))
        eyes = self._eyes.detectMultiScale(small, scaleFactor=1.1, minNeighbors=3, minSize=(14, 14))
        centres = sorted(
            (max(0, left) + (x + w / 2) * factor, max(0, top) + (y + h / 2) * factor)
            for x, y, w, h in np.asarray(eyes).reshape(-1, 4).tolist()
        )
        if len(centres) != 2:
            return None
        (x1, y1), (x2, y2) = centres
        apart = x2 - x1
        return (centres[0], centres[1]) if 0.25 * side < apart < 0.7 * side and abs(y2 - y1) < 0.5 * apart else None


class YuNet:
    """YuNet (Wu et al. 2023) from a file of the user's, run by OpenCV; it says eyes and nose with every face.

    Args:
        side: pixels a side of the square the file is made for; pictures are fitted into it.

    Raises:
        ConfigInvalid: OpenCV cannot load the file.
    """

    def __init__(self, path: Path, side: int = 320, score_min: float = 0.6) -> None:
        cv2 = opencv()
        self._side = side
        try:
            self._net = cv2.FaceDetectorYN.create(os.fspath(path), "", (side, side), score_min, 0.3, 100)
        except cv2.error as error:
            raise ConfigInvalid(
                f"face detector {path}: OpenCV cannot load it: {error.err}; give a YuNet .onnx"
            ) from error

    def find(self, grey: Grey) -> list[Found]:
        """The faces, largest first."""
        cv2 = opencv()
        factor = max(grey.shape) / self._side
        square = np.zeros((self._side, self._side), np.uint8)
        small = resized(grey, max(1, round(grey.shape[1] / factor)), max(1, round(grey.shape[0] / factor)))
        square[: small.shape[0], : small.shape[1]] = small
        _, rows = self._net.detect(cv2.cvtColor(square, cv2.COLOR_GRAY2BGR))
        found = []
        for row in [] if rows is None else sorted((rows[:, :10] * factor).tolist(), key=lambda r: -r[2])[:FACES_MAX]:
            x, y, w, h, x1, y1, x2, y2, nose_x, nose_y = row
            eyes = ((x1, y1), (x2, y2)) if x1 <= x2 else ((x2, y2), (x1, y1))
            side = _AS_HAAR * (w + h) / 2
            found.append(Found(x + (w - side) / 2, y + (h - side) / 2, side, side, eyes, (nose_x, nose_y)))
        return found


def _searched(grey: Grey) -> tuple[Grey, float]:
    """(the picture, shrunk if it is large; factor back to its own pixels)."""
    height, width = grey.shape
    factor = min(height, width) / SIDE_MAX
    if factor <= 1.0:
        return grey, 1.0
    return resized(grey, round(width / factor), round(height / factor)), factor
