"""The emitted curve holds what was planted: `benchmarks/bench_scenarios.py` in the small, and that it can tell."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.bench_scenarios import START, Table, compared, confusion, coverage
from stream.scenario import MINUTE_MS, PLOTS, generate

MINUTES, RATE = 30, 150


@pytest.fixture(scope="module")
def heard() -> Table:
    return confusion("launch", "hashed", seed=100_000, rate=3)


def share(heard: Table) -> float:
    held = coverage(compared("launch", MINUTES, RATE, 1, "hashed", heard)).values()
    assert sum(windows for _, windows in held) > 1_000
    return sum(hits for hits, _ in held) / sum(windows for _, windows in held)


def test_intervals_hold_the_planted_truth(heard: Table) -> None:
    assert share(heard) >= 0.93


def test_another_truth_is_not_held(heard: Table) -> None:
    """With two moods mistaken for each other the same rows are found wrong: the comparison can fail."""
    other = {"excitement": "disappointment", "disappointment": "excitement"}
    assert share({(who, mood): heard[who, other.get(mood, mood)] for who, mood in heard}) < 0.85


@pytest.mark.parametrize("name", list(PLOTS))
def test_the_planted_mix_is_the_truth_of_the_scenario(name: str) -> None:
    """The moods the benchmark mixes add up to the chances that the scenario says it planted."""
    plot, run = PLOTS[name], generate(name, 3, 20, 30, START)
    for row in run.truth:
        subjects = [s for s in plot.subjects if s.entity == row.entity] or list(plot.subjects)
        mixes = [plot.mix(((row.minute_ms - START) // MINUTE_MS + 0.5) / 20, s.hit) for s in subjects]
        parts = [
            sum(w for mood, w in mix.items() if row.channel in plot.moods[mood].channels) / sum(mix.values())
            for mix in mixes
        ]
        assert np.average(parts, weights=[s.share for s in subjects]) == pytest.approx(row.planted)


def test_people_speak_of_nothing_else() -> None:
    run = generate("panic", 5, 10, 40, START, only=("ticker:JPM", "despair"))
    told = {(row.channel, round(row.planted, 9)) for row in run.truth}
    assert told == {("sadness", 1.0), ("stance.bearish", 1.0)}
    assert {row.entity for row in run.truth} == {"all:*", "ticker:JPM"}
    assert len(run.posts) > 300
