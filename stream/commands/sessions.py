"""`affect signals sessions`: signals of pre-open, open, post-close and closed, and of whole trading days."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Iterable
from datetime import date

from stream.base import Log
from stream.connect import open_existing
from stream.errors import UsageError
from stream.replaying import settings_of
from stream.session_windows import PARTS, SessionRow, SessionWindows, as_json, calendar_of
from stream.topics import PANES
from stream.topology import build

DOMAIN = "market"
READ_PANES = 2_000


def add(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the verb below `affect signals`."""
    verb = kinds.add_parser("sessions", help="market signals by phase of the trading day, from the pane cells of a log")
    verb.add_argument("--log", required=True, metavar="URL", help="sqlite:///PATH or kafka://HOST:PORT of a run")
    verb.add_argument("--calendar", required=True, metavar="XNYS", help="code of the exchange (extra market)")
    verb.add_argument("-c", "--config", default=None, metavar="FILE.toml", help="settings of the run, if it had any (a "
                      "replay has left its own in the log)")  # fmt: skip
    verb.add_argument("--engine", default=None, help="the model the run used (default: that of the settings)")
    verb.add_argument("--signal", default=None, help="only this signal, e.g. market.valence")
    verb.add_argument("--entity", default=None, help="only this entity, e.g. ticker:AAPL")
    verb.add_argument("--phase", choices=PARTS, default=None, help="only this phase; day = the whole trading day")
    verb.add_argument("--day", default=None, metavar="YYYY-MM-DD", help="only what is news of this session")
    verb.add_argument("--follow", action="store_true", help="go on: a row again whenever a post has moved it")
    verb.add_argument("--json", action="store_true", help="rows as JSON")
    verb.set_defaults(run=run_sessions)


def run_sessions(args: argparse.Namespace) -> int:
    """`affect signals sessions`."""
    try:
        args.day = None if args.day is None else date.fromisoformat(args.day).isoformat()
    except ValueError as problem:
        raise UsageError(f"--day: expected YYYY-MM-DD, got {args.day!r}: {problem}") from None
    return asyncio.run(_sessions(args))


async def _sessions(args: argparse.Namespace) -> int:
    log = open_existing(args.log)
    try:
        config, replayed = await settings_of(log, DOMAIN, args.config, args.engine)
        topology = await asyncio.to_thread(build, config, 1, None, replayed)
        wanted = PARTS if args.phase is None else (args.phase,)
        windows = SessionWindows(topology.windows, calendar_of(args.calendar), wanted)
        begin, end = (await log.span(PANES))[0]
        if begin:
            sys.stderr.write(f"{PANES} begins at message {begin}: the oldest phases may lack posts (log.retention)\n")
        windows.offset = begin
        while windows.offset < end and await _read(log, windows, 0.0):
            _print(windows.rows(sealed_only=True), args)
        _print(windows.rows(), args)
        while args.follow:
            await _read(log, windows, 1.0)
            _print(windows.rows(), args)
    finally:
        await log.close()
    if windows.told == 0:
        sys.stderr.write(f"no pane cells of the {DOMAIN} domain in {args.log}\n")
        return 1
    return 0


async def _read(log: Log, windows: SessionWindows, wait_s: float) -> bool:
    """Take in the next panes; false where there are none."""
    records = await log.read(PANES, 0, windows.offset, READ_PANES, wait_s)
    await asyncio.to_thread(windows.ingest, records)
    return bool(records)


def _print(rows: Iterable[SessionRow], args: argparse.Namespace) -> None:
    for row in rows:
        mine = (args.signal is None or row.signal == args.signal) and (args.entity is None or row.entity == args.entity)
        if mine and (args.day is None or row.day == args.day):
            print(as_json(row) if args.json else _line(row), flush=args.follow)


def _line(row: SessionRow) -> str:
    value = "null" if row.value is None else f"{row.value:+.3f} [{row.lo:+.3f}, {row.hi:+.3f}]"
    begin, end = (time.strftime("%m-%d %H:%M", time.gmtime(ms / 1000)) for ms in (row.window_start, row.window_end))
    what = f"{row.day} {row.phase:10} {row.status:11} r{row.revision}"
    return f"{what} {value:26} n={row.n:<6} {row.signal} {row.entity} ({begin} to {end} UTC)"
