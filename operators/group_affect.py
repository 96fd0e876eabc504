"""What cameras, microphones and chat say of a room together: the numbers each seat has, from its sums over a window.

The formulas, where they come from and how far a camera that sees one face from the front can carry them stand in
`docs/classroom.md`. All are proxies that nobody has validated.

Signals here have contributors of their own (`Strand`): a seat that turns its camera on or off, or covers it, joins or
leaves them, and the veil guards that as it guards seats that come and go.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from operators.participation import AT, STEPS
from operators.records import F64, I64, MICRO, Bools

CAMERAS: Final = ("attention", "distraction", "engagement.seen", "synchrony")
"""Told of seats whose camera sends pictures."""
FACES: Final = ("expression", "fatigue")
"""Told of seats whose face could be read."""
READINGS: Final = (
    "feeling", "ambivalence", "confidence", "missing.picture", "missing.sound", "missing.text", "resolved", "tone",
)  # fmt: skip
"""Told of seats of which face, voice or text could be read."""
WATCHED: Final = (*CAMERAS, *FACES, *READINGS)
BIPOLAR: Final = ("synchrony", "expression", "feeling", "tone")
"""Range -1..1; all others 0..1."""
EYES_LEAST: Final = 15
"""Times that eyes must have been judged in a window before their share says anything: a quarter of a minute's."""
STEPS_LEAST: Final = 6
"""Parts of a window with pictures, of twelve, that a seat needs to be compared with others."""
MISSED: Final = 0.5
"""Share of moments without a modality from which fused values say that it is missing."""
_ACADEMIC: Final = (
    "ceiling: recall .68 over five academic emotions, with objects in view that this does not see (CLIP-CAER)"
)
NOTES: Final = {
    "attention": f"a face that can be read, not a mind that attends; {_ACADEMIC}",
    "distraction": f"no face in the picture, or one turned away; {_ACADEMIC}",
    "engagement.seen": _ACADEMIC,
    "fatigue": "a cascade finds no open eye: stands for PERCLOS, lowered eyes count as shut",
    "synchrony": "likeness of attention over twelve parts of the window, not of feeling",
    "resolved": f"on task and not negative for 30 s after confusion, which no face here shows; {_ACADEMIC}",
    "expression": "ceiling: accuracy about .85 on FER+ votes (VGG13)",
    "tone": "ceiling: listeners tell about .60 of RAVDESS",
    "feeling": "ceiling: CCC .47 for valence (AVEC 2017)",
    "ambivalence": "ceiling: average precision .26 (audio and text) and .21 (visual) per frame of BAH",
}
"""A remark on single signals, beside the note that every row has."""


def cameras(sums: I64) -> Bools:
    """Which seats have a camera that sent pictures: bool [m] from int64 [m, columns]."""
    found: Bools = (sums[:, AT["gone"]] == 0) & (sums[:, AT["frames"]] > 0)
    return found


def faces(sums: I64) -> Bools:
    """Which seats have a camera and a face in it that could be read: covering it is leaving."""
    found: Bools = (sums[:, AT["gone"]] == 0) & (sums[:, AT["looks"]] > 0)
    return found


def readings(sums: I64) -> Bools:
    """Which seats have fused readings."""
    found: Bools = (sums[:, AT["gone"]] == 0) & (sums[:, AT["moments"]] > 0)
    return found


def numbers(sums: I64) -> dict[str, F64]:
    """The number of each seat for each of `WATCHED`, float64 [m]; what `told` says no to is 0.

    Synchrony is of all seats given: the mean correlation of a seat's attention with that of each other one.
    """
    shut = _ratio(sums, "shut", "eyes")
    return {
        "attention": _ratio(sums, "seen", "frames"),
        "distraction": _ratio(sums, "away", "frames"),
        "fatigue": shut,
        "engagement.seen": _ratio(sums, "task", "looked") * (1 - shut),
        "synchrony": synchrony(*_attention(sums)),
        "expression": _ratio(sums, "expression", "looks"),
        "feeling": _ratio(sums, "feeling", "moments"),
        "ambivalence": _ratio(sums, "clash", "clashes"),
        "confidence": _ratio(sums, "sure", "moments"),
        "missing.picture": _ratio(sums, "no_picture", "moments"),
        "missing.sound": _ratio(sums, "no_sound", "moments"),
        "missing.text": _ratio(sums, "no_text", "moments"),
        "resolved": _ratio(sums, "resolved", "ended"),
        "tone": _ratio(sums, "tone", "sounds"),
    }


def told(sums: I64) -> dict[str, Bools]:
    """Which seats have something to say on each of `WATCHED`, bool [m]; the others are in no mean of it."""
    curve, there = _attention(sums)
    counted = {
        "attention": "frames", "distraction": "frames", "engagement.seen": "looked", "expression": "looks",
        "ambivalence": "clashes", "resolved": "ended", "tone": "sounds",
    }  # fmt: skip
    found = {name: sums[:, AT[counted.get(name, "moments")]] > 0 for name in WATCHED}
    found["fatigue"] = sums[:, AT["eyes"]] >= EYES_LEAST * MICRO
    found["synchrony"] = _varies(curve, there)
    return found


def flags(values: Mapping[str, float | None]) -> dict[str, str]:
    """Remarks on the values told of a room, by signal: what each stands for, and which modality was missing."""
    missing = [
        f"{what} {value:.0%}"
        for what in ("picture", "sound", "text")
        if (value := values.get(f"missing.{what}")) is not None and value >= MISSED
    ]
    found = dict(NOTES)
    if missing:
        said = f"missing in so many moments: {', '.join(missing)}"
        found |= {n: "; ".join(filter(None, (found.get(n), said))) for n in ("feeling", "ambivalence", "confidence")}
    return found


def synchrony(curve: F64, there: Bools) -> F64:
    """Mean Pearson correlation of each row with every other row that varies, float64 [m]; 0 for rows that do not.

    Args:
        curve: float64 [m, steps], a row per seat. there: bool [m, steps], what is known of it; a step that is not known
            counts as the seat's own mean.
    """
    moving = _varies(curve, there)
    own = curve[moving] - _means(curve, there)[moving, None]
    own = np.where(there[moving], own, 0.0)
    own = own / np.linalg.norm(own, axis=1, keepdims=True)
    out = np.zeros(len(curve))
    if len(own) > 1:
        out[moving] = (own @ own.sum(axis=0) - 1.0) / (len(own) - 1)
    return out


def _varies(curve: F64, there: Bools) -> Bools:
    apart = np.where(there, np.abs(curve - _means(curve, there)[:, None]), 0.0)
    found: Bools = (there.sum(axis=1) >= STEPS_LEAST) & (apart.max(axis=1, initial=0.0) > 1e-9)
    return found


def _means(curve: F64, there: Bools) -> F64:
    found: F64 = np.where(there, curve, 0.0).sum(axis=1) / np.maximum(there.sum(axis=1), 1)
    return found


def _attention(sums: I64) -> tuple[F64, Bools]:
    """Attention of each seat in each part of the window, float64 [m, STEPS], and where there were pictures."""
    frames = sums[:, [AT[f"frames_{k}"] for k in range(STEPS)]]
    seen = sums[:, [AT[f"seen_{k}"] for k in range(STEPS)]]
    return seen / np.maximum(frames, 1), frames > 0


def _ratio(sums: I64, total: str, count: str) -> F64:
    counted = sums[:, AT[count]]
    found: F64 = np.where(counted > 0, sums[:, AT[total]] / np.maximum(counted, 1), 0.0)
    return found
