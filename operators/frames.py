"""What a window hands on: all its signals for some entities, as columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from operators.domain import Derived, Sums
from operators.records import F64, I64
from operators.voices import Voices
from operators.window import WindowSpec

NOTHING = Derived(*(np.zeros((0, 0)) for _ in range(3)))
"""The values of a frame before they are worked out."""


@dataclass(frozen=True, slots=True)
class SignalFrame:
    """All signals of one window for some entities, as columns (k entities, s signals).

    `value`, `lo`, `hi`: float64 [k, s], NaN = not defined for that entity. `revision`: int64 [k]. `capped`,
    `sampled`: float64 [k], shares of the weight taken from loud authors and of the posts that was scored. `buzz`:
    float64 [k], weighted posts. `closed`: the watermark has passed the window's end. `corrected`: the values with the
    model's confusions undone, None where the domain has none. `seats`: sums by author, ids = rows of this frame, None
    unless the domain asks for them. `models`: every model that scored posts of the window, sorted; empty = not known.
    `fast`: float64 [k], share of the scored posts that a cascade answered without its better model; None = none at all.
    """

    window: WindowSpec
    end_ms: int
    names: list[str]
    n: I64
    n_eff: F64
    authors: I64
    revision: I64
    capped: F64
    sampled: F64
    buzz: F64
    sums: Sums
    derived: Derived
    closed: bool
    watermark_ms: int
    sealed: bool = False
    told: bool = True
    corrected: Derived | None = None
    seats: Voices | None = None
    models: tuple[str, ...] = ()
    fast: F64 | None = None
