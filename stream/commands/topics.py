"""`affect topics print`: the topics of the engine."""

from __future__ import annotations

import argparse

import msgspec

from stream.config import DOMAINS, INPUT_TOPICS
from stream.topics import MEANING, engine_topics

WEEK_MS = 7 * 86_400_000


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the verb."""
    topics = verbs.add_parser("topics", help="the topics the engine reads and writes")
    kinds = topics.add_subparsers(dest="what", metavar="print", required=True)
    show = kinds.add_parser("print", help="print every topic with its settings")
    show.add_argument("--domain", choices=DOMAINS, default=None, help="only what this domain needs")
    show.add_argument("--partitions", type=int, default=1, help="partitions of the input topic")
    show.add_argument("--json", action="store_true", help="one JSON object a line")
    show.set_defaults(run=print_topics)


def print_topics(args: argparse.Namespace) -> int:
    """Print name, partitions, retention, clean-up and meaning."""
    wanted = [args.domain] if args.domain else list(DOMAINS)
    specs = {t.name: t for d in wanted for t in engine_topics(INPUT_TOPICS[d], args.partitions, WEEK_MS)}
    for spec in specs.values():
        keep = "for ever" if spec.retention_ms < 0 else f"{spec.retention_ms // 86_400_000} d"
        policy = "compact" if spec.compact else "delete"
        if args.json:
            line = {
                "topic": spec.name,
                "partitions": spec.partitions,
                "retention_ms": spec.retention_ms,
                "cleanup": policy,
                "meaning": MEANING[spec.name],
            }
            print(msgspec.json.encode(line).decode())
        else:
            print(f"{spec.name:28} {spec.partitions:3} partitions  kept {keep:9} {policy:8} {MEANING[spec.name]}")
    return 0
