"""From sound to what the voice in it says of its speaker: is anybody speaking, and if so, how does it sound.

Sound is cut on a grid of 200 ms of event time (the alignment contract of architecture.md and of CALMED, S26): a slice
k covers [200 k, 200 (k + 1)) ms since the epoch, for every microphone alike, so slices of two modalities meet exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from engines.base import ScoreBatch
from engines.media import SOUND_RATE, VoiceModel, trimmed
from operators.calibrate import Calibrate
from operators.circumplex import valence_arousal
from operators.errors import ConfigInvalid
from operators.records import F64, I32
from operators.sounds import Sound

VOICE_TASK: Final = "ravdess8"
SLICE_MS: Final = 200
SLICE: Final = SOUND_RATE * SLICE_MS // 1000
_FRAME: Final = 400
_FRAMES: Final = SLICE // _FRAME
_PAST: Final = 10_000 // SLICE_MS * _FRAMES
_BAND: Final = (150.0, 4000.0)


@dataclass(frozen=True, slots=True)
class SpeechSettings:
    """What counts as speech, and how sound is cut for the model.

    Attributes:
        window_ms: sound the model hears at a time.
        hop_ms: how often it is asked; both are multiples of 200.
        above_db: how far a frame must rise over the quietest sound of the last ten seconds.
        loud_db: frames below this are never speech (dB of full scale).
        flat_max: spectral flatness beyond which a frame is noise: hiss 0.6, voiced speech below 0.2.
        share_min: share of a window that must be speech for it to be scored.
    """

    window_ms: int = 2000
    hop_ms: int = 1000
    above_db: float = 9.0
    loud_db: float = -60.0
    flat_max: float = 0.35
    share_min: float = 0.3


@dataclass(frozen=True, slots=True)
class VoiceReading:
    """One window of sound, [start_ms, end_ms), both on the grid of 200 ms.

    Attributes:
        speech: share of it that is speech, 0..1.
        micro: calibrated probabilities of `VoiceReader.labels`, int32 [labels] in millionths; None = too little speech.
        valence, arousal: in -1..1, derived from `micro`, not measured; None with `micro`.
    """

    start_ms: int
    end_ms: int
    speech: float
    micro: I32 | None
    valence: float | None
    arousal: float | None


class SpeechDetector:
    """Tells speech from silence and steady noise, slice by slice, by energy over a floor and by spectral shape.

    The floor is the tenth percentile of the last ten seconds. Not thread-safe.
    """

    def __init__(self, settings: SpeechSettings = SpeechSettings()) -> None:
        self._settings = settings
        self._past: list[float] = []

    def share(self, part: Sound) -> float:
        """Share of the frames (25 ms) of a slice, float32 [3200], that are speech."""
        level, flatness = frame_features(part)
        self._past = [*self._past, *level.tolist()][-_PAST:]
        floor = float(np.percentile(self._past, 10))
        limit = max(self._settings.loud_db, min(floor, -25.0) + self._settings.above_db)
        return float(((level > limit) & (flatness < self._settings.flat_max)).mean())


class VoiceReader:
    """Reads the sound of one microphone, in order, in pieces of any length. Not thread-safe.

    Keeps one window of sound in memory and nothing else. A gap or a jump of time starts a new window: sound from before
    it is never joined to sound from after.

    Example:
        reader = VoiceReader(load_voice_model(research=True))
        for reading in reader.read(from_pcm16(data), start_ms):
            ...
    """

    def __init__(self, model: VoiceModel, settings: SpeechSettings = SpeechSettings()) -> None:
        head = model.spec.head(VOICE_TASK)
        if head is None:
            known = ", ".join(h.task for h in model.spec.heads)
            raise ConfigInvalid(f"voice model {model.spec.model_id!r}: expected a head {VOICE_TASK}, got {known}")
        for name, value in (("window_ms", settings.window_ms), ("hop_ms", settings.hop_ms)):
            if value < SLICE_MS or value % SLICE_MS:
                raise ConfigInvalid(f"speech.{name}: expected a multiple of {SLICE_MS}, got {value}")
        self.labels = head.labels
        self.model = model
        self._settings = settings
        self._calibrate = Calibrate()
        self._detector = SpeechDetector(settings)
        self._slices: list[tuple[Sound, float]] = []
        self._rest: Sound = np.zeros(0, np.float32)
        self._next_ms = 0
        self._skip = 0

    def read(self, sound: Sound, start_ms: int) -> list[VoiceReading]:
        """Take in sound whose first sample was heard at `start_ms` (event time); the windows that end in it.

        What lies before the first boundary of the grid is dropped; a piece that begins more than half a slice away from
        where the last one ended starts anew. The clock of the samples rules inside a run of pieces.
        """
        if self._skip + len(self._rest) + len(self._slices) == 0 or abs(start_ms - self._end_ms()) > SLICE_MS // 2:
            self.forget()
            self._next_ms = -(-start_ms // SLICE_MS) * SLICE_MS
            self._skip = (self._next_ms - start_ms) * SOUND_RATE // 1000
        skipped = min(self._skip, len(sound))
        self._skip -= skipped
        self._rest = np.concatenate([self._rest, sound[skipped:]])
        readings = []
        while len(self._rest) >= SLICE:
            part, self._rest = self._rest[:SLICE], self._rest[SLICE:]
            self._slices = [*self._slices, (part, self._detector.share(part))][-self._settings.window_ms // SLICE_MS :]
            self._next_ms += SLICE_MS
            if self._next_ms % self._settings.hop_ms == 0 and len(self._slices) * SLICE_MS == self._settings.window_ms:
                readings.append(self._window(self._next_ms))
        return readings

    def score(self, sounds: Sequence[Sound]) -> I32:
        """Calibrated probabilities of whole sounds, int32 [n, labels] in millionths; silence around them is cut off."""
        return self._calibrate.calibrate(self.model.spec, self._heard(sounds), [VOICE_TASK])[VOICE_TASK]

    def logits(self, sounds: Sequence[Sound]) -> F64:
        """Logits of whole sounds, float64 [n, labels], as `score` takes them."""
        return self._heard(sounds).logits[VOICE_TASK]

    def forget(self) -> None:
        """Drop the sound that is kept: a gap, or consent was withdrawn."""
        self._detector = SpeechDetector(self._settings)
        self._slices = []
        self._rest = np.zeros(0, np.float32)
        self._skip = 0

    def _heard(self, sounds: Sequence[Sound]) -> ScoreBatch:
        return self.model.logits([trimmed(sound) for sound in sounds])

    def _end_ms(self) -> int:
        return self._next_ms + (len(self._rest) - self._skip) * 1000 // SOUND_RATE

    def _window(self, end_ms: int) -> VoiceReading:
        start_ms = end_ms - self._settings.window_ms
        speech = float(np.mean([share for _, share in self._slices]))
        if speech < self._settings.share_min:
            return VoiceReading(start_ms, end_ms, speech, None, None, None)
        micro = self.score([np.concatenate([part for part, _ in self._slices])])
        valence, arousal = valence_arousal(VOICE_TASK, micro, self.labels)
        return VoiceReading(start_ms, end_ms, speech, micro[0], float(valence[0]), float(arousal[0]))


def frame_features(part: Sound) -> tuple[F64, F64]:
    """(level in dB of full scale, spectral flatness in 0..1) of each 25 ms of sound between 150 Hz and 4 kHz."""
    frames = part[: len(part) // _FRAME * _FRAME].reshape(-1, _FRAME) * np.hanning(_FRAME)
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2 / (_FRAME * 0.375 * _FRAME / 2)
    hertz = np.arange(power.shape[1]) * SOUND_RATE / _FRAME
    band = power[:, (hertz >= _BAND[0]) & (hertz <= _BAND[1])] + 1e-14
    level: F64 = 10 * np.log10(band.sum(1))
    flatness: F64 = np.exp(np.log(band).mean(1)) / band.mean(1)
    return level, flatness
