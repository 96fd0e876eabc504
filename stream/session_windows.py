"""Windows as long as trading lasts: pre-open, open, post-close and closed, and whole trading days.

They are made of the pane cells that every other window is made of, by the same code, so they are exact: no post is
counted twice, none is guessed from a window that lies across a bell. Phases change their length (half days, holidays,
summer time), and signal rows on a topic are told apart by the size of their window: so these rows are worked out for
whoever asks, and lie on no topic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import lru_cache, partial
from typing import Final, Literal

import msgspec

from operators.cell_messages import read_message
from operators.cells import PaneBlock, Progress
from operators.clock import BEGINNING
from operators.frames import SignalFrame
from operators.records import SignalRow
from operators.rolling import FOREVER, Rolling
from operators.window import WindowSpec
from stream.base import Record
from stream.errors import UsageError
from stream.sessions import PHASES, Phase, Sessions, load_sessions
from stream.windowing import WindowParts, frame_rows

Part = Literal[Phase, "day"]
PARTS: Final[tuple[Part, ...]] = (*PHASES, "day")
"""What a row may be of: a phase, or the whole trading day."""

_FIELDS: Final = SignalRow.__struct_fields__
_Key = tuple[int, int, Part]


class SessionRow(SignalRow, frozen=True, kw_only=True):
    """A signal row of one phase of a trading day. `day`: the session it is news of, ISO date, local to `exchange`."""

    exchange: str
    day: str
    phase: Part


@dataclass(frozen=True, slots=True)
class _Window:
    """A window that is being filled. `rolling` counts time from its start."""

    day: date
    part: Part
    start: int
    end: int
    rolling: Rolling


Calendar = Callable[[int], Sessions]
"""The sessions around a moment (epoch milliseconds)."""


def calendar_of(exchange: str) -> Calendar:
    """Sessions of an exchange, loaded year by year as moments ask for them.

    Raises (when called):
        MissingExtra: exchange_calendars is not installed. UsageError: it has no such exchange, or not that far.
    """
    of_year = lru_cache(maxsize=8)(partial(_year, exchange))
    return lambda moment_ms: of_year(datetime.fromtimestamp(moment_ms / 1000, UTC).year)


def _year(exchange: str, year: int) -> Sessions:
    return load_sessions(exchange, date(year, 1, 1), date(year, 12, 31))


class SessionWindows:
    """A fold: pane records in, rows of trading sessions out. Any order of partitions and any repetition, as `Rolling`.

    Args:
        parts: what the run's window stage is made of. calendar: of the exchange. wanted: phases to tell of.

    Raises:
        UsageError: from `ingest`, where a pane is longer than the calendar's minutes, or the calendar ends before it.
    """

    def __init__(self, parts: WindowParts, calendar: Calendar, wanted: Sequence[Part] = PARTS) -> None:
        # What is usual for a phase is not kept: a past is that of windows of one size.
        self._parts = replace(parts, domain=replace(parts.domain, history=None))
        self._calendar = calendar
        self._wanted = frozenset(wanted)
        self._open: dict[_Key, _Window] = {}
        self._done: set[_Key] = set()
        self._progress: dict[int, Progress] = {}
        self._lane = f"{parts.lane}/".encode()
        self.offset = 0
        self.told = 0

    def ingest(self, records: Sequence[Record]) -> None:
        """Take in pane records in order; those of other lanes pass by."""
        for record in records:
            self.offset = record.offset + 1
            if record.key is None or not record.key.startswith(self._lane):
                continue
            item = read_message(self._parts.codec.decode_panes(record.value), self._parts.domain)
            if isinstance(item, Progress):
                self._progress[item.partition] = item
                for window in self._open.values():
                    window.rolling.mark(_shifted(item, window.start))
            else:
                self._take(item)

    def rows(self, sealed_only: bool = False) -> Iterator[SessionRow]:
        """Rows that closed, were revised or moved since the last call, by time. `sealed_only`: none that may change."""
        for key, window in sorted(self._open.items()):
            for frame in window.rolling.emit(provisional=not sealed_only, sealed_only=sealed_only):
                yield from self._told(window, frame)
            sealed = window.rolling.watermark_ms
            if sealed < FOREVER and sealed - self._parts.lateness.allowed_ms - self._parts.lateness.pane_ms >= (
                window.end - window.start
            ):
                del self._open[key]
                self._done.add(key)

    def _told(self, window: _Window, frame: SignalFrame) -> Iterator[SessionRow]:
        known = frame.watermark_ms > BEGINNING
        watermark = frame.watermark_ms + window.start if known else BEGINNING
        frame = replace(frame, end_ms=window.end, watermark_ms=watermark)
        exchange = self._calendar(window.start).exchange
        for row in frame_rows(frame, self._parts):
            self.told += 1
            fields = {name: getattr(row, name) for name in _FIELDS}
            yield SessionRow(**fields, exchange=exchange, day=window.day.isoformat(), phase=window.part)

    def _take(self, block: PaneBlock) -> None:
        for window in self._windows(block.pane_start):
            marks = block.late_marks - window.start
            window.rolling.ingest(replace(block, pane_start=block.pane_start - window.start, late_marks=marks))

    def _windows(self, pane: int) -> Iterator[_Window]:
        """The windows a pane belongs to that may still change, made where they are not there yet."""
        sessions = self._calendar(pane)
        whole, phase = sessions.day_span(pane), sessions.phase(pane)
        wanted: list[tuple[Part, tuple[int, int]]] = [(phase, sessions.span(pane)), ("day", whole)]
        for part, (start, end) in wanted:
            key = (start, end, part)
            if part not in self._wanted or key in self._done:
                continue
            window = self._open.get(key)
            if window is None:
                length = self._parts.lateness.pane_ms
                if start % length or end % length:
                    raise UsageError(f"windows.pane: {length} ms does not divide the sessions of {sessions.exchange}")
                size = WindowSpec(end - start, end - start)
                window = _Window(
                    sessions.trading_day(pane), part, start, end,
                    Rolling(self._parts.domain, (size,), self._parts.lateness),
                )  # fmt: skip
                for progress in self._progress.values():
                    window.rolling.mark(_shifted(progress, start))
                self._open[key] = window
            yield window


def _shifted(progress: Progress, start: int) -> Progress:
    """Where a partition stands, in a time that begins at `start`."""
    if progress.watermark_ms <= BEGINNING:
        return progress
    return replace(progress, watermark_ms=progress.watermark_ms - start)


def as_json(row: SessionRow) -> str:
    """One line of JSON."""
    return msgspec.json.encode(row).decode()
