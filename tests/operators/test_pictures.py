"""Pictures and sounds are refused by their headers, cheaply; what is let in decodes to what was put in."""

from __future__ import annotations

import contextlib
import functools
import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest

from engines.media import trimmed
from operators.errors import Rejected
from operators.pictures import FRAME_LIMITS, PictureLimits, cut_square, decode_grey, opencv, picture_size, sharpness
from operators.sounds import SoundLimits, decode_sound, from_pcm16

cv2 = pytest.importorskip("cv2")
soundfile = pytest.importorskip("soundfile")
RANDOM = np.random.default_rng(5)
PICTURE = cv2.GaussianBlur(RANDOM.integers(0, 256, (60, 80)).astype(np.uint8), (0, 0), 3)


def encoded(ending: str) -> bytes:
    return bytes(cv2.imencode(ending, PICTURE)[1])


@functools.cache
def bomb(side: int) -> bytes:
    """A PNG of `side` x `side` grey pixels, all zero, packed small."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(side + 1)) for _ in range(side)) + packer.flush()
    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_a_bomb_of_144_megapixels_is_refused_without_unpacking_it() -> None:
    data = bomb(12_000)
    assert len(data) < 200_000
    tracemalloc.start()
    try:
        with pytest.raises(Rejected, match="12000 x 12000 pixels") as refused:
            decode_grey(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert refused.value.reason == "too_large"
    assert peak < 1 << 20, "nothing was unpacked"


@pytest.mark.parametrize("ending", [".png", ".jpg"])
def test_whole_pictures_decode_and_damaged_ones_are_refused(ending: str) -> None:
    data = encoded(ending)
    assert picture_size(data) == (80, 60)
    np.testing.assert_allclose(decode_grey(data).astype(int), PICTURE.astype(int), atol=12)
    for broken in (data[: len(data) // 2], data[:20], b"", b"GIF89a" + data, data[:4] + bytes(200)):
        with pytest.raises(Rejected) as refused:
            decode_grey(broken)
        assert refused.value.reason == "not_a_picture"
    for limits in (PictureLimits(size_max=100), PictureLimits(pixels_max=4000)):
        with pytest.raises(Rejected, match="at most"):
            decode_grey(data, limits)
    for _ in range(300):  # whatever the bytes, a decoder lets out nothing but Rejected
        mutated = bytearray(data)
        for at in RANDOM.integers(0, len(data), 4):
            mutated[at] = int(RANDOM.integers(0, 256))
        with contextlib.suppress(Rejected):
            assert decode_grey(bytes(mutated), FRAME_LIMITS).ndim == 2


def test_a_progressive_jpeg_of_endless_passes_is_refused() -> None:
    data = encoded(".jpg")
    with pytest.raises(Rejected, match="passes"):
        picture_size(data[:-2] + b"\xff\xda\x00\x00" * 100 + b"\xff\xd9")


def test_a_square_is_cut_where_and_how_it_is_asked_for() -> None:
    grey = np.zeros((100, 200), np.uint8)
    grey[40:60, 100:120] = 200
    cut = cut_square(grey, (110.0, 50.0), 20.0, 0.0, 40)
    assert cut.shape == (40, 40)
    assert cut[4:-4, 4:-4].min() == 200
    line = np.zeros((100, 100), np.uint8)
    cv2.line(line, (20, 30), (80, 70), 255, 5)
    levelled = cut_square(line, (50.0, 50.0), 50.0, np.degrees(np.arctan2(40, 60)), 50)
    assert levelled[25].min() > 200, "turned until the line lies level"
    rough = RANDOM.integers(0, 256, (48, 48)).astype(np.uint8)
    assert sharpness(cv2.GaussianBlur(rough, (0, 0), 2)) < sharpness(rough) / 2


def sound(seconds: float = 1.0, rate: int = 16_000, kind: str = "WAV", channels: int = 1) -> bytes:
    t = np.arange(int(seconds * rate)) / rate
    wave = np.repeat(0.5 * np.sin(2 * np.pi * 440 * t)[:, None], channels, 1)
    out = io.BytesIO()
    soundfile.write(out, wave, rate, format=kind, subtype="PCM_16")
    return out.getvalue()


@pytest.mark.parametrize("kind", ["WAV", "FLAC"])
@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (48_000, 2), (22_050, 1)])
def test_sounds_come_out_mono_at_16_khz(kind: str, rate: int, channels: int) -> None:
    found = decode_sound(sound(1.0, rate, kind, channels))
    assert found.dtype == np.float32
    assert abs(len(found) - 16_000) <= 2
    spectrum = np.abs(np.fft.rfft(found[4000:12_000]))
    assert abs(int(spectrum.argmax()) * 2 - 440) <= 2


def test_sounds_too_long_or_broken_are_refused() -> None:
    data = sound()
    with pytest.raises(Rejected, match="s are read"):
        decode_sound(data, SoundLimits(seconds_max=0.5))
    with pytest.raises(Rejected, match="bytes"):
        decode_sound(data, SoundLimits(size_max=100))
    flac = bytearray(sound(kind="FLAC"))
    flac[21:26] = b"\xff\xff\xff\xff\xff"  # says it holds 2^36 samples
    for broken in (data[:30], b"", b"OggS" + data, bytes(flac), b"fLaC" + bytes(50)):
        with pytest.raises(Rejected):
            decode_sound(broken)
    out = io.BytesIO()
    soundfile.write(out, np.array([0.1, np.nan]), 16_000, format="WAV", subtype="FLOAT")
    with pytest.raises(Rejected, match="no numbers"):
        decode_sound(out.getvalue())


def test_microphone_samples_and_silence_around_a_clip() -> None:
    assert from_pcm16(struct.pack("<hh", -32768, 16384)).tolist() == [-1.0, 0.5]
    with pytest.raises(Rejected):
        from_pcm16(b"abc")
    clip = decode_sound(sound())
    padded = np.concatenate([np.zeros(20_000, np.float32), clip, np.zeros(9000, np.float32)])
    assert abs(len(trimmed(padded)) - (16_000 + 2 * 1600)) < 40
    assert len(trimmed(np.zeros(100, np.float32))) == 100


def test_a_picture_is_read_on_one_thread() -> None:
    opencv.cache_clear()
    cv2.setNumThreads(4)
    assert decode_grey(encoded(".png")).shape == PICTURE.shape
    assert cv2.getNumThreads() == 1
