"""Recorded feature streams of made-up seats, and what plain Python makes of them: no part of ours is used here.

A reading is (arrival, kind, at_ms, payload): `look` (shares or None, away, eyes), `hear` (shares), `say` (shares,
confusion), `lost`. The oracle goes from readings to the number each seat has in each minute by the formulas of
docs/classroom.md, with what words carry in whole millionths rounded once a slot of five seconds.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from typing import Any

Reading = tuple[int, str, int, tuple[Any, ...]]
Shares = tuple[float, float, float]
MINUTE, SLOT, STEP = 60_000, 5_000, 200
WEIGHTS = {"face": 0.402, "voice": 0.304, "text": 0.294}
UNIT = 1_000_000


def shares(dice: random.Random, lean: float = 0.0) -> Shares:
    """A distribution over negative, neutral, positive; `lean` > 0 = pleased."""
    raw = [dice.random() + 0.02 + max(0.0, -lean), dice.random() + 0.02, dice.random() + 0.02 + max(0.0, lean)]
    return (raw[0] / sum(raw), raw[1] / sum(raw), raw[2] / sum(raw))


def readings(seed: int, minutes: int, start_ms: int, kinds: str = "look hear say lost") -> list[Reading]:
    """Readings of one seat, by arrival; each arrives up to two seconds after it was taken."""
    dice = random.Random(f"seat/{seed}")
    here = [one for one in kinds.split() if one != "look" or seed % 7]  # every seventh seat has no camera
    found: list[Reading] = []
    end = start_ms + minutes * MINUTE
    at = start_ms + dice.randrange(STEP)
    away_until = start_ms
    while "look" in here and at < end:
        if dice.random() < 0.02:
            away_until = at + dice.randrange(12_000)
        away = at < away_until
        read = not away and dice.random() < 0.95
        eyes = None if not read or dice.random() < 0.6 else dice.random() > 0.1 * (seed % 5)
        found.append((0, "look", at, (shares(dice, 0.8 - (seed % 3)) if read else None, away, eyes)))
        at += dice.choice((200, 200, 400, 590))
    for at in range(start_ms + 2_000, end, 1_000):
        if "hear" in here and seed % 2 and dice.random() < 0.3:
            found.append((0, "hear", at, (shares(dice),)))
        if "say" in here and dice.random() < 0.03:
            found.append((0, "say", at + dice.randrange(900), (shares(dice), dice.random())))
        if "lost" in here and dice.random() < 0.01:
            found.append((0, "lost", at + dice.randrange(900), ()))
    late = {"look": 700, "hear": 2_000, "say": 1, "lost": 1}
    return sorted((at + dice.randrange(late[kind]), kind, at, held) for _, kind, at, held in found)


def moment(at: int) -> int:
    return math.floor((at + 100) / STEP) * STEP


def entropy(p: list[float]) -> float:
    return -math.fsum(x * math.log2(x) for x in p if x > 0)


def pool(said: dict[str, list[Shares]]) -> tuple[list[float], float, float | None]:
    """(fused shares, confidence, ambivalence) of one moment."""
    means = {name: [math.fsum(one[k] for one in parts) / len(parts) for k in range(3)] for name, parts in said.items()}
    total = math.fsum(WEIGHTS[name] for name in means)
    own = {name: WEIGHTS[name] / total for name in means}
    mixed = [math.fsum(own[name] * means[name][k] for name in means) for k in range(3)]
    apart = None
    if len(means) > 1:
        within = math.fsum(own[name] * entropy(means[name]) for name in means)
        apart = min(1.0, max(0.0, (entropy(mixed) - within) / entropy(list(own.values()))))
    return mixed, min(1.0, total), apart


def slots(said: list[Reading]) -> dict[int, dict[str, float]]:
    """What one seat's readings come to in each slot, rounded to millionths as words are."""
    heard: dict[int, dict[str, list[Shares]]] = defaultdict(lambda: defaultdict(list))
    doubt: dict[int, float] = defaultdict(float)
    looks: dict[int, list[Reading]] = defaultdict(list)
    tones: dict[int, list[Shares]] = defaultdict(list)
    signs = set()
    for one in said:
        _, kind, at, held = one
        if kind == "look":
            looks[moment(at)].append(one)
            if held[0] is not None:
                heard[moment(at)]["face"].append(held[0])
        elif kind == "hear":
            tones[moment(at) // SLOT * SLOT].append(held[0])
            for back in range(5):
                heard[moment(at - back * STEP)]["voice"].append(held[0])
        else:
            confusion = held[1] if kind == "say" else 1.0
            if confusion > 0.5:
                signs.add(moment(at) // SLOT * SLOT)
            for ahead in range(25):
                then = moment(at) + ahead * STEP
                doubt[then] = max(doubt[then], confusion)
                if kind == "say":
                    heard[then]["text"].append(held[0])
    out: dict[int, dict[str, float]] = {}
    begins = {at // SLOT * SLOT for at in (*heard, *looks, *doubt)} | set(tones)
    for begin in sorted(begins):
        inside = range(begin, begin + SLOT, STEP)
        fused = {at: pool(heard[at]) for at in inside if heard.get(at)}
        seen = [one for at in inside for one in looks.get(at, [])]
        read = [one[3][0] for one in seen if one[3][0] is not None]
        task = 0.0
        for at in inside:
            here = looks.get(at, [])
            if here and at in fused:
                facing = sum(one[3][0] is not None for one in here) / len(here)
                task += facing * min(1.0, fused[at][0][1] + fused[at][0][2] + 0.5 * doubt.get(at, 0.0))
        clashes = [apart for _, _, apart in fused.values() if apart is not None]
        out[begin] = {
            "frames": len(seen),
            "seen": len(read),
            "away": sum(one[3][1] for one in seen),
            "eyes": sum(one[3][2] is not None for one in seen),
            "shut": sum(one[3][2] is False for one in seen),
            "face": round(UNIT * math.fsum(s[2] - s[0] for s in read) / len(read)) / UNIT if read else math.nan,
            "voice": _mean_valence(tones.get(begin, [])),
            "moments": len(fused),
            "sure": round(UNIT * math.fsum(c for _, c, _ in fused.values())) / UNIT,
            "feeling": round(UNIT * math.fsum(m[2] - m[0] for m, _, _ in fused.values())) / UNIT,
            "clashes": len(clashes),
            "clash": round(UNIT * math.fsum(clashes)) / UNIT,
            **{f"no_{name}": sum(name not in heard[at] for at in fused) for name in WEIGHTS},
            "looked": sum(bool(looks.get(at)) for at in inside),
            "task": round(UNIT * task) / UNIT,
            "sign": begin in signs,
        }
    _episodes(out)
    return out


def _mean_valence(said: list[Shares]) -> float:
    return round(UNIT * math.fsum(s[2] - s[0] for s in said) / len(said)) / UNIT if said else math.nan


def _episodes(out: dict[int, dict[str, float]]) -> None:
    """Mark the slots in which an episode of confusion ended, and was resolved."""
    last, run, before = None, 0, None
    for begin in sorted(out):
        slot = out[begin]
        slot["ended"] = slot["resolved"] = 0
        run = run if before == begin - SLOT else 0
        before = begin
        if slot["sign"]:
            last, run = begin, 0
        elif last is not None:
            good = slot["seen"] > 0 and slot["seen"] >= slot["frames"] / 2 and slot["task"] >= slot["looked"] / 2
            run = run + 1 if good else 0
            waited = (begin - last) // SLOT
            if run >= 6 and waited <= 24:
                slot["ended"] = slot["resolved"] = 1
            elif waited >= 24:
                slot["ended"] = 1
            last = None if slot["ended"] else last


def numbers(of: dict[int, dict[str, float]], begin: int) -> dict[str, float | None]:
    """The number of a seat for each signal in the minute from `begin`, None = it has nothing to say on it.

    `curve`: its attention in each twelfth of the minute, for the synchrony of all.
    """
    mine = [of[at] for at in range(begin, begin + MINUTE, SLOT) if at in of]
    total: dict[str, float] = {name: math.fsum(s[name] for s in mine) for name in (mine[0] if mine else ())}
    faces = [s["face"] for s in mine if not math.isnan(s["face"])]
    tones = [s["voice"] for s in mine if not math.isnan(s["voice"])]

    def per(name: str, count: str) -> float | None:
        return total[name] / total[count] if total.get(count) else None

    shut = per("shut", "eyes") or 0.0
    seen = per("task", "looked")
    return {
        "attention": per("seen", "frames"),
        "distraction": per("away", "frames"),
        "fatigue": per("shut", "eyes") if total.get("eyes", 0) >= 15 else None,
        "engagement.seen": None if seen is None else seen * (1 - shut),
        "expression": math.fsum(faces) / len(faces) if faces else None,
        "tone": math.fsum(tones) / len(tones) if tones else None,
        "feeling": per("feeling", "moments"),
        "ambivalence": per("clash", "clashes"),
        "confidence": per("sure", "moments"),
        "missing.picture": per("no_face", "moments"),
        "missing.sound": per("no_voice", "moments"),
        "missing.text": per("no_text", "moments"),
        "resolved": per("resolved", "ended"),
    }


def curve(of: dict[int, dict[str, float]], begin: int) -> list[float | None]:
    slot = (of.get(begin + k * SLOT) for k in range(12))
    return [s["seen"] / s["frames"] if s and s["frames"] else None for s in slot]
