"""The event clock against a loop over posts; cuts change nothing, and it never goes back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.clock import BEGINNING, EventClock, Lateness
from operators.errors import ConfigInvalid

LATENESS = Lateness(disorder_ms=5_000, allowed_ms=20_000, pane_ms=10_000)
times = st.lists(st.integers(0, 200_000), max_size=40)


def slowly(given_times: list[int]) -> list[tuple[int, bool]]:
    newest, out = BEGINNING, []
    for at in given_times:
        mark = newest - LATENESS.disorder_ms if newest > BEGINNING else BEGINNING
        pane_end = at - at % LATENESS.pane_ms + LATENESS.pane_ms
        out.append((mark, not mark - pane_end >= LATENESS.allowed_ms))
        newest = max(newest, at)
    return out


@given(times, st.integers(1, 12))
def test_marks_and_verdicts_equal_a_loop_for_every_cut(given_times: list[int], cut: int) -> None:
    clock = EventClock(LATENESS)
    got, marks_seen = [], [clock.watermark_ms]
    for k in range(0, len(given_times), cut):
        marks, keep = clock.advance(np.array(given_times[k : k + cut], np.int64))
        got += list(zip(marks.tolist(), keep.tolist(), strict=True))
        marks_seen.append(clock.watermark_ms)
    assert got == slowly(given_times)
    assert marks_seen == sorted(marks_seen)


def test_before_any_post_the_watermark_is_the_beginning() -> None:
    clock = EventClock(LATENESS)
    assert clock.watermark_ms == BEGINNING
    marks, keep = clock.advance(np.zeros(0, np.int64))
    assert len(marks) == len(keep) == 0
    assert clock.watermark_ms == BEGINNING


def test_a_post_is_late_exactly_when_its_pane_ended_the_allowance_before_the_watermark() -> None:
    """The pane [60 000, 70 000) is let go at watermark 90 000, not a millisecond sooner; the next one stays."""
    stamps = np.array([59_999, 60_000, 69_999, 70_000], np.int64)
    _, keep = EventClock(LATENESS, newest_ms=94_999).advance(stamps)
    assert keep.tolist() == [False, True, True, True]
    _, keep = EventClock(LATENESS, newest_ms=95_000).advance(stamps)
    assert keep.tolist() == [False, False, False, True]


def test_it_takes_up_where_it_stood() -> None:
    one = EventClock(LATENESS)
    one.advance(np.array([50_000, 90_000], np.int64))
    again = EventClock(LATENESS, one.newest_ms)
    late = np.array([10_000, 95_000], np.int64)
    for a, b in zip(one.advance(late), again.advance(late), strict=True):
        assert a.tolist() == b.tolist()


@pytest.mark.parametrize(("disorder", "allowed", "pane"), [(-1, 0, 1), (0, -1, 1), (0, 0, 0)])
def test_settings_that_cannot_work_are_refused(disorder: int, allowed: int, pane: int) -> None:
    with pytest.raises(ConfigInvalid, match="expected disorder >= 0"):
        Lateness(disorder, allowed, pane)
