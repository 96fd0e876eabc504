"""`affect sink postgres | jsonl | webhook`: bring the signal rows and alerts of a log to where others can use them."""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import signal
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from engines.errors import MissingExtra
from operators.window import parse_span
from stream.base import Log
from stream.config import load_config
from stream.connect import open_log
from stream.delivering import Delivery
from stream.errors import UsageError
from stream.following import unless_stopped
from stream.jsonl import JsonLinesFile
from stream.sinking import RowReader, SinkWorker, write_jsonl
from stream.system_clock import SystemClock
from stream.topics import ALERTS, SIGNALS
from stream.topology import build_codec
from stream.webhook import Webhook
from stream.worker import Pulse, steadily

if TYPE_CHECKING:
    from stream.postgres import PostgresSink


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the verbs."""
    sink = verbs.add_parser("sink", help="signal rows to PostgreSQL or a file of JSON lines, alerts to a webhook")
    kinds = sink.add_subparsers(dest="what", metavar="postgres|jsonl|webhook", required=True)
    postgres = kinds.add_parser("postgres", help="keep tables of the newest and of every row (for as-of queries)")
    postgres.add_argument("--dsn", metavar="ENV", default="AFFECT_POSTGRES", help="name of the environment variable "
                          "that holds the connection string (default: AFFECT_POSTGRES)")  # fmt: skip
    postgres.add_argument("--group", default="affect-postgres", help="consumer group (default: affect-postgres)")
    postgres.add_argument("--every-row", action="store_true", help="keep provisional rows in the history too")
    postgres.set_defaults(run=run_postgres)
    jsonl = kinds.add_parser("jsonl", help="append every row to a file; started again it goes on where it stopped")
    jsonl.add_argument("--out", required=True, metavar="FILE", help="FILE.position beside it says how far it is")
    jsonl.set_defaults(run=run_jsonl)
    webhook = kinds.add_parser("webhook", help="POST every alert, signed, until it is delivered")
    webhook.add_argument("--url-env", metavar="ENV", default="AFFECT_WEBHOOK_URL", help="name of the environment "
                         "variable that holds the address (default: AFFECT_WEBHOOK_URL)")  # fmt: skip
    webhook.add_argument("--secret-env", metavar="ENV", default="AFFECT_WEBHOOK_SECRET", help="name of the one that "
                         "holds the secret of the signatures (default: AFFECT_WEBHOOK_SECRET)")  # fmt: skip
    webhook.add_argument("--unsigned", action="store_true", help="do without a secret")
    webhook.add_argument("--plain-http", action="store_true", help="allow http:// to other machines")
    webhook.add_argument("--page", default="", metavar="URL", help="address of the live page, for links in the alerts")
    webhook.add_argument("--max-age", default="6h", help="older alerts are dead-lettered (default: 6h)")
    webhook.add_argument("--timeout", default="10s", help="longest a delivery may take (default: 10s)")
    webhook.add_argument("--group", default="affect-webhook", help="consumer group (default: affect-webhook)")
    webhook.set_defaults(run=run_webhook)
    for kind in (postgres, jsonl, webhook):
        kind.add_argument("--log", required=True, metavar="URL", help="sqlite:///PATH or kafka://HOST:PORT")
        kind.add_argument("-c", "--config", default=None, metavar="FILE.toml", help="for its [registry] settings")
        kind.add_argument("--until-end", action="store_true", help="end when what is there now is written or sent")


def run_postgres(args: argparse.Namespace) -> int:
    """`affect sink postgres`."""
    if "=" in args.dsn or "://" in args.dsn:
        raise UsageError("--dsn: expected the name of an environment variable; a password in argv shows in `ps`")
    dsn = os.environ.get(args.dsn)
    if not dsn:
        raise UsageError(f"--dsn {args.dsn}: set ${args.dsn} to postgresql://USER:PASSWORD@HOST/DATABASE")
    return asyncio.run(_postgres(args, dsn))


async def _postgres(args: argparse.Namespace, dsn: str) -> int:
    try:
        from stream.postgres import PostgresSink
    except ImportError as missing:
        raise MissingExtra(f"{missing.name} is not installed: pip install 'affectstream[postgres]'") from None
    sink, pulse = PostgresSink(dsn, args.every_row), _pulse()
    codec = build_codec(load_config(args.config).registry)
    log = open_log(args.log)
    try:
        await unless_stopped(_ready(log, pulse, sink), pulse)
        if pulse.ended.is_set():
            return 1
        worker = SinkWorker(log, sink, codec, args.group, args.until_end, pulse)
        await worker.run()
        return _told(worker.reader)
    finally:
        await sink.close()
        await log.close()


def run_jsonl(args: argparse.Namespace) -> int:
    """`affect sink jsonl`."""
    return asyncio.run(_jsonl(args))


async def _jsonl(args: argparse.Namespace) -> int:
    codec, pulse = build_codec(load_config(args.config).registry), _pulse()
    log = open_log(args.log)
    try:
        await unless_stopped(_ready(log, pulse), pulse)
        out = JsonLinesFile(Path(args.out), args.log)
        try:
            reader = RowReader(codec)
            await unless_stopped(write_jsonl(log, out, reader, args.until_end, pulse), pulse)
            return _told(reader)
        finally:
            out.close()
    finally:
        await log.close()


def run_webhook(args: argparse.Namespace) -> int:
    """`affect sink webhook`."""
    names = {"--url-env": args.url_env, "--secret-env": args.secret_env}
    for option, name in names.items():
        if not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name):
            raise UsageError(f"{option}: expected the name of an environment variable; what is in argv shows in `ps`")
    url, secret = (os.environ.get(name) for name in names.values())
    if not url:
        raise UsageError(f"--url-env {args.url_env}: set ${args.url_env} to https://HOST/PATH")
    if not secret and not args.unsigned:
        raise UsageError(f"--secret-env {args.secret_env}: set ${args.secret_env}, or say --unsigned")
    return asyncio.run(_webhook(args, url, None if args.unsigned or not secret else secret.encode()))


async def _webhook(args: argparse.Namespace, url: str, secret: bytes | None) -> int:
    clock = SystemClock()
    hook = Webhook(url, secret, clock, parse_span(args.timeout) / 1000, args.plain_http)
    codec, pulse = build_codec(load_config(args.config).registry), _pulse()
    log = open_log(args.log)
    delivery = Delivery(
        log, hook, codec, args.group, clock, pulse,
        page=args.page, max_age_ms=parse_span(args.max_age), until_end=args.until_end,
    )  # fmt: skip
    try:
        await unless_stopped(steadily(partial(log.span, ALERTS), pulse, "open the log"), pulse)
        if not pulse.ended.is_set():
            await delivery.run()
        dead = "".join(f", {count} {reason}" for reason, count in sorted(delivery.dead.items()))
        sys.stderr.write(f"{delivery.delivered} alerts delivered{dead}\n")
        return 0
    finally:
        await hook.close()
        await log.close()


async def _ready(log: Log, pulse: Pulse, sink: PostgresSink | None = None) -> None:
    """Wait for the log and the database."""
    await steadily(partial(log.span, SIGNALS), pulse, "open the log")
    if sink is not None:
        await steadily(sink.open, pulse, "open the database")


def _pulse() -> Pulse:
    """A pulse that ends on SIGINT and SIGTERM."""
    pulse, loop = Pulse(), asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, pulse.ended.set)
    return pulse


def _told(reader: RowReader) -> int:
    left_out = f", {reader.rejected} unreadable messages left out" if reader.rejected else ""
    sys.stderr.write(f"{reader.rows} rows written{left_out}\n")
    return 0
