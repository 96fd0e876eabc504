"""What camera, microphone and chat say of one seat, fused at moments of 200 ms and handed on as words of five seconds.

Readings go to the moment within 100 ms of them (`operators/fuse.py`): a picture to its own, a window of voice to the
moments of its last second, a line of chat to those of the five seconds after it. A slot of five seconds of event time
is told once nothing can reach it any more; what comes later is left out and counted in `late`. The words do not depend
on the order readings come in, and one that comes twice counts once.

A sign of confusion (the button "lost", or a line whose P(confusion) is above `TAU`) opens an episode. It is resolved
where, within 120 s of its last sign, the seat is on task and not negative for `CALM_MS` together: D'Mello and
Graesser's confusion followed by engaged flow, as far as a face that turns to the camera can stand for it. Else it ends
unresolved.

Kept in memory for one seat, ten seconds at most, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from operators.fuse import NEAR_MS, STEP_MS, Fused, Fusion, moment_of
from operators.participation import face, mix, voice
from operators.records import F64, MICRO

SLOT_MS: Final = 5_000
PATIENCE_MS: Final = 3_000
"""How long a slot waits for what is still on its way: sound comes by the second, and is heard in windows."""
HOP_MS: Final = 1_000
"""What a window of voice stands for: its last second."""
SAID_MS: Final = 5_000
"""What a line of chat stands for, from when it was sent."""
TAU: Final = 0.5
CALM_MS: Final = 30_000
RESOLVED_MS: Final = 120_000
FACE, VOICE, TEXT = "face", "voice", "text"
WEIGHTS: Final = {FACE: 0.402, VOICE: 0.304, TEXT: 0.294}
"""Of the pool: equal weights scaled by the skill of each model on its own development data, as
`python benchmarks/fusion_weights.py` prints it. There is no set here in which one person is seen, heard and read."""


class _Look(NamedTuple):
    """One picture. `eyes`: 1 open, 0 shut, -1 not judged. `shares`: bytes of its distribution, empty = not read."""

    at_ms: int
    away: bool
    eyes: int
    shares: bytes


@dataclass(slots=True)
class _Slot:
    """Five seconds. `doubts`: P(confusion) by moment. `sign`: confusion was shown in it."""

    looks: set[_Look] = field(default_factory=set)
    tones: set[tuple[int, bytes]] = field(default_factory=set)
    fused: dict[int, Fused] = field(default_factory=dict)
    doubts: dict[int, float] = field(default_factory=dict)
    sign: bool = False


class SeatReadings:
    """The readings of one seat. Distributions are float64 [3]: negative, neutral, positive. Not thread-safe.

    Example:
        readings.look(at_ms, shares, away=False, eyes_open=True)
        for time_ms, word in readings.words(now_ms): ...
    """

    def __init__(self) -> None:
        self._fusion = Fusion(WEIGHTS, PATIENCE_MS)
        self._slots: dict[int, _Slot] = {}
        self._closed_ms = 0
        self._last_ms = 0
        self._open_ms: int | None = None
        self._calm_ms = 0
        self._late = 0

    @property
    def late(self) -> int:
        """What came after it could be counted: slots that were over, and moments that were."""
        return self._late + self._fusion.late

    def look(self, at_ms: int, shares: F64 | None, away: bool, eyes_open: bool | None) -> None:
        """A picture. `shares`: of the face that stands for the seat, None = none could be read. `away`: there was no
        face, or it was turned away. `eyes_open`: None = not judged."""
        slot = self._slot(moment_of(at_ms))
        if slot is None:
            return
        eyes = -1 if eyes_open is None else int(eyes_open)
        slot.looks.add(_Look(at_ms, away, eyes, b"" if shares is None else shares.tobytes()))
        if shares is not None:
            self._fusion.add(FACE, at_ms, shares)

    def hear(self, end_ms: int, shares: F64) -> None:
        """A window of voice that ended at `end_ms`."""
        slot = self._slot(moment_of(end_ms))
        if slot is None:
            return
        slot.tones.add((end_ms, shares.tobytes()))
        for at_ms in range(end_ms - HOP_MS + STEP_MS, end_ms + 1, STEP_MS):
            if self._slot(moment_of(at_ms)) is not None:
                self._fusion.add(VOICE, at_ms, shares)

    def say(self, at_ms: int, shares: F64, confusion: float) -> None:
        """A line of chat and its P(confusion)."""
        self._doubt(at_ms, confusion)
        for moment in _held(at_ms):
            if self._slot(moment) is not None:
                self._fusion.add(TEXT, moment, shares)

    def lost(self, at_ms: int) -> None:
        """The button "I am lost"."""
        self._doubt(at_ms, 1.0)

    def words(self, now_ms: int) -> list[tuple[int, str]]:
        """The words of the slots that are over at `now_ms`, each with its time, oldest first, each once."""
        for fused in self._fusion.tell(now_ms):
            slot = self._slot(fused.at_ms)
            if slot is not None:
                slot.fused[fused.at_ms] = fused
        end_ms = (now_ms - NEAR_MS - PATIENCE_MS) // SLOT_MS * SLOT_MS
        found = [
            (begin + SLOT_MS - 1, word)
            for begin in sorted(begin for begin in self._slots if begin < end_ms)
            for word in self._told(begin, self._slots.pop(begin))
        ]
        self._closed_ms = max(self._closed_ms, end_ms)
        return found

    def _slot(self, moment: int) -> _Slot | None:
        begin = moment // SLOT_MS * SLOT_MS
        if begin < self._closed_ms:
            self._late += 1
            return None
        return self._slots.setdefault(begin, _Slot())

    def _doubt(self, at_ms: int, confusion: float) -> None:
        first = self._slot(moment_of(at_ms))
        if first is not None:
            first.sign |= confusion > TAU
        for moment in _held(at_ms):
            slot = self._slot(moment)
            if slot is not None:
                slot.doubts[moment] = max(confusion, slot.doubts.get(moment, 0.0))

    def _told(self, begin: int, slot: _Slot) -> Iterator[str]:
        looks = sorted(slot.looks)
        read = [np.frombuffer(one.shares) for one in looks if one.shares]
        if looks:
            judged = [one.eyes for one in looks if one.eyes >= 0]
            away = sum(one.away for one in looks)
            yield face(len(looks), len(read), _valence(read), away, len(judged), judged.count(0))
        if slot.tones:
            yield voice(_valence([np.frombuffer(shares) for _, shares in sorted(slot.tones)]))
        task, moments = _task(looks, slot)
        ended, resolved = self._confusion(begin, slot, bool(read) and 2 * len(read) >= len(looks), task, moments)
        if slot.fused or looks or ended:
            yield mix(_sums([slot.fused[at] for at in sorted(slot.fused)]), moments, _micro(task), ended, resolved)

    def _confusion(self, begin: int, slot: _Slot, facing: bool, task: float, moments: int) -> tuple[bool, bool]:
        """(an episode of confusion ended in this slot, it was resolved)."""
        joined, self._last_ms = self._last_ms == begin, begin + SLOT_MS
        if slot.sign:
            self._open_ms, self._calm_ms = begin + SLOT_MS, 0
            return False, False
        if self._open_ms is None:
            return False, False
        calm = facing and task >= 0.5 * moments
        self._calm_ms = (self._calm_ms if joined else 0) + SLOT_MS if calm else 0
        over = begin + SLOT_MS - self._open_ms
        if self._calm_ms >= CALM_MS and over <= RESOLVED_MS:
            self._open_ms = None
            return True, True
        if over >= RESOLVED_MS:
            self._open_ms = None
            return True, False
        return False, False


def _held(at_ms: int) -> range:
    first = moment_of(at_ms)
    return range(first, first + SAID_MS, STEP_MS)


def _task(looks: list[_Look], slot: _Slot) -> tuple[float, int]:
    """On-task share times (neutral + positive + half of confusion), summed over the moments that have pictures; and
    how many these are."""
    facing: dict[int, list[bool]] = {}
    for one in looks:
        facing.setdefault(moment_of(one.at_ms), []).append(bool(one.shares))
    total = 0.0
    for moment in sorted(facing):
        fused = slot.fused.get(moment)
        if fused is not None:
            well = float(fused.shares[1] + fused.shares[2]) + 0.5 * slot.doubts.get(moment, 0.0)
            total += sum(facing[moment]) / len(facing[moment]) * min(1.0, well)
    return total, len(facing)


def _sums(fused: list[Fused]) -> tuple[int, ...]:
    """Moments, sums of confidence and valence, moments of two modalities and more, sum of their ambivalence, and the
    moments that lacked face, voice and text; sums in millionths."""
    clashes = [one.ambivalence for one in fused if one.ambivalence is not None]
    missing = [sum(name in one.missing for one in fused) for name in (FACE, VOICE, TEXT)]
    sure = sum(one.confidence for one in fused)
    feeling = sum(float(one.shares[2] - one.shares[0]) for one in fused)
    return (len(fused), _micro(sure), _micro(feeling), len(clashes), _micro(sum(clashes)), *missing)


def _valence(shares: list[F64]) -> int:
    return _micro(float(np.mean([one[2] - one[0] for one in shares]))) if shares else 0


def _micro(value: float) -> int:
    return round(value * MICRO)
