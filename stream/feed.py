"""What the live page, the feed and the command line read: newest rows, posts that moved them, health. No web in here.

The runner calls `publish`, `spotlight` and `status`; readers call the rest. One event loop owns a feed: nothing in it
is thread-safe, nothing in it waits for a reader.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Literal, NamedTuple

import msgspec

from operators.names import WHOLE
from operators.records import SignalRow
from stream.alert_cards import AlertCard
from stream.history import MAX_WINDOWS, History
from stream.ops_status import OpsStatus, status_json, together
from stream.urgency import Offer, UrgencyQueue, UrgentPost

EventKind = Literal["rows", "posts", "queue", "alerts", "status", "reset", "dropped"]
MAX_ALERTS = 200
"""Newest alerts held."""
QUEUE_EVENT = 20
"""Requests for help in one event at most: the first of the queue's order; the others are in the queue."""


class SpotPost(msgspec.Struct, frozen=True, kw_only=True):
    """A post that moved an entity's signals. `text_masked` has no author, handle or link; `score` is in [0, 1]."""

    time_ms: int
    text_masked: str
    label: str
    score: float
    repost: bool = False
    lang: str = ""


class FeedEvent(NamedTuple):
    """One event for one reader. `id`: newest row event it has then seen; `data`: JSON, one line."""

    id: int
    kind: EventKind
    data: bytes


Filter = tuple[str | None, int | None, str | None]
"""What a reader asked for: entity, window size (milliseconds), domain; None = any."""

SHARED_EVENTS = 4
SHARED_FILTERS = 16
"""The JSON of the newest events is kept for so many filters: a hundred readers of one kind cost one encoding."""


class _Batch(NamedTuple):
    """The rows of one `publish`, by (entity, window size, domain). `encoded`: what readers of one filter share."""

    id: int
    groups: dict[tuple[str, int, str], list[SignalRow]]
    size: int
    encoded: dict[Filter, bytes]


class Subscription(AsyncIterator[FeedEvent]):
    """The events of one reader, in order. Registered when made, so nothing falls between history and the first event.

    Made by `Feed.subscribe`. Close it, or let it end: it ends by itself after a `dropped` event.
    """

    def __init__(self, feed: Feed, limit: int, only: Filter) -> None:
        self._feed = feed
        self._limit = limit
        self._only = only
        self._backlog: deque[FeedEvent | _Batch] = deque()
        self._queue: deque[FeedEvent | _Batch] = deque()
        self._wake = asyncio.Event()
        self._closed = False

    def wants(self, entity: str, window_ms: int | None = None, domain: str | None = None) -> bool:
        """True where the reader asked for this entity (and window size, and domain, if they are named)."""
        given = (entity, window_ms, domain)
        return all(w is None or g is None or w == g for w, g in zip(self._only, given, strict=True))

    def wants_domain(self, domain: str) -> bool:
        """True where the reader asked for this domain, or for all."""
        return self._only[2] in (None, domain)

    def offer(self, event: FeedEvent | _Batch, replayed: bool = False) -> None:
        """Queue `event`; a reader whose queue is full is dropped, with the reason as its last event."""
        if self._closed:
            return
        if isinstance(event, _Batch) and not any(self.wants(*key) for key in event.groups):
            return
        if replayed:
            self._backlog.append(event)
        elif len(self._queue) >= self._limit:
            reason = {"reason": f"reader too slow: {self._limit} events waiting; reconnect to go on"}
            self._backlog.clear()
            self._queue.clear()
            self._queue.append(FeedEvent(self._feed.last_id, "dropped", msgspec.json.encode(reason)))
            self.close()
        else:
            self._queue.append(event)
        self._wake.set()

    def close(self) -> None:
        """Leave the feed. Idempotent; what was queued can still be read."""
        self._closed = True
        self._feed.leave(self)
        self._wake.set()

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> FeedEvent:
        while True:
            if self._backlog or self._queue:
                event = (self._backlog or self._queue).popleft()
                return event if isinstance(event, FeedEvent) else self._encoded(event)
            if self._closed:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()

    def _encoded(self, batch: _Batch) -> FeedEvent:
        data = batch.encoded.get(self._only)
        if data is None:
            rows = [row for key, group in batch.groups.items() if self.wants(*key) for row in group]
            data = msgspec.json.encode({"rows": rows})
            if batch.id > self._feed.last_id - SHARED_EVENTS and len(batch.encoded) < SHARED_FILTERS:
                batch.encoded[self._only] = data
        return FeedEvent(batch.id, "rows", data)


class Feed:
    """Filled by the runner, read by the page: newest rows with history, spotlight posts, requests for
    help, operations status.

    Args:
        max_windows, max_series, max_rows: bounds of the history (see `History`).
        ring_events, ring_rows: how far back a reader can resume without loading history again.
        queue_events: events that may wait for one reader before it is dropped.
        max_entities, max_posts: spotlight posts kept, per entity, and entities that have any (oldest use goes first).
        first_id: id before the first event; None = the clock in microseconds, so that ids rise over restarts.

    >>> feed = Feed(first_id=0)
    >>> feed.publish([])
    >>> feed.last_id
    0
    """

    def __init__(
        self,
        *,
        max_windows: int = MAX_WINDOWS,
        max_series: int = 20_000,
        max_rows: int = 1_000_000,
        ring_events: int = 2_048,
        ring_rows: int = 20_000,
        queue_events: int = 256,
        max_entities: int = 2_000,
        max_posts: int = 50,
        max_text: int = 500,
        first_id: int | None = None,
    ) -> None:
        self.history = History(max_windows, max_series, max_rows)
        self.urgency = UrgencyQueue()
        self._ring: deque[_Batch] = deque()
        self._ring_events = ring_events
        self._ring_rows = ring_rows
        self._ring_count = 0
        self._queue_events = queue_events
        self._posts: OrderedDict[tuple[str, str], deque[SpotPost]] = OrderedDict()
        self._max_entities = max_entities
        self._max_posts = max_posts
        self._max_text = max_text
        self._last_id = time.time_ns() // 1_000 if first_id is None else first_id
        self._floor = self._last_id
        self._readers: set[Subscription] = set()
        self._alerts: OrderedDict[str, AlertCard] = OrderedDict()
        self._statuses: dict[str, OpsStatus] = {}
        self._status = OpsStatus()

    @property
    def last_id(self) -> int:
        """Id of the newest row event; history read now contains everything up to it."""
        return self._last_id

    @property
    def readers(self) -> int:
        """Readers subscribed now."""
        return len(self._readers)

    @property
    def ops(self) -> OpsStatus:
        """The newest status; before the first one, not ready."""
        return self._status

    def publish(self, rows: Sequence[SignalRow]) -> None:
        """Take in rows of one commit: newest per window to history, the same to every reader that wants them.

        Rows that history refuses (a newer row of the window is known) go to nobody. Never waits.
        """
        groups: dict[tuple[str, int, str], list[SignalRow]] = {}
        count = 0
        for row in rows:
            if self.history.put(row):
                groups.setdefault((row.entity, row.window_end - row.window_start, row.domain), []).append(row)
                count += 1
        if count == 0:
            return
        self._last_id += 1
        batch = _Batch(self._last_id, groups, count, {})
        self._ring.append(batch)
        if len(self._ring) > SHARED_EVENTS:
            self._ring[-1 - SHARED_EVENTS].encoded.clear()
        self._ring_count += count
        while len(self._ring) > self._ring_events or (self._ring_count > self._ring_rows and len(self._ring) > 1):
            gone = self._ring.popleft()
            self._ring_count -= gone.size
            self._floor = gone.id
        self._tell(batch)

    def spotlight(self, entity: str, posts: Sequence[SpotPost], domain: str = "") -> None:
        """Remember `posts` (oldest first) as the newest that moved `entity`. Text beyond `max_text` is cut."""
        if not posts:
            return
        held = self._posts.get((entity, domain))
        if held is None:
            held = self._posts[entity, domain] = deque(maxlen=self._max_posts)
            if len(self._posts) > self._max_entities:
                self._posts.popitem(last=False)
        self._posts.move_to_end((entity, domain))
        cut = [self._cut(post) for post in posts[-self._max_posts :]]
        held.extend(cut)
        data = msgspec.json.encode({"entity": entity, "posts": cut[::-1]})
        for reader in tuple(self._readers):
            if reader.wants(entity, domain=domain or None):
                reader.offer(FeedEvent(self._last_id, "posts", data))

    def _cut(self, post: SpotPost) -> SpotPost:
        if len(post.text_masked) <= self._max_text:
            return post
        return msgspec.structs.replace(post, text_masked=post.text_masked[: self._max_text - 1] + "…")

    def posts(self, entity: str, domain: str | None = None) -> list[SpotPost]:
        """The posts that moved `entity` (in `domain`; None = in any), newest first; empty where none are known."""
        held = [
            posts
            for (name, of), posts in self._posts.items()
            if name == entity and (domain is None or of in ("", domain))
        ]
        return list(held[0])[::-1] if len(held) == 1 else sorted((p for posts in held for p in posts), key=_newest)

    def urge(self, requests: Sequence[UrgentPost], offers: Sequence[Offer], newest_ms: int) -> None:
        """Take requests for help and offers into the queue, and tell readers of the crisis domain what is new in it."""
        fresh = self.urgency.add(requests, offers, newest_ms)
        if not fresh:
            return
        told: dict[tuple[str, ...], bytes] = {}
        for reader in tuple(self._readers):
            wanted = [p for p in fresh if any(reader.wants(e, domain="crisis") for e in (WHOLE, *p.places))]
            ids = tuple(post.id for post in wanted[:QUEUE_EVENT])
            if ids and ids not in told:
                told[ids] = msgspec.json.encode({"posts": wanted[:QUEUE_EVENT]})
            if ids:
                reader.offer(FeedEvent(self._last_id, "queue", told[ids]))

    def alert(self, cards: Sequence[AlertCard]) -> None:
        """Take in alerts, oldest first, and tell readers of their domains, whatever entity and window these asked for.

        One known already is replaced: it has its posts now.
        """
        for card in cards:
            self._alerts[card.id] = card
        while len(self._alerts) > MAX_ALERTS:
            self._alerts.popitem(last=False)
        by_domain: dict[str, list[AlertCard]] = {}
        for card in cards:
            by_domain.setdefault(card.domain, []).append(card)
        for domain, group in by_domain.items():
            data = msgspec.json.encode({"alerts": group})
            for reader in tuple(self._readers):
                if reader.wants_domain(domain):
                    reader.offer(FeedEvent(self._last_id, "alerts", data))

    def alerts(self) -> list[AlertCard]:
        """The newest alerts held, newest first."""
        return sorted(self._alerts.values(), key=lambda card: -card.window_end)

    def status(self, status: OpsStatus) -> None:
        """Replace the operations status (that of its domain, where there are several) and tell every reader."""
        if status.domain:
            self._statuses.pop("", None)
        self._statuses[status.domain] = status
        self._status = together(list(self._statuses.values()))
        self._tell(FeedEvent(self._last_id, "status", status_json(self._status)))

    def subscribe(
        self,
        last_id: int | None = None,
        *,
        entity: str | None = None,
        window_ms: int | None = None,
        domain: str | None = None,
    ) -> Subscription:
        """The status, then events from now on; with `last_id`, first the row events after it.

        Where those are no longer held (or `last_id` is of another life) comes `reset` instead: load history again.
        `entity`, `window_ms` and `domain` narrow rows (and posts, by entity) to what a reader shows.
        """
        reader = Subscription(self, self._queue_events, (entity, window_ms, domain))
        if last_id is not None:
            if self._floor <= last_id <= self._last_id:
                for batch in self._ring:
                    if batch.id > last_id:
                        reader.offer(batch, replayed=True)
            else:
                reader.offer(FeedEvent(self._last_id, "reset", b'{"reason":"too long away"}'), replayed=True)
        # after the replay: its id says that everything up to it was seen
        reader.offer(FeedEvent(self._last_id, "status", status_json(self._status)), replayed=True)
        self._readers.add(reader)
        return reader

    def leave(self, reader: Subscription) -> None:
        """Forget a reader. Idempotent."""
        self._readers.discard(reader)

    def close(self) -> None:
        """End every reader; what they have queued they can still read."""
        for reader in tuple(self._readers):
            reader.close()

    def _tell(self, event: FeedEvent | _Batch) -> None:
        readers: Iterable[Subscription] = tuple(self._readers)
        for reader in readers:
            reader.offer(event)


def _newest(post: SpotPost) -> int:
    return -post.time_ms
