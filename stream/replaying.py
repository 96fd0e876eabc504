"""Replays: posts of the past in, the final row of every window out. What `affect replay` and a notebook share."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
from tqdm import tqdm

from stream.base import Log, TopicSpec
from stream.config import Config
from stream.feed import OpsStatus
from stream.ingest import IngestPlan, ingest
from stream.results import FinalRows
from stream.runner import Runner
from stream.system_clock import SystemClock
from stream.topology import build


def replay_config(
    domain: str,
    *,
    log: str = "memory://",
    topic: str = "",
    engine: str = "auto",
    windows: Sequence[str] = ("1m", "5m", "1h", "24h"),
    lateness: str = "24h",
    disorder: str = "30s",
    batch_size: int = 1000,
    workers: int = 1,
) -> Config:
    """The settings of a replay.

    Raises:
        UsageError, ConfigInvalid: one of them cannot work.
    """
    tree = {
        "domain": domain,
        "log": {"url": log, "retention": "36500d"},
        "input": {"partitions": workers, "group": "replay", "topic": topic},
        "engine": {"name": engine},
        "time": {"lateness": lateness, "disorder": disorder, "future": "1m"},
        "run": {"workers": workers, "batch_size": batch_size, "commit_interval": "1s"},
        "windows": {"sizes": list(windows)},
    }
    return msgspec.convert(tree, Config).check()


async def replay(
    log: Log, config: Config, posts: Path | None = None, rank_time_s: float | None = None, bar: bool = False
) -> tuple[FinalRows, OpsStatus]:
    """Run `config` over what `posts` holds (None = over what the topic holds) to its end; goes on where one stopped.

    Raises:
        AffectError: the file cannot be read, or a fault that retrying does not cure; what was committed stays.
    """
    if posts is not None:
        await ingest_file(log, config, posts, rank_time_s, bar=bar)
    spans = await log.span(config.topic)
    topology = build(config, len(spans), replay=True)
    await log.ensure(topology.topics)
    rows = FinalRows()
    await rows.read(log, topology.parts.codec, config.domain)
    runner = Runner(topology, log, SystemClock(), until_end=True, on_rows=rows.add)
    await _with_bar(runner, sum(end for _, end in spans), bar)
    return rows, await runner.status()


async def ingest_file(
    log: Log, config: Config, path: Path, rank_time_s: float | None = None, live: bool = False, bar: bool = False
) -> tuple[int, int]:
    """Append a file of posts to the input topic; see `ingest`."""
    await log.ensure([TopicSpec(config.topic, config.input.partitions)])
    plan = IngestPlan(
        path=path,
        topic=config.topic,
        partitions=config.input.partitions,
        rank_time_ms=None if rank_time_s is None else rank_time_s * 1000,
        author_key=config.privacy.author_key.encode(),
        now_ms=SystemClock().now_ms(),
        live=live,
    )
    with tqdm(desc="reading", unit=" posts", disable=not (bar and sys.stderr.isatty()), leave=False) as shown:
        return await ingest(log, plan, shown.update)


async def _with_bar(runner: Runner, total: int, bar: bool) -> None:
    """Run to the end. Cancelled, it lets the workers commit what they have in hand first."""
    task = asyncio.create_task(runner.run())
    hidden = not (bar and sys.stderr.isatty())
    with tqdm(desc="scoring", total=total, unit=" posts", disable=hidden, leave=False) as shown:
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=0.2)
                shown.update(sum(s.counts.next_offset for w in runner.workers for s in w.scorers.values()) - shown.n)
        except asyncio.CancelledError:
            runner.stop()
            await asyncio.wait({task})
            raise
    task.result()
