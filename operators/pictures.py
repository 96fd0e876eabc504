"""Pictures: refused by their header before a pixel is decoded, then grey. Door of OpenCV."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from engines.errors import MissingExtra
from operators.errors import Rejected

if TYPE_CHECKING:
    from types import ModuleType

Grey = NDArray[np.uint8]
"""A grey picture, uint8 [height, width]."""
_SCANS_MAX: Final = 64
"""Passes over a progressive JPEG: each one costs the time of a whole picture."""
_FRAMES: Final = (0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)


@dataclass(frozen=True, slots=True)
class PictureLimits:
    """What a picture may be: bytes as sent, and pixels unpacked."""

    size_max: int = 8 << 20
    pixels_max: int = 16_000_000
    side_min: int = 16


FRAME_LIMITS: Final = PictureLimits(size_max=1 << 20, pixels_max=2_100_000)
"""For frames of a stream: up to 1080p, up to a mebibyte."""


@cache
def opencv() -> ModuleType:
    """OpenCV, loaded when the first picture comes, on one thread: pictures of many cameras are the parallel work, and
    threads for each of these small ones cost 13 % more CPU (`benchmarks/bench_capture.py`).

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise MissingExtra("pictures need OpenCV; install it with `pip install 'affectstream[av]'`") from error
    cv2.setNumThreads(1)
    module: ModuleType = cv2
    return module


def picture_size(data: bytes, limits: PictureLimits = PictureLimits()) -> tuple[int, int]:
    """(width, height) that a PNG or JPEG says it has, read from its header alone: microseconds, no memory.

    Raises:
        Rejected: `too_large` (bytes, pixels), `too_small`, `not_a_picture` (another format, cut off, no size).
    """
    if len(data) > limits.size_max:
        raise Rejected("too_large", f"a picture of {len(data)} bytes, at most {limits.size_max} are read")
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        width, height = _png(data)
    elif data.startswith(b"\xff\xd8"):
        width, height = _jpeg(data)
    else:
        raise Rejected("not_a_picture", "neither a PNG nor a JPEG; send one of the two")
    if width * height > limits.pixels_max:
        raise Rejected("too_large", f"a picture of {width} x {height} pixels, at most {limits.pixels_max} are decoded")
    if min(width, height) < limits.side_min:
        raise Rejected("too_small", f"a picture of {width} x {height} pixels, at least {limits.side_min} a side")
    return width, height


def decode_grey(data: bytes, limits: PictureLimits = PictureLimits()) -> Grey:
    """The picture in grey, turned as its EXIF says.

    Raises:
        Rejected: as `picture_size`; `not_a_picture` too where the body does not decode.
        MissingExtra: OpenCV is not installed.
    """
    width, height = picture_size(data, limits)
    cv2 = opencv()
    try:
        found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    except cv2.error as error:
        raise Rejected("not_a_picture", f"OpenCV cannot decode it: {error.err}") from error
    if found is None or sorted(found.shape) != sorted((width, height)):
        raise Rejected("not_a_picture", f"its body does not hold the {width} x {height} pixels of its header")
    grey: Grey = found
    return grey


def resized(grey: Grey, width: int, height: int) -> Grey:
    """The picture at another size; shrinking averages areas."""
    cv2 = opencv()
    shrink = width < grey.shape[1]
    found: Grey = cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR)
    return found


def cut_square(grey: Grey, centre: tuple[float, float], side: float, turn: float, pixels: int) -> Grey:
    """A square of `side` around `centre` (x, y), turned by `turn` degrees, as uint8 [pixels, pixels].

    What lies beyond the picture repeats its border. A large square is averaged down, not sampled.
    """
    cv2 = opencv()
    fine = pixels * max(1, min(4, round(side / pixels)))
    matrix = cv2.getRotationMatrix2D(centre, turn, fine / side)
    matrix[:, 2] += np.array([fine / 2, fine / 2]) - np.array(centre)
    found: Grey = cv2.warpAffine(grey, matrix, (fine, fine), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return found if fine == pixels else resized(found, pixels, pixels)


def sharpness(face: Grey) -> float:
    """Deviation of the Laplacian over the deviation of the pixels: about 0.2 for a blurred face, 0.5 and up for a sharp
    one; does not depend on light or contrast (Pertuz et al. 2013 call the numerator LAPV)."""
    cv2 = opencv()
    spread = float(face.std())
    return float(cv2.Laplacian(face, cv2.CV_64F).std()) / (spread + 1.0)


def best_match(grey: Grey, template: Grey) -> tuple[int, int, float]:
    """(x, y, how well) of the place in `grey` most like `template`: normalised correlation, -1..1."""
    cv2 = opencv()
    scores = cv2.matchTemplate(grey, template, cv2.TM_CCOEFF_NORMED)
    _, best, _, (x, y) = cv2.minMaxLoc(scores)
    return int(x), int(y), float(best) if np.isfinite(best) else -1.0


def _png(data: bytes) -> tuple[int, int]:
    if len(data) < 33 or data[12:16] != b"IHDR" or b"IEND" not in data[-32:]:
        raise Rejected("not_a_picture", "a PNG without header or end")
    width, height = struct.unpack(">II", data[16:24])
    return int(width), int(height)


def _jpeg(data: bytes) -> tuple[int, int]:
    if b"\xff\xd9" not in data[-4096:] or data.count(b"\xff\xda") > _SCANS_MAX:
        raise Rejected("not_a_picture", f"a JPEG without end, or of more than {_SCANS_MAX} passes")
    at = 2
    while at + 9 <= len(data):
        if data[at] != 0xFF:
            break
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker in _FRAMES:
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return int(width), int(height)
        if marker == 0xDA:
            break
        length = 0 if marker == 0x01 or 0xD0 <= marker <= 0xD7 else struct.unpack(">H", data[at + 2 : at + 4])[0]
        at += 2 + length
    raise Rejected("not_a_picture", "a JPEG without a size")
