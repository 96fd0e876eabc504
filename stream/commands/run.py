"""`affect demo | run | replay | send`: the verbs that move posts."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from engines.choice import LIVE
from stream.alerting import SHIPPED
from stream.config import DOMAINS, INPUT_TOPICS, Config, load_config
from stream.connect import open_existing, open_log
from stream.errors import UsageError
from stream.live import Play
from stream.replaying import ingest_file, model_settings, replay, replay_config
from stream.results import write_lines

SCENARIOS = {"panic": "market", "hurricane": "crisis", "launch": "social"}
"""What `affect demo` plays by itself."""
LESSON = "classroom"
"""Scenario and domain of a lesson: played alone."""


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the verbs."""
    demo = verbs.add_parser("demo", help="play a scenario through the engine and watch it live")
    demo.add_argument(
        "--scenario",
        choices=sorted([*SCENARIOS, LESSON]),
        default=None,
        help="play only this one (default: all but classroom)",
    )
    demo.add_argument("--headless", action="store_true", help="do not try to open a browser")
    demo.add_argument("--seconds", type=float, default=None, metavar="N", help="stop after N seconds (default: run on)")
    demo.add_argument("--port", type=int, default=8642, metavar="P", help="port of the page (default: 8642)")
    demo.add_argument("--speed", type=float, default=10.0, help="scenario seconds per second (default: 10)")
    demo.add_argument("--seed", type=int, default=7, help="seed of the scenario (default: 7)")
    demo.add_argument("--engine", default=LIVE, help=f"model to score with (default: {LIVE}, which keeps up live)")
    demo.add_argument("--rules", default=SHIPPED, metavar="FILE.toml", help="alert rules (default: those shipped)")
    demo.add_argument("--log", default=None, metavar="URL", help="where to keep it (default: a temporary sqlite file)")
    demo.set_defaults(run=run_demo)

    run = verbs.add_parser("run", help="run the engine from a config file")
    run.add_argument(
        "-c", "--config", required=True, metavar="FILE.toml", help="settings; AFFECT_SECTION__KEY overrides"
    )
    run.add_argument("--seconds", type=float, default=None, metavar="N", help="stop after N seconds")
    run.set_defaults(run=run_engine)

    _add_replay(verbs)

    send = verbs.add_parser("send", help="append posts to the input topic of a log")
    send.add_argument("input", metavar="INPUT.jsonl[.gz]", help="posts, one JSON object a line")
    send.add_argument("--domain", choices=DOMAINS, required=True)
    send.add_argument("--log", required=True, metavar="URL")
    send.add_argument("--partitions", type=int, default=1, help="of the topic, if it has to be made")
    send.set_defaults(run=run_send)


def _add_replay(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    replay = verbs.add_parser("replay", help="turn a file of posts into its final signals")
    replay.add_argument("input", nargs="?", metavar="INPUT.jsonl[.gz]", help="posts, one JSON object a line")
    replay.add_argument("--domain", choices=DOMAINS, required=True)
    replay.add_argument("--out", required=True, metavar="SIGNALS.jsonl", help="final row of every window, sorted")
    replay.add_argument(
        "--log", default="memory://", metavar="URL", help="memory://, sqlite:///PATH (default: memory://)"
    )
    replay.add_argument("--batch-size", type=int, default=1000, metavar="N", help="posts per step (changes no digit)")
    replay.add_argument("--workers", type=int, default=1, metavar="N", help="workers, one partition each")
    replay.add_argument(
        "--engine", default="auto", metavar="NAME", help="model, or stub (default: the best for every head)"
    )
    replay.add_argument(
        "-c", "--config", default=None, metavar="FILE.toml", help="its [engine] and [endpoint] choose the model"
    )
    replay.add_argument(
        "--rank-time", type=float, default=None, metavar="SECONDS", help="post k happens at start + k * S"
    )
    replay.add_argument(
        "--windows", default=None, metavar="LIST", help="size or size/hop, such as 5m/1m (default: 1m,5m,1h,24h)"
    )
    replay.add_argument("--lateness", default="24h", metavar="SPAN", help="how long panes wait for late posts")
    replay.add_argument(
        "--disorder", default="30s", metavar="SPAN", help="how far posts may be out of order unremarked"
    )
    replay.add_argument(
        "--from", dest="source", default=None, metavar="TOPIC", help="read this topic of the log instead"
    )
    replay.add_argument(
        "--languages", choices=("all", "trained"), default="trained", help="posts whose scores count (default: trained)"
    )
    replay.add_argument(
        "--policy", metavar="FILE.toml", help="settings whose [policy] is declared: cameras of a room count only so"
    )
    replay.add_argument("--json", action="store_true", help="print the conservation sum as the last line")
    replay.set_defaults(run=run_replay)


def run_replay(args: argparse.Namespace) -> int:
    """`affect replay`: batch in, final rows out; killed and started again it goes on."""
    if (args.input is None) == (args.source is None):
        raise UsageError("give either INPUT.jsonl[.gz] or --from TOPIC")
    if args.rank_time is not None and not 0 < args.rank_time < 1e9:
        raise UsageError(f"--rank-time: expected seconds above 0, got {args.rank_time}")
    out = Path(args.out)
    if not out.absolute().parent.is_dir():
        raise UsageError(f"--out {out}: the folder {out.absolute().parent} does not exist")
    if out.is_dir():
        raise UsageError(f"--out {out}: expected a file, got a folder")
    if args.input is not None and out.exists() and Path(args.input).exists() and out.samefile(args.input):
        raise UsageError(f"--out {out}: expected another file than the posts that are read, got the same one")
    config = replay_config(
        args.domain,
        log=args.log,
        topic=args.source or "",
        engine=args.engine,
        windows=_windows(args),
        lateness=args.lateness,
        disorder=args.disorder,
        batch_size=args.batch_size,
        workers=args.workers,
        languages=args.languages,
        policy=None if args.policy is None else load_config(args.policy).policy,
    )
    if args.config is not None:
        chosen = model_settings(args.config, args.engine)
        config = msgspec.structs.replace(config, engine=chosen.engine, endpoint=chosen.endpoint).check()
    return asyncio.run(_replay(config, args, out))


def _windows(args: argparse.Namespace) -> list[str]:
    """The windows asked for, else those the domain is replayed with."""
    if args.windows is None:
        return ["1m"] if args.domain == LESSON else ["1m", "5m", "1h", "24h"]
    return list(args.windows.split(","))


async def _replay(config: Config, args: argparse.Namespace, out: Path) -> int:
    log = (open_log if args.source is None else open_existing)(config.log.url)
    try:
        source = None if args.input is None else Path(args.input)
        rows, status = await replay(log, config, source, args.rank_time, bar=True)
        count = write_lines(out, rows.lines())
    finally:
        await log.close()
    sys.stderr.write(f"{count} rows -> {out}\n")
    if args.json:
        sums = {
            "in": status.consumed,
            "applied": status.applied,
            "duplicate": status.duplicate,
            "late": status.late,
            "rejected": status.rejected,
            "in_flight": status.in_flight,
        }
        print(msgspec.json.encode(sums).decode())
    return 0 if status.conserved else 1


def run_send(args: argparse.Namespace) -> int:
    """`affect send`: append posts to a log another process reads."""
    if not 1 <= args.partitions <= 4096:
        raise UsageError(f"--partitions: expected 1 to 4096, got {args.partitions}")
    return asyncio.run(_send(args))


async def _send(args: argparse.Namespace) -> int:
    config = load_config(None)
    log = open_log(args.log)
    try:
        known = {t.name: t.partitions for t in await log.topics()}
        topic = INPUT_TOPICS[args.domain]
        partitions = known.get(topic, args.partitions)
        config = msgspec.structs.replace(
            config, domain=args.domain, input=msgspec.structs.replace(config.input, topic=topic, partitions=partitions)
        )
        appended, before = await ingest_file(log, config, Path(args.input), live=True, bar=True)
        sys.stderr.write(f"{appended} lines -> {topic}" + (f"; {before} were there already\n" if before else "\n"))
    finally:
        await log.close()
    return 0


def _check_seconds(seconds: float | None) -> None:
    if seconds is not None and not 0 < seconds < 1e9:
        raise UsageError(f"--seconds: expected above 0, got {seconds}")


def run_engine(args: argparse.Namespace) -> int:
    """`affect run`: workers from a config file, until a signal or `--seconds`."""
    _check_seconds(args.seconds)
    config = load_config(args.config)
    return _serve([config], args.seconds, {}, open_page=False)


def run_demo(args: argparse.Namespace) -> int:
    """`affect demo`: scenarios of all domains, or one, the embedded log and the live page."""
    _check_seconds(args.seconds)
    if not 0 <= args.port <= 65535:
        raise UsageError(f"--port: expected 0..65535, got {args.port}")
    if not 0.1 <= args.speed <= 600:
        raise UsageError(f"--speed: expected 0.1 to 600, got {args.speed}")
    with tempfile.TemporaryDirectory(prefix="affect-demo-") as folder:
        url = args.log or f"sqlite:///{folder}/demo.db"
        domains = {**SCENARIOS, LESSON: LESSON}
        played = SCENARIOS if args.scenario is None else {args.scenario: domains[args.scenario]}
        configs = [_demo_config(domain, url, args) for domain in played.values()]
        plays = {domain: Play(scenario, args.seed, args.speed) for scenario, domain in played.items()}
        return _serve(configs, args.seconds, plays, open_page=not args.headless)


def _demo_config(domain: str, log: str, args: argparse.Namespace) -> Config:
    lesson = domain == LESSON
    return msgspec.convert(
        {
            **({"windows": {"sizes": ["1m"]}} if lesson else {}),
            "domain": domain,
            "log": {"url": log},
            "engine": {"name": args.engine},
            "time": {"idle": "30s", "disorder": "5s", "lateness": "5s"}
            if lesson
            else {"future": "36500d", "idle": "5s"},
            "web": {"port": args.port},
            "alerts": {"rules": args.rules},
        },
        Config,
    ).check()


def _serve(configs: Sequence[Config], seconds: float | None, plays: Mapping[str, Play], open_page: bool) -> int:
    # The web server is a second of imports that replay and score have no use for.
    from stream.serve import serve

    return asyncio.run(serve(configs, seconds, plays, open_page))
