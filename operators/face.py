"""From a grey frame to what the faces in it show: find, follow for a moment, level, judge the picture, score."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from engines.media import FACE_SIDE, FaceModel
from operators.calibrate import Calibrate
from operators.circumplex import valence_arousal
from operators.detectors import Detector, Found
from operators.errors import ConfigInvalid
from operators.eyes import Eyes
from operators.pictures import Grey, best_match, cut_square, resized, sharpness
from operators.records import I32

Flaw = Literal["", "small", "dark", "blurred", "turned"]
FACE_TASK: Final = "ferplus8"
EYES_EVERY_MS: Final = 1_000
"""The eyes of the largest face that can be read are looked at so often: sixty times in a minute of PERCLOS."""
_PATCH: Final = 24
"""Pixels a side of the patch a face is followed by."""


@dataclass(frozen=True, slots=True)
class FaceSettings:
    """When to search anew, and which faces are too poor to be scored.

    Attributes:
        detect_ms: event time of the grid on which the whole frame is searched anew: at its first frame in every such
            span since the epoch; within, faces are followed. So nothing of one span is needed to read the next.
        follow_min: correlation below which a followed face is lost, and the frame searched at once.
        side_min: pixels a side a face must have in the frame.
        contrast_min: deviation of its pixels, 0..128 (99 % of FER+ faces have 24 or more).
        sharpness_min: see `pictures.sharpness` (99 % of FER+ faces have 0.45 or more; blurred by 2 px, 0.15 or less).
        turn_max: how far the nose stands from between the eyes, in distances of the eyes; 0.4 is about 45 degrees.
        roll_max: tilt in degrees beyond which a face is not levelled but refused.
        symmetry_min: correlation of a face with its mirror image, asked where the nose is not known.
    """

    detect_ms: int = 1000
    follow_min: float = 0.6
    side_min: int = 36
    contrast_min: float = 12.0
    sharpness_min: float = 0.25
    turn_max: float = 0.4
    roll_max: float = 35.0
    symmetry_min: float = -0.4


@dataclass(frozen=True, slots=True)
class Quality:
    """How well a face can be seen. `flaw`: the first thing wrong with it, "" = none, it is scored."""

    side: float
    contrast: float
    sharpness: float
    symmetry: float
    roll: float
    flaw: Flaw


@dataclass(frozen=True, slots=True)
class FaceReading:
    """One face of one frame. Where it is stays with whoever holds the frame: no record has a field for it.

    Attributes:
        box: x, y, width, height in pixels of the frame.
        micro: calibrated probabilities of `FaceReader.labels`, int32 [labels] in millionths; None = too poor to score.
        valence, arousal: in -1..1, derived from `micro` (`operators.circumplex`), not measured; None with `micro`.
        eyes_open: see `Eyes.are_open`; None where they were not looked at.
    """

    box: tuple[int, int, int, int]
    quality: Quality
    micro: I32 | None
    valence: float | None
    arousal: float | None
    eyes_open: bool | None = None


@dataclass(slots=True)
class _Followed:
    """A face between two searches: where it is, and the patch of frame it was found as."""

    found: Found
    patch: Grey


class FaceReader:
    """Reads the frames of one camera, in order. Not thread-safe; keeps no face longer than `detect_ms`, and no name.

    Args:
        eyes: looks at the eyes of the largest face, every `EYES_EVERY_MS`; None = nobody does.

    Example:
        reader = FaceReader(load_face_model(research=True), Haar())
        readings = reader.read(decode_grey(jpeg, FRAME_LIMITS), at_ms)
    """

    def __init__(
        self,
        model: FaceModel,
        detector: Detector,
        settings: FaceSettings = FaceSettings(),
        eyes: Eyes | None = None,
    ) -> None:
        head = model.spec.head(FACE_TASK)
        if head is None:
            known = ", ".join(h.task for h in model.spec.heads)
            raise ConfigInvalid(f"face model {model.spec.model_id!r}: expected a head {FACE_TASK}, got {known}")
        self.labels = head.labels
        self.model = model
        self._detector = detector
        self._settings = settings
        self._eyes = eyes
        self._eyed_ms: int | None = None
        self._calibrate = Calibrate()
        self._followed: list[_Followed] = []
        self._searched_ms: int | None = None

    def read(self, grey: Grey, at_ms: int) -> list[FaceReading]:
        """The faces of a frame taken at `at_ms` (event time), largest first."""
        faces = self.locate(grey, at_ms)
        crops = [level(grey, face) for face in faces]
        qualities = [judge(f, crop, self._settings) for f, crop in zip(faces, crops, strict=True)]
        micro = self.score([crop for crop, q in zip(crops, qualities, strict=True) if not q.flaw])
        rows = iter(range(len(micro)))
        valence, arousal = valence_arousal(FACE_TASK, micro, self.labels)
        readings = []
        for face, quality in zip(faces, qualities, strict=True):
            box = (round(face.x), round(face.y), round(face.w), round(face.h))
            if quality.flaw:
                readings.append(FaceReading(box, quality, None, None, None))
            else:
                k = next(rows)
                opened = self._look(grey, face, at_ms) if k == 0 else None
                readings.append(FaceReading(box, quality, micro[k], float(valence[k]), float(arousal[k]), opened))
        return readings

    def _look(self, grey: Grey, face: Found, at_ms: int) -> bool | None:
        if self._eyes is None or (
            self._eyed_ms is not None and at_ms // EYES_EVERY_MS == self._eyed_ms // EYES_EVERY_MS
        ):
            return None
        self._eyed_ms = at_ms
        return self._eyes.are_open(grey, face)

    def locate(self, grey: Grey, at_ms: int) -> list[Found]:
        """Where the faces are: followed from the frame before, or searched for when that failed or a new span began.

        A frame from before the last search (out of order) is searched by itself and followed from by nothing.
        """
        every, last = self._settings.detect_ms, self._searched_ms
        if last is not None and at_ms < last:
            return self._detector.find(grey)
        if last is not None and at_ms // every == last // every and self._followed:
            moved = [_follow(grey, f, self._settings.follow_min) for f in self._followed]
            whole = [m for m in moved if m is not None]
            if len(whole) == len(moved):
                self._followed = whole
                return [f.found for f in whole]
        faces = self._detector.find(grey)
        self._followed = [_Followed(face, _patch(grey, face, 1.0)) for face in faces]
        self._searched_ms = at_ms
        return faces

    def score(self, crops: Sequence[Grey]) -> I32:
        """Calibrated probabilities of grey faces [48, 48], int32 [n, labels] in millionths."""
        faces = np.stack(crops) if crops else np.zeros((0, FACE_SIDE, FACE_SIDE), np.uint8)
        return self._calibrate.calibrate(self.model.spec, self.model.logits(faces), [FACE_TASK])[FACE_TASK]

    def forget(self) -> None:
        """Drop what is kept between frames: consent was withdrawn, or the camera is another."""
        self._followed = []
        self._searched_ms = None


def level(grey: Grey, face: Found) -> Grey:
    """The face as the model reads it: uint8 [48, 48], its eyes on a level where they are known."""
    centre = (face.x + face.w / 2, face.y + face.h / 2)
    return cut_square(grey, centre, max(face.w, face.h), tilt(face), FACE_SIDE)


def tilt(face: Found) -> float:
    """Degrees by which the line between the eyes falls to the right; 0 where they are not known."""
    if face.eyes is None:
        return 0.0
    (x1, y1), (x2, y2) = face.eyes
    return math.degrees(math.atan2(y2 - y1, x2 - x1))


def judge(face: Found, crop: Grey, settings: FaceSettings) -> Quality:
    """Whether the face can be scored, from its place in the frame and its crop [48, 48]."""
    pixels = crop.astype(np.float64)
    pixels -= pixels.mean()
    contrast = float(pixels.std())
    symmetry = float((pixels * pixels[:, ::-1]).sum() / ((pixels * pixels).sum() + 1.0))
    sharp, roll = sharpness(crop), tilt(face)
    turned = abs(roll) > settings.roll_max
    if face.eyes is not None and face.nose is not None:
        (x1, y1), (x2, y2) = face.eyes
        apart = math.hypot(x2 - x1, y2 - y1)
        turned = turned or abs(face.nose[0] - (x1 + x2) / 2) > settings.turn_max * apart + abs(y2 - y1)
    else:
        turned = turned or symmetry < settings.symmetry_min
    flaw: Flaw = ""
    if face.w < settings.side_min:
        flaw = "small"
    elif contrast < settings.contrast_min:
        flaw = "dark"
    elif sharp < settings.sharpness_min:
        flaw = "blurred"
    elif turned:
        flaw = "turned"
    return Quality(face.w, contrast, sharp, symmetry, roll, flaw)


def _follow(grey: Grey, kept: _Followed, least: float) -> _Followed | None:
    """The face in the next frame, looked for within half its side; None = lost. The patch stays that of the search, so
    that it cannot creep away from the face frame by frame."""
    area = _patch(grey, kept.found, 2.0)
    x, y, likeness = best_match(area, kept.patch)
    if likeness < least:
        return None
    step = kept.found.w / _PATCH
    across, down = (x - _PATCH / 2) * step, (y - _PATCH / 2) * step
    face = kept.found
    moved = face.moved(across, down)
    height, width = grey.shape
    middle = (moved.x + moved.w / 2, moved.y + moved.h / 2)
    inside = 0 <= middle[0] < width and 0 <= middle[1] < height
    return _Followed(moved, kept.patch) if inside else None


def _patch(grey: Grey, face: Found, times: float) -> Grey:
    """The square around the face, `times` its side, at 24 pixels a side of the face."""
    side = round(_PATCH * times)
    cut = cut_square(grey, (face.x + face.w / 2, face.y + face.h / 2), face.w * times, 0.0, side * 2)
    return resized(cut, side, side)
