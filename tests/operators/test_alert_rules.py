"""A cusum, against the one of the book; and the rules that ship, on quiet days and in bursts."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from alert_rows import M, ends, fold, row, rules
from hypothesis import given
from hypothesis import strategies as st

from operators.alert_rules import parse_rules
from operators.alerts import Rules
from operators.records import SignalRow

SHIPPED = Path(__file__).parents[2] / "deploy" / "config" / "alerts.toml"


def by_the_book(counts: list[int], above: float, memory: int, warm_up: int) -> list[float]:
    """S <- max(0, S + z - 0.5), z = (n - mean) / sqrt(mean), mean = EWMA of the windows before but the first."""
    keep, total, weight, grown, out = 1 - 2 / (memory + 1), 0.0, 0.0, 0.0, []
    for k, n in enumerate(counts):
        if k > 1 and k >= warm_up:
            mean = total / weight
            grown = max(0.0, grown + (n - mean) / max(mean, 1.0) ** 0.5 - 0.5)
        out.append(grown)
        if k:
            total, weight = keep * total + (1 - keep) * n, keep * weight + 1 - keep
    return out


@given(st.lists(st.integers(0, 60), min_size=3, max_size=60), st.integers(2, 20), st.integers(1, 8))
def test_cusum_is_the_one_of_the_book(counts: list[int], memory: int, warm_up: int) -> None:
    made = rules(f'kind = "cusum"\nabove = 1e6\nmemory = {memory}\nwarm_up = {warm_up}')
    alarming = rules(f'kind = "cusum"\nabove = 5\nmemory = {memory}\nwarm_up = {warm_up}')
    book = by_the_book(counts, 5, memory, warm_up)
    found = ends(alarming, [row(k, n=n) for k, n in enumerate(counts, 1)])
    first = next((k for k, grown in enumerate(book, 1) if grown > 5), None)
    assert (found[0] if found else None) == first
    assert ends(made, [row(k, n=n) for k, n in enumerate(counts, 1)]) == []


@pytest.mark.parametrize("kind", ['kind = "burst"\nz = 4', 'kind = "cusum"\nabove = 8'])
def test_the_windows_a_stream_begins_in_are_no_usual_ones(kind: str) -> None:
    """Twenty posts a minute from the first minute on: the first windows of five minutes hold a part of them."""
    made = rules(f"{kind}\nwarm_up = 2").rules[0]
    fold = Rules([msgspec.structs.replace(made, window="5m")])
    rows = [
        msgspec.structs.replace(row(k, n=20 * min(k, 5)), window_start=(k - 5) * M, window_end=k * M)
        for k in range(1, 60)
    ]
    assert [alert for one in rows for alert in fold.feed(one)] == []
    late = msgspec.structs.replace(row(60, n=200), window_start=55 * M, window_end=60 * M)
    assert [alert.window_end for alert in fold.feed(late)] == [60 * M]


def test_cusum_adds_up_a_rise_too_small_for_a_burst() -> None:
    counts = [100] * 20 + [116] * 10  # z 1.6, each less 0.5
    burst = rules('kind = "burst"\nz = 3\nmemory = 100')
    assert ends(burst, [row(k, n=n) for k, n in enumerate(counts, 1)]) == []
    cusum = rules('kind = "cusum"\nabove = 5\nmemory = 100')
    (alert,) = [a for k, n in enumerate(counts, 1) for a in cusum.feed(row(k, n=n))]
    assert (alert.kind, alert.window_end // M) == ("cusum", 26)
    assert alert.measure > 5
    assert "sum" in alert.message


def test_cusum_is_armed_again_soon_after_however_large_a_burst() -> None:
    counts = [100] * 20 + [1000] * 5 + [100] * 40 + [300]
    made = rules('kind = "cusum"\nabove = 5\nhysteresis = 2.5\nmemory = 12')
    assert ends(made, [row(k, n=n) for k, n in enumerate(counts, 1)]) == [21, 66]


def test_cusum_falls_in_time_without_rows() -> None:
    counts = [100] * 20 + [145]  # 4: nearly
    after = [row(22, n=120), row(23, n=120)]
    made = rules('kind = "cusum"\nabove = 5\nmemory = 200')
    assert ends(made, [*(row(k, n=n) for k, n in enumerate(counts, 1)), *after]) == [22]
    made = rules('kind = "cusum"\nabove = 5\nmemory = 200')
    later = [msgspec.structs.replace(r, window_start=r.window_start + M, window_end=r.window_end + M) for r in after]
    assert ends(made, [*(row(k, n=n) for k, n in enumerate(counts, 1)), *later]) == []


def poisson_day(signal: str, entity: str, share: float, seed: int, burst: int | None) -> list[SignalRow]:
    """A day of five-minute rows, 60 posts each on average; from window `burst` on twice as many."""
    dice = np.random.default_rng(seed)
    rows = []
    for k in range(288):
        n, more = int(dice.poisson(60)), 0 if burst is None or not burst <= k < burst + 4 else int(dice.poisson(60))
        hits = int(dice.binomial(n, share)) + more
        times = {"window_start": k * 5 * M, "window_end": (k + 1) * 5 * M, "watermark": (k + 1) * 5 * M}
        domain = signal.split(".")[0]
        rows.append(row(k, hits / (n + more), n + more, signal=signal, entity=entity, domain=domain, **times))
    return rows


@pytest.mark.parametrize(
    ("name", "entity"),
    [
        ("ticker-crowd", "ticker:A"), ("fear-rising", "ticker:A"), ("joy-rising", "ticker:A"),
        ("water-burst", "place:A"),
        ("requests-rising", "place:A"), ("topic-crowd", "topic:a"), ("anger-rising", "topic:a"),
        ("disappointment-rising", "topic:a"),
    ],
)  # fmt: skip
def test_shipped_rules_see_a_burst_within_two_windows_and_are_still_on_quiet_days(name: str, entity: str) -> None:
    """Ten quiet days and ten bursts, each rule alone. `benchmarks/bench_alarms.py` does it with whole streams."""
    rules_of = parse_rules(SHIPPED.read_text(encoding="utf-8"), str(SHIPPED))
    (rule,) = [rule for rule in rules_of if rule.name == name]
    quiet = sum(len(fold(Rules([rule]), poisson_day(rule.signal, entity, 0.05, seed, None))) for seed in range(10))
    assert quiet <= 1
    for seed in range(10):
        found = fold(Rules([rule]), poisson_day(rule.signal, entity, 0.05, 100 + seed, 100 + seed))
        first = next(alert.window_end // (5 * M) for alert in found if alert.window_end > (100 + seed) * 5 * M)
        assert first <= 100 + seed + 2
