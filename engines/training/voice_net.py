"""The network of `voice-affect`: sound in, eight logits out; and how its training spectra are varied."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from engines.training.mel import BANDS, DEVIATION, FLOOR, MEAN

Spectra = NDArray[np.float32]


class Stage(nn.Module):  # type: ignore[misc]
    """Two 3x3 convolutions beside a shortcut; both sides are halved."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        nn.init.zeros_(self.norm2.weight)
        self.short = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.short_norm = nn.BatchNorm2d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[n, inputs, t, bands] to [n, outputs, t / 2, bands / 2], odd sides rounded up."""
        y = functional.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        x = functional.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False)
        return functional.relu(y + self.short_norm(self.short(x)))


class VoiceNet(nn.Module):  # type: ignore[misc]
    """Three stages and attention over time (which moments count is learned), beside statistics of the bands."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 5, 2, 2, bias=False)
        self.stem_norm = nn.BatchNorm2d(16)
        self.stages = nn.ModuleList([Stage(16, 32), Stage(32, 64), Stage(64, 96)])
        wide = 96 * (BANDS // 16)
        self.attention = nn.Conv1d(wide, 1, 1)
        self.drop = nn.Dropout(0.3)
        self.bands_norm = nn.BatchNorm1d(3 * BANDS)
        self.bands = nn.Linear(3 * BANDS, 64)
        self.head = nn.Linear(2 * wide + 64, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits [n, classes] of log-mel spectra [n, t, BANDS]."""
        x = (x - MEAN) / DEVIATION
        bands = functional.relu(self.bands(self.drop(self.bands_norm(statistics(x)))))
        x = x.unsqueeze(1)
        x = functional.relu(self.stem_norm(self.stem(x)))
        for stage in self.stages:
            x = stage(x)
        x = x.transpose(2, 3).flatten(1, 2)  # [n, channels * bands, t]
        weights = torch.softmax(self.attention(x), 2)
        mean = (x * weights).sum(2)
        spread = ((x * x * weights).sum(2) - mean * mean).clamp(min=1e-5).sqrt()
        logits: torch.Tensor = self.head(self.drop(torch.cat([mean, spread, bands], 1)))
        return logits


def statistics(x: torch.Tensor) -> torch.Tensor:
    """Mean, deviation and mean step of each band over time, [n, 3 * BANDS], of spectra [n, t, BANDS]."""
    mean = x.mean(1)
    spread = ((x * x).mean(1) - mean * mean).clamp(min=1e-5).sqrt()
    steps = functional.pad((x[:, 1:] - x[:, :-1]).abs(), (0, 0, 0, 1)).mean(1)
    return torch.cat([mean, spread, steps], 1)


def logarithm(power: torch.Tensor) -> torch.Tensor:
    """Log-mel of mel powers of sound with RMS 1."""
    return torch.log(power + FLOOR)


def cut(spectrum: Spectra, frames: int, random: np.random.Generator) -> Spectra:
    """`frames` frames of a clip from a drawn place; a shorter clip goes round again."""
    if len(spectrum) < frames:
        spectrum = np.tile(spectrum, (-(-frames // len(spectrum)), 1))
    start = int(random.integers(0, len(spectrum) - frames + 1))
    return spectrum[start : start + frames]


def varied(power: Spectra, random: np.random.Generator) -> Spectra:
    """Mel powers [t, BANDS] with another room, noise and holes.

    A tilt and a bump of a few dB over the bands (another microphone), noise 10 to 40 dB below the sound in a third of
    them, and a band and a moment erased in half of them (SpecAugment, Park et al. 2019).
    """
    t = len(power)
    place = np.linspace(-1, 1, BANDS)
    bump = np.cos(np.pi * (place * random.uniform(0.5, 2.0) + random.uniform(-1, 1)))
    decibel = random.uniform(-4, 4) * place + random.uniform(-2, 2) * bump
    power = power * (10 ** (decibel / 10)).astype(np.float32)
    power = power * np.float32(10 ** random.uniform(-0.15, 0.15))
    if random.random() < 0.3:
        colour = np.exp(random.uniform(-2, 0.5) * (place + 1))
        noise = random.exponential(1.0, (t, BANDS)) * colour / colour.mean()
        power = power + (noise * power.mean() * 10 ** (-random.uniform(10, 40) / 10)).astype(np.float32)
    power = power.astype(np.float32)
    for _ in range(int(random.integers(0, 2))):
        wide = int(random.integers(2, 10))
        start = int(random.integers(0, BANDS - wide))
        power[:, start : start + wide] = 0.0
    for _ in range(int(random.integers(0, 2))):
        wide = int(random.integers(2, 12))
        start = int(random.integers(0, max(1, t - wide)))
        power[start : start + wide] = 0.0
    return power
