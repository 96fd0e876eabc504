"""`affect signals tail | serve | ...`: live rows of a log, and what else there is to ask of them."""

from __future__ import annotations

import argparse
import asyncio
import time

import msgspec

from operators.codec import Codec
from operators.records import SignalRow
from stream.base import Log
from stream.commands import curve, explain, matrix, published, sessions
from stream.connect import open_existing
from stream.errors import UsageError
from stream.signals_serve import Serving, serve_signals, token_of
from stream.topics import SIGNALS
from stream.topology import build_codec


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the verbs."""
    signals = verbs.add_parser("signals", help="look at signal rows, at why they moved, and serve them")
    verbs_of = "tail|explain|serve|matrix|curve|sessions|export|asof|revisions"
    kinds = signals.add_subparsers(dest="what", metavar=verbs_of, required=True)
    tail = kinds.add_parser("tail", help="print rows as they come")
    tail.add_argument("--log", required=True, metavar="URL", help="sqlite:///PATH of a run")
    tail.add_argument("--signal", default=None, help="only this signal, e.g. market.valence")
    tail.add_argument("--entity", default=None, help="only this entity, e.g. ticker:AAPL")
    tail.add_argument("--json", action="store_true", help="rows as JSON")
    tail.add_argument("--follow", action="store_true", help="go on waiting for new rows")
    tail.add_argument("--last", type=int, default=20, metavar="N", help="begin with the last N rows (default: 20)")
    tail.set_defaults(run=run_tail)
    explain.add(kinds)
    plane = kinds.add_parser("serve", help="newest values, roll-ups and alerts of a Kafka log, with web views (Faust)")
    plane.add_argument("--log", required=True, metavar="URL", help="kafka://HOST:PORT")
    plane.add_argument("--rules", default=None, metavar="FILE.toml", help="alert rules; shipped = ours (default: none)")
    plane.add_argument("--sectors", default=None, metavar="FILE.csv", help="columns ticker,sector (default: ours)")
    plane.add_argument("--host", default="127.0.0.1", help="address of the web views (default: 127.0.0.1)")
    plane.add_argument("--port", type=int, default=6066, help="their port, 0 = any free one (default: 6066)")
    plane.add_argument("--token-env", default=None, metavar="ENV", help="environment variable with a token that every "
                       "request must carry")  # fmt: skip
    plane.add_argument("--without-token", action="store_true", help="let the network read without one")
    plane.set_defaults(run=run_serve)
    matrix.add(kinds)
    curve.add(kinds)
    sessions.add(kinds)
    published.add(kinds)


def run_serve(args: argparse.Namespace) -> int:
    """`affect signals serve`."""
    if not 0 <= args.port <= 65535:
        raise UsageError(f"--port: expected 0 to 65535, got {args.port}")
    serving = Serving(
        args.log, args.rules, args.sectors, args.host, args.port, token_of(args.token_env), args.without_token
    )
    return asyncio.run(serve_signals(serving))


def run_tail(args: argparse.Namespace) -> int:
    """`affect signals tail`."""
    return asyncio.run(_tail(args))


async def _tail(args: argparse.Namespace) -> int:
    codec = build_codec()
    log = open_existing(args.log)
    try:
        end = (await log.span(SIGNALS))[0][1]
        rows = [row for row in await _rows(log, codec, max(0, end - 200_000), end) if _wanted(row, args)]
        for row in rows[-args.last :] if args.last > 0 else []:
            print(_line(row, args.json))
        while args.follow:
            records = await log.read(SIGNALS, 0, end, 1_000, 1.0)
            for record in records:
                row = codec.decode_signal(record.value)
                if _wanted(row, args):
                    print(_line(row, args.json), flush=True)
            end = records[-1].offset + 1 if records else end
    finally:
        await log.close()
    return 0


def _wanted(row: SignalRow, args: argparse.Namespace) -> bool:
    return (args.signal is None or row.signal == args.signal) and (args.entity is None or row.entity == args.entity)


def _line(row: SignalRow, as_json: bool) -> str:
    if as_json:
        return msgspec.json.encode(row).decode()
    value = "null" if row.value is None else f"{row.value:+.3f} [{row.lo:+.3f}, {row.hi:+.3f}]"
    end = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(row.window_end / 1000))
    return f"{end}  {row.status:11} r{row.revision} {value:26} n={row.n:<6} {row.row_id}"


async def _rows(log: Log, codec: Codec, begin: int, end: int) -> list[SignalRow]:
    out: list[SignalRow] = []
    while begin < end:
        records = await log.read(SIGNALS, 0, begin, 5_000)
        if not records:
            break
        begin = records[-1].offset + 1
        out += [codec.decode_signal(r.value) for r in records]
    return out
