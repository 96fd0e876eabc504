"""Whether a signal has to do with prices: information coefficients with intervals, and who moves before whom.

Pure functions over rows and prices. A window [start, end) is the news of the date it begins on (UTC). Its same-day
return is close over the close before; its next-day return is that of the first trading day that opens after the window
has ended, from open to close, which is what somebody who waited for the window could have had.

With a calendar of sessions the news is split as EmTract does: a trading day ends with its close, and what is said after
it (post-close), on days without a session (closed) and before the next opening (pre-open) is news of the next one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

import numpy as np

from operators.records import F64, SignalRow
from stream.sessions import PHASES, Phase, Sessions

RESAMPLES = 1_000
FEWEST_DAYS = 10
"""Below this many different days there is no interval worth printing."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One trading day of one ticker. `close` adjusted; `open` on the same scale."""

    day: date
    open: float
    close: float


@dataclass(frozen=True, slots=True)
class Coefficient:
    """Spearman's rank correlation over `n` (ticker, day) pairs of `days` days, 95 % bootstrap interval by day.

    `phase`: of the trading day; None = the whole day.
    """

    horizon: str
    ic: float | None
    lo: float | None
    hi: float | None
    n: int
    days: int
    phase: Phase | None = None


@dataclass(frozen=True, slots=True)
class Lag:
    """Correlation of a ticker's value with the market's `lag` windows later (negative: before)."""

    lag: int
    r: float
    n: int


def coefficients(rows: Iterable[SignalRow], prices: Mapping[str, Sequence[Bar]], seed: int = 0) -> list[Coefficient]:
    """Same-day and next-day information coefficients of the rows of one signal and window size.

    Args:
        rows: rows of tickers; null values and entities without prices are left out.
        prices: ticker -> bars, rising by day.
    """
    same: list[tuple[date, float, float]] = []
    ahead: list[tuple[date, float, float]] = []
    for row in rows:
        bars = prices.get(row.entity.removeprefix("ticker:"))
        if row.value is None or not bars:
            continue
        begins = datetime.fromtimestamp(row.window_start / 1000, UTC).date()
        ends = datetime.fromtimestamp((row.window_end - 1) / 1000, UTC).date()
        days = [bar.day for bar in bars]
        at = bisect_left(days, begins)
        if 0 < at < len(bars) and bars[at].day == begins:
            same.append((begins, row.value, bars[at].close / bars[at - 1].close - 1))
        after = bisect_left(days, ends)
        after += after < len(bars) and bars[after].day == ends  # the day the window ends in has opened already
        if after < len(bars):
            ahead.append((begins, row.value, bars[after].close / bars[after].open - 1))
    return [_coefficient("same day", same, seed), _coefficient("next day", ahead, seed)]


@dataclass(slots=True)
class _News:
    """Posts and their summed value, of one ticker, trading day and phase."""

    posts: int = 0
    total: float = 0.0

    def add(self, posts: int, value: float) -> None:
        self.posts += posts
        self.total += posts * value


def by_phase(
    rows: Iterable[SignalRow], prices: Mapping[str, Sequence[Bar]], sessions: Sessions, seed: int = 0
) -> tuple[list[Coefficient], int]:
    """Same-day and next-day coefficients of the whole trading day and of each of its phases.

    The value of a phase is the mean of its windows by posts. Its same-day return is close over the close before; its
    next-day return is open to close of the first session that opens after the phase has ended: for what was said in the
    session that is the next one, for all else the very session it is news of.

    Args:
        rows: rows of tickers, of windows that do not overlap.

    Returns:
        The coefficients, and how many rows were left out because their window lies in more than one phase.
    """
    news: dict[tuple[str, date, Phase | None], _News] = defaultdict(_News)
    astride = 0
    for row in rows:
        ticker = row.entity.removeprefix("ticker:")
        if row.value is None or not prices.get(ticker):
            continue
        place = sessions.within(row.window_start, row.window_end)
        if place is None:
            astride += 1
            continue
        day, phase = place
        for part in (phase, None):
            news[ticker, day, part].add(row.n, row.value)
    found = []
    parts: tuple[Phase | None, ...] = (None, *PHASES)
    for part in parts:
        same: list[tuple[date, float, float]] = []
        ahead: list[tuple[date, float, float]] = []
        for (ticker, day, spoken), told in news.items():
            if spoken != part:
                continue
            bars, value = prices[ticker], told.total / told.posts
            at = bisect_left(bars, day, key=lambda bar: bar.day)
            traded = at < len(bars) and bars[at].day == day
            if traded and at > 0:
                same.append((day, value, bars[at].close / bars[at - 1].close - 1))
            after = at + (traded and part in (None, "open"))
            if after < len(bars):
                ahead.append((day, value, bars[after].close / bars[after].open - 1))
        found += [_coefficient("same day", same, seed, part), _coefficient("next day", ahead, seed, part)]
    return found, astride


def _coefficient(
    horizon: str, pairs: list[tuple[date, float, float]], seed: int, phase: Phase | None = None
) -> Coefficient:
    by_day: dict[date, list[int]] = defaultdict(list)
    for k, (day, _, _) in enumerate(pairs):
        by_day[day].append(k)
    values, returns = np.array([p[1] for p in pairs]), np.array([p[2] for p in pairs])
    ic = rank_correlation(values, returns)
    if ic is None or len(by_day) < FEWEST_DAYS:
        return Coefficient(horizon, ic, None, None, len(pairs), len(by_day), phase)
    groups = [np.array(rows) for _, rows in sorted(by_day.items())]
    random, drawn = np.random.default_rng(seed), []
    for _ in range(RESAMPLES):  # days are drawn, not pairs: tickers of one day move together
        rows = np.concatenate([groups[k] for k in random.integers(0, len(groups), len(groups))])
        again = rank_correlation(values[rows], returns[rows])
        if again is not None:
            drawn.append(again)
    lo, hi = np.quantile(drawn, [0.025, 0.975]).tolist()
    return Coefficient(horizon, ic, lo, hi, len(pairs), len(by_day), phase)


def rank_correlation(one: F64, other: F64) -> float | None:
    """Spearman's rho with mean ranks for ties; None below three pairs or where one side does not move."""
    if len(one) < 3:
        return None
    a, b = _ranks(one), _ranks(other)
    return None if a.std() == 0 or b.std() == 0 else _pearson(a, b)


def _pearson(a: F64, b: F64) -> float:
    return float(((a - a.mean()) * (b - b.mean())).mean() / (a.std() * b.std()))


def _ranks(values: F64) -> F64:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[inverse], np.float64)


def contagion(rows: Iterable[SignalRow], entity: str, market: str = "all:*", lags: int = 12) -> list[Lag]:
    """Lagged cross-correlation of an entity's value with the market's, lags -`lags` to `lags` windows.

    A peak at a positive lag means that the entity moved first. Only windows that follow each other by one size are
    paired; lags with fewer than ten pairs are left out.
    """
    series: dict[str, dict[int, float]] = {entity: {}, market: {}}
    size = 0
    for row in rows:
        if row.entity in series and row.value is not None:
            series[row.entity][row.window_end] = row.value
            size = row.window_end - row.window_start
    out = []
    for lag in range(-lags, lags + 1):
        pairs = [(v, series[market].get(end + lag * size)) for end, v in series[entity].items()]
        both = np.array([(a, b) for a, b in pairs if b is not None], np.float64).reshape(-1, 2)
        if len(both) >= 10 and both.std(axis=0).min() > 0:
            out.append(Lag(lag, _pearson(both[:, 0], both[:, 1]), len(both)))
    return out
