"""The veil: k seats, trimming, rounding, the differencing guard; and an attacker who knows who came and went."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from engines.stub import StubEngine
from operators.classroom import ALL_NAMES, FLOOR, NAMES, NOTE, classroom
from operators.domain import Derived, Domain, SeatRule, Sums
from operators.frames import SignalFrame
from operators.group_affect import READINGS
from operators.participation import AT, COLUMNS
from operators.records import MICRO
from operators.veil import MOST_SETS, STALE, STEP, Veil
from operators.voices import LEADING, Voices
from operators.window import WindowSpec

WINDOW = WindowSpec.parse("1m", 10_000)
MINUTE = 60_000
K = 10
DOMAIN = classroom(StubEngine().spec)
WATCHED = classroom(StubEngine().spec, watched=True)
STRANDS = ("", "cameras", "faces", "readings")
"""In the order of the rows that a watched room has."""


def frame(end: int, seats: dict[int, dict[str, int]], name: str = "room:1") -> SignalFrame:
    """A sealed window of one room: seat -> its columns (in whole units)."""
    hashes = np.array(sorted(seats), np.uint64)
    sums = np.zeros((len(seats), LEADING + len(COLUMNS)), np.int64)
    for row, seat in enumerate(sorted(seats)):
        sums[row, 0] = 1
        for column, value in seats[seat].items():
            sums[row, LEADING + AT[column]] = value * MICRO
    one = np.ones(2, np.int64)
    floats = np.ones(2)
    empty = Derived(*(np.zeros((2, len(NAMES))) for _ in range(3)))
    return SignalFrame(
        WINDOW, end * MINUTE, [name, "all:*"], one, floats, one, one, floats, floats, floats,
        Sums.plain(np.zeros((2, 1), np.int64), one, one > 1), empty, True, end * MINUTE,
        seats=Voices(np.zeros(len(seats), np.int32), hashes, sums),
    )  # fmt: skip


def rule(domain: Domain = DOMAIN) -> SeatRule:
    assert domain.seats is not None
    return domain.seats


def told(out: SignalFrame, name: str = "participation", strand: str = "") -> float | None:
    value = float(out.derived.value[STRANDS.index(strand), ALL_NAMES.index(name)])
    return None if np.isnan(value) else value


def acting(count: int, active: int, first: int = 1) -> dict[int, dict[str, int]]:
    return {first + k: ({"acts": 1, "lost": 1} if k < active else {}) for k in range(count)}


def test_only_rooms_are_told_and_nothing_below_k() -> None:
    for count in range(1, 25):
        out = Veil(rule()).tell(frame(1, acting(count, count // 2)))
        assert out.names == ["room:1"]
        assert (told(out) is not None) == (count >= K)
        assert out.n.tolist() == out.authors.tolist() == out.n_eff.tolist() == [count // 5 * 5 if count >= K else 0]
        assert out.derived.notes[0][0] == NOTE
        if count < K:
            assert set(out.derived.remarks.values()) == {f"fewer than {K} seats"}


def test_no_setting_goes_below_the_floor() -> None:
    assert rule(classroom(StubEngine().spec, 1)).k == FLOOR == 5


def test_values_are_trimmed_rounded_and_inside_their_interval() -> None:
    """Against plain Python: sorted, first and last left out, mean, to the nearest twentieth."""
    dice = random.Random(3)
    for _ in range(200):
        count = dice.randrange(K, 40)
        seats = {dice.getrandbits(60): {"acts": dice.randrange(4)} for _ in range(count)}
        out = Veil(rule()).tell(frame(1, seats))
        numbers = sorted(1 - 0.5 ** s["acts"] for s in seats.values())[1:-1]
        mean = sum(numbers) / len(numbers)
        value = told(out, "engagement")
        assert value is not None
        assert abs(value - mean) <= STEP / 2 + 1e-9
        for part in (out.derived.value, out.derived.lo, out.derived.hi):
            known = part[np.isfinite(part)]
            assert np.allclose(known, np.rint(known / STEP) * STEP)
        k = NAMES.index("engagement")
        assert out.derived.lo[0, k] <= mean <= out.derived.hi[0, k]


def test_one_seat_alone_moves_nothing_by_more_than_a_step() -> None:
    for count in (K, 17, 30):
        base = acting(count, count // 2)
        acts: list[dict[str, int]] = [{}, {"acts": 1}, {"acts": 16, "lost": 1, "fast": 1}]
        values = [told(Veil(rule()).tell(frame(1, {**base, 1: mine})), "engagement") for mine in acts]
        spread = [v for v in values if v is not None]
        assert max(spread) - min(spread) <= 1 / (count - 2) + STEP


def test_what_few_answered_is_not_told() -> None:
    for answered in (0, K - 1, K, 20):
        seats = {k: ({"acts": 1, "answers": 1, "judged": 1, "right": 1} if k <= answered else {}) for k in range(1, 21)}
        out = Veil(rule()).tell(frame(1, seats))
        for name in ("right", "answered", "quickness", "answer.a"):
            assert (told(out, name) is not None) == (answered >= K), (name, answered)
        assert told(out, "participation") is not None


def test_a_seat_that_withdrew_is_in_no_value() -> None:
    seats = {**acting(12, 0), 50: {"acts": 9, "lost": 1, "gone": 1}, 51: {"acts": 9, "gone": 1}}
    out = Veil(rule()).tell(frame(1, seats))
    assert (told(out, "engagement"), out.n.tolist()) == (0.0, [10])


def sets_told(veil: Veil, name: str = "room:1") -> list[frozenset[int]]:
    return [frozenset(held) for held in veil._rooms[name].sets]


def test_a_latecomer_waits_and_ten_are_let_in() -> None:
    veil = Veil(rule())
    veil.tell(frame(1, acting(20, 0)))
    for late in range(1, K):
        out = veil.tell(frame(1 + late, acting(20 + late, 20 + late)))
        assert told(out) == 1.0  # new values of the seats that were there, not stale
        assert STALE not in out.derived.notes[0]
        assert len(sets_told(veil)) == 1
    veil.tell(frame(20, acting(30, 30)))
    assert [len(s) for s in sets_told(veil)] == [20, 30]


def test_where_one_goes_others_are_left_out_or_the_old_values_stay() -> None:
    veil = Veil(rule())
    veil.tell(frame(1, acting(25, 25)))
    out = veil.tell(frame(2, {k: v for k, v in acting(25, 0).items() if k != 7}))
    first, second = sets_told(veil)
    assert (len(first ^ second) >= K, told(out), STALE in out.derived.notes[0]) == (True, 0.0, False)
    small = Veil(rule())
    small.tell(frame(1, acting(12, 12)))
    out = small.tell(frame(2, {k: v for k, v in acting(12, 0).items() if k != 7}))
    assert told(out) == 1.0
    assert STALE in out.derived.notes[0]
    assert len(sets_told(small)) == 1


def test_sets_told_differ_by_k_and_are_few_whatever_comes_and_goes() -> None:
    for seed in range(30):
        dice = random.Random(seed)
        veil = Veil(rule())
        for end in range(1, 40):
            there = [seat for seat in range(1, 40) if dice.random() < dice.choice((0.3, 0.9, 0.97))]
            before = len(sets_told(veil)) if "room:1" in veil._rooms else 0
            out = veil.tell(frame(end, {seat: {"acts": seat % 3} for seat in there}))
            if len(there) >= K and (told(out) is not None) and STALE not in out.derived.notes[0]:
                assert sets_told(veil)[-1] <= set(there)
            assert "room:1" not in veil._rooms or len(sets_told(veil)) >= before
        told_sets = sets_told(veil)
        assert len(told_sets) <= MOST_SETS
        assert all(len(a ^ b) >= K for i, a in enumerate(told_sets) for b in told_sets[:i])
        assert all(len(s) >= K for s in told_sets)


def test_what_is_kept_takes_up_where_it_stopped() -> None:
    dice = random.Random(5)
    frames = [
        frame(end, {seat: {"acts": dice.randrange(3)} for seat in range(1, 30) if dice.random() < 0.95})
        for end in range(1, 25)
    ]
    whole, kept, cut = Veil(rule()), {}, Veil(rule())  # type: ignore[var-annotated]
    for one in frames:
        want, got = whole.tell(one), cut.tell(one)
        assert np.array_equal(want.derived.value, got.derived.value, equal_nan=True)
        assert want.derived.notes == got.derived.notes
        kept.update(cut.changes())
        cut = Veil(rule())
        cut.restore({name: part for name, part in kept.items() if part is not None})


Having = Callable[[int], dict[str, int]]
"""What a seat that takes part in a strand says, if its number is 0 or 1."""
STAYS: dict[str, int] = {}
"""What a seat says that is there without taking part in the strand: the camera is off, or covered."""


def attack(guarded: bool, seed: int, name: str, strand: str, having: Having, out_of_it: dict[str, int] | None) -> float:
    """How far off an attacker is about the seat that joins and leaves, knowing everything else there is to know.

    Worst case: values never change, the attacker knows who was there each minute, the sets counted, k and the rounding,
    and solves all told minutes for all seats at once by least squares, starting from the mean of the room. Half of the
    others are 0 and half are 1, so that the mean of the room alone says nothing of the seat. `out_of_it`: what the seat
    says while it has left the strand; None = it is not there at all.
    """
    dice = random.Random(seed)
    others = [dice.getrandbits(60) for _ in range(2 * dice.randrange(6, 16))]
    victim = dice.getrandbits(60)
    truth = {seat: k % 2 for k, seat in enumerate(others)} | {victim: dice.randrange(2)}
    domain = WATCHED if strand else DOMAIN
    veil = Veil(rule(domain) if guarded else replace(rule(domain), k=1))
    equations: list[tuple[frozenset[int], float]] = []
    for end in range(1, 8):
        there = [*others, *([victim] if dice.random() < 0.5 else [])]
        if not guarded:
            veil = Veil(replace(rule(domain), k=1))
        seats = {seat: having(truth[seat]) for seat in there}
        out = veil.tell(frame(end, seats if out_of_it is None else {victim: out_of_it, **seats}))
        value = told(out, name, strand)
        assert value is not None
        if STALE not in out.derived.notes[STRANDS.index(strand)]:
            exact = value if guarded else sum(truth[seat] for seat in there) / len(there)
            equations.append((sets_told(veil, "room:1" + (f"#{strand}" if strand else ""))[-1], exact))
    seats_all = [*others, victim]
    prior = equations[0][1]
    rows = np.array([[1.0 / len(s) if seat in s else 0.0 for seat in seats_all] for s, _ in equations])
    right = np.array([value for _, value in equations]) - rows @ np.full(len(seats_all), prior)
    solved = prior + np.linalg.lstsq(rows, right, rcond=1e-9)[0]
    return abs(float(np.clip(solved[-1], 0.0, 1.0)) - truth[victim])


def seen(number: int) -> dict[str, int]:
    """A camera whose face is always or never there, glad, with eyes shut, on task."""
    most = 100 * number
    face = {"looks": 10, "expression": 10 * number, "eyes": 60, "shut": 60 * number}
    return {"frames": 100, "seen": most, "away": most, "looked": 100, "task": most, **face}


def read(number: int) -> dict[str, int]:
    """Readings that are all of one sign."""
    sums = dict.fromkeys(("feeling", "clash", "sure", "no_picture", "no_sound", "no_text"), 100 * number)
    return {"moments": 100, "clashes": 100, "ended": 1, "resolved": number, "sounds": 10, "tone": 10 * number, **sums}


ATTACKS: list[tuple[str, str, Having, dict[str, int] | None]] = [
    ("engagement", "", lambda number: {"acts": number}, None),
    ("attention", "cameras", seen, STAYS),
    ("distraction", "cameras", seen, STAYS),
    ("expression", "faces", seen, {"frames": 100}),
    ("fatigue", "faces", seen, {"frames": 100}),
    ("feeling", "readings", read, STAYS),
    ("ambivalence", "readings", read, STAYS),
    ("resolved", "readings", read, STAYS),
    ("missing.sound", "readings", read, STAYS),
]


@pytest.mark.parametrize(("name", "strand", "having", "out_of_it"), ATTACKS, ids=[one[0] for one in ATTACKS])
def test_an_attacker_who_watches_one_seat_join_and_leave_cannot_recover_it(
    name: str, strand: str, having: Having, out_of_it: dict[str, int] | None
) -> None:
    schedules = 1_000 if name in ("engagement", "attention") else 150
    errors = [attack(True, seed, name, strand, having, out_of_it) for seed in range(schedules)]
    assert sum(error >= 0.2 for error in errors) >= 0.95 * schedules
    if name in ("engagement", "attention", "expression"):
        bare = [attack(False, seed, name, strand, having, out_of_it) for seed in range(100)]
        assert sum(error < 0.2 for error in bare) >= 95, "the attack itself must work where there is no guard"


def test_a_seat_without_a_camera_is_in_no_value_of_cameras() -> None:
    """Signals of a strand are of its own seats: counted apart, trimmed and rounded, with a row of their own."""
    seats = {k: (seen(int(k % 4 == 0)) if k <= 12 else {}) for k in range(1, 31)}
    out = Veil(rule(WATCHED)).tell(frame(1, seats))
    assert (out.names, out.n.tolist()) == (["room:1"] * 4, [30, 10, 10, 0])
    assert told(out, "coverage") == 0.4  # eleven of the twenty-eight that are left once one of each kind is out
    assert (told(out, "attention", "cameras"), told(out, "attention"), told(out, "engagement", "cameras")) == (
        0.2,
        None,
        None,
    )
    absent = {(row, col) for (row, col), why in out.derived.remarks.items() if why is None}
    assert len(absent) == 3 * len(ALL_NAMES), "each signal has one row"
    few = {col for (row, col), why in out.derived.remarks.items() if row == 3 and why == f"fewer than {K} seats"}
    assert few == {ALL_NAMES.index(name) for name in READINGS}


def test_in_a_mean_of_those_who_said_something_the_others_do_not_count() -> None:
    seats = {k: {"frames": 100, "looks": 10, "expression": 5, "eyes": 60 * (k > 8), "shut": 30} for k in range(1, 25)}
    out = Veil(rule(WATCHED)).tell(frame(1, seats))
    assert (told(out, "fatigue", "faces"), told(out, "expression", "faces")) == (0.5, 0.5)
    seats = {k: {"frames": 100, "looks": 10, "eyes": 60 * (k > 15), "shut": 30} for k in range(1, 25)}
    out = Veil(rule(WATCHED)).tell(frame(1, seats))
    assert told(out, "fatigue", "faces") is None
    assert out.derived.remarks[2, ALL_NAMES.index("fatigue")] == f"fewer than {K} seats had something to say"


def test_sets_told_by_another_version_stay_told_though_its_values_go() -> None:
    veil = Veil(rule())
    veil.tell(frame(1, acting(12, 12)))
    kept = {name: part for name, part in veil.changes().items() if part is not None}
    newer = Veil(rule(WATCHED))
    newer.restore(kept)
    out = newer.tell(frame(2, {k: v for k, v in acting(12, 12).items() if k != 7}))
    assert (told(out), sets_told(newer)) == (None, [frozenset(range(1, 13))])
    assert "nothing told yet" in str(out.derived.remarks[0, 0])


@pytest.mark.parametrize("rooms", [("room:1", "room:2")])
def test_rooms_are_apart_and_forgotten(rooms: tuple[str, str]) -> None:
    veil = Veil(rule())
    for name in rooms:
        veil.tell(frame(1, acting(20, 20), name))
    assert set(veil.changes()) == set(rooms)
    veil.tell(frame(1 + 13 * 60, acting(20, 0, first=500), rooms[0]))
    assert veil.changes().get(rooms[1], b"") is None
    assert sets_told(veil, rooms[0]) == [frozenset(range(500, 520))]
