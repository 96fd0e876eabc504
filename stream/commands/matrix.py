"""`affect signals matrix`: how much of each need, where, since when; from a log or from a file of rows."""

from __future__ import annotations

import argparse
import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec

from operators.window import parse_span
from stream.archive_base import Archive, PublishedRow, RowQuery
from stream.connect import open_existing
from stream.errors import UsageError
from stream.file_archive import FileArchive
from stream.log_archive import LogArchive
from stream.matrix import SIGNALS, WITHOUT_PLACE, Cell, Matrix, matrix, matrix_series
from stream.moments import moment
from stream.topology import build_codec


def add(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the verb below `affect signals`."""
    table = kinds.add_parser("matrix", help="need x place: count, rate per 10 000, first and last seen")
    table.add_argument("--log", default=None, metavar="URL", help="sqlite:///PATH or kafka://HOST:PORT of a run")
    table.add_argument("--from", dest="file", default=None, metavar="ROWS.jsonl[.gz]", help="rows of a replay or sink")
    table.add_argument("--window", default="1h", metavar="SPAN", help="size of the windows (default: 1h)")
    table.add_argument("--at", default=None, metavar="TIME", help="the newest window that ends then or before")
    table.add_argument("--places", type=int, default=20, metavar="N", help="the N places with most posts (default: 20)")
    table.add_argument("--json", action="store_true", help="the whole matrix as JSON")
    table.set_defaults(run=run_matrix)


def run_matrix(args: argparse.Namespace) -> int:
    """`affect signals matrix`."""
    if (args.log is None) == (args.file is None):
        raise UsageError("give one source: --log URL or --from ROWS.jsonl")
    if args.places < 1:
        raise UsageError(f"--places: expected at least 1, got {args.places}")
    try:
        at_ms = None if args.at is None else moment(args.at)
    except ValueError as problem:
        raise UsageError(f"--at: {problem}") from None
    window_ms = parse_span(args.window)
    rows = asyncio.run(_rows(args, window_ms, at_ms))
    found = matrix(matrix_series(rows), window_ms, at_ms, args.places)
    print(msgspec.json.encode(found).decode() if args.json else as_text(found))
    return 0 if found.window_end is not None else 1


async def _rows(args: argparse.Namespace, window_ms: int, at_ms: int | None) -> list[PublishedRow]:
    query = RowQuery(
        signals=frozenset((*SIGNALS, WITHOUT_PLACE)),
        domain="crisis",
        window_ms=window_ms,
        to_ms=None if at_ms is None else at_ms + 1,
    )
    async with AsyncExitStack() as stack:
        archive: Archive
        if args.file is not None:
            archive = FileArchive(Path(args.file))
        else:
            log = open_existing(args.log)
            stack.push_async_callback(log.close)
            archive = LogArchive(log, build_codec())
        return [row async for batch in archive.newest(query) for row in batch]


def as_text(found: Matrix) -> str:
    """The matrix as lines for people: what is expected at least once, most posts per 10 000 of a place first."""
    if found.window_start is None or found.window_end is None:
        return "no row of a need in windows of that size (and that old)"
    lines = [f"needs from {_utc(found.window_start)} to {_utc(found.window_end)} UTC, {found.n} posts"]
    lines.append(
        f"{'place':24} {'need':18} {'count':>7} {'per 10 000':>11} {'95 % interval':>17}  first seen        last seen"
    )
    for place in ("all:*", *found.places):
        cells = [cell for cell in (found.whole if place == "all:*" else found.cells) if cell.place == place]
        shown = [cell for cell in cells if cell.count is not None and cell.count >= 1]
        lines += [_line(cell) for cell in sorted(shown, key=lambda cell: (-(cell.count or 0.0), cell.need))]
        if cells and all(cell.count is None for cell in cells):
            lines.append(f"{place.removeprefix('place:')[:24]:24} too few posts ({cells[0].n}) to tell")
    if found.more_places:
        lines.append(f"and {found.more_places} more places (--places)")
    if found.without_place is not None:
        rate = found.without_place
        lines.append(
            f"no place was found for {rate.value / 100:.1f} % of the posts [{rate.lo / 100:.1f}, {rate.hi / 100:.1f}]"
        )
    return "\n".join(lines)


def _line(cell: Cell) -> str:
    rate = cell.rate
    told = "" if rate is None else f"{rate.value:11.0f} {f'[{rate.lo:.0f}, {rate.hi:.0f}]':>17}"
    seen = [_utc(at) if at is not None else "" for at in (cell.first_seen, cell.last_seen)]
    name = cell.place.removeprefix("place:")[:24]
    return f"{name:24} {cell.need:18} {cell.count or 0:7.1f} {told}  {seen[0]:16}  {seen[1]}"


def _utc(ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(ms // 1000))
