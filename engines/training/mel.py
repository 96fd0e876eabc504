"""Log-mel spectra of 16 kHz sound: the constants the ONNX graph carries, and the same maths in numpy."""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
RATE: Final = 16_000
FRAME: Final = 512
STEP: Final = 320
BANDS: Final = 64
FLOOR: Final = 1e-4
"""Added to mel powers of sound with RMS 1: what lies 60 dB below the loudest bands is no cue but hiss."""

MEAN: Final = -5.5
DEVIATION: Final = 3.4
"""Of the log-mel values of the training clips: brings the network's input near 0 and 1."""


@cache
def fourier() -> F32:
    """Hann-windowed cosines, then sines, float32 [2 * (FRAME / 2 + 1), FRAME]: a spectrum is one product with it."""
    n = np.arange(FRAME)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * n / FRAME)
    angle = 2 * np.pi * np.outer(np.arange(FRAME // 2 + 1), n) / FRAME
    return np.concatenate([np.cos(angle) * window, np.sin(angle) * window]).astype(np.float32)


@cache
def filters() -> F32:
    """Triangles of equal width on the mel scale from 50 Hz to 7.6 kHz, each of area 1, float32 [BANDS, FRAME/2+1]."""

    def mel(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
        scale: NDArray[np.float64] = 2595.0 * np.log10(1.0 + hertz / 700.0)
        return scale

    low, high = mel(np.array([50.0, 7600.0])).tolist()
    edges = np.linspace(low, high, BANDS + 2)
    bins = mel(np.arange(FRAME // 2 + 1) * RATE / FRAME)
    rise = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    fall = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    weights = np.maximum(0.0, np.minimum(rise, fall))
    found: F32 = (weights / np.maximum(weights.sum(1, keepdims=True), 1e-9)).astype(np.float32)
    return found


def mel_power(wave: F32) -> F32:
    """Mel powers [frames, BANDS] of sound brought to RMS 1; the same as the graph's, before the logarithm."""
    if len(wave) < FRAME:
        wave = np.pad(wave, (0, FRAME - len(wave)))
    level = np.sqrt(np.mean(np.square(wave, dtype=np.float64)) + 1e-10)
    frames = np.lib.stride_tricks.sliding_window_view(wave / np.float32(level), FRAME)[::STEP]
    both = frames @ fourier().T
    half = FRAME // 2 + 1
    power: F32 = (both[:, :half] ** 2 + both[:, half:] ** 2) / np.float32(FRAME)
    return power @ filters().T
