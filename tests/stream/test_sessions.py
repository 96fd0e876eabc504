"""Phases of New York around a weekend, a holiday, a half day and a change of clocks, against dates known by heart."""

from __future__ import annotations

import sys
from datetime import UTC, date, datetime

import pytest

from engines.errors import MissingExtra
from stream.errors import UsageError
from stream.sessions import Sessions, load_sessions


@pytest.fixture(scope="module")
def new_york() -> Sessions:
    return load_sessions("XNYS", date(2023, 3, 1), date(2023, 12, 15))


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("moment", "phase", "day"),
    [
        ("2023-03-10 14:29:59.999", "pre-open", "2023-03-10"),  # winter: opens 14:30 UTC
        ("2023-03-10 14:30", "open", "2023-03-10"),
        ("2023-03-10 20:59:59.999", "open", "2023-03-10"),
        ("2023-03-10 21:00", "post-close", "2023-03-13"),  # what is said now is news of Monday
        ("2023-03-11 04:59", "post-close", "2023-03-13"),
        ("2023-03-11 05:00", "closed", "2023-03-13"),  # Saturday in New York
        ("2023-03-13 03:59", "closed", "2023-03-13"),  # clocks went forward: midnight is 04:00 UTC
        ("2023-03-13 04:00", "pre-open", "2023-03-13"),
        ("2023-03-13 13:30", "open", "2023-03-13"),
        ("2023-07-04 16:00", "closed", "2023-07-05"),  # Independence Day
        ("2023-11-24 17:59", "open", "2023-11-24"),  # the half day after Thanksgiving closes at 13:00
        ("2023-11-24 18:00", "post-close", "2023-11-27"),
    ],
)
def test_phase_and_trading_day(new_york: Sessions, moment: str, phase: str, day: str) -> None:
    assert new_york.phase(at(moment)) == phase
    assert new_york.trading_day(at(moment)) == date.fromisoformat(day)


def test_a_window_lies_in_one_phase_or_in_none(new_york: Sessions) -> None:
    assert new_york.within(at("2023-03-10 14:00"), at("2023-03-10 14:30")) == (date(2023, 3, 10), "pre-open")
    assert new_york.within(at("2023-03-10 14:00"), at("2023-03-10 15:00")) is None
    assert new_york.within(at("2023-03-10 20:30"), at("2023-03-13 14:00")) is None


def test_every_phase_of_a_year_follows_the_order(new_york: Sessions) -> None:
    """Half hour by half hour: trading days never go back, and phases within one come in their order."""
    order = {"post-close": 0, "closed": 1, "pre-open": 2, "open": 3}
    told = [
        (new_york.trading_day(t), order[new_york.phase(t)])
        for t in range(at("2023-03-01"), at("2023-12-14"), 1_800_000)
    ]
    assert told == sorted(told)
    assert {phase for _, phase in told} == {0, 1, 2, 3}


def test_spans_hold_their_moment_and_follow_each_other(new_york: Sessions) -> None:
    t = at("2023-03-01")
    while t < at("2023-12-10"):
        start, end = new_york.span(t)
        assert start <= t < end
        assert new_york.span(start) == new_york.span(end - 1) == (start, end)
        told = {(new_york.phase(x), new_york.trading_day(x)) for x in (start, t, end - 1)}
        assert len(told) == 1
        begin, close = new_york.day_span(t)
        assert begin <= start < end <= close
        assert new_york.trading_day(begin) == new_york.trading_day(close - 1) != new_york.trading_day(close)
        t = end
    assert new_york.span(at("2023-11-23 12:00")) == (at("2023-11-23 05:00"), at("2023-11-24 05:00"))
    assert new_york.day_span(at("2023-11-23 12:00")) == (at("2023-11-22 21:00"), at("2023-11-24 18:00"))


def test_beyond_the_calendar_is_said(new_york: Sessions) -> None:
    with pytest.raises(UsageError, match=r"calendar XNYS: 2024-06-01 lies outside 2023-02-21 to"):
        new_york.phase(at("2024-06-01"))
    with pytest.raises(UsageError, match="calendar XNYS: 2001-01-01 lies outside"):
        new_york.trading_day(at("2001-01-01"))


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "exchange_calendars", None)
    with pytest.raises(MissingExtra, match=r"pip install 'affectstream\[market\]'"):
        load_sessions("XNYS", date(2023, 1, 1), date(2023, 2, 1))
