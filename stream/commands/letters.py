"""`affect letters`: what was refused, or came too late, and why. The payload stays in its own topic."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter, deque
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import msgspec

from operators.errors import Rejected
from operators.records import DeadLetter, LatePost
from stream.base import Log
from stream.config import load_config
from stream.connect import open_existing
from stream.errors import UsageError
from stream.topics import DEAD_LETTER, LATE
from stream.topology import build_codec

READ = 1_000


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the verb."""
    letters = verbs.add_parser(
        "letters", help="dead letters: what was refused and why; --late for posts that came late"
    )
    letters.add_argument("--log", required=True, metavar="URL", help="sqlite:///PATH or kafka://HOST:PORT")
    letters.add_argument("-c", "--config", default=None, metavar="FILE.toml", help="for its [registry] settings")
    letters.add_argument("--late", action="store_true", help="posts that came after their windows were let go")
    letters.add_argument("--limit", type=int, default=20, metavar="N", help="the N newest (default: 20)")
    letters.add_argument("--json", action="store_true", help="one JSON object a line, no summary")
    letters.set_defaults(run=run_letters)


def run_letters(args: argparse.Namespace) -> int:
    """Print the newest letters, and how many there are of each reason."""
    if args.limit < 1:
        raise UsageError(f"--limit: expected 1 or more, got {args.limit}")
    return asyncio.run(_letters(args))


async def _letters(args: argparse.Namespace) -> int:
    codec = build_codec(load_config(args.config).registry)
    decode = codec.decode_late if args.late else codec.decode_dead_letter
    topic = LATE if args.late else DEAD_LETTER
    newest: deque[DeadLetter | LatePost] = deque(maxlen=args.limit)
    reasons: Counter[str] = Counter()
    log = open_existing(args.log)
    try:
        async for raw in _values(log, topic):
            try:
                letter = decode(raw)
            except Rejected as refused:
                reasons[f"unreadable letter: {refused.reason}"] += 1
                continue
            newest.append(letter)
            reasons["late" if isinstance(letter, LatePost) else letter.reason] += 1
    finally:
        await log.close()
    for letter in newest:
        print(msgspec.json.encode(letter).decode() if args.json else _line(letter))
    if not args.json:
        told = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common()) or "none"
        sys.stderr.write(f"{sum(reasons.values())} in {topic}: {told}\n")
    return 0


async def _values(log: Log, topic: str) -> AsyncIterator[bytes]:
    """Every message of a topic, partition by partition; none where the topic was never made."""
    if topic not in {spec.name for spec in await log.topics()}:
        return
    for partition, (offset, end) in enumerate(await log.span(topic)):
        while offset < end:
            records = await log.read(topic, partition, offset, READ, 1.0)
            for record in records:
                yield record.value
            offset = records[-1].offset + 1 if records else end


def _line(letter: DeadLetter | LatePost) -> str:
    where = f"{letter.topic}[{letter.partition}] offset {letter.offset}"
    if isinstance(letter, LatePost):
        at = datetime.fromtimestamp(letter.event_time_ms / 1000, UTC).isoformat(timespec="seconds")
        return f"{where}  {letter.late_by_ms / 1000:.1f} s late  {letter.post_id!r} of {at}"
    return f"{where}  {letter.reason}  {letter.size_bytes} bytes  {letter.detail}"
