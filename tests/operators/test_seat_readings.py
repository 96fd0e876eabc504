"""Readings of a seat become words: equal to plain Python, whatever the order, repeats or missing modalities."""

from __future__ import annotations

import math
import os
import random
from pathlib import Path

import numpy as np
import pytest

from benchmarks.fusion_weights import faces, scaled, skill, texts, voices
from operators.fuse import NEAR_MS
from operators.participation import AT, columns
from operators.records import MICRO
from operators.seat_readings import CALM_MS, PATIENCE_MS, RESOLVED_MS, SLOT_MS, WEIGHTS, SeatReadings
from tests.operators import features
from tests.operators.features import Reading

START = 1_700_000_040_000
GLAD, SAD = (0.1, 0.2, 0.7), (0.7, 0.2, 0.1)


def feed(seat: SeatReadings, said: list[Reading], every_ms: int = 200) -> list[tuple[int, str]]:
    """Readings as they arrive, the clock ticking between them; then time goes on until all is told."""
    found: list[tuple[int, str]] = []
    now = said[0][0] if said else START
    for arrival, kind, at, held in said:
        while now + every_ms <= arrival:
            now += every_ms
            found += seat.words(now)
        if kind == "look":
            seat.look(at, None if held[0] is None else np.array(held[0]), held[1], held[2])
        elif kind == "hear":
            seat.hear(at, np.array(held[0]))
        elif kind == "say":
            seat.say(at, np.array(held[0]), held[1])
        else:
            seat.lost(at)
    return found + seat.words(now + 60_000)


def by_slot(words: list[tuple[int, str]]) -> dict[int, dict[str, float]]:
    """What the words of each slot add, in whole units."""
    out: dict[int, dict[str, float]] = {}
    for at, word in words:
        row = columns([word])[0]
        slot = out.setdefault(at // SLOT_MS * SLOT_MS, dict.fromkeys(AT, 0.0))
        for name, k in AT.items():
            slot[name] += float(row[k]) / MICRO
    return out


SAME = {name: name for name in ("frames", "seen", "away", "eyes", "shut", "moments", "clashes", "looked", "task")}
SAME |= {"sure": "sure", "feeling": "feeling", "clash": "clash", "ended": "ended", "resolved": "resolved"}
SAME |= {"no_picture": "no_face", "no_sound": "no_voice", "no_text": "no_text"}


@pytest.mark.parametrize("seed", range(6))
def test_words_are_what_plain_python_makes_of_the_readings(seed: int) -> None:
    said = features.readings(seed, 4, START)
    got, want = by_slot(feed(SeatReadings(), said)), features.slots(said)
    told = {begin for begin, slot in want.items() if slot["moments"] or slot["frames"] or slot["ended"]}
    assert set(got) == told
    assert WEIGHTS == features.WEIGHTS
    for begin in told:
        for ours, theirs in SAME.items():
            assert got[begin][ours] == pytest.approx(want[begin][theirs], abs=1e-9), (begin, ours)
        for ours, count, theirs in (("expression", "looks", "face"), ("tone", "sounds", "voice")):
            assert bool(got[begin][count]) == (not math.isnan(want[begin][theirs])), (begin, ours)
            if got[begin][count]:
                assert got[begin][ours] == pytest.approx(want[begin][theirs], abs=1e-9), (begin, ours)


@pytest.mark.parametrize("seed", range(1, 5))
def test_order_and_repeats_change_no_word(seed: int) -> None:
    said, dice = features.readings(seed, 2, START), random.Random(seed)
    first = feed(SeatReadings(), said)
    assert len(first) > 30
    for _ in range(3):
        other = [(dice.randrange(at, at + 2_000), kind, at, held) for _, kind, at, held in said + dice.sample(said, 80)]
        seat = SeatReadings()
        assert feed(seat, sorted(other, key=lambda one: one[0])) == first
        assert seat.late == 0


@pytest.mark.parametrize("gone", ["look", "hear", "say", "look hear", "look say", "hear say"])
def test_what_is_missing_lowers_confidence_and_is_named(gone: str) -> None:
    kinds = [kind for kind in ("look", "hear", "say") if kind not in gone.split()]
    said = features.readings(3, 2, START, " ".join(["look", "hear", "say"]))
    kept = [one for one in said if one[1] in kinds]
    whole, part = (by_slot(feed(SeatReadings(), one)) for one in (said, kept))
    sure = [
        sum(slot["sure"] for slot in one.values()) / sum(s["moments"] for s in one.values()) for one in (whole, part)
    ]
    missing = {"look": "no_picture", "hear": "no_sound", "say": "no_text"}
    for kind in gone.split():
        assert all(slot[missing[kind]] == slot["moments"] for slot in part.values())
    if "look" in gone:
        assert all(slot["frames"] == 0 for slot in part.values())
    assert sure[1] <= sum(WEIGHTS[n] for k, n in (("look", "face"), ("hear", "voice"), ("say", "text")) if k in kinds)
    assert sure[1] < sure[0] or gone == "look"  # without faces the moments that are left are those of voice and text


def test_what_comes_late_is_left_out_and_counted() -> None:
    seat = SeatReadings()
    seat.look(START, np.array(GLAD), away=False, eyes_open=None)
    assert seat.words(START + SLOT_MS + NEAR_MS + PATIENCE_MS - 1) == []
    assert len(seat.words(START + SLOT_MS + NEAR_MS + PATIENCE_MS)) == 2
    seat.look(START + 400, np.array(GLAD), away=False, eyes_open=None)
    assert seat.late == 1
    assert seat.words(START + 10 * SLOT_MS) == []


@pytest.mark.data
def test_the_weights_are_those_that_development_data_give() -> None:
    pytest.importorskip("onnxruntime")
    data = Path(os.environ["AFFECT_DATA"])
    said = {"face": faces(data, 10_000), "voice": voices(data, 10_000), "text": texts(data, 10_000)}
    assert scaled({name: skill(one) for name, one in said.items()}) == pytest.approx(WEIGHTS, abs=5e-4)


def lesson_of(facing: list[bool], lost: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """(second, ended, resolved) where an episode ended: a picture a second, a glad face where `facing`, "lost" at
    the seconds `lost`."""
    said: list[Reading] = []
    for second, there in enumerate(facing):
        at = START + 1_000 * second
        said.append((at, "look", at, (GLAD if there else None, not there, None)))
        if second in lost:
            said.append((at, "lost", at, ()))
    slots = by_slot(feed(SeatReadings(), said))
    return [
        ((at - START) // 1_000, int(slot["ended"]), int(slot["resolved"]))
        for at, slot in sorted(slots.items())
        if slot["ended"]
    ]


def test_confusion_is_resolved_by_calm_within_two_minutes_and_not_otherwise() -> None:
    calm, late = CALM_MS // 1_000, RESOLVED_MS // 1_000
    assert lesson_of([True] * 60, (7,)) == [(5 + calm, 1, 1)]
    assert lesson_of([True] * 60, ()) == []
    assert lesson_of([True] * 60, (7, 22)) == [(20 + calm, 1, 1)], "a further sign begins the wait anew"
    assert lesson_of([False] * 200, (7,)) == [(5 + late, 1, 0)], "nobody faces the lesson"
    there = [True] * 10 + [False] * 60 + [True] * 60
    assert lesson_of(there, (7,)) == [(65 + calm, 1, 1)]
    assert lesson_of([True] * 10 + [False] * 105 + [True] * 60, (7,)) == [(5 + late, 1, 0)], "calm came too late"
