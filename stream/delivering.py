"""Takes alerts off the topic, one by one, and has a webhook deliver each of them: at least once, or dead-lettered.

The offset is committed after every delivery, so that a crash sends one alert twice at most. While the receiver is away
the alerts wait in the log; nothing waits in memory.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from operators.base import Clock
from operators.codec import Codec
from operators.errors import Rejected
from operators.records import Alert, DeadLetter
from stream.alert_cards import AlertPost, PostsOf, link_of
from stream.base import CommitUnit, Log, Output, Record
from stream.config import Config
from stream.errors import UsageError
from stream.following import Follower, Owned
from stream.topics import ALERTS, DEAD_LETTER
from stream.webhook import Webhook
from stream.worker import Pulse, commit

log_ = logging.getLogger("affect.webhook")

READ_ALERTS: Final = 100
MAX_AGE_MS: Final = 6 * 3_600_000
"""An alert that could not be delivered for this long helps nobody any more."""

FIRST_WAIT_S: Final = 0.5
MOST_WAIT_S: Final = 60.0


class Delivery:
    """Delivers the alert topic to a webhook.

    An answer of 2xx is a delivery. After 5xx, 408, 425, 429, a time-out or a lost connection the same alert is sent
    again, after a wait that doubles up to a minute (less a random part), or as long as Retry-After says. Any other
    answer, and an age of more than `max_age_ms`, makes a dead letter that names the alert's place in the topic.

    Args:
        group: consumer group; several processes of one group take turns.
        domain: alerts of other domains pass by; None = all.
        page: address of the live page, for the links; "" = none.
        posts_of: finds the posts behind an alert, before its first try; None = it goes without.
        until_end: end when what was there at the start is delivered.
        first_wait_s: wait after the first failure.
    """

    def __init__(
        self,
        log: Log,
        webhook: Webhook,
        codec: Codec,
        group: str,
        clock: Clock,
        pulse: Pulse,
        *,
        domain: str | None = None,
        page: str = "",
        posts_of: PostsOf | None = None,
        max_age_ms: int = MAX_AGE_MS,
        until_end: bool = False,
        first_wait_s: float = FIRST_WAIT_S,
    ) -> None:
        self._log, self._webhook, self._codec, self._group = log, webhook, codec, group
        self._clock, self._pulse = clock, pulse
        self._domain, self._page, self._max_age_ms = domain, page, max_age_ms
        self._posts_of = posts_of
        self._first_wait_s = first_wait_s
        self._chance = random.Random()
        self._follower = Follower(log, ALERTS, group, self._step, until_end, pulse, READ_ALERTS)
        self._task: asyncio.Task[None] | None = None
        self._told: set[str] = set()
        self.delivered = 0
        self.dead: Counter[str] = Counter()

    async def run(self) -> None:
        """Join, deliver until `pulse.ended` is set, leave. A delivery in hand is finished, a wait is not.

        Raises:
            AffectError: a fault of the log that retrying does not cure.
        """
        await self._follower.run()

    def start(self, watch: Callable[[asyncio.Task[None]], object]) -> None:
        """Run beside other work, until `stop`. `watch`: called with the task when it ends."""
        self._task = asyncio.create_task(self.run(), name="webhook")
        self._task.add_done_callback(watch)

    async def stop(self) -> None:
        """End what `start` began: a delivery in hand is finished first. Idempotent."""
        self._pulse.ended.set()
        if self._task is not None:
            await asyncio.wait({self._task})
        await self._webhook.close()

    async def _step(self, owned: Owned, records: Sequence[Record]) -> int:
        for record in records:
            if owned.stop.is_set():
                return record.offset
            done, letter = await self._handle(owned, record)
            if not done:
                return record.offset
            now = self._clock.now_ms()
            outputs = [] if letter is None else [Output(DEAD_LETTER, 0, None, self._codec.encode(letter), now)]
            where = (ALERTS, owned.partition)
            unit = CommitUnit(self._group, {where: record.offset + 1}, outputs=outputs, generation=owned.generation)
            await commit(self._log, unit, self._pulse, f"commit {ALERTS}[{owned.partition}]")
        return records[-1].offset + 1

    async def _handle(self, owned: Owned, record: Record) -> tuple[bool, DeadLetter | None]:
        """Whether the alert is done with (not where we are stopped before), and why it never can be delivered."""
        try:
            alert = self._codec.decode_alert(record.value)
        except Rejected as refused:
            return True, self._letter(owned, record, refused.reason, refused.detail)
        if self._domain is not None and alert.domain != self._domain:
            return True, None
        body = alert_body(alert, self._page, () if self._posts_of is None else await self._posts_of(alert))
        tries, last = 0, "not tried"
        while self._clock.now_ms() - record.timestamp_ms <= self._max_age_ms:
            answer = await self._webhook.post(alert.alert_id, body)
            if answer.verdict == "delivered":
                if tries:
                    log_.warning("%s: works again after %d tries", self._webhook.where, tries)
                self.delivered += 1
                return True, None
            if answer.verdict == "refused":
                return True, self._letter(owned, record, "webhook_refused", answer.said)
            if tries == 0:
                log_.warning("%s; retrying", answer.said)
            tries, last = tries + 1, answer.said
            # Half of the wait at random: many senders that lost one receiver do not come back in step.
            backoff = min(self._first_wait_s * 2 ** min(tries - 1, 16), MOST_WAIT_S) * self._chance.uniform(0.5, 1.0)
            if await _stopped(owned.stop, max(backoff, answer.wait_s or 0.0)):
                return False, None
        return True, self._letter(owned, record, "webhook_stale", f"{tries} tries; last: {last}")

    def _letter(self, owned: Owned, record: Record, reason: str, detail: str) -> DeadLetter:
        self.dead[reason] += 1
        if detail not in self._told and len(self._told) < 20:  # each kind of trouble once, not each alert
            self._told.add(detail)
            log_.warning("%s[%d] offset %d: %s; dead-lettered", ALERTS, owned.partition, record.offset, detail)
        return DeadLetter(
            topic=ALERTS,
            partition=owned.partition,
            offset=record.offset,
            reason=reason,
            detail=detail[:240],
            size_bytes=len(record.value),
            time_ms=record.timestamp_ms,
        )


def open_delivery(config: Config, log: Log, codec: Codec, clock: Clock, posts_of: PostsOf | None = None) -> Delivery:
    """The delivery of a run whose settings name a webhook. It has troubles of its own: they are not the run's.

    Raises:
        UsageError: no secret in AFFECT_WEBHOOK_SECRET, or an address that cannot be used.
    """
    secret = os.environ.get("AFFECT_WEBHOOK_SECRET")
    if not secret:
        raise UsageError("alerts.webhook: set AFFECT_WEBHOOK_SECRET; it signs what is posted there")
    hook = Webhook(config.alerts.webhook, secret.encode(), clock)
    group = f"{config.input.group}-{config.domain}-webhook"
    page = config.alerts.page
    return Delivery(log, hook, codec, group, clock, Pulse(), domain=config.domain, page=page, posts_of=posts_of)


async def _stopped(stop: asyncio.Event, seconds: float) -> bool:
    """Wait so long; True at once when `stop` is set."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return False
    return True


def alert_body(alert: Alert, page: str, posts: Sequence[AlertPost] = ()) -> bytes:
    """The alert as JSON, with its `id`, a `link` to what the page shows of it (null without a page), and its posts.

    Equal bytes for equal alerts: a copy can be told by its id or, without posts, by its hash.
    """
    fields = msgspec.to_builtins(alert)
    return msgspec.json.encode({"id": alert.alert_id, **fields, "link": link_of(alert, page), "posts": posts})
