"""Whether the eyes of a face are seen open: a proxy out of OpenCV's cascades, not a measure of the lid.

`haarcascade_eye_tree_eyeglasses` was trained on open eyes, the two `2splits` ones find eyes open or shut. Where both
eyes are found by the latter, they can be judged; where the former then finds neither, they count as shut. Lids that are
half down, lowered looks and thick rims are mistaken for shut eyes; `docs/faces-and-voices.md` has what was measured.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import numpy as np

from operators.detectors import Found
from operators.errors import ConfigInvalid
from operators.pictures import Grey, opencv, resized

SIDE_MIN: Final = 60
"""Pixels a side of a face below which its eyes are not judged."""
_WIDTH: Final = 120
_TOP, _BOTTOM = 0.2, 0.55
"""The strip of the face the eyes lie in, as parts of its side."""
_SMALLEST, _LARGEST = 20, 54
"""Pixels a side of an eye in the strip, its brow included."""


class Eyes:
    """Looks at the eyes of faces. Not thread-safe.

    Raises:
        ConfigInvalid: this OpenCV has no cascades.
    """

    def __init__(self) -> None:
        cv2 = opencv()
        if not hasattr(cv2, "CascadeClassifier"):
            raise ConfigInvalid(f"OpenCV {cv2.__version__} has no cascades; install opencv-python-headless<5")
        folder = Path(cv2.data.haarcascades)
        names = ("eye_tree_eyeglasses", "lefteye_2splits", "righteye_2splits")
        found = [cv2.CascadeClassifier(os.fspath(folder / f"haarcascade_{name}.xml")) for name in names]
        if any(one.empty() for one in found):
            raise ConfigInvalid(f"no eye cascades in {folder}; install opencv-python-headless<5 anew")
        self._cascades = found

    def are_open(self, grey: Grey, face: Found) -> bool | None:
        """True = at least one eye is seen open, False = both are seen and neither is open, None = cannot be judged."""
        if face.w < SIDE_MIN:
            return None
        top, left = max(0, round(face.y + _TOP * face.h)), max(0, round(face.x))
        part = grey[top : round(face.y + _BOTTOM * face.h), left : round(face.x + face.w)]
        if min(part.shape) < _SMALLEST:
            return None
        strip = resized(np.ascontiguousarray(part), _WIDTH, max(1, round(part.shape[0] * _WIDTH / part.shape[1])))
        left_eye, right_eye = self._sides(1, strip), self._sides(2, strip)
        if not all(a or b for a, b in zip(left_eye, right_eye, strict=True)):
            return None
        return any(self._sides(0, strip))

    def _sides(self, which: int, strip: Grey) -> tuple[bool, bool]:
        """Whether a cascade finds an eye in the left and in the right half of the strip."""
        found = self._cascades[which].detectMultiScale(
            strip, scaleFactor=1.1, minNeighbors=3, minSize=(_SMALLEST, _SMALLEST), maxSize=(_LARGEST, _LARGEST)
        )
        boxes = np.asarray(found).reshape(-1, 4)
        middles = boxes[:, 0] + boxes[:, 2] / 2
        return bool((middles < _WIDTH / 2).any()), bool((middles >= _WIDTH / 2).any())
