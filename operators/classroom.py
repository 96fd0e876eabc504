"""The classroom domain: what a room does, never what one seat does. No cameras unless the policy gate lets them in.

Every signal is a mean over the consenting seats of a window, of a number each seat has; `operators/veil.py` decides
which seats, and whether anything is told at all. All are proxies that nobody has validated. What cameras and
microphones add (`operators/group_affect.py`) is there only where the settings declare them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

import numpy as np

from engines.base import EngineSpec
from operators.domain import Derived, Domain, SeatRule, Strand, Sums, label_indexes
from operators.group_affect import (
    BIPOLAR,
    CAMERAS,
    FACES,
    READINGS,
    WATCHED,
    cameras,
    faces,
    flags,
    numbers,
    readings,
    told,
)
from operators.participation import AT, COLUMNS, STEPS, columns
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
    "engagement", "participation", "confusion", "confused", "pace", "hands", "mood",
    "answered", "right", "quickness", "answer.a", "answer.b", "answer.c", "answer.d",
)  # fmt: skip
ALL_NAMES: Final = (*NAMES, "coverage", *WATCHED)
"""With those of cameras and microphones."""
SIGNALS: Final = tuple(f"classroom.{name}" for name in ALL_NAMES)


def classroom(spec: EngineSpec, seats: int = SEATS, window_ms: int = SHORTEST_MS, watched: bool = False) -> Domain:
    """The classroom domain.

    Args:
        seats: the k of the k-seat rule. window_ms: length of the window. watched: cameras or microphones are declared.

    Raises:
        ConfigInvalid: the engine cannot score chat.
    """
    label_indexes(spec, TASK, ["confusion"])
    names = ALL_NAMES if watched else NAMES
    strands = [Strand("", present, _places(names, [name for name in names if name not in WATCHED]))]
    if watched:
        strands += [
            Strand("cameras", cameras, _places(names, CAMERAS)),
            Strand("faces", faces, _places(names, FACES)),
            Strand("readings", readings, _places(names, READINGS)),
        ]
    rule = SeatRule(
        k=max(seats, FLOOR),
        strands=tuple(strands),
        values=partial(_values, names),
        told_by=partial(_told_by, names),
        own=tuple(name in WATCHED for name in names),
        low=tuple(-1.0 if name in ("pace", "mood", *BIPOLAR) else 0.0 for name in names),
        note=NOTE,
        flags=partial(_flags, names),
    )
    signals = tuple(f"classroom.{name}" for name in names)
    read = partial(channels, window_ms)
    return Domain("classroom", (TASK,), COLUMNS, signals, read, partial(derive, len(names)), seats=rule)


def channels(window_ms: int, batch: PostBatch) -> I64:
    """What each event adds, int64 [n, columns]."""
    return columns(batch.texts, (batch.times_ms % window_ms * STEPS // window_ms).tolist())


def derive(signals: int, sums: Sums) -> Derived:
    """Nothing: no value is read off the sums of a room, only off its seats."""
    unknown = np.full((len(sums.n), signals), np.nan)
    return Derived(unknown, unknown, unknown)


def present(sums: I64) -> Bools:
    """Which seats take part: bool [m] from int64 [m, columns]; a seat that withdrew does not."""
    found: Bools = sums[:, AT["gone"]] == 0
    return found


def values(sums: I64) -> dict[str, F64]:
    """The number each seat has for each signal, float64 [m], from int64 [m, columns].

    engagement 1 - 2^-acts (one act .5, two .75, ...; after four it hardly grows), participation 1 with any act,
    confusion 1 with "lost", else the mean of its chat lines, confused 1 with "lost" or a line above P .5, pace +1 "too
    fast" -1 "too slow", mood the mean valence of its chat (0 in silence), quickness the mean share of a minute left
    when it answered, coverage 1 with a camera that sends pictures. A seat that did nothing has 0.
    """
    has = {name: sums[:, k] > 0 for name, k in AT.items()}
    acts = np.minimum(sums[:, AT["acts"]] // MICRO, 16)
    found = {
        "engagement": 1 - 0.5**acts,
        "participation": has["acts"].astype(np.float64),
        "confusion": np.where(has["lost"], 1.0, _mean(sums, "confusion", "chats")),
        "confused": has["confused"].astype(np.float64),
        "pace": has["fast"].astype(np.float64) - has["slow"],
        "hands": has["hand"].astype(np.float64),
        "mood": _mean(sums, "valence", "chats"),
        "answered": has["answers"].astype(np.float64),
        "right": _mean(sums, "right", "judged"),
        "quickness": _mean(sums, "pace", "answers"),
        "coverage": has["frames"].astype(np.float64),
    }
    options = {f"answer.{letter}": _mean(sums, f"option_{letter}", "answers") for letter in "abcd"}
    return found | options | numbers(sums)


def told_by(sums: I64) -> dict[str, Bools]:
    """Which seats have something to say on each signal, bool [m]: a signal needs k of those as well."""
    by = {"right": "judged", "mood": "chats", "coverage": "frames"}
    by |= dict.fromkeys(("quickness", "answered", *(f"answer.{letter}" for letter in "abcd")), "answers")
    everyone = np.ones(len(sums), np.bool_)
    found = {name: sums[:, AT[by[name]]] > 0 if name in by else everyone for name in (*NAMES, "coverage")}
    return found | told(sums)


def _values(names: tuple[str, ...], sums: I64) -> F64:
    found = values(sums)
    return np.stack([found[name] for name in names], axis=1)


def _told_by(names: tuple[str, ...], sums: I64) -> Bools:
    found = told_by(sums)
    return np.stack([found[name] for name in names], axis=1)


def _flags(names: tuple[str, ...], told_values: Mapping[int, float | None]) -> dict[int, str]:
    """Remarks by position, of the values told of a room's strand by position."""
    found = flags({names[k]: value for k, value in told_values.items()})
    return {k: found[names[k]] for k in told_values if names[k] in found}


def _places(names: tuple[str, ...], of: Sequence[str]) -> tuple[int, ...]:
    return tuple(names.index(name) for name in of)


def _mean(sums: I64, total: str, count: str) -> F64:
    counted = sums[:, AT[count]]
    found: F64 = np.where(counted > 0, sums[:, AT[total]] / np.maximum(counted, 1), 0.0)
    return found
