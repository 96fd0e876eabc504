"""`affect signals serve`: from a log's address to a running signal plane, and back to nothing on a signal."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.errors import MissingExtra
from operators.alerts import Rules
from operators.codec import Codec
from operators.rollup import parse_sectors, shipped_sectors
from stream.alerting import load_rules
from stream.base import Log, TopicSpec
from stream.connect import open_log
from stream.errors import StreamError, UsageError
from stream.following import unless_stopped
from stream.signal_duties import AlertDuty, Duty, LatestDuty, RollupDuty
from stream.system_clock import SystemClock
from stream.topics import PLANE, SIGNALS, plane_topics
from stream.topology import build_codec
from stream.web_guard import Guard
from stream.web_signals import SignalRoutes
from stream.worker import Pulse, steadily

if TYPE_CHECKING:
    from stream.kafka import KafkaLog
    from stream.signals_app import Plane

WEEK_MS = 7 * 86_400_000
WATCH_S = 1.0
OPEN = frozenset({"/livez", "/readyz"})


@dataclass(frozen=True, slots=True)
class Serving:
    """What to serve. `rules`, `sectors`: paths; None = no alerts, the sectors that ship. `port` 0 = any free one."""

    log: str
    rules: str | None = None
    sectors: str | None = None
    host: str = "127.0.0.1"
    port: int = 6066
    token: str | None = None
    without_token: bool = False


def load_sectors(path: str | None) -> dict[str, str]:
    """Member -> group, of a file or as they ship.

    Raises:
        UsageError: the file cannot be read. ConfigInvalid: what it says cannot be.
    """
    if path is None:
        return shipped_sectors()
    try:
        return parse_sectors(Path(path).read_text(encoding="utf-8"), path)
    except OSError as error:
        raise UsageError(f"sectors {path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"sectors {path}: expected UTF-8 text: {error}") from error


async def ensure_plane(log: Log) -> None:
    """Make the plane's topics where they are missing and check those that are there; retentions stay as they are."""
    there = {spec.name: spec for spec in await log.topics()}
    await log.ensure([_as_kept(spec, there) for spec in plane_topics(WEEK_MS)])


def _as_kept(spec: TopicSpec, there: Mapping[str, TopicSpec]) -> TopicSpec:
    found = there.get(spec.name)
    return spec if found is None else replace(spec, retention_ms=found.retention_ms)


async def serve_signals(serving: Serving) -> int:
    """Run a worker until SIGINT or SIGTERM. Waits for a cluster that is away.

    Raises:
        AffectError: what was asked for cannot run.
    """
    make_rules = None
    if serving.rules is not None:
        make_rules = partial(Rules, load_rules(serving.rules).rules)
    sectors = load_sectors(serving.sectors)
    guard = Guard(serving.host, (), serving.token, serving.without_token, OPEN)
    port = _free_port(serving.host, serving.port)
    codec, pulse = build_codec(), _pulse()
    latest, rollup = LatestDuty(codec), RollupDuty(codec, sectors)
    duties: list[Duty] = [latest, rollup]
    if make_rules is not None:
        duties.append(AlertDuty(codec, make_rules))
    log = open_kafka(serving.log)
    try:
        await unless_stopped(steadily(partial(ensure_plane, log), pulse, "open the log"), pulse)
        if pulse.ended.is_set():
            return 0
        plane = _plane(log, duties, codec, pulse, serving.host, port)
        routes = SignalRoutes(plane, lambda: latest.latest, lambda: rollup.rollup, log, codec)
        _mount(plane, routes, guard)
        try:
            await plane.start()
            name = f"[{serving.host}]" if ":" in serving.host else serving.host
            print(f"signals: http://{name}:{port}/api/latest", flush=True)
            await _watch(plane, log, pulse)
        finally:
            await plane.stop()
        if pulse.error is not None:
            raise pulse.error
        return 0
    finally:
        await log.close()


def _plane(log: KafkaLog, duties: Sequence[Duty], codec: Codec, pulse: Pulse, host: str, port: int) -> Plane:
    try:
        # A second of imports, and an extra that need not be there.
        from stream.signals_app import Plane
    except ModuleNotFoundError as missing:
        raise MissingExtra(f"{missing.name} is not installed: pip install 'affectstream[faust]'") from None
    return Plane(log, duties, codec, SystemClock(), pulse, host, port)


def open_kafka(url: str) -> KafkaLog:
    """The log at `url`; nothing is opened before its first call. Raises UsageError: it is no kafka:// address."""
    if not url.startswith("kafka://"):
        raise UsageError(
            f"log {url!r}: expected kafka://HOST:PORT; an embedded log needs no signal plane: [alerts] rules of "
            "`affect run` makes the same alerts, its page shows the newest rows"
        )
    log: Any = open_log(url)
    found: KafkaLog = log
    return found


def _mount(plane: Plane, routes: SignalRoutes, guard: Guard) -> None:
    """Our routes on Faust's web server, behind the same guard as the page."""
    site: Any = plane.app.web
    site.web_app.middlewares.append(guard.middleware)
    for route in routes.routes():
        site.web_app.router.add_get(route.path, route.handler)


async def _watch(plane: Plane, log: Log, pulse: Pulse) -> None:
    """Until told to stop; one line when the cluster goes away and one when it is back."""
    while not pulse.ended.is_set():
        plane.check()
        done = plane.offset if plane.ready else None
        span = await unless_stopped(steadily(partial(log.span, SIGNALS), pulse, "watch the signal topic"), pulse)
        if span is not None and done is not None and done > span[0][1]:
            raise StreamError(
                f"signals: {done} rows of {SIGNALS} are done with, but it has {span[0][1]}: it was made anew; delete "
                f"the topics {PLANE}-*-changelog too, or use another prefix"
            )
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(pulse.ended.wait(), WATCH_S)


def _free_port(host: str, port: int) -> int:
    """The port, or a free one for 0, known to be free a moment ago: Faust would tell it in a trace."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            return int(probe.getsockname()[1])
    except OSError as error:
        raise UsageError(
            f"address {host}:{port}: cannot listen ({error.strerror}); choose another with --port or --host"
        ) from error


def _pulse() -> Pulse:
    """A pulse that ends on SIGINT and SIGTERM."""
    pulse, loop = Pulse(), asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, pulse.ended.set)
    return pulse


def token_of(variable: str | None) -> str | None:
    """The token in an environment variable. Raises UsageError: the variable is empty."""
    if variable is None:
        return None
    token = os.environ.get(variable)
    if not token:
        raise UsageError(f"--token-env {variable}: set ${variable} to a token of at least 16 characters")
    return token
