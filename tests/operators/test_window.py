"""Spans and windows: what is read back, what is refused, and which windows hold a moment."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.errors import ConfigInvalid
from operators.window import DEFAULT_WINDOWS, WindowSpec, format_span, parse_span


@pytest.mark.parametrize(
    ("text", "ms"), [("10s", 10_000), ("5m", 300_000), ("1h", 3_600_000), ("2d", 172_800_000), (" 1m ", 60_000)]
)
def test_spans(text: str, ms: int) -> None:
    assert parse_span(text) == ms


@pytest.mark.parametrize("text", ["", "10", "s", "0s", "-1s", "1.5m", "1w", "1m1s", "10 s", "１０s²"])
def test_what_is_no_span_is_named(text: str) -> None:
    with pytest.raises(ConfigInvalid, match="expected a number and a unit"):
        parse_span(text)


@given(st.integers(1, 10**6))
def test_a_span_is_read_back(seconds: int) -> None:
    assert parse_span(format_span(seconds * 1000)) == seconds * 1000


def test_spans_below_a_second_are_shown_as_they_are() -> None:
    assert format_span(1_500) == "1500ms"
    assert format_span(90_000) == "90s"
    assert format_span(86_400_000) == "24h"


@pytest.mark.parametrize("text", DEFAULT_WINDOWS)
def test_the_default_windows_fit_the_default_pane(text: str) -> None:
    assert WindowSpec.parse(text, 10_000).text == text


@pytest.mark.parametrize("text", ["5m/2m", "1m/7s", "5m/10m", "15s", "1m/", "/1m", "x"])
def test_windows_that_do_not_divide_are_refused(text: str) -> None:
    if text == "1m/":
        assert WindowSpec.parse(text, 10_000) == WindowSpec(60_000, 60_000)
        return
    with pytest.raises(ConfigInvalid):
        WindowSpec.parse(text, 10_000)


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 10**9))
def test_a_moment_lies_in_exactly_the_windows_that_say_so(hops: int, ten_seconds: int, at: int) -> None:
    window = WindowSpec(hops * ten_seconds * 10_000, ten_seconds * 10_000)
    slot = at // window.hop_ms * window.hop_ms
    ends = list(window.ends_of_slot(slot))
    near = range(slot - 2 * window.size_ms, slot + 3 * window.size_ms + 1, window.hop_ms)
    assert ends == [end for end in near if end - window.size_ms <= at < end]
    assert len(ends) == hops
    for end in ends:
        assert slot in window.slots_of_window(end)
        assert len(window.slots_of_window(end)) == hops
