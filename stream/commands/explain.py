"""`affect signals explain ID`: why a value is what it is, and why it moved."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time

import msgspec

from stream.archive_base import row_id_parts
from stream.config import DOMAINS
from stream.connect import open_existing
from stream.contributing import contributing
from stream.contribution import BYS, Contribution
from stream.errors import UsageError
from stream.replaying import settings_of
from stream.topology import build

PARTS = {
    "level": "the same groups speak differently",
    "mix": "other groups speak",
    "volume": "more or fewer speak",
    "past": "something else is usual now",
}


def add(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the verb."""
    explain = kinds.add_parser("explain", help="why a value moved: parts, groups, posts and words")
    explain.add_argument("id", metavar="ID", help="signal|entity|window_start|window_end, as tail prints it")
    explain.add_argument("--log", required=True, metavar="URL")
    explain.add_argument("-c", "--config", default=None, metavar="FILE.toml", help="settings of the run, if it had any "
                         "(a replay has left its own in the log)")  # fmt: skip
    explain.add_argument("--engine", default=None, help="the model the run used (default: that of the settings)")
    explain.add_argument("--top", type=int, default=5, metavar="N", help="posts to show (default: 5)")
    explain.add_argument("--by", choices=BYS, default="auto",
                         help="what posts are grouped by (default: auto)")  # fmt: skip
    explain.add_argument("--most", type=int, default=200_000, metavar="N", help="posts to read back at most, from the "
                         "newest (default: 200000)")  # fmt: skip
    explain.add_argument("--json", action="store_true")
    explain.set_defaults(run=run_explain)


def run_explain(args: argparse.Namespace) -> int:
    """`affect signals explain ID`."""
    try:
        signal = row_id_parts(args.id)[0]
    except ValueError as problem:
        raise UsageError(f"ID: {problem}") from None
    domain = signal.split(".")[0]
    if domain == "classroom":
        raise UsageError("ID: a classroom signal is not taken apart: its parts would be seats")
    if domain not in DOMAINS:
        raise UsageError(f"ID: signal {signal!r} belongs to no domain this engine has")
    if args.top < 0 or args.most < 1:
        raise UsageError(f"--top, --most: expected 0 or more, and 1 or more, got {args.top} and {args.most}")
    return asyncio.run(_explain(args, domain))


async def _explain(args: argparse.Namespace, domain: str) -> int:
    log = open_existing(args.log)
    try:
        config, replayed = await settings_of(log, domain, args.config, args.engine)
        known = {spec.name: spec.partitions for spec in await log.topics()}
        if config.topic not in known:
            raise UsageError(
                f"log {args.log!r}: it has no topic {config.topic}; say -c FILE with the settings of the run"
            )
        topology = build(config, known[config.topic], replay=replayed)
        found = await contributing(log, topology, args.id, args.top, args.most, args.by, replayed)
    finally:
        await log.close()
    if found.n == 0:
        sys.stderr.write(f"no posts about {row_id_parts(args.id)[1]} in that window\n")
        return 1
    if args.json:
        print(msgspec.json.encode(found).decode())
    else:
        for line in lines(found):
            print(line)
    return 0


def lines(found: Contribution) -> list[str]:
    """A contribution as people read it."""
    signal, entity, start, end = row_id_parts(found.id)
    begin, close = (time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(ms / 1000)) for ms in (start, end))
    out = [f"{signal} of {entity}, {begin} to {close[11:] if close[:10] == begin[:10] else close} UTC"]
    few = "too few posts"
    value = few if found.value is None else f"{found.value:+.4f} [{found.lo:+.4f}, {found.hi:+.4f}]"
    was = "nothing" if not found.previous_n else few if found.previous is None else f"{found.previous:+.4f}"
    out.append(f"{value} from {found.n} posts (window before: {was} from {found.previous_n})")
    if found.parts is not None:
        out.append(f"change {found.change:+.4f}, made of")
        for name, about in PARTS.items():
            part = getattr(found.parts, name)
            if name != "past" or part:
                out.append(f"  {part:+.5f}  {name:7} {about}")
    if len(found.groups) > 1:
        out.append(f"by {found.by}: share of the weight and value, before and now")
        for group in found.groups:
            pair = [few if v is None else f"{v:+.4f}" for v in (group.value_before, group.value)]
            out.append(
                f"  {group.share_before:6.1%} {pair[0]:>13}  ->  {group.share:6.1%} {pair[1]:>13}  {group.group}"
            )
    if found.posts:
        out.append("posts that moved it most")
        out += [f"  {p.moved:+.5f}  {p.label:12} {p.post_id}  {p.text_masked}" for p in found.posts]
    if found.words:
        out.append("rose: " + ", ".join(f"{w.word} ({w.before} to {w.now})" for w in found.words))
    out += [f"note: {note}" for note in found.notes]
    return out
