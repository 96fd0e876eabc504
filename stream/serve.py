"""A live process: the engine of one domain or of several on one log, the page, and a clean stop on a signal."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import webbrowser
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from operators.records import SignalRow
from stream.archive_base import Archive
from stream.archive_open import open_postgres
from stream.audit import Audit
from stream.base import Log
from stream.capture_desk import CaptureDesk, capture_desk, captured_weights
from stream.config import Config, secret
from stream.connect import open_log
from stream.contributing import explainer
from stream.contribution import Explain
from stream.core_dumps import forbid_core_dumps
from stream.errors import LogError, UsageError
from stream.feed import Feed
from stream.frame_strand import FrameStrand
from stream.lesson_desk import LessonDesk
from stream.live import Play, play_scenario, spotlight_into
from stream.log_archive import LogArchive
from stream.metrics import Metrics
from stream.ops_status import OpsStatus, together
from stream.permits import gate_facts, judge, permit
from stream.runner import Runner
from stream.system_clock import SystemClock
from stream.topology import Topology, build, build_codec, weights_of
from stream.web import LiveServer
from stream.web_capture import CaptureRoutes
from stream.web_guard import is_loopback
from stream.web_lesson import LessonRoutes
from stream.worker import Pulse, steadily, unless

if TYPE_CHECKING:
    from stream.edge_door import EdgeDoor


async def serve(configs: Sequence[Config], seconds: float | None, plays: Mapping[str, Play], open_page: bool) -> int:
    """Run workers and the live page until a signal, or for `seconds`.

    Args:
        configs: one per domain, at least one; log and page are those of the first.
        plays: domain -> scenario that is fed in.

    Raises:
        AffectError: what was asked for cannot run; everything committed stays committed.
        PolicyRefused: it may not run; nothing was opened.
    """
    audits = _pass_the_gate(configs)
    try:
        return await _serve(configs, seconds, plays, open_page, audits[0] if audits else None)
    finally:
        for audit in audits:
            audit.note("admin", act="stop")
            audit.close()


def _pass_the_gate(configs: Sequence[Config]) -> list[Audit]:
    """Put every deployment to the policy gate, before a log, a port or a model is touched; what was decided is noted.

    Raises:
        PolicyRefused: one of them may not run. UsageError, LogCorrupt: an audit log cannot be kept.
    """
    audits: dict[str, Audit] = {}
    try:
        for config in configs:
            path = config.policy.audit
            if path and path not in audits:
                audits[path] = Audit(path, SystemClock())
                audits[path].note("admin", act="start")
            if path:
                audits[path].note("gate", **gate_facts(config, judge(config)))
            permit(config)
            for manifest in [*weights_of(config), *captured_weights(config)] if path else ():
                audits[path].note(
                    "model", model=manifest.name, sha256=manifest.sha256, research_only=manifest.research_only
                )
    except BaseException:
        for audit in audits.values():
            audit.close()
        raise
    return list(audits.values())


async def _serve(
    configs: Sequence[Config],
    seconds: float | None,
    plays: Mapping[str, Play],
    open_page: bool,
    audit: Audit | None,
) -> int:
    clock, feed, metrics = SystemClock(), Feed(), Metrics()
    log = open_log(configs[0].log.url)
    tasks: list[asyncio.Task[None]] = []
    topologies: list[Topology] | None = None
    server: LiveServer | None = None
    edge: EdgeDoor | None = None
    desk = _desk(configs, clock, audit)
    for config in configs:
        feed.status(OpsStatus(domain=config.domain))
    try:
        explainers: dict[str, Explain] = {}
        looks = _looks(desk)
        edge = _edge(desk, looks)
        server = _server(configs[0], feed, metrics, log, explainers, audit, desk, looks)
        if server is not None:
            await _open(server, desk is not None, open_page)
        stopping = asyncio.Event()
        _on_signals(stopping.set)
        topologies = await unless(_prepare(configs, log, feed), stopping)
        if topologies is None:
            return 0
        turn = asyncio.Lock()
        # Nobody looks back at what single seats of a room did.
        explainers |= {t.config.domain: explainer(log, t, turn) for t in topologies if t.parts.domain.seats is None}
        make = partial(Runner, log=log, clock=clock, until_end=False, feed=feed, metrics=metrics)
        runners = [make(t, explain=explainers.get(t.config.domain), on_rows=_seer(t, desk)) for t in topologies]
        for topology in topologies:
            if desk is not None and topology.config.domain == desk.config.domain:
                await unless(desk.start(log, topology), stopping)
        if edge is not None:
            await edge.start()
        _on_signals(partial(_stop, runners))
        played = [config for config in configs if config.domain in plays]
        turn = asyncio.Lock()
        tasks += [asyncio.create_task(play_scenario(log, c, plays[c.domain], clock, turn)) for c in played]
        if seconds is not None:
            asyncio.get_running_loop().call_later(seconds, _stop, runners)
        await _run(runners)
        await _say(runners)
    finally:
        for task in tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        for door in (server, edge):
            if door is not None:
                await door.stop()
        if desk is not None:
            await desk.stop()
        if topologies and topologies[0].model.elsewhere:  # a step that was given up may still wait for an answer
            await asyncio.to_thread(topologies[0].model.engine.close)
        await log.close()
    return 0


def _stop(runners: Sequence[Runner]) -> None:
    for runner in runners:
        runner.stop()


async def _run(runners: Sequence[Runner]) -> None:
    """Run all until they stop. One that fails stops the others, which finish what is in hand; its error is raised."""
    running = [asyncio.create_task(runner.run(), name=runner.domain) for runner in runners]
    await asyncio.wait(running, return_when=asyncio.FIRST_EXCEPTION)
    _stop(runners)
    await asyncio.wait(running)
    for task in running:
        task.result()


def _desk(configs: Sequence[Config], clock: SystemClock, audit: Audit | None) -> LessonDesk | None:
    """The lesson of the classroom among the configs; None where there is none, or no page.

    Raises:
        UsageError: everyone in the network could open the teacher's page.
    """
    config = next((c for c in configs if c.domain == "classroom"), None)
    web = configs[0].web
    if config is None or not web.enabled:
        return None
    if web.without_token and not is_loopback(web.host):
        raise UsageError("web.without_token: expected false where there is a classroom: students could open its /teach")
    return LessonDesk(config, clock, audit)


def _looks(desk: LessonDesk | None) -> CaptureDesk | None:
    """What looks and listens, where the gate, passed by now, let it in; from here on this process is never dumped."""
    if desk is None:
        return None
    strand = FrameStrand(desk.config, desk.clock) if desk.config.capture.mode == "topics" else None
    looks = capture_desk(desk.config, None if strand is None else strand.frames)
    if looks is not None:
        forbid_core_dumps()
        if strand is not None:
            desk.carry(strand, looks)
    return looks


def _edge(desk: LessonDesk | None, looks: CaptureDesk | None) -> EdgeDoor | None:
    """The door for edge boxes, where the settings want one.

    Raises:
        UsageError: it cannot listen there, or has no keys. MissingExtra: pyzmq is not installed.
    """
    if desk is None or looks is None or not desk.config.capture.bind:
        return None
    from stream.edge_door import EdgeDoor  # pyzmq comes with an extra

    door = EdgeDoor(desk, looks, desk.config.capture.bind, Path(desk.config.capture.keys))
    print(f"capture door: {door.address}", flush=True)
    return door


async def _open(server: LiveServer, lesson: bool, open_page: bool) -> None:
    """Start the page's server and say where it is."""
    await server.start()
    url = f"{server.url}teach" if lesson else server.url
    print(f"live page: {server.url}", flush=True)
    if lesson:
        print(f"teacher page: {url}", flush=True)
    if open_page:
        _open_browser(url)


def _seer(topology: Topology, desk: LessonDesk | None) -> Callable[[Sequence[SignalRow]], None] | None:
    """Who looks at the rows of a run, beside the feed."""
    return None if desk is None or topology.config.domain != desk.config.domain else desk.see


def _server(
    config: Config,
    feed: Feed,
    metrics: Metrics,
    log: Log,
    explainers: Mapping[str, Explain],
    audit: Audit | None,
    desk: LessonDesk | None,
    looks: CaptureDesk | None,
) -> LiveServer | None:
    """The page's server as the settings have it; None where they want none.

    Raises:
        UsageError: it would be open to the network, or its token is missing.
    """
    web = config.web
    if not web.enabled:
        return None
    return LiveServer(
        feed,
        metrics,
        web.host,
        web.port,
        allowed_hosts=web.allowed_hosts,
        token=secret(web.token_env, "web.token_env"),
        without_token=web.without_token,
        archive=_archive(config, log),
        explainers=explainers,
        max_readers=web.max_readers,
        audit=audit,
        lesson=None if desk is None else LessonRoutes(desk),
        capture=None if desk is None or looks is None else CaptureRoutes(desk, looks),
    )


def _archive(config: Config, log: Log) -> Archive:
    """Where as-of queries are answered from: PostgreSQL's history if it is named, else the signal topic.

    Raises:
        UsageError: the connection string is missing. MissingExtra: so is what connects.
    """
    dsn = secret(config.web.postgres_env, "web.postgres_env")
    if dsn is not None:
        return open_postgres(dsn)
    return LogArchive(log, build_codec(config.registry))


async def _prepare(configs: Sequence[Config], log: Log, feed: Feed) -> list[Topology]:
    """The runs, built, on one model; a log or an engine server that is away is waited for."""
    pulse = Pulse()
    telling = asyncio.create_task(_tell(configs, feed, pulse))
    try:
        return await _build(configs, log, feed, pulse)
    finally:
        telling.cancel()


async def _tell(configs: Sequence[Config], feed: Feed, pulse: Pulse) -> None:
    """Say in /readyz why nothing runs yet."""
    while True:
        if pulse.problem is not None:
            for config in configs:
                feed.status(OpsStatus(domain=config.domain, problem=pulse.problem))
        await asyncio.sleep(0.5)


async def _build(configs: Sequence[Config], log: Log, feed: Feed, pulse: Pulse) -> list[Topology]:
    known = {t.name: t.partitions for t in await steadily(log.topics, pulse, f"open {configs[0].log.url}")}
    built: list[Topology] = []
    for config in configs:
        partitions = known.get(config.topic, config.input.partitions)
        observe = partial(spotlight_into, feed, config.domain)
        beside = built[0] if built else None
        make = partial(asyncio.to_thread, build, config, partitions, observe, False, beside)
        built.append(await steadily(make, pulse, f"load engine {config.engine.name}"))
    return built


async def _say(runners: Sequence[Runner]) -> None:
    """The conservation sum of every domain, and as a last line of all."""
    try:
        parts = [await runner.status() for runner in runners]
    except LogError as error:
        sys.stderr.write(f"the log cannot be asked how things stand: {error}\n")
        return
    if len(parts) > 1:
        for part in parts:
            sys.stderr.write(f"{part.domain}: {_sum(part)}\n")
    sys.stderr.write(f"{_sum(together(parts))}\n")


def _sum(status: OpsStatus) -> str:
    return (
        f"{status.consumed} posts in = {status.applied} applied + {status.duplicate} duplicate + {status.late} late"
        f" + {status.rejected} rejected + {status.in_flight} in flight; {status.rows} rows"
    )


def _on_signals(act: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, act)


def _open_browser(url: str) -> None:
    """Best effort: a machine without a desktop just prints the address."""
    with contextlib.suppress(webbrowser.Error):
        webbrowser.open(url)
