"""Alerts on their way to people: shown at once, and again with the posts behind them once these are found."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Sequence
from functools import partial

from engines.errors import AffectError
from operators.records import Alert
from stream.alert_cards import AlertPost, PostsOf, card_of
from stream.contribution import Explain
from stream.feed import Feed

log_ = logging.getLogger("affect.alerts")

SHOWN_POSTS = 3
"""Posts of an alert on the page."""
MOST_WAITING = 50
"""Alerts whose posts are looked for; where more fire at once, the oldest of them stay without."""
PATIENCE_S = 30.0
"""Of whoever cannot go on before the posts are there: a delivery holds up those behind it."""
LATE_S = 600.0
"""Of the page, which shows the alert meanwhile. Searches of all domains take turns, and the wait for a turn counts:
on a busy machine both together pass `PATIENCE_S`, and a search given up was work for nothing."""


def posts_behind(explain: Explain | None, most: int, patience_s: float = PATIENCE_S) -> PostsOf | None:
    """Looks for the posts that moved the row an alert fired on, at most `most` of them; None = nobody can, or 0.

    `patience_s`: longest search, the wait for its turn included; then the alert goes without.
    """
    return None if explain is None or most == 0 else partial(_posts_behind, explain, most, patience_s)


async def _posts_behind(explain: Explain, most: int, patience_s: float, alert: Alert) -> tuple[AlertPost, ...]:
    try:
        async with asyncio.timeout(patience_s):
            found = await explain(alert.row_id, most, "auto")
    except (AffectError, TimeoutError) as problem:
        # The alert is worth more than its posts: it goes without.
        log_.info("posts of %s: %s", alert.alert_id, str(problem) or f"not found within {patience_s:g} s")
        return ()
    return tuple(AlertPost(p.post_id, p.text_masked, p.label, p.moved) for p in found.posts if p.moved)


class AlertDesk:
    """Puts alerts on the feed. `take` never waits; posts are looked for in a task of its own, alert after alert.

    Args:
        feed: where they are shown. page: address for their links, "/" = on the page itself.
        posts_of: finds the posts; None = nobody looks.
    """

    def __init__(self, feed: Feed, page: str, posts_of: PostsOf | None) -> None:
        self._feed, self._page, self._posts_of = feed, page, posts_of
        self._waiting: deque[Alert] = deque(maxlen=MOST_WAITING)
        self._task: asyncio.Task[None] | None = None

    def take(self, alerts: Sequence[Alert]) -> None:
        """Show alerts that were just committed."""
        self._feed.alert([card_of(alert, self._page) for alert in alerts])
        if self._posts_of is not None:
            self._waiting.extend(alerts)
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._look(self._posts_of), name="posts of alerts")

    def recall(self, alerts: Sequence[Alert]) -> None:
        """Show alerts of an earlier life, without their posts."""
        self._feed.alert([card_of(alert, self._page) for alert in alerts])

    async def _look(self, posts_of: PostsOf) -> None:
        while self._waiting:
            alert = self._waiting.popleft()
            posts = await posts_of(alert)
            if posts:
                self._feed.alert([card_of(alert, self._page, posts)])

    async def stop(self) -> None:
        """Let go of what is still looked for. Idempotent."""
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
