"""Runs a topology on a log: workers, the window stage, the page's feed, and a clean stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from operators.alerts import Rules
from operators.base import Clock
from operators.clock import BEGINNING
from operators.records import SignalRow
from operators.rolling import FOREVER
from operators.window import parse_span
from stream.alert_desk import LATE_S, SHOWN_POSTS, AlertDesk, posts_behind
from stream.alerting import AlertWorker, load_rules, newest_alerts
from stream.base import Log
from stream.contribution import Explain
from stream.delivering import Delivery, open_delivery
from stream.errors import LogError
from stream.feed import Feed
from stream.in_flight import InFlight
from stream.metrics import Metrics
from stream.ops_status import OpsStatus
from stream.standing import Standing
from stream.topics import PANES
from stream.topology import Topology
from stream.windowing import WindowStage
from stream.worker import Pace, Pulse, ScoreWorker, WindowWorker, steadily, unless

log_ = logging.getLogger("affect.runner")
Rows = Callable[[Sequence[SignalRow]], None]


class Runner:
    """One process of the engine on one log.

    Args:
        topology: what to run.
        log: where; must outlive the runner.
        clock: processing time.
        until_end: read what is there, close every partition, stop (replay); else run until `stop`.
        feed, metrics: filled where given. on_rows: called with every row committed.
        explain: finds the posts behind alerts; None = they go without.
    """

    def __init__(
        self,
        topology: Topology,
        log: Log,
        clock: Clock,
        *,
        until_end: bool,
        feed: Feed | None = None,
        metrics: Metrics | None = None,
        on_rows: Rows | None = None,
        explain: Explain | None = None,
    ) -> None:
        self._topology = topology
        self._log = log
        self._clock = clock
        self._until_end = until_end
        self._feed = feed
        self._metrics = metrics
        self._pulse = Pulse(on_rows=on_rows if feed is None else _both(feed.publish, on_rows))
        if metrics is not None:
            self._pulse.on_commit = metrics.commit
            self._pulse.on_dead = metrics.dead_letter
            topology.score.on_run = metrics.inference
        run = topology.config.run
        self._pace = Pace(
            batch_size=run.batch_size,
            commit_interval_s=parse_span(run.commit_interval) / 1000,
            idle_s=parse_span(topology.config.time.idle) / 1000,
            until_end=until_end,
        )
        self._started = time.monotonic()
        self._stopping = asyncio.Event()
        self._up = False
        self.in_flight = InFlight(run.in_flight_mib << 20)
        self.workers = [
            ScoreWorker(log, topology.parts, self._pace, clock, self._pulse, self.in_flight) for _ in range(run.workers)
        ]
        self._windows = WindowWorker(
            log,
            partial(WindowStage, topology.windows, until_end),
            topology.windows.group,
            self._pace,
            clock,
            self._pulse,
        )
        self._standing = Standing(log, topology.parts)
        self._desk = (
            None
            if feed is None
            else AlertDesk(feed, topology.config.alerts.page or "/", posts_behind(explain, SHOWN_POSTS, LATE_S))
        )
        self._alerts = self._alert_worker() if topology.config.alerts.rules else None
        # A replay is of the past: nobody is to be woken by it.
        hooked = topology.config.alerts.webhook and not until_end
        self._delivery = self._webhook(explain) if hooked else None

    def _webhook(self, explain: Explain | None) -> Delivery:
        config = self._topology.config
        posts_of = posts_behind(explain, config.alerts.posts)
        return open_delivery(config, self._log, self._topology.parts.codec, self._clock, posts_of)

    def _alert_worker(self) -> AlertWorker:
        config, codec = self._topology.config, self._topology.parts.codec
        rules = load_rules(config.alerts.rules).rules
        group = f"{config.input.group}-{config.domain}-alerts"
        return AlertWorker(
            self._log,
            partial(Rules, rules),
            codec,
            group,
            config.domain,
            self._pace,
            self._clock,
            self._pulse,
            None if self._desk is None else self._desk.take,
        )

    @property
    def domain(self) -> str:
        """What it makes signals of."""
        return self._topology.config.domain

    @property
    def windows(self) -> WindowStage:
        """The window stage of this process; empty while another process owns the pane topic."""
        return self._windows.stage

    def stop(self) -> None:
        """Ask `run` to finish what is in hand, commit, and return. Safe to call from a signal handler."""
        self._stopping.set()

    async def run(self) -> None:
        """Run until the input ends (`until_end`) or `stop` is called. A log that is away is waited for.

        Raises:
            AffectError: a fault that retrying does not cure; everything committed stays committed.
        """
        watch = asyncio.create_task(self._watch(), name="status") if self._feed is not None else None
        try:
            await unless(self._start(), self._stopping, self._pulse.ended)
            await self._until_over()
            if self._alerts is not None and self._pulse.ended.is_set():
                await self._alerts.finish()
                self._raise_error()
        finally:
            if watch is not None:
                watch.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await watch
            await self._leave()

    async def _start(self) -> None:
        """Topics, then the stages from the end of the stream to its begin."""
        log, pulse = self._log, self._pulse
        await steadily(partial(log.ensure, self._topology.topics), pulse, "topics")
        ends = await steadily(partial(log.span, self._topology.config.topic), pulse, "offsets")
        if self._desk is not None:
            newest = partial(newest_alerts, log, self._topology.parts.codec, self.domain)
            self._desk.recall(await steadily(newest, pulse, "read alerts"))
        await self._windows.start([end for _, end in ends])
        if self._alerts is not None:
            await self._alerts.start()
        if self._delivery is not None:
            self._delivery.start(pulse.watch)
        for worker in self.workers:
            await worker.start()
        self._up = True

    async def _leave(self) -> None:
        """Take every stage out of its group: what is in hand is committed first, as far as the log is there."""
        stages: list[ScoreWorker | WindowWorker | AlertWorker | Delivery] = [*self.workers, self._windows]
        stages += [stage for stage in (self._alerts, self._delivery) if stage is not None]
        for stage in stages:
            try:
                await stage.stop()
            except LogError as error:
                log_.warning("leaving a group: %s; the log will notice by itself", error)
        if self._desk is not None:
            await self._desk.stop()

    async def _until_over(self) -> None:
        """Wait for `stop`, for the end of the input, or for a loop that failed: its error is raised."""
        ways = [asyncio.create_task(event.wait()) for event in (self._stopping, self._pulse.ended)]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
        self._raise_error()

    def _raise_error(self) -> None:
        if self._pulse.error is not None:
            raise self._pulse.error

    async def _watch(self) -> None:
        """Tell feed and metrics how things stand, once a second."""
        before, at = 0, time.monotonic()
        status = OpsStatus(domain=self._topology.config.domain)
        while True:
            try:
                if not self._up:
                    raise LogError(self._pulse.problem or "starting")
                status = await self.status()
                if self._topology.shed is not None:
                    self._topology.shed.observe(status.in_flight)
                if self._topology.relief is not None:
                    self._topology.relief.observe(status.in_flight)
            except LogError as error:
                status = msgspec.structs.replace(status, ready=False, problem=self._pulse.problem or str(error))
            now = time.monotonic()
            rate = max(0.0, (status.consumed - status.in_flight - before) / max(now - at, 1e-9))
            before, at = status.consumed - status.in_flight, now
            status = msgspec.structs.replace(status, rate_per_s=rate)
            if self._feed is not None:
                self._feed.status(status)
            if self._metrics is not None:
                self._metrics.status(status)
                self._metrics.fast(self._topology.score.fast, self._topology.config.domain)
                # A copy: the thread of the model may count on.
                self._metrics.abstained(dict(self._topology.score.abstained), self._topology.config.domain)
                self._metrics.in_flight(self.in_flight.held, self.in_flight.paused, self._topology.config.domain)
            await asyncio.sleep(1.0)

    async def status(self) -> OpsStatus:
        """How things stand at the last commits: appended = applied + duplicate + late + rejected + in flight."""
        topology, rolling = self._topology, self.windows.rolling
        spans = await self._log.span(topology.config.topic)
        panes_end = (await self._log.span(PANES))[0][1]
        if self._windows.stands_by:
            await self._standing.catch_up()
            panes_end = 0
        # At once, for the windows are in another thread; and without them, what the other process has told.
        marks = list(rolling.progress.values()) or list(self._standing.marks.values())
        appended = sum(end for _, end in spans)
        applied = sum(p.applied for p in marks) - rolling.late_posts
        duplicate, late = sum(p.duplicate for p in marks), sum(p.late for p in marks) + rolling.late_posts
        rejected = sum(p.rejected for p in marks)
        in_flight = appended - sum(p.consumed for p in marks)
        watermark = rolling.watermark_ms if BEGINNING < rolling.watermark_ms < FOREVER else None
        spec = topology.model.spec
        return OpsStatus(
            consumed=appended,
            applied=applied,
            duplicate=duplicate,
            late=late,
            rejected=rejected,
            in_flight=in_flight,
            lag=in_flight + max(0, panes_end - self.windows.offset),
            watermark_ms=watermark,
            watermark_delay_s=None if watermark is None else (self._clock.now_ms() - watermark) / 1000,
            rows=self.windows.rows_emitted,
            partitions=sum(len(w.scorers) for w in self.workers),
            engine=spec.backend,
            model=spec.model_id,
            engine_reason=topology.model.reason,
            domain=topology.config.domain,
            uptime_s=time.monotonic() - self._started,
            sampled=1.0 if topology.shed is None else topology.shed.share,
            min_n=int(topology.config.windows.minimum),
            ready=self._pulse.problem is None and any(w.scorers for w in self.workers),
            problem=self._pulse.problem,
        )


def _both(first: Rows, then: Rows | None) -> Rows:
    """Rows to one, then to the other, where there is one."""
    if then is None:
        return first
    other = then

    def tell(rows: Sequence[SignalRow]) -> None:
        first(rows)
        other(rows)

    return tell
