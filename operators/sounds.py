"""Sound files: refused by their header before they are unpacked, then mono at 16 kHz. Door of soundfile."""

from __future__ import annotations

import io
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engines.errors import MissingExtra
from engines.media import SOUND_RATE
from operators.errors import Rejected

Sound = NDArray[np.float32]
"""Mono sound at 16 kHz, float32 [samples] in -1..1."""
_RATES: Final = (4_000, 192_000)
_CHANNELS_MAX: Final = 8


@dataclass(frozen=True, slots=True)
class SoundLimits:
    """What a sound file may be: bytes as sent, and seconds unpacked."""

    size_max: int = 64 << 20
    seconds_max: float = 300.0


def decode_sound(data: bytes, limits: SoundLimits = SoundLimits()) -> Sound:
    """A WAV or FLAC file as mono sound at 16 kHz; channels are averaged.

    No more than `seconds_max` are ever unpacked, whatever the header says.

    Raises:
        Rejected: `too_large` (bytes, seconds), `not_a_sound` (another format, broken, empty, not numbers, a rate
            outside 4 to 192 kHz, more than 8 channels).
        MissingExtra: soundfile is not installed.
    """
    if len(data) > limits.size_max:
        raise Rejected("too_large", f"a sound file of {len(data)} bytes, at most {limits.size_max} are read")
    if data[:4] not in (b"RIFF", b"RF64", b"fLaC"):
        raise Rejected("not_a_sound", "neither WAV nor FLAC; send one of the two")
    try:
        import soundfile
    except ImportError as error:
        raise MissingExtra("sound files need soundfile; install it with `pip install 'affectstream[av]'`") from error
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            rate, channels, frames = int(file.samplerate), int(file.channels), int(file.frames)
            if not _RATES[0] <= rate <= _RATES[1] or not 1 <= channels <= _CHANNELS_MAX:
                raise Rejected("not_a_sound", f"{rate} Hz and {channels} channels; at most 192000 Hz and 8 channels")
            most = int(limits.seconds_max * rate)
            if frames > most:
                raise Rejected(
                    "too_large", f"{frames / rate:.0f} s of sound, at most {limits.seconds_max:.0f} s are read"
                )
            wide: NDArray[np.float32] = file.read(most, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError, TypeError, ValueError) as error:
        raise Rejected("not_a_sound", f"soundfile cannot read it: {error}") from error
    sound = wide.mean(1, dtype=np.float32)
    if not len(sound) or not bool(np.isfinite(sound).all()):
        raise Rejected("not_a_sound", "no samples in it" if not len(sound) else "samples that are no numbers")
    return at_rate(sound, rate)


def at_rate(sound: Sound, rate: int) -> Sound:
    """Sound of another rate brought to 16 kHz."""
    if rate == SOUND_RATE:
        return sound
    from scipy.signal import resample_poly  # its import takes as long as all of the command line's

    ratio = Fraction(SOUND_RATE, rate).limit_denominator(1000)
    found: Sound = resample_poly(sound, ratio.numerator, ratio.denominator).astype(np.float32)
    return found


def from_pcm16(data: bytes) -> Sound:
    """Sound from signed 16-bit little-endian samples at 16 kHz, as a microphone sends it.

    Raises:
        Rejected: an odd number of bytes.
    """
    if len(data) % 2:
        raise Rejected("not_a_sound", f"16-bit samples expected, got {len(data)} bytes")
    return np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32768)
