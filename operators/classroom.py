"""The classroom domain: what a room does, never what one seat does. No cameras unless the policy gate lets them in.

Every signal is a mean over the consenting seats of a window, of a number each seat has; `operators/veil.py` decides
which seats, and whether anything is told at all. All are proxies that nobody has validated.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from engines.base import EngineSpec
from operators.domain import Derived, Domain, SeatRule, Sums, label_indexes
from operators.participation import AT, COLUMNS, columns
from operators.records import F64, I64, MICRO, Bools, PostBatch

TASK: Final = "goemotions28"
"""The head chat is scored with, where it arrives."""
SEATS: Final = 10
"""Consenting seats below which nothing is told, unless the settings ask for more."""
FLOOR: Final = 5
"""No setting goes below so many."""
SHORTEST_MS: Final = 60_000

NOTE: Final = (
    "proxy, not validated: engagement read even from video reached AUC .62 (grade 8) and .72 (grade 12) at best "
    "(Sümer et al.)"
)

NAMES: Final = (
    "engagement", "participation", "confusion", "pace", "hands", "mood",
    "answered", "right", "quickness", "answer.a", "answer.b", "answer.c", "answer.d",
    "coverage", "attention", "expression", "tone",
)  # fmt: skip
SIGNALS: Final = tuple(f"classroom.{name}" for name in NAMES)
_LOW: Final = tuple(-1.0 if name in ("pace", "mood", "expression", "tone") else 0.0 for name in NAMES)


def classroom(spec: EngineSpec, seats: int = SEATS) -> Domain:
    """The classroom domain; `seats`: the k of the k-seat rule.

    Raises:
        ConfigInvalid: the engine cannot score chat.
    """
    label_indexes(spec, TASK, ["confusion"])
    rule = SeatRule(max(seats, FLOOR), present, values, told_by, _LOW, NOTE)
    return Domain("classroom", (TASK,), COLUMNS, SIGNALS, channels, derive, seats=rule)


def channels(batch: PostBatch) -> I64:
    """What each event adds, int64 [n, columns]."""
    return columns(batch.texts)


def derive(sums: Sums) -> Derived:
    """Nothing: no value is read off the sums of a room, only off its seats."""
    unknown = np.full((len(sums.n), len(SIGNALS)), np.nan)
    return Derived(unknown, unknown, unknown)


def present(sums: I64) -> Bools:
    """Which seats take part: bool [m] from int64 [m, columns]; a seat that withdrew does not."""
    found: Bools = sums[:, AT["gone"]] == 0
    return found


def values(sums: I64) -> F64:
    """The number each seat has for each signal, float64 [m, signals], from int64 [m, columns].

    engagement 1 - 2^-acts (one act .5, two .75, ...; after four it hardly grows), participation 1 with any act,
    confusion 1 with "lost", else the mean of its chat lines, pace +1 "too fast" -1 "too slow", mood the mean valence of
    its chat (0 in silence), quickness the mean share of a minute left when it answered, attention the share of its
    pictures in which the face could be read, expression and tone the mean valence of its face and voice. A seat that
    did nothing has 0.
    """
    has = {name: sums[:, k] > 0 for name, k in AT.items()}
    out = np.zeros((len(sums), len(SIGNALS)))
    acts = np.minimum(sums[:, AT["acts"]] // MICRO, 16)
    put = dict(zip(NAMES, out.T, strict=True))
    put["engagement"][:] = 1 - 0.5**acts
    put["participation"][:] = has["acts"]
    put["confusion"][:] = np.where(has["lost"], 1.0, _mean(sums, "confusion", "chats"))
    put["pace"][:] = has["fast"].astype(np.int64) - has["slow"].astype(np.int64)
    put["hands"][:] = has["hand"]
    put["mood"][:] = _mean(sums, "valence", "chats")
    put["answered"][:] = has["answers"]
    put["right"][:] = _mean(sums, "right", "judged")
    put["quickness"][:] = _mean(sums, "pace", "answers")
    put["coverage"][:] = has["frames"]
    put["attention"][:] = _mean(sums, "seen", "frames")
    put["expression"][:] = _mean(sums, "expression", "looks")
    put["tone"][:] = _mean(sums, "tone", "sounds")
    for letter in "abcd":
        put[f"answer.{letter}"][:] = _mean(sums, f"option_{letter}", "answers")
    return out


def told_by(sums: I64) -> Bools:
    """Which seats have something to say on each signal, bool [m, signals]: a signal needs k of those as well."""
    out = np.ones((len(sums), len(SIGNALS)), np.bool_)
    for k, name in enumerate(NAMES):
        if name in ("right",):
            out[:, k] = sums[:, AT["judged"]] > 0
        elif name in ("quickness", "answered") or name.startswith("answer."):
            out[:, k] = sums[:, AT["answers"]] > 0
        elif name in ("coverage", "attention"):
            out[:, k] = sums[:, AT["frames"]] > 0
        elif name in ("expression", "tone"):
            out[:, k] = sums[:, AT["looks" if name == "expression" else "sounds"]] > 0
        elif name == "mood":
            out[:, k] = sums[:, AT["chats"]] > 0
    return out


def _mean(sums: I64, total: str, count: str) -> F64:
    counted = sums[:, AT[count]]
    found: F64 = np.where(counted > 0, sums[:, AT[total]] / np.maximum(counted, 1), 0.0)
    return found
