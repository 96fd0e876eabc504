"""Signal rows in, alerts out: the embedded home of `operators.alerts.Rules`, a consumer group of its own.

Effectively once: alerts, the rules' state and the offset they were made at are one commit.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Final

from operators.alerts import Rules
from operators.base import Clock
from operators.codec import Codec
from operators.errors import ConfigInvalid, Rejected
from operators.records import Alert, DeadLetter
from stream.base import CommitUnit, Log, Member, Output, Record
from stream.errors import UsageError
from stream.topics import ALERTS, DEAD_LETTER, SIGNALS
from stream.worker import HAND_OVER_S, STOP_S, Pace, Pulse, commit, finish, steadily

SHIPPED: Final = "shipped"
"""In the place of a path: the rules that come with the package, `stream/rules/alerts.toml`."""
READ_ROWS = 500
"""Rows folded at a time: some 10 ms, so that nothing else on the loop waits long."""


def load_rules(path: str) -> Rules:
    """The rules of a TOML file; `shipped` = those that come with the package.

    Raises:
        UsageError: the file cannot be read. ConfigInvalid: what it says cannot work; names file, rule and key.
    """
    try:
        found = files("stream").joinpath("rules", "alerts.toml") if path == SHIPPED else Path(path)
        text = found.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"alert rules {path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigInvalid(f"{path}: expected UTF-8 text: {error}") from error
    return Rules.parse(text, path)


async def newest_alerts(log: Log, codec: Codec, domain: str) -> list[Alert]:
    """The alerts of `domain` among the newest on the topic, oldest first, each once; unreadable ones are passed over.

    Raises:
        LogError: the log cannot be read.
    """
    begin, end = (await log.span(ALERTS))[0]
    found: dict[str, Alert] = {}
    for record in await log.read(ALERTS, 0, max(begin, end - READ_ROWS), READ_ROWS) if end > begin else ():
        with contextlib.suppress(Rejected):
            alert = codec.decode_alert(record.value)
            if alert.domain == domain:
                found[alert.alert_id] = alert
    return list(found.values())


class AlertStage:
    """Folds the signal topic into alerts, and says what to commit.

    Args:
        rules: fresh rules; `restore` fills them. domain: rows of other domains on the same log pass by.
    """

    def __init__(self, rules: Rules, codec: Codec, group: str, domain: str) -> None:
        self._rules = rules
        self._codec = codec
        self._group = group
        self._domain = domain
        self._committed = 0
        self._dead: list[DeadLetter] = []
        self.offset = 0
        self.pending: list[Alert] = []

    @property
    def changed(self) -> bool:
        """Rows were read that no commit covers."""
        return self.offset > self._committed

    def restore(self, state: dict[str, bytes], offset: int) -> None:
        """Go on where the commit that left `state` and `offset` stopped."""
        self._rules.restore(state)
        self.offset = self._committed = offset

    def ingest(self, records: Sequence[Record]) -> None:
        """Take in records in order. One that is no signal row is dead-lettered."""
        for record in records:
            self.offset = record.offset + 1
            try:
                row = self._codec.decode_signal(record.value)
            except Rejected as refused:
                self._dead.append(
                    DeadLetter(
                        topic=SIGNALS,
                        partition=0,
                        offset=record.offset,
                        reason=refused.reason,
                        detail=refused.detail[:240],
                        size_bytes=len(record.value),
                        time_ms=record.timestamp_ms,
                    )
                )
                continue
            if row.domain == self._domain:
                self.pending += self._rules.feed(row)

    def unit(self, now_ms: int, generation: int) -> CommitUnit:
        """Everything since the last unit: alerts, dead letters, state, next offset."""
        encode = self._codec.encode
        outputs = [Output(ALERTS, 0, alert.alert_id.encode(), encode(alert), now_ms) for alert in self.pending]
        outputs += [Output(DEAD_LETTER, 0, None, encode(letter), now_ms) for letter in self._dead]
        self.pending, self._dead, self._committed = [], [], self.offset
        state = self._rules.snapshot()
        return CommitUnit(self._group, {(SIGNALS, 0): self.offset}, state, outputs, generation)


class AlertWorker:
    """The member that owns the signal topic for alerts; of several processes one has it, the others stand by.

    Listener of the log, as the other workers are.

    Args:
        make_rules: fresh rules, called at each assignment. group: consumer group.
        on_alerts: called with the alerts of each commit.
    """

    def __init__(
        self,
        log: Log,
        make_rules: Callable[[], Rules],
        codec: Codec,
        group: str,
        domain: str,
        pace: Pace,
        clock: Clock,
        pulse: Pulse,
        on_alerts: Callable[[Sequence[Alert]], None] | None = None,
    ) -> None:
        self._log = log
        self._make_rules = make_rules
        self._codec = codec
        self._domain = domain
        self._group = group
        self._pace = pace
        self._clock = clock
        self._pulse = pulse
        self._on_alerts = on_alerts
        self._generation = 0
        self._stop = asyncio.Event()
        self._ending = False
        self._patience_s = HAND_OVER_S
        self._task: asyncio.Task[None] | None = None
        self._member: Member | None = None

    async def start(self) -> None:
        """Join the group."""
        join = partial(self._log.join, self._group, SIGNALS, self)
        self._member = await steadily(join, self._pulse, f"join {self._group}")

    async def assigned(self, partitions: Sequence[int], generation: int) -> None:
        """Restore the rules and go on from the committed offset, in a task of its own."""
        self._generation = generation
        self._stop = asyncio.Event()
        self._task = asyncio.create_task(self._loop(self._stop), name="alerts")
        self._task.add_done_callback(self._pulse.watch)

    async def revoked(self, partitions: Sequence[int]) -> None:
        """Finish the step in hand and commit."""
        self._stop.set()
        if self._task is not None:
            await finish([self._task], self._patience_s)
            self._task = None

    async def finish(self) -> None:
        """Read to the end of the topic and commit; at once where another process owns it. For runs that end."""
        self._ending = True
        if self._task is not None:
            await asyncio.wait({self._task})

    async def stop(self) -> None:
        """Leave the group; what is in hand is committed first."""
        self._patience_s = STOP_S
        if self._member is not None:
            await self._member.leave()

    async def _restored(self) -> AlertStage:
        stage = AlertStage(self._make_rules(), self._codec, self._group, self._domain)
        offset = (await self._log.committed(self._group, SIGNALS))[0]
        stage.restore(await self._log.restore(self._group, ""), offset)
        return stage

    async def _loop(self, stop: asyncio.Event) -> None:
        stage = await steadily(self._restored, self._pulse, "restore alerts")
        last = time.monotonic()
        while not stop.is_set():
            ending = self._ending
            read = partial(self._log.read, SIGNALS, 0, stage.offset, READ_ROWS, 0.0 if ending else 0.2)
            records = await steadily(read, self._pulse, "read signals")
            stage.ingest(records)
            now = time.monotonic()
            due = stage.pending or not records or now - last >= self._pace.commit_interval_s
            if stage.changed and due:
                await self._commit(stage)
                last = now
            if ending and not records:
                return
        if stage.changed:
            await self._commit(stage)

    async def _commit(self, stage: AlertStage) -> None:
        alerts = stage.pending
        unit = stage.unit(self._clock.now_ms(), self._generation)
        await commit(self._log, unit, self._pulse, "commit alerts")
        if alerts and self._on_alerts is not None:
            self._on_alerts(alerts)
