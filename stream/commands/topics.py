"""`affect topics print | apply`: the topics of the engine, shown, or made and checked on a log."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterable

import msgspec

from stream.base import Log, TopicSpec
from stream.config import DOMAINS, INPUT_TOPICS
from stream.connect import open_log
from stream.errors import LogError, UsageError
from stream.topics import MEANING, engine_topics, plane_topics

WEEK_MS = 7 * 86_400_000


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the verb."""
    topics = verbs.add_parser("topics", help="the topics the engine reads and writes")
    kinds = topics.add_subparsers(dest="what", metavar="print|apply", required=True)
    show = kinds.add_parser("print", help="print every topic with its settings")
    show.add_argument("--json", action="store_true", help="one JSON object a line")
    show.set_defaults(run=print_topics)
    apply = kinds.add_parser("apply", help="make the topics that are missing on a log, and check those that are there")
    apply.add_argument("--log", required=True, metavar="URL", help="such as kafka://HOST:PORT")
    apply.set_defaults(run=apply_topics)
    for kind in (show, apply):
        kind.add_argument("--domain", choices=DOMAINS, default=None, help="only what this domain needs")
        kind.add_argument("--serve", action="store_true", help="also those of `affect signals serve`")
        kind.add_argument("--partitions", type=int, default=1, help="partitions of the input topic")


def _wanted(args: argparse.Namespace) -> list[TopicSpec]:
    if not 1 <= args.partitions <= 4096:
        raise UsageError(f"--partitions: expected 1 to 4096, got {args.partitions}")
    domains = [args.domain] if args.domain else list(DOMAINS)
    wanted = [t for d in domains for t in engine_topics(INPUT_TOPICS[d], args.partitions, WEEK_MS)]
    if args.serve:
        wanted += plane_topics(WEEK_MS)
    return list({t.name: t for t in wanted}.values())


def _line(spec: TopicSpec) -> str:
    keep = "for ever" if spec.retention_ms < 0 else f"{spec.retention_ms // 86_400_000} d"
    policy = "compact" if spec.compact else "delete"
    return f"{spec.name:28} {spec.partitions:3} partitions  kept {keep:9} {policy:8}"


def print_topics(args: argparse.Namespace) -> int:
    """Print name, partitions, retention, clean-up and meaning."""
    for spec in _wanted(args):
        if args.json:
            line = {
                "topic": spec.name,
                "partitions": spec.partitions,
                "retention_ms": spec.retention_ms,
                "cleanup": "compact" if spec.compact else "delete",
                "meaning": MEANING[spec.name],
            }
            print(msgspec.json.encode(line).decode())
        else:
            print(f"{_line(spec)} {MEANING[spec.name]}")
    return 0


def apply_topics(args: argparse.Namespace) -> int:
    """Make missing topics, raise retentions that are too short, name every other wrong setting (exit 1)."""
    return asyncio.run(_apply(args.log, _wanted(args)))


async def _apply(url: str, wanted: Iterable[TopicSpec]) -> int:
    log = open_log(url)
    try:
        return max([await _apply_one(log, spec) for spec in wanted])
    finally:
        await log.close()


async def _apply_one(log: Log, spec: TopicSpec) -> int:
    before = {topic.name: topic for topic in await log.topics()}.get(spec.name)
    try:
        await log.ensure([spec])
    except LogError as error:
        if error.retriable or before is None:  # no word about this topic: the log is away, or lets nobody make any
            raise
        print(f"{'wrong':8} {_line(before)}")
        sys.stderr.write(f"affect topics: {error}\n")
        return error.exit_code
    after = {topic.name: topic for topic in await log.topics()}[spec.name]
    did = "made" if before is None else "ok" if before == after else "changed"
    print(f"{did:8} {_line(after)}")
    return 0
