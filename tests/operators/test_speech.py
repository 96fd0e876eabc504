"""The voice path: speech told from silence and noise, windows on the grid of 200 ms whatever the pieces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from operators.errors import ConfigInvalid
from operators.sounds import Sound
from operators.speech import SLICE, SpeechDetector, SpeechSettings, VoiceReader
from tests.engines import tiny_media

RANDOM = np.random.default_rng(11)
START = 1_700_000_000_130


def voiced(seconds: float, pitch: float = 140.0) -> Sound:
    """Something like a vowel: harmonics that fall off, four syllables a second."""
    t = np.arange(int(seconds * 16_000)) / 16_000
    tone = sum(np.sin(2 * np.pi * pitch * k * t) / k for k in range(1, 25))
    return (0.05 * tone * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * t))).astype(np.float32)


def noise(seconds: float, level: float) -> Sound:
    return (RANDOM.normal(size=int(seconds * 16_000)) * level).astype(np.float32)


def shares(sound: Sound) -> list[float]:
    detector = SpeechDetector()
    return [detector.share(sound[k : k + SLICE]) for k in range(0, len(sound) - SLICE + 1, SLICE)]


def test_speech_is_told_from_silence_and_from_noise() -> None:
    hum = noise(8.0, 0.002)
    hum[48_000:80_000] += voiced(2.0)
    found = np.array(shares(hum))
    assert found[15:25].mean() > 0.9
    assert found[:15].max() == 0.0
    assert found[25:].max() < 0.2
    assert max(shares(noise(4.0, 0.2))) == 0.0, "loud hiss is no speech"
    assert max(shares(np.zeros(16_000, np.float32))) == 0.0


def test_windows_lie_on_the_grid_and_do_not_depend_on_how_sound_is_cut(tmp_path: Path) -> None:
    model = tiny_media.voice_model(tmp_path)
    sound = np.concatenate([voiced(3.5), noise(3.0, 0.0005), voiced(2.5, 210.0)])
    whole = VoiceReader(model).read(sound, START)
    pieces = VoiceReader(model)
    found, at = [], 0
    while at < len(sound):
        size = int(RANDOM.integers(100, 5000))
        found += pieces.read(sound[at : at + size], START + at * 1000 // 16_000)
        at += size
    assert [(r.start_ms, r.end_ms, r.speech) for r in found] == [(r.start_ms, r.end_ms, r.speech) for r in whole]
    assert len(whole) == 7
    assert all(r.end_ms % 1000 == 0 and r.end_ms - r.start_ms == 2000 for r in whole)
    scored = [r.micro is not None for r in whole]
    assert any(scored)
    assert not all(scored), "silence is not scored"
    for a, b in zip(found, whole, strict=True):
        assert (a.micro is None) == (b.micro is None) == (a.valence is None) == (b.arousal is None)
        if a.micro is not None and b.micro is not None:
            assert a.micro.tolist() == b.micro.tolist()


def test_a_gap_starts_anew_and_nothing_is_joined_across_it(tmp_path: Path) -> None:
    reader = VoiceReader(tiny_media.voice_model(tmp_path), SpeechSettings(hop_ms=200))
    assert reader.read(voiced(1.9), 0) == []
    assert reader.read(voiced(1.9), 5000) == [], "1.9 s before the gap and 1.9 s after it make no window of 2 s"
    readings = reader.read(voiced(0.5), 6900)
    assert [r.start_ms for r in readings] == [5000, 5200, 5400]
    reader.forget()
    assert reader.read(voiced(1.0), 7400) == []
    with pytest.raises(ConfigInvalid, match="multiple of 200"):
        VoiceReader(tiny_media.voice_model(tmp_path), SpeechSettings(window_ms=1500))
