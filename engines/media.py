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
_QUIET_DB: Final = -40.0
_LEFT_S: Final = 0.1


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


def trimmed(sound: NDArray[np.float32]) -> NDArray[np.float32]:
    """The sound without the silence before and after it: what lies 40 dB below its peak, but for 0.1 s on either side.

    The training clips are cut like that; silence around a clip would only teach how long somebody waited.
    """
    peak = float(np.abs(sound).max(initial=0.0))
    loud = np.flatnonzero(np.abs(sound) > peak * 10 ** (_QUIET_DB / 20))
    if not len(loud):
        return sound
    left = int(_LEFT_S * SOUND_RATE)
    return sound[max(0, int(loud[0]) - left) : int(loud[-1]) + left + 1]
