"""Trading sessions of an exchange: the phase of a moment, and the trading day it is news of.

The one file that knows exchange_calendars (extra `market`). Holidays and half days are the calendar's; a lunch break
counts as open. What is kept is plain arrays, so nothing here depends on today's date.
"""

from __future__ import annotations

import warnings
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from engines.errors import MissingExtra
from stream.errors import UsageError

Phase = Literal["pre-open", "open", "post-close", "closed"]
PHASES: tuple[Phase, ...] = ("post-close", "closed", "pre-open", "open")
"""In the order they come in a trading day, which begins with the close of the one before."""
DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Sessions:
    """Sessions of one exchange, rising by day, none overlapping.

    Attributes:
        exchange: its market identifier code (ISO 10383). days: local date of each session.
        opens, closes: epoch milliseconds. zone: time zone of the exchange.
    """

    exchange: str
    days: tuple[date, ...]
    opens: tuple[int, ...]
    closes: tuple[int, ...]
    zone: ZoneInfo

    def phase(self, moment_ms: int) -> Phase:
        """Where trading stands: `open` [open, close), `pre-open` and `post-close` on the same local day, else `closed`.

        Raises:
            UsageError: the calendar does not reach that far.
        """
        at = self._next_close(moment_ms)
        today = datetime.fromtimestamp(moment_ms / 1000, self.zone).date()
        if moment_ms >= self.opens[at]:
            return "open"
        if today == self.days[at]:
            return "pre-open"
        return "post-close" if at > 0 and today == self.days[at - 1] else "closed"

    def trading_day(self, moment_ms: int) -> date:
        """The session that closes next: what is said after a close is news of the day after (Vamossy and Skog).

        Raises:
            UsageError: the calendar does not reach that far.
        """
        return self.days[self._next_close(moment_ms)]

    def within(self, start_ms: int, end_ms: int) -> tuple[date, Phase] | None:
        """Trading day and phase of the window [start, end); None where it lies in more than one."""
        first, last = (self._next_close(t) for t in (start_ms, end_ms - 1))
        phase = self.phase(start_ms)
        if first != last or phase != self.phase(end_ms - 1):
            return None
        return self.days[first], phase

    def span(self, moment_ms: int) -> tuple[int, int]:
        """The whole phase that holds a moment: [start, end), epoch milliseconds.

        Raises:
            UsageError: the calendar does not reach that far.
        """
        at = self._next_close(moment_ms)
        opens, before = self.opens[at], self._close_before(at)
        if moment_ms >= opens:
            return opens, self.closes[at]
        dawn = min(max(before, self._midnight(self.days[at])), opens)
        dusk = before if at == 0 else min(max(before, self._midnight(self.days[at - 1] + timedelta(days=1))), dawn)
        return (dawn, opens) if moment_ms >= dawn else (dusk, dawn) if moment_ms >= dusk else (before, dusk)

    def day_span(self, moment_ms: int) -> tuple[int, int]:
        """The whole trading day that holds a moment: from the close before to its own, [start, end).

        Raises:
            UsageError: the calendar does not reach that far.
        """
        at = self._next_close(moment_ms)
        return self._close_before(at), self.closes[at]

    def _close_before(self, at: int) -> int:
        return self.closes[at - 1] if at else self.opens[0] - DAY_MS

    def _midnight(self, day: date) -> int:
        return round(datetime(day.year, day.month, day.day, tzinfo=self.zone).timestamp() * 1000)

    def _next_close(self, moment_ms: int) -> int:
        at = bisect_right(self.closes, moment_ms)
        if at == len(self.closes) or (at == 0 and moment_ms < self.opens[0] - DAY_MS):
            told = datetime.fromtimestamp(moment_ms / 1000, UTC).date()
            raise UsageError(f"calendar {self.exchange}: {told} lies outside {self.days[0]} to {self.days[-1]}")
        return at


def load_sessions(exchange: str, first: date, last: date) -> Sessions:
    """The sessions around `first` to `last` of an exchange: `XNYS`, `XNAS`, `XLON`, ...

    Raises:
        MissingExtra: exchange_calendars is not installed. UsageError: it has no such exchange, or not that far.
    """
    try:
        with warnings.catch_warnings():
            # The calendars' use of pandas is their affair; what they say is checked by our tests.
            warnings.simplefilter("ignore")
            import exchange_calendars
            from exchange_calendars.errors import CalendarError

            try:
                calendar = exchange_calendars.get_calendar(
                    exchange, start=str(first - timedelta(days=10)), end=str(last + timedelta(days=10))
                )
            except (CalendarError, ValueError) as problem:
                raise UsageError(f"calendar: expected an exchange such as XNYS, got {exchange!r}: {problem}") from None
            days = tuple(day.date() for day in calendar.sessions)
            return Sessions(exchange, days, _ms(calendar.opens), _ms(calendar.closes), ZoneInfo(str(calendar.tz)))
    except ImportError as missing:
        raise MissingExtra(f"{missing.name} is not installed: pip install 'affectstream[market]'") from None


def _ms(moments: Sequence[datetime]) -> tuple[int, ...]:
    """Epoch milliseconds of moments that know their zone."""
    return tuple(round(moment.timestamp() * 1000) for moment in moments)
