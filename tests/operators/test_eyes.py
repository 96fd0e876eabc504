"""Eyes open or shut on the sample media: a clip in which they are down, then open; small faces are not judged."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from operators.detectors import Found, Haar
from operators.eyes import SIDE_MIN, Eyes
from operators.pictures import Grey

cv2 = pytest.importorskip("cv2")
MEDIA = Path(os.environ.get("AFFECT_DATA", "")) / "av" / "sample-media"


def frames(name: str, step: int) -> Iterator[tuple[int, Grey]]:
    """Every `step`-th frame, grey, with its number."""
    clip, number = cv2.VideoCapture(str(MEDIA / name)), 0
    while True:
        whole, picture = clip.read()
        if not whole:
            return
        number += 1
        if number % step == 0:
            yield number, cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)


@pytest.mark.data
def test_lowered_eyes_are_told_from_open_ones() -> None:
    """By eye: down in frames 5 to 90 of the clip, open in 170 to 405; the man of the other looks up throughout."""
    haar, eyes = Haar(), Eyes()
    said: dict[str, list[bool]] = {"down": [], "open": []}
    for number, grey in frames("WolfgangLanger_Pexels.mp4", 6):
        part = "down" if 5 <= number <= 90 else "open" if 170 <= number <= 405 else ""
        faces = haar.find(grey)
        found = eyes.are_open(grey, faces[0]) if part and faces else None
        if found is not None:
            said[part].append(found)
    for _, grey in frames("single_face.mp4", 12):
        found = eyes.are_open(grey, haar.find(grey)[0])
        said["open"] += [] if found is None else [found]
    assert len(said["down"]) >= 10
    assert len(said["open"]) >= 35
    assert np.mean(said["down"]) <= 0.1
    assert np.mean(said["open"]) >= 0.9


def test_what_is_too_small_or_shows_no_eyes_is_not_judged() -> None:
    eyes, noise = Eyes(), np.random.default_rng(1).integers(0, 256, (200, 200)).astype(np.uint8)
    assert eyes.are_open(noise, Found(10, 10, SIDE_MIN - 1, SIDE_MIN - 1)) is None
    assert eyes.are_open(np.full((200, 200), 120, np.uint8), Found(10, 10, 150, 150)) is None
    assert eyes.are_open(noise, Found(190, 190, 100, 100)) is None, "hardly any of it lies in the picture"
