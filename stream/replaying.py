"""Replays: posts of the past in, the final row of every window out. What `affect replay` and a notebook share."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
from tqdm import tqdm

from engines.base import TextModel
from operators.records import DeadLetter
from stream.base import CommitUnit, Log, TopicSpec
from stream.config import Config, PolicyConfig, load_config
from stream.errors import UsageError
from stream.ingest import IngestPlan, in_seconds, ingest
from stream.ops_status import OpsStatus
from stream.results import FinalRows
from stream.runner import Runner
from stream.system_clock import SystemClock
from stream.topics import DEAD_LETTER
from stream.topology import Topology, build

SETTINGS = "affect-replay-settings"
"""Consumer group whose state says what a log was replayed with."""


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
    languages: str = "trained",
    policy: PolicyConfig | None = None,
) -> Config:
    """The settings of a replay. `policy`: what is declared to the gate; a room's cameras count only where it lets them.

    Raises:
        UsageError, ConfigInvalid: one of them cannot work.
    """
    tree = {
        "domain": domain,
        "log": {"url": log, "retention": "36500d"},
        "input": {"partitions": workers, "group": "replay", "topic": topic},
        "engine": {"name": engine, "threads": 0},
        "time": {"lateness": lateness, "disorder": disorder, "future": "1m"},
        "run": {"workers": workers, "batch_size": batch_size, "commit_interval": "1s", "languages": languages},
        "windows": {"sizes": list(windows)},
    }
    return msgspec.structs.replace(msgspec.convert(tree, Config), policy=policy or PolicyConfig()).check()


async def replay(
    log: Log,
    config: Config,
    posts: Path | None = None,
    rank_time_s: float | None = None,
    bar: bool = False,
    model: TextModel | None = None,
) -> tuple[FinalRows, OpsStatus]:
    """Run `config` over what `posts` holds (None = over what the topic holds) to its end; goes on where one stopped.

    `model`: scored with instead of the one `config` names.

    Raises:
        AffectError: the file cannot be read, or a fault that retrying does not cure; what was committed stays.
    """
    if posts is not None:
        await ingest_file(log, config, posts, rank_time_s, bar=bar)
    spans = await log.span(config.topic)
    topology = build(config, len(spans), replay=True, model=model)
    await log.ensure(topology.topics)
    await _as_before(log, topology)
    rows = FinalRows()
    await rows.read(log, topology.parts.codec, config.domain)
    runner = Runner(topology, log, SystemClock(), until_end=True, on_rows=rows.add)
    await _with_bar(runner, sum(end for _, end in spans), bar)
    status = await runner.status()
    if bar and topology.reading.foreign:
        sys.stderr.write(f"{topology.reading.said()}\n")
    if bar and topology.score.abstained:
        sys.stderr.write(f"{unscored(topology.score.abstained)}: their posts are null\n")
    if bar and status.rejected:
        sys.stderr.write(f"{status.rejected} posts rejected: {await _reasons(log, topology)}\n")
    return rows, status


def unscored(abstained: Counter[str]) -> str:
    """How many answers of an endpoint gave no score, and why; most frequent first.

    >>> unscored(Counter(budget=1, refused=2))
    '3 answers gave no score (refused 2, budget 1)'
    """
    why = ", ".join(f"{reason} {n}" for reason, n in abstained.most_common())
    return f"{abstained.total()} answers gave no score ({why})"


def model_settings(path: str, engine: str) -> Config:
    """The settings of the file `path`, of which `[engine]` and `[endpoint]` choose a model. `engine`: what `--engine`
    says beside them.

    Raises:
        UsageError: the file cannot be used, or both choose.
    """
    if engine != "auto":
        raise UsageError(f"--engine {engine}: -c {path} chooses the model already; give one of them")
    return load_config(path)


BEFORE: Final = {"--languages": "all", "--policy": ""}
"""What a log was replayed with before replays said so."""


async def _as_before(log: Log, topology: Topology) -> None:
    """A log keeps what it was replayed with: going on with other settings would give back the rows of the old ones.

    Raises:
        UsageError: it was replayed with others.
    """
    config = topology.config
    now = {
        "topic": config.topic,
        "model": topology.model.spec.model_id,
        "--windows": ",".join(config.windows.sizes),
        "--lateness": config.time.lateness,
        "--disorder": config.time.disorder,
        "--languages": config.run.languages,
        "--policy": "+".join(config.policy.modalities),
    }
    key = f"{config.input.group}-{config.domain}"
    held = (await log.restore(SETTINGS, key)).get(key)
    if held is None:
        await log.commit(CommitUnit(SETTINGS, state={key: msgspec.json.encode(now)}))
        return
    then = msgspec.json.decode(held, type=dict[str, str])
    for name, value in now.items():
        if then.get(name, BEFORE.get(name)) != value:
            raise UsageError(
                f"{config.log.url}: it holds a replay with {name} {then.get(name)}, asked for {value}; "
                "use another --log, or none"
            )


async def settings_of(log: Log, domain: str, path: str | None, engine: str | None) -> tuple[Config, bool]:
    """The settings a log was run with, and whether that was a replay: those of the file `path`, else those a replay has
    left in the log, else the defaults. `engine`: instead of the model they name.

    Raises:
        UsageError: the file cannot be used, or is of another domain.
    """
    replayed = False
    if path is not None:
        config = load_config(path)
        if config.domain != domain:
            raise UsageError(f"-c {path}: it is of domain {config.domain}, expected {domain}")
    else:
        held = (await log.restore(SETTINGS, f"replay-{domain}")).get(f"replay-{domain}")
        replayed = held is not None
        if held is None:
            config = msgspec.convert({"domain": domain, "time": {"future": "36500d"}}, Config)
        else:
            then = msgspec.json.decode(held, type=dict[str, str])
            config = replay_config(
                domain,
                topic=then["topic"],
                engine=then["model"].split("@")[0],
                windows=then["--windows"].split(","),
                lateness=then["--lateness"],
                disorder=then["--disorder"],
            )
    if engine is not None:
        config = msgspec.structs.replace(config, engine=msgspec.structs.replace(config.engine, name=engine))
    return config.check(), replayed


async def _reasons(log: Log, topology: Topology) -> str:
    """What the dead letters of the input topic say, most frequent first, and where the first one lies."""
    counts: Counter[str] = Counter()
    first: DeadLetter | None = None
    at, end = (await log.span(DEAD_LETTER))[0]
    while at < end:
        records = await log.read(DEAD_LETTER, 0, at, 5_000)
        if not records:
            break
        at = records[-1].offset + 1
        for record in records:
            letter = topology.parts.codec.decode_dead_letter(record.value)
            if letter.topic == topology.config.topic:
                counts[letter.reason] += 1
                first = letter if first is None else first
    said = ", ".join(f"{reason} {count}" for reason, count in counts.most_common())
    if first is None:
        return f"see {DEAD_LETTER}"
    return f"{said}; the first: message {first.offset} of partition {first.partition}, {first.detail}"


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
    seconds = None if rank_time_s is not None else in_seconds(path)
    if bar and seconds is not None:
        sys.stderr.write(
            f"{path}: created_at {seconds} is taken as milliseconds, a day of January 1970; seconds? multiply by 1000\n"
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
