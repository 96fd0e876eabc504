"""A live process: workers, the page, and a clean stop on a signal."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import webbrowser
from collections.abc import Callable
from functools import partial

from stream.archive_base import Archive
from stream.archive_open import open_postgres
from stream.base import Log
from stream.config import Config, secret
from stream.connect import open_log
from stream.errors import LogError
from stream.feed import Feed
from stream.live import Play, play_scenario, spotlight_into
from stream.log_archive import LogArchive
from stream.metrics import Metrics
from stream.runner import Runner
from stream.system_clock import SystemClock
from stream.topology import Topology, build, build_codec
from stream.web import LiveServer
from stream.worker import Pulse, steadily, unless


async def serve(config: Config, seconds: float | None, play: Play | None, open_page: bool) -> int:
    """Run workers and the live page until a signal, or for `seconds`; `play` feeds a scenario in.

    Raises:
        AffectError: what was asked for cannot run; everything committed stays committed.
    """
    clock, feed, metrics = SystemClock(), Feed(), Metrics()
    log = open_log(config.log.url)
    tasks: list[asyncio.Task[None]] = []
    server: LiveServer | None = None
    try:
        server = _server(config, feed, metrics, log)
        if server is not None:
            await server.start()
            print(f"live page: http://{config.web.host}:{server.port}/", flush=True)
            if open_page:
                _open_browser(f"http://{config.web.host}:{server.port}/")
        stopping = asyncio.Event()
        _on_signals(stopping.set)
        topology = await unless(_prepare(config, log, feed), stopping)
        if topology is None:
            return 0
        runner = Runner(topology, log, clock, until_end=False, feed=feed, metrics=metrics)
        _on_signals(runner.stop)
        if play is not None:
            tasks.append(asyncio.create_task(play_scenario(log, config, play, clock)))
        if seconds is not None:
            asyncio.get_running_loop().call_later(seconds, runner.stop)
        await runner.run()
        await _say(runner)
    finally:
        for task in tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        if server is not None:
            await server.stop()
        await log.close()
    return 0


def _server(config: Config, feed: Feed, metrics: Metrics, log: Log) -> LiveServer | None:
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
        max_readers=web.max_readers,
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


async def _prepare(config: Config, log: Log, feed: Feed) -> Topology:
    """The run, built; a log that is away is waited for."""
    pulse = Pulse()
    known = {t.name: t.partitions for t in await steadily(log.topics, pulse, f"open {config.log.url}")}
    partitions = known.get(config.topic, config.input.partitions)
    return await asyncio.to_thread(build, config, partitions, partial(spotlight_into, feed, config.domain))


async def _say(runner: Runner) -> None:
    """The conservation sum, as a last line."""
    try:
        status = await runner.status()
    except LogError as error:
        sys.stderr.write(f"the log cannot be asked how things stand: {error}\n")
        return
    sys.stderr.write(
        f"{status.consumed} posts in = {status.applied} applied + {status.duplicate} duplicate + {status.late} late"
        f" + {status.rejected} rejected + {status.in_flight} in flight; {status.rows} rows\n"
    )


def _on_signals(act: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, act)


def _open_browser(url: str) -> None:
    """Best effort: a machine without a desktop just prints the address."""
    with contextlib.suppress(webbrowser.Error):
        webbrowser.open(url)
