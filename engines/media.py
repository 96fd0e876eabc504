"""Models that look and listen: grey faces or 16 kHz sound in, logits out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engines.base import Engine, EngineSpec, ScoreBatch, TensorBatch
from engines.errors import ShapeMismatch

FACE_SIDE: Final = 48
"""Pixels a side of the faces a face model reads."""
SOUND_RATE: Final = 16_000
"""Samples a second of the sound a voice model reads."""
SOUND_MIN: Final = 512
"""Shortest sound that has a spectrum, in samples; a shorter one is filled up with silence."""
SOUND_MAX: Final = 10 * SOUND_RATE
"""Longest sound of one run; a longer one is cut into equal pieces whose logits are averaged."""


@dataclass(frozen=True, slots=True)
class FaceModel:
    """Scores faces cut out of pictures. It finds none: that is `operators.face`."""

    engine: Engine

    @property
    def spec(self) -> EngineSpec:
        return self.engine.spec

    def logits(self, faces: NDArray[np.uint8]) -> ScoreBatch:
        """Logits of grey faces, uint8 [n, 48, 48].

        Raises:
            ShapeMismatch: another shape or type.
        """
        return self.engine.infer(TensorBatch(len(faces), {"x": faces}))


@dataclass(frozen=True, slots=True)
class VoiceModel:
    """Scores sound. Whether anybody speaks in it is not asked: that is `operators.speech`."""

    engine: Engine

    @property
    def spec(self) -> EngineSpec:
        return self.engine.spec

    def logits(self, sounds: Sequence[NDArray[np.float32]]) -> ScoreBatch:
        """Logits of sounds, float32 in [-1, 1] at 16 kHz, each of its own length. Level does not matter.

        Raises:
            ShapeMismatch: not float32 [samples], or values that are not finite.
        """
        pieces: list[NDArray[np.float32]] = []
        counts = []
        for sound in sounds:
            if sound.ndim != 1 or sound.dtype != np.float32:
                raise ShapeMismatch(f"sound expected float32 [samples], got {sound.dtype}{list(sound.shape)}")
            if len(sound) < SOUND_MIN:
                sound = np.pad(sound, (0, SOUND_MIN - len(sound)))
            parts = np.array_split(sound, -(-len(sound) // SOUND_MAX))
            pieces += parts
            counts.append(len(parts))
        offsets = np.concatenate([[0], np.cumsum([len(p) for p in pieces])]).astype(np.int64)
        samples = np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
        scored = self.engine.infer(TensorBatch(len(pieces), {"samples": samples, "offsets": offsets}))
        if len(pieces) == len(sounds):
            return scored
        starts = np.concatenate([[0], np.cumsum(counts)])[:-1].astype(np.int64)
        sizes = np.array(counts, np.float64)[:, None]
        means = {task: np.add.reduceat(logits, starts) / sizes for task, logits in scored.logits.items()}
        return ScoreBatch(means, scored.run_s)
