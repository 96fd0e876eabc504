"""The trail against a slow count: what is usual, what it may look at, how much it holds, what survives a restart."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators import past
from operators.clock import Lateness
from operators.domain import Derived, History, Norms
from operators.past import DAY, HOUR, Past
from operators.trail import MOST, Trail
from operators.window import WindowSpec

HOURLY = WindowSpec(HOUR, HOUR)
HALF = WindowSpec(HOUR, HOUR // 2)
START = 1_709_510_400_000
NAMES = ("a", "b", "c")


@dataclass(frozen=True)
class Told:
    """One entity in one window: the count, a share, and whether it was published."""

    end: int
    name: str
    count: float
    share: float
    published: bool


def told(seed: int, days: int, window: WindowSpec = HOURLY, quiet: float = 0.3) -> list[Told]:
    """Entities come and go; some windows have no posts, some too few."""
    rng = random.Random(seed)
    out = []
    for k in range(1, days * DAY // window.hop_ms):
        for j, name in enumerate(NAMES):
            if rng.random() > quiet and k > j * 50:
                many = rng.random() > 0.2
                share = rng.random() if many or rng.random() > 0.5 else math.nan
                out.append(Told(START + k * window.hop_ms, name, rng.uniform(0, 6), share, many))
    return out


def by_end(rows: list[Told]) -> dict[int, list[Told]]:
    """Windows, oldest first."""
    out: dict[int, list[Told]] = {}
    for row in rows:
        out.setdefault(row.end, []).append(row)
    return out


def fold(into: Past | Trail, rows: list[Told], window: WindowSpec = HOURLY, cut: int = 99) -> None:
    """Window by window, each in slices of `cut`."""
    for end, mine in by_end(rows).items():
        for k in range(0, len(mine), cut):
            part = mine[k : k + cut]
            values = np.array([[r.count, r.share] for r in part])
            given = (end, [r.name for r in part], values, np.array([r.published for r in part]))
            into.fold(window, *given) if isinstance(into, Trail) else into.fold(*given)


def micro(value: float) -> int:
    return int(np.rint(value * 1_000_000))


def slow(rows: list[Told], name: str, end: int, window: WindowSpec = HOURLY) -> list[tuple[float, float]]:
    """Mean and standard deviation of both values, as docs/reference.md has them, window by window."""
    known = [r for r in rows if r.name == name and r.published]
    if not known:
        return [(math.nan, math.nan)] * 2
    hour, newest = past.hour_of(end), (end - DAY) // HOUR - 1
    first = max(past.hour_of(known[0].end), hour - 672)
    said = {r.end: r for r in rows if r.name == name and r.end >= known[0].end}
    ends = [e for e in range(START, end, window.hop_ms) if first <= past.hour_of(e) <= newest]
    if not any(e in said and said[e].published for e in ends):
        return [(math.nan, math.nan)] * 2
    out = []
    for k in range(2):
        if k == 0:
            values = {e: micro(said[e].count) if e in said else 0 for e in ends}
        else:
            values = {e: micro(said[e].share) for e in ends if e in said and said[e].published}
        same = {e: v for e, v in values.items() if (hour - past.hour_of(e)) % 168 == 0}
        weeks = len({past.hour_of(e) for e in same})
        every, hourly = _moments(list(values.values())), _moments(list(same.values()))
        if weeks >= 2 and len(same) >= 2:
            out.append((hourly[0], math.sqrt((weeks * hourly[1] + every[1]) / (weeks + 1))))
        elif len(values) * window.hop_ms >= 20 * window.size_ms:
            out.append((every[0], math.sqrt(every[1])))
        else:
            out.append((math.nan, math.nan))
    return out


def _moments(values: list[int]) -> tuple[float, float]:
    if len(values) < 2:
        return math.nan, math.nan
    mean = Fraction(sum(values), len(values) * 10**6)
    spread = sum((Fraction(v, 10**6) - mean) ** 2 for v in values) / (len(values) - 1)
    return float(mean), float(spread)


def pairs(norms: Norms, row: int = 0) -> list[tuple[float, float]]:
    return list(zip(norms.mean[row].tolist(), norms.sd[row].tolist(), strict=True))


@pytest.mark.parametrize(("seed", "window", "quiet"), [(1, HOURLY, 0.3), (2, HALF, 0.1), (3, HOURLY, 0.9)])
def test_what_is_usual_is_what_a_slow_count_says(seed: int, window: WindowSpec, quiet: float) -> None:
    rows = told(seed, 40, window, quiet)
    kept = Past(window, 2, DAY, 10)
    checked = {"hour": 0, "nothing": 0, "all": 0}
    done = 0
    windows = by_end(rows)
    for at, (end, part) in enumerate(windows.items()):
        fold(kept, part, window)
        done += len(part)
        if at % (len(windows) // 45):
            continue
        got = kept.norms(end, NAMES)
        for k, name in enumerate(NAMES):
            want = slow(rows[:done], name, end, window)
            # squares are kept to 1e-9, rounded down
            assert np.allclose(pairs(got, k), want, rtol=1e-6, atol=1e-6, equal_nan=True), (end, name)
            sort = "nothing" if math.isnan(want[1][0]) else "hour" if end > START + 16 * DAY else "all"
            checked[sort] += 1
    assert min(checked.values()) > 2, checked


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(26, 720), st.floats(0, 8), st.floats(0, 1))
def test_nothing_younger_than_a_day_is_looked_at(seed: int, hour: int, count: float, share: float) -> None:
    """Windows that end less than 24 hours before say what they like: what is usual stays."""
    rows = told(seed % 5, 32)
    end = START + hour * HOUR
    old = [r for r in rows if r.end <= end - DAY]
    young = [Told(r.end, r.name, count, share, True) for r in rows if end - DAY < r.end <= end]
    calm, wild = Past(HOURLY, 2, DAY, 10), Past(HOURLY, 2, DAY, 10)
    fold(calm, old)
    fold(wild, [*old, *young])
    assert repr(pairs(calm.norms(end, ["a"]))) == repr(pairs(wild.norms(end, ["a"])))


def test_what_is_a_day_old_is_looked_at() -> None:
    rows = [r for r in told(1, 10) if r.name == "a"]
    end = START + 8 * DAY
    other = [Told(r.end, r.name, r.count, 1 - r.share, r.published) if r.end == end - DAY else r for r in rows]
    assert other != rows
    first, second = Past(HOURLY, 2, DAY, 10), Past(HOURLY, 2, DAY, 10)
    fold(first, rows)
    fold(second, other)
    assert pairs(first.norms(end, ["a"]))[1] != pairs(second.norms(end, ["a"]))[1]


def test_asking_between_does_not_matter_and_late_questions_get_the_same_answer() -> None:
    """A revised window is worked out again when younger windows are folded in: live and replay agree."""
    rows = told(4, 24)
    asked = Past(HOURLY, 2, DAY, 10)
    said: dict[int, str] = {}
    for end, part in by_end(rows).items():
        fold(asked, part, cut=1)
        for back in (0, 30):
            at = end - back * HOUR
            answer = repr(pairs(asked.norms(at, ["b"])))
            assert said.setdefault(at, answer) == answer


def test_a_window_is_folded_once_and_slices_do_not_matter() -> None:
    rows = told(2, 30)
    end = rows[-1].end
    once, twice = Past(HOURLY, 2, DAY, 10), Past(HOURLY, 2, DAY, 10)
    fold(once, rows)
    fold(twice, rows, cut=1)
    twice.settle()
    fold(twice, rows)
    assert repr(pairs(once.norms(end, ["b"]))) == repr(pairs(twice.norms(end, ["b"])))


def test_the_first_to_be_published_have_a_past_by_name_within_one_window() -> None:
    kept = Past(HOURLY, 2, DAY, 2)
    rows = [Told(START + HOUR, name, 1.0, 0.5, name != "a") for name in ("d", "a", "c", "b")]
    fold(kept, rows, cut=1)
    kept.settle()
    assert sorted(kept.rows) == ["b", "c"]


def test_it_is_bounded_in_hours_and_lets_go_of_who_is_silent() -> None:
    kept = Past(HOURLY, 2, DAY, 3)
    quiet = [Told(START + HOUR, "gone", 1.0, 0.5, True)]
    loud = [Told(START + k * HOUR, "loud", 1.0, 0.5, True) for k in range(1, 24 * 65)]
    fold(kept, [*quiet, *loud])
    kept.settle()
    assert list(kept.rows) == ["loud"]
    assert len(kept.hours) <= 29 * 24 + 1
    # whoever takes the row starts from nothing, and so does the one that comes back
    again = [Told(START + (24 * 65 + k) * HOUR, name, 3.0, 0.9, True) for k in range(60) for name in ("new", "gone")]
    fold(kept, again)
    end = again[-1].end
    for name in ("new", "gone"):
        assert np.allclose(pairs(kept.norms(end, [name])), [(3.0, 0.0), (0.9, 0.0)], atol=1e-6)


HISTORY = History(("t.z",), ("t.count", "t.share"), lambda sums, now, usual: now, least_ms=HALF.size_ms)
LATENESS = Lateness()


def make(window: WindowSpec = HOURLY, **more: object) -> Trail:
    return Trail(HISTORY, (WindowSpec(60_000, 60_000), window), LATENESS, **more)  # type: ignore[arg-type]


def kept_with(store: dict[str, bytes], changes: dict[str, bytes | None]) -> None:
    for key, value in changes.items():
        if value is None:
            del store[key]  # only what was kept is ever let go
        else:
            store[key] = value


@pytest.mark.parametrize("seed", [1, 2])
def test_a_restart_at_any_moment_changes_nothing(seed: int) -> None:
    """Killed now and then, each time restored from what was committed: same state, same answers."""
    rows = told(seed, 64, quiet=0.5)
    # "c" goes silent for so long that it is let go, and comes back
    rows = [r for r in rows if not (r.name == "c" and 20 * DAY < r.end - START < 54 * DAY)]
    rng = random.Random(seed)
    lived, killed = make(), make()
    whole: dict[str, bytes] = {}
    store: dict[str, bytes] = {}
    for k, (end, part) in enumerate(by_end(rows).items()):
        fold(lived, part)
        fold(killed, part)
        if rng.random() < 0.3:
            kept_with(whole, lived.changes())
            kept_with(store, killed.changes())
        elif rng.random() < 0.01:
            killed = make()
            killed.restore(store)
            done = killed.ends()[HOURLY]
            fold(killed, [r for r in rows if r.end <= end])  # what came before is not counted twice
            assert done <= end
        if k % 20 == 0:
            got, want = (t.norms(HOURLY, end, NAMES) for t in (killed, lived))
            assert repr([pairs(got, j) for j in range(3)]) == repr([pairs(want, j) for j in range(3)])
    kept_with(whole, lived.changes())
    kept_with(store, killed.changes())
    assert store.keys() == whole.keys()
    assert len([key for key in store if key[-1].isdigit()]) <= 29 * 24 + 1


def test_a_past_of_other_values_or_sizes_is_let_go() -> None:
    old = make()
    fold(old, told(1, 3))
    store: dict[str, bytes] = {}
    kept_with(store, old.changes())
    other = Trail(History(("t.z",), ("t.count", "t.other"), HISTORY.compare), (HOURLY,), LATENESS)
    resized = make(HALF)
    for trail in (other, resized):
        trail.restore(store)
        assert trail.memory() == {"entities": 0, "hours": 0, "bytes": 0}
        assert set(trail.changes()) == set(store)
        assert trail.changes() == {}


def test_short_windows_have_no_past() -> None:
    trail = make()
    assert trail.covers(HOURLY)
    assert not trail.covers(WindowSpec(60_000, 60_000))


def test_only_what_changed_is_kept_again() -> None:
    trail = make()
    rows = told(1, 4, quiet=0.0)
    fold(trail, rows[:-30])
    trail.changes()
    fold(trail, [r for r in rows[-30:] if r.end == rows[-1].end])
    hour = past.hour_of(rows[-1].end)
    assert set(trail.changes()) == {f"{HOUR}-{HOUR}/{key}" for key in ("at", "members", hour)}


@pytest.mark.parametrize("allowed", [600_000, 5 * DAY])
def test_a_baseline_is_complete_before_its_window_closes(allowed: int) -> None:
    """Live, windows that late posts may still change are in nobody's past, however late posts may come."""
    lateness = Lateness(30_000, allowed, 10_000)
    trail = Trail(HISTORY, (HOURLY,), lateness)
    rows = told(1, 30, quiet=0.0)
    watermark = rows[-1].end
    fold(trail, [r for r in rows if r.end <= watermark - allowed - 10_000])
    first = repr(pairs(trail.norms(HOURLY, watermark, ["a"])))
    fold(trail, [r for r in rows if r.end > watermark - allowed - 10_000])
    assert repr(pairs(trail.norms(HOURLY, watermark, ["a"]))) == first


def test_memory_is_as_promised() -> None:
    trail = Trail(HISTORY, (HOURLY,), LATENESS, most=100)
    names = [f"n{k}" for k in range(500)]
    values, published = np.full((500, 2), 0.5), np.ones(500, np.bool_)
    for k in range(1, 24 * 40):
        trail.fold(HOURLY, START + k * HOUR, names, values, published)
    trail.changes()
    held = trail.memory()
    assert held["entities"] == 100
    assert held["bytes"] / 128 < 50_000  # rows are made in powers of two
    assert MOST * 50_000 < 110 << 20


def test_z_takes_the_interval_through_and_has_a_least_spread() -> None:
    norms = Norms(np.array([[0.5, np.nan]]), np.array([[0.0, np.nan]]))
    triple = (np.array([0.6]), np.array([0.55]), np.array([0.7]))
    assert [float(x[0]) for x in norms.z(0, triple, 0.05)] == pytest.approx([2.0, 1.0, 4.0])
    assert all(math.isnan(x[0]) for x in norms.z(1, triple, 0.05))


def test_beside_keeps_what_is_said_of_values_in_its_place() -> None:
    one = np.zeros((1, 2))
    left = Derived(one, one, one, notes={0: ("x",)}, remarks={(0, 1): "l"})
    both = left.beside(Derived(one + 1, one, one, remarks={(0, 0): "r"}))
    assert both.value.tolist() == [[0, 0, 1, 1]]
    assert (both.notes, both.remarks) == ({0: ("x",)}, {(0, 1): "l", (0, 2): "r"})
