"""`affect research ic | contagion`: whether signals have to do with prices, who moves first; and `prompts`."""

from __future__ import annotations

import argparse
import gzip
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from operators.records import SignalRow
from operators.window import parse_span
from stream.commands import research_prompts
from stream.errors import UsageError
from stream.prices import read_prices
from stream.research import Bar, Coefficient, Lag, by_phase, coefficients, contagion
from stream.session_windows import SessionRow
from stream.sessions import load_sessions

SESSION = "session"
"""Instead of a window size: rows of `affect signals sessions`."""

CAVEAT = (
    "An association in a sample, not a forecast: the interval is by day, one signal of many was looked at, costs are"
    " left out. Same-day values have seen the day they are compared with."
)


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the verbs."""
    research = verbs.add_parser("research", help="signals beside prices, prompts beside each other")
    kinds = research.add_subparsers(dest="what", metavar="ic|contagion|prompts", required=True)
    ic = kinds.add_parser("ic", help="Spearman correlation with same-day and next-day returns, with intervals")
    ic.add_argument("--prices", required=True, metavar="FILE.csv[.gz]", help="columns ticker, date, open, close")
    ic.add_argument(
        "--calendar",
        metavar="XNYS",
        help="split each trading day of this exchange into post-close, closed, pre-open, open",
    )
    ic.set_defaults(run=run_ic)
    spread = kinds.add_parser("contagion", help="lagged correlation of a ticker with the market")
    spread.add_argument("--entity", required=True, metavar="ticker:NAME")
    spread.add_argument("--lags", type=int, default=12, help="windows before and after (default: 12)")
    spread.set_defaults(run=run_contagion)
    research_prompts.add(kinds)
    sizes = {
        ic: "window size, or session: rows of `affect signals sessions` (default: 24h; with --calendar 30m)",
        spread: "window size (default: 1h)",
    }
    for kind in (ic, spread):
        kind.add_argument("--signals", required=True, metavar="ROWS.jsonl[.gz]", help="rows `affect replay` wrote")
        kind.add_argument("--signal", default="market.valence", help="default: market.valence")
        kind.add_argument("--window", help=sizes[kind])
        kind.add_argument("--json", action="store_true", help="one JSON object a line")


def run_ic(args: argparse.Namespace) -> int:
    """Print both coefficients, with a calendar those of each phase too."""
    args.window = args.window or ("30m" if args.calendar else "24h")
    if args.window == SESSION and not args.calendar:
        raise UsageError("--window session: expected --calendar too, that the sessions are of")
    prices, astride = read_prices(Path(args.prices)), 0
    if args.calendar:
        found, astride = _by_phase(args, prices)
    else:
        found = coefficients(_rows(args), prices)
    for one in found:
        print(msgspec.json.encode({"signal": args.signal, **asdict(one)}).decode() if args.json else _ic(one, args))
    if not args.json:
        if astride:
            print(f"{astride} windows of {args.window} lie in more than one phase and were left out")
        print(CAVEAT)
    return 0


def _by_phase(args: argparse.Namespace, prices: Mapping[str, Sequence[Bar]]) -> tuple[list[Coefficient], int]:
    rows = list(_rows(args))
    if not rows:
        raise UsageError(f"--signals {args.signals}: no row of {args.signal} with windows of {args.window}")
    first, last = min(row.window_start for row in rows), max(row.window_end for row in rows)
    days = [datetime.fromtimestamp(ms / 1000, UTC).date() for ms in (first, last)]
    return by_phase(rows, prices, load_sessions(args.calendar, *days))


def run_contagion(args: argparse.Namespace) -> int:
    """Print the correlation at every lag."""
    if not 0 <= args.lags <= 1_000:
        raise UsageError(f"--lags: expected 0 to 1000, got {args.lags}")
    args.window = args.window or "1h"
    found = contagion(_rows(args), args.entity, lags=args.lags)
    if not found and not args.json:
        print(f"too few windows of {args.entity} and all:* follow each other (ten pairs are needed)")
    for one in found:
        print(msgspec.json.encode(asdict(one)).decode() if args.json else _lag(one))
    return 0


def _rows(args: argparse.Namespace) -> Iterator[SignalRow]:
    """The rows asked for, line by line."""
    path, size = Path(args.signals), None if args.window == SESSION else parse_span(args.window)
    decode = msgspec.json.Decoder(SignalRow if size is not None else SessionRow).decode
    wanted = f'"{args.signal}"'.encode()
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as lines:
            for number, line in enumerate(lines, 1):
                if wanted not in line:
                    continue
                try:
                    row = decode(line)
                except msgspec.DecodeError as error:
                    raise UsageError(f"--signals {path}, line {number}: expected a signal row: {error}") from None
                if row.signal == args.signal and _of_size(row, size):
                    yield row
    except (OSError, EOFError) as error:
        raise UsageError(f"--signals {path}: cannot be read: {error}") from None


def _of_size(row: SignalRow, size: int | None) -> bool:
    """Whether a row is of that size; None = of a phase (the whole day is the sum of its phases)."""
    if size is None:
        return isinstance(row, SessionRow) and row.phase != "day"
    return row.window_end - row.window_start == size


def _ic(one: Coefficient, args: argparse.Namespace) -> str:
    value = "not defined" if one.ic is None else f"{one.ic:+.3f}"
    interval = "" if one.lo is None or one.hi is None else f" [{one.lo:+.3f}, {one.hi:+.3f}]"
    part = "" if one.phase is None else f" {one.phase},"
    what = f"{args.signal} {args.window},{part} {one.horizon}"
    return f"{what}: IC {value}{interval} over {one.n} ticker days of {one.days} days"


def _lag(one: Lag) -> str:
    who = "together" if one.lag == 0 else f"entity first by {one.lag}" if one.lag > 0 else f"market first by {-one.lag}"
    return f"{one.lag:+4d}  {one.r:+.3f}  {one.n} windows  {who}"
