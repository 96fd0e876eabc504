"""What an edge box sees and hears: a camera or a video file as grey JPEGs, a sound file in slices of 200 ms."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from operators.errors import Rejected
from operators.pictures import Grey, opencv, resized
from operators.sounds import decode_sound
from stream.capture import PICTURE_MAX
from stream.errors import UsageError

LONGEST_SIDE: Final = 640
"""Pixels; larger pictures are averaged down. Colour is not sent: nothing looks at it."""
QUALITIES: Final = (80, 50, 20)
SLICE: Final = 3_200
"""Samples at 16 kHz: 200 ms."""
SLICE_S: Final = 0.2


class Pictures:
    """`source`: a video file, played at its own pace, or camera:N.

    Raises:
        UsageError: there is none, or it cannot be opened. MissingExtra: OpenCV is not installed.
    """

    def __init__(self, source: str) -> None:
        self._cv2 = opencv()
        number = source.removeprefix("camera:")
        self.live = source != number
        if self.live and not (number.isdecimal() and len(number) <= 2):
            raise UsageError(f"--video: expected camera:N such as camera:0, or a file, got {source!r}")
        if not self.live and not Path(source).is_file():  # never an address: OpenCV would fetch it
            raise UsageError(f"--video: there is no file {source!r}")
        self._held = self._cv2.VideoCapture(int(number) if self.live else str(Path(source).resolve()))
        if not self._held.isOpened():
            raise UsageError(f"--video: {source!r} cannot be opened: no such camera, or no video OpenCV can read")
        rate = float(self._held.get(self._cv2.CAP_PROP_FPS))
        self._rate = rate if 0 < rate <= 1_000 else 25.0
        self._at = 0

    def at(self, elapsed_s: float) -> bytes | None:
        """The picture now, `elapsed_s` after the first, as a JPEG of at most `PICTURE_MAX` bytes; None = the end."""
        while not self.live and self._at < int(elapsed_s * self._rate):
            if not self._held.grab():
                return None
            self._at += 1
        there, frame = self._held.read()
        self._at += 1
        if not there:
            return None
        return self._jpeg(self._cv2.cvtColor(frame, self._cv2.COLOR_BGR2GRAY) if frame.ndim == 3 else frame)

    def close(self) -> None:
        """Let the camera go."""
        self._held.release()

    def _jpeg(self, grey: Grey) -> bytes:
        height, width = grey.shape
        if max(height, width) > LONGEST_SIDE:
            scale = LONGEST_SIDE / max(height, width)
            grey = resized(grey, max(1, round(width * scale)), max(1, round(height * scale)))
        data = b""
        for quality in QUALITIES:
            data = bytes(self._cv2.imencode(".jpg", grey, [self._cv2.IMWRITE_JPEG_QUALITY, quality])[1])
            if len(data) <= PICTURE_MAX:
                break
        return data


def slices(path: str) -> list[bytes]:
    """A WAV or FLAC file as signed 16-bit samples at 16 kHz, `SLICE` at a time; the last may be shorter.

    Raises:
        UsageError: no such file, too long (five minutes), or no sound. MissingExtra: soundfile is not installed.
    """
    try:
        sound = decode_sound(Path(path).read_bytes())
    except OSError as error:
        raise UsageError(f"--audio {path}: cannot be read: {error.strerror}") from error
    except Rejected as error:
        raise UsageError(f"--audio {path}: {error}") from error
    whole = np.clip(np.rint(sound * 32768), -32768, 32767).astype("<i2")
    return [whole[at : at + SLICE].tobytes() for at in range(0, len(whole), SLICE)]
