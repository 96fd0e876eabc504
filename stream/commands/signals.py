"""`affect signals tail | explain | ...`: live rows of a log, and why a signal has the value it has."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence

import msgspec
import numpy as np

from operators.base import Operator
from operators.codec import Codec
from operators.explain import influence
from operators.masking import mask
from operators.names import WHOLE
from operators.records import I64, PostBatch, SignalRow
from stream.base import Log
from stream.commands import matrix, published
from stream.config import Config
from stream.connect import open_existing
from stream.errors import UsageError
from stream.signals_serve import Serving, serve_signals, token_of
from stream.topics import SIGNALS
from stream.topology import Topology, build, build_codec


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the verbs."""
    signals = verbs.add_parser("signals", help="look at signal rows, at why they moved, and serve them")
    verbs_of = "tail|explain|serve|matrix|export|asof|revisions"
    kinds = signals.add_subparsers(dest="what", metavar=verbs_of, required=True)
    tail = kinds.add_parser("tail", help="print rows as they come")
    tail.add_argument("--log", required=True, metavar="URL", help="sqlite:///PATH of a run")
    tail.add_argument("--signal", default=None, help="only this signal, e.g. market.valence")
    tail.add_argument("--entity", default=None, help="only this entity, e.g. ticker:AAPL")
    tail.add_argument("--json", action="store_true", help="rows as JSON")
    tail.add_argument("--follow", action="store_true", help="go on waiting for new rows")
    tail.add_argument("--last", type=int, default=20, metavar="N", help="begin with the last N rows (default: 20)")
    tail.set_defaults(run=run_tail)
    explain = kinds.add_parser("explain", help="which posts moved a value, and by how much")
    explain.add_argument("id", metavar="ID", help="signal|entity|window_start|window_end, as tail prints it")
    explain.add_argument("--log", required=True, metavar="URL")
    explain.add_argument("--engine", default="auto", help="the model the run used")
    explain.add_argument("--top", type=int, default=5, metavar="N", help="posts to show (default: 5)")
    explain.add_argument("--json", action="store_true")
    explain.set_defaults(run=run_explain)
    plane = kinds.add_parser("serve", help="newest values, roll-ups and alerts of a Kafka log, with web views (Faust)")
    plane.add_argument("--log", required=True, metavar="URL", help="kafka://HOST:PORT")
    plane.add_argument("--rules", default=None, metavar="FILE.toml", help="alert rules (default: no alerts)")
    plane.add_argument("--sectors", default=None, metavar="FILE.csv", help="columns ticker,sector (default: ours)")
    plane.add_argument("--host", default="127.0.0.1", help="address of the web views (default: 127.0.0.1)")
    plane.add_argument("--port", type=int, default=6066, help="their port, 0 = any free one (default: 6066)")
    plane.add_argument("--token-env", default=None, metavar="ENV", help="environment variable with a token that every "
                       "request must carry")  # fmt: skip
    plane.add_argument("--without-token", action="store_true", help="let the network read without one")
    plane.set_defaults(run=run_serve)
    matrix.add(kinds)
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


def run_explain(args: argparse.Namespace) -> int:
    """`affect signals explain ID`."""
    parts = args.id.split("|")
    if len(parts) != 4 or not all(p.lstrip("-").isdigit() for p in parts[2:]):
        raise UsageError(f"ID: expected signal|entity|window_start|window_end, got {args.id!r}")
    return asyncio.run(_explain(args, parts[0], parts[1], int(parts[2]), int(parts[3])))


async def _explain(args: argparse.Namespace, signal: str, entity: str, start: int, end: int) -> int:
    domain = signal.split(".")[0]
    if domain not in ("market", "crisis", "social"):
        raise UsageError(f"ID: signal {signal!r} belongs to no domain this engine has")
    config = msgspec.convert(
        {"domain": domain, "engine": {"name": args.engine}, "time": {"future": "36500d"}}, Config
    ).check()
    log = open_existing(args.log)
    try:
        topology = build(config, 1)
        if signal not in topology.parts.domain.signals:
            raise UsageError(f"ID: no signal {signal!r}; there is: {', '.join(topology.parts.domain.signals)}")
        now = await _window(log, topology, entity, start, end)
        before = await _window(log, topology, entity, start - (end - start), start)
    finally:
        await log.close()
    texts, channels = now
    if not texts:
        sys.stderr.write(f"no posts about {entity} in that window\n")
        return 1
    value, moved = influence(topology.parts.domain, signal, channels, entity == WHOLE)
    previous = influence(topology.parts.domain, signal, before[1], entity == WHOLE)[0] if before[0] else None
    top = np.argsort(-np.abs(moved), kind="stable")[: args.top].tolist()
    posts = [{"moved": float(moved[k]), "text": mask(texts[k])} for k in top]
    if args.json:
        report = {"id": args.id, "value": value, "previous": previous, "n": len(texts), "posts": posts}
        print(msgspec.json.encode(report).decode())
        return 0
    was = "nothing" if previous is None else f"{previous:+.4f}"
    print(f"{signal} of {entity}: {value:+.4f} from {len(texts)} posts (window before: {was})")
    for post in posts:
        print(f"  {post['moved']:+.5f}  {post['text']}")
    return 0


async def _window(log: Log, topology: Topology, entity: str, start: int, end: int) -> tuple[list[str], I64]:
    """Texts and channels of the distinct posts about `entity` in [start, end), read back from the input topic."""
    parts = topology.parts
    texts: list[str] = []
    rows = [np.zeros((0, len(parts.domain.columns)), np.int64)]
    seen: set[str] = set()
    for partition, (at, last) in enumerate(await log.span(parts.topic)):
        while at < last:
            records = await log.read(parts.topic, partition, at, 5_000)
            if not records:
                break
            at = records[-1].offset + 1
            batch, _ = parts.codec.decode_posts(parts.topic, partition, records, parts.arrival)
            fresh = np.array([name not in seen for name in batch.ids], np.bool_)
            batch = batch.take(fresh & (batch.times_ms >= start) & (batch.times_ms < end))
            seen.update(batch.ids)
            batch = await _chain(parts.chain, batch)
            hits = sorted(
                {r for r, name in zip(batch.link_rows.tolist(), batch.link_names, strict=True) if name == entity}
            )
            texts += [batch.texts[k] for k in hits]
            rows.append(parts.domain.channels(batch)[hits])
    return texts, np.concatenate(rows)


async def _chain(chain: Sequence[Operator], batch: PostBatch) -> PostBatch:
    for operator in chain:
        batch = (await operator.process(batch)).batch
    return batch
