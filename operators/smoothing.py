"""Smoothing in event time: an exponential mean with a half-life, the same whatever order the values come in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from operators.errors import ConfigInvalid
from operators.records import F64


@dataclass(slots=True)
class Smoother:
    """Mean of timed values, each weighted by half for every `half_life_ms` it lies before the newest.

    A value that comes late takes the place its time gives it (forward decay, Cormode et al. 2009), so the mean depends
    on what was seen, not on the order it came in, up to rounding. `weight` falls when nothing new comes: ask `at`.
    """

    half_life_ms: int
    newest_ms: int | None = None
    weight: float = 0.0
    _sum: F64 | None = None

    def __post_init__(self) -> None:
        if self.half_life_ms < 1:
            raise ConfigInvalid(f"smoothing: half_life_ms expected 1 or more, got {self.half_life_ms}")

    def add(self, at_ms: int, value: F64, weight: float = 1.0) -> None:
        """Take in a value, float64 of any one shape, seen at `at_ms`, with a weight > 0."""
        if self._sum is None or self.newest_ms is None:
            self._sum, self.weight, self.newest_ms = value * weight, weight, at_ms
            return
        if at_ms > self.newest_ms:
            fade = self._fade(at_ms - self.newest_ms)
            self._sum, self.weight, self.newest_ms = self._sum * fade, self.weight * fade, at_ms
        else:
            weight *= self._fade(self.newest_ms - at_ms)
        self._sum = self._sum + value * weight
        self.weight += weight

    @property
    def value(self) -> F64 | None:
        """The mean; None before the first value, or when all of it has faded to nothing."""
        return None if self._sum is None or self.weight <= np.finfo(np.float64).tiny else self._sum / self.weight

    def at(self, now_ms: int) -> float:
        """The weight that is left at `now_ms`: 1 for one value seen now, a half one half-life later."""
        return 0.0 if self.newest_ms is None else self.weight * self._fade(max(0, now_ms - self.newest_ms))

    def _fade(self, age_ms: int) -> float:
        return float(0.5 ** (age_ms / self.half_life_ms))
