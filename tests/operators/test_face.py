"""The face path on drawn frames and on the sample clips: found, followed, levelled, judged, scored, smoothed."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from engines.load_media import load_face_model
from operators.circumplex import valence_arousal
from operators.detectors import Detector, Found, Haar, YuNet
from operators.errors import ConfigInvalid
from operators.face import FaceReader, level, tilt
from operators.pictures import Grey
from operators.smoothing import Smoother
from tests.engines import tiny_media

cv2 = pytest.importorskip("cv2")
RANDOM = np.random.default_rng(7)
TEXTURE = cv2.GaussianBlur(RANDOM.integers(0, 256, (80, 80)).astype(np.uint8), (0, 0), 1.5)
_soft = cv2.GaussianBlur(RANDOM.normal(size=(80, 80)), (0, 0), 8)
BLURRED = np.clip(128 + 40 * _soft / _soft.std(), 0, 255).astype(np.uint8)
MEDIA = Path(os.environ.get("AFFECT_DATA", "")) / "av" / "sample-media"


def frame(x: int, y: int, face: Grey = TEXTURE) -> Grey:
    grey = np.full((240, 320), 128, np.uint8)
    grey[y : y + len(face), x : x + len(face)] = face
    return grey


class Told:
    """A detector that says what it is told, and counts how often it is asked."""

    def __init__(self, *faces: Found) -> None:
        self.faces = list(faces)
        self.asked = 0

    def find(self, grey: Grey) -> list[Found]:
        self.asked += 1
        return self.faces


def reader(tmp_path: Path, detector: Detector) -> FaceReader:
    return FaceReader(tiny_media.face_model(tmp_path), detector)


def test_a_face_is_followed_between_searches_and_searched_when_lost(tmp_path: Path) -> None:
    detector = Told(Found(50, 60, 80, 80))
    path = reader(tmp_path, detector)
    for k in range(5):
        box = path.read(frame(50 + 6 * k, 60 + 3 * k), 200 * k)[0].box
        assert abs(box[0] - (50 + 6 * k)) <= 5, k
        assert abs(box[1] - (60 + 3 * k)) <= 5, k
    assert detector.asked == 1
    path.read(frame(74, 72), 1000)
    assert detector.asked == 2, "a second has passed"
    path.read(frame(74, 72, np.full((80, 80), 128, np.uint8)), 1200)
    assert detector.asked == 3, "the face is gone: the frame is searched at once"
    path.read(frame(50, 60), 100)
    assert detector.asked == 4, "a frame from before is searched by itself"
    path.forget()
    path.read(frame(50, 60), 1300)
    assert detector.asked == 5, "nothing is kept after forget"


@pytest.mark.parametrize(
    ("flaw", "face", "found"),
    [
        ("", TEXTURE, Found(50, 60, 80, 80)),
        ("small", TEXTURE, Found(80, 90, 20, 20)),
        ("dark", (TEXTURE // 16 + 100).astype(np.uint8), Found(50, 60, 80, 80)),
        ("blurred", BLURRED, Found(50, 60, 80, 80)),
        ("turned", TEXTURE, Found(50, 60, 80, 80, ((70.0, 80.0), (110.0, 80.0)), (112.0, 100.0))),
        ("turned", TEXTURE, Found(50, 60, 80, 80, ((80.0, 70.0), (100.0, 110.0)))),
    ],
)
def test_poor_faces_are_named_and_not_scored(tmp_path: Path, flaw: str, face: Grey, found: Found) -> None:
    reading = reader(tmp_path, Told(found)).read(frame(50, 60, face), 0)[0]
    assert reading.quality.flaw == flaw, reading.quality
    assert (reading.micro is None) == bool(flaw)
    assert (reading.valence is None) == bool(flaw)
    if reading.micro is not None:
        assert abs(int(reading.micro.sum()) - 1_000_000) <= 8


def test_the_eyes_are_brought_to_a_level() -> None:
    grey = np.full((200, 200), 200, np.uint8)
    for x, y in ((75, 90), (125, 110)):
        cv2.circle(grey, (x, y), 6, 0, -1)
    face = Found(40, 40, 120, 120, ((75.0, 90.0), (125.0, 110.0)))
    assert tilt(face) == pytest.approx(21.8, abs=0.1)
    rows = np.nonzero(level(grey, face).min(1) < 100)[0]
    assert rows.max() - rows.min() <= 6, "both eyes within the height of one"


def test_valence_and_arousal_are_the_signs_of_the_tree() -> None:
    labels = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
    micro = (np.eye(8) * 1_000_000).astype(np.int32)
    valence, arousal = valence_arousal("ferplus8", micro, labels)
    assert valence.tolist() == [0, 1, 0, -1, -1, -1, -1, -1]
    assert arousal.tolist() == [0, 1, 1, -1, 1, 0, 1, 0]
    half, _ = valence_arousal("ferplus8", micro[1:2] // 2 + micro[3:4] // 2, labels)
    assert half.tolist() == [0.0]


def test_smoothing_depends_on_times_not_on_the_order_of_arrival() -> None:
    timed = [(int(t), RANDOM.normal(size=3)) for t in RANDOM.integers(0, 9000, 40)]
    means = []
    for order in (range(40), reversed(range(40)), RANDOM.permutation(40)):
        smoother = Smoother(700)
        for k in order:
            smoother.add(*timed[k])
        assert smoother.value is not None
        means.append(smoother.value)
        newest = max(t for t, _ in timed)
        assert smoother.at(newest + 700) == pytest.approx(smoother.weight / 2)
    np.testing.assert_allclose(means[1:], [means[0]] * 2, rtol=1e-9)
    two = Smoother(1000)
    two.add(0, np.array([0.0]))
    two.add(1000, np.array([1.0]))
    assert two.value is not None
    assert float(two.value[0]) == pytest.approx(1 / 1.5)
    with pytest.raises(ConfigInvalid):
        Smoother(0)


@pytest.mark.data
def test_faces_of_the_sample_media_are_found_where_they_are(tmp_path: Path) -> None:
    haar = Haar()
    one = haar.find(cv2.imread(str(MEDIA / "single_face.jpg"), cv2.IMREAD_GRAYSCALE))
    assert len(one) == 1
    assert one[0].eyes is not None
    assert abs(one[0].x + one[0].w / 2 - 270) < 30
    many = Haar(1 / 8).find(cv2.imread(str(MEDIA / "multi_face.jpg"), cv2.IMREAD_GRAYSCALE))
    assert 4 <= len(many) <= 5, "the one in sunglasses may be missed"
    video = cv2.VideoCapture(str(MEDIA / "no_face.mp4"))
    found, frames = [], 0
    while (got := video.read())[0]:
        frames += 1
        if frames % 20 == 0:
            found += haar.find(cv2.cvtColor(got[1], cv2.COLOR_BGR2GRAY))
    assert frames > 60
    assert found == []
    with pytest.raises(ConfigInvalid, match="YuNet"):
        YuNet(tmp_path / "none.onnx")


@pytest.mark.data
def test_the_clip_from_crying_to_laughing_gives_that_order() -> None:
    reader, smoother = FaceReader(load_face_model(research=True), Haar()), Smoother(1500)
    sad, happy = reader.labels.index("sadness"), reader.labels.index("happiness")
    video = cv2.VideoCapture(str(MEDIA / "WolfgangLanger_Pexels.mp4"))
    seen: dict[int, list[float]] = {}
    number = 0
    while (got := video.read())[0]:
        number += 1
        if number % 10 == 0:
            at_ms = number * 1000 // 24
            for reading in reader.read(cv2.cvtColor(got[1], cv2.COLOR_BGR2GRAY), at_ms):
                if reading.micro is not None:
                    smoother.add(at_ms, reading.micro / 1_000_000)
            if smoother.value is not None:
                seen.setdefault(at_ms // 1000, []).append(float(smoother.value[happy] - smoother.value[sad]))
    assert number > 400
    assert max(max(seen[k]) for k in (4, 5)) < -0.3, "crying"
    assert min(min(seen[k]) for k in range(13, 19)) > 0.3, "laughing"
