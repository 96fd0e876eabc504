"""`affect signals curve`: the phase curve, what people feel by hours before and after an event such as a landfall."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterable
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec

from operators.crisis import EMOTIONS
from operators.names import WHOLE
from operators.records import SignalRow
from operators.window import parse_span
from stream.archive_base import Archive, RowQuery
from stream.connect import open_existing
from stream.errors import UsageError
from stream.file_archive import FileArchive
from stream.log_archive import LogArchive
from stream.moments import moment
from stream.topology import build_codec

HOUR_MS = 3_600_000
SIGNALS = tuple(f"crisis.{name}" for name in EMOTIONS)


class Share(msgspec.Struct, frozen=True):
    """One emotion in one window: share of posts with its 95 % interval; None below the minimum sample."""

    value: float | None
    lo: float | None
    hi: float | None


class Step(msgspec.Struct, frozen=True):
    """One window. `hours`: from the event to the window's start, below 0 before it. `shares`: by emotion."""

    hours: float
    window_start: int
    window_end: int
    n: int
    status: str
    shares: dict[str, Share]


def add(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the verb below `affect signals`."""
    verb = kinds.add_parser("curve", help="phase curve: fear, sadness, anger and joy by hours from an event")
    verb.add_argument("--log", default=None, metavar="URL", help="sqlite:///PATH or kafka://HOST:PORT of a run")
    verb.add_argument("--from", dest="file", default=None, metavar="ROWS.jsonl[.gz]", help="rows of a replay or sink")
    verb.add_argument("--event", required=True, metavar="TIME", help="when it happened, e.g. the landfall")
    verb.add_argument("--entity", default=WHOLE, help="a place, e.g. place:Houma (default: all:*)")
    verb.add_argument("--window", default="1h", metavar="SPAN", help="size of the windows (default: 1h)")
    verb.add_argument("--json", action="store_true", help="one JSON object a window")
    verb.set_defaults(run=run_curve)


def run_curve(args: argparse.Namespace) -> int:
    """`affect signals curve`."""
    if (args.log is None) == (args.file is None):
        raise UsageError("give one source: --log URL or --from ROWS.jsonl")
    try:
        event_ms = moment(args.event)
    except ValueError as problem:
        raise UsageError(f"--event: {problem}") from None
    found = curve(asyncio.run(_rows(args)), event_ms)
    for line in [msgspec.json.encode(step).decode() for step in found] if args.json else as_text(found):
        print(line)
    return 0 if found else 1


async def _rows(args: argparse.Namespace) -> list[SignalRow]:
    size = parse_span(args.window)
    query = RowQuery(signals=frozenset(SIGNALS), entity=args.entity, domain="crisis", window_ms=size)
    async with AsyncExitStack() as stack:
        archive: Archive
        if args.file is not None:
            archive = FileArchive(Path(args.file))
        else:
            log = open_existing(args.log)
            stack.push_async_callback(log.close)
            archive = LogArchive(log, build_codec())
        return [row async for batch in archive.newest(query) for row in batch]


def curve(rows: Iterable[SignalRow], event_ms: int) -> list[Step]:
    """Rows of one entity and window size as a curve, by time; of overlapping windows those laid end to end."""
    by_end: dict[int, dict[str, SignalRow]] = {}
    for row in rows:
        if row.signal in SIGNALS and row.window_end % (row.window_end - row.window_start) == 0:
            by_end.setdefault(row.window_end, {})[row.signal] = row
    out = []
    for _, mine in sorted(by_end.items()):
        one = next(iter(mine.values()))
        shares = {
            name: Share(mine[signal].value, mine[signal].lo, mine[signal].hi)
            for name, signal in zip(EMOTIONS, SIGNALS, strict=True)
            if signal in mine
        }
        hours = (one.window_start - event_ms) / HOUR_MS
        out.append(Step(hours, one.window_start, one.window_end, one.n, one.status, shares))
    return out


def as_text(found: list[Step]) -> list[str]:
    """The curve as lines for people; a dash where posts were too few to say."""
    if not found:
        return ["no rows of crisis emotions in windows of that size"]
    lines = [f"{'hours':>8} {'n':>7}  " + " ".join(f"{name:>22}" for name in EMOTIONS)]
    for step in found:
        told = []
        for name in EMOTIONS:
            share = step.shares.get(name)
            known = share is not None and share.value is not None
            told.append(f"{share.value:.3f} [{share.lo:.3f}, {share.hi:.3f}]" if share is not None and known else "-")
        mark = "" if step.status != "provisional" else "  provisional"
        lines.append(f"{step.hours:+8.2f} {step.n:>7}  " + " ".join(f"{text:>22}" for text in told) + mark)
    return lines
