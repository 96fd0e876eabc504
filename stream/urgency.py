"""The urgency queue: requests for help, newest and most urgent first, and the backlog: what nobody has offered.

It lives in memory beside the page's list of posts: masked texts of the run that is on, bounded, gone with the process.
What it answers depends on the set of posts it was given, not on their order.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping

import msgspec
import numpy as np

from engines.base import EngineSpec
from operators.crisis import NEEDS, offered
from operators.cues import OFFERS, Cues
from operators.domain import label_indexes
from operators.masking import mask
from operators.records import I64, MICRO, PostBatch

KEEP_MS = 24 * 3_600_000
"""Requests and offers older than this, before the newest post, are forgotten."""
MOST = 2_000
"""Requests held, and offers held; of more the oldest are forgotten."""
HALF_LIFE_MS = 1_800_000
"""In the order of the queue a request twice as urgent stands level with one that is so much newer."""
OLD_MS = 3_600_000
"""Unmatched for longer than this, a request is backlog."""
UNSPECIFIED = "unspecified"


class UrgentPost(msgspec.Struct, frozen=True, kw_only=True):
    """A request for help. `text_masked` has no author, handle or link.

    Attributes:
        urgency: P(request) * (0.5 + 0.5 * max(fear, sadness)), in [0, 1]; the three are the model's probabilities.
        need: class with the largest probability above its threshold; `unspecified` where none is.
        places: entities, `place:Houston`; empty = nobody knows where.
        matched: an offer of the need in one of the places is held that no older request has taken; None for a post
            without place or need: nothing can be matched with it.
    """

    id: str
    time_ms: int
    urgency: float
    request: float
    fear: float
    sadness: float
    need: str
    places: tuple[str, ...]
    text_masked: str
    lang: str = ""
    matched: bool | None = None


class Offer(msgspec.Struct, frozen=True):
    """A post that offers help: what matching needs to know of it."""

    id: str
    time_ms: int
    need: str
    places: tuple[str, ...]


class BacklogCell(msgspec.Struct, frozen=True):
    """Requests of one need in one place, older than `Backlog.older_than_ms`, that no offer was found for."""

    place: str
    need: str
    unmatched: int
    oldest_ms: int


class Backlog(msgspec.Struct, frozen=True):
    """Unmatched requests older than `older_than_ms`, by cell, most first; `unmatched`: over all cells.

    Only requests with a need and a place are counted; `unmatchable`: requests without. Offers are found by the model
    and by a list of phrases, which miss most of them: the backlog is an upper bound.
    """

    older_than_ms: int
    unmatched: int
    matched: int
    unmatchable: int
    cells: list[BacklogCell]


class Queue(msgspec.Struct, frozen=True):
    """The queue at event time `as_of_ms`: `posts`, newest and most urgent first; `total`: how many match, shown or not.

    `forgotten`: requests let go before their time because there were more than the queue holds.
    """

    as_of_ms: int | None
    total: int
    forgotten: int
    posts: list[UrgentPost]
    backlog: Backlog


class UrgencyQueue:
    """Requests and offers of the last 24 hours of event time, bounded.

    >>> queue = UrgencyQueue()
    >>> queue.add([], [], 0)
    []
    """

    def __init__(self, most: int = MOST, keep_ms: int = KEEP_MS) -> None:
        self._most = most
        self._keep_ms = keep_ms
        self._requests: dict[str, UrgentPost] = {}
        self._offers: dict[str, Offer] = {}
        self._newest: int | None = None
        self.forgotten = 0

    def __len__(self) -> int:
        """Requests held."""
        return len(self._requests)

    def add(self, requests: Iterable[UrgentPost], offers: Iterable[Offer], newest_ms: int) -> list[UrgentPost]:
        """Take posts in, once by id; what of the requests is new and was kept, in the order of the queue."""
        self._newest = newest_ms if self._newest is None else max(self._newest, newest_ms)
        fresh = {post.id: post for post in requests if post.id not in self._requests}
        self._requests |= fresh
        self._offers |= {offer.id: offer for offer in offers}
        self._trim()
        return sorted((post for name, post in fresh.items() if name in self._requests), key=_order)

    def _trim(self) -> None:
        assert self._newest is not None
        limit = self._newest - self._keep_ms
        held: dict[str, UrgentPost] | dict[str, Offer]
        for held in (self._requests, self._offers):
            if len(held) > self._most or any(post.time_ms < limit for post in held.values()):
                live = sorted(
                    ((post.time_ms, name) for name, post in held.items() if post.time_ms >= limit), reverse=True
                )
                if held is self._requests:
                    self.forgotten += max(0, len(live) - self._most)
                for name in held.keys() - {name for _, name in live[: self._most]}:
                    del held[name]

    def queue(
        self, limit: int = 100, place: str | None = None, need: str | None = None, older_than_ms: int = OLD_MS
    ) -> Queue:
        """The queue as it stands; `place` (an entity) and `need` narrow posts and backlog."""
        matched = _matched(self._requests.values(), self._offers.values())
        wanted = [
            msgspec.structs.replace(post, matched=matched.get(post.id))
            for post in self._requests.values()
            if (place is None or place in post.places) and (need is None or need == post.need)
        ]
        wanted.sort(key=_order)
        backlog = _backlog(wanted, (self._newest or 0) - older_than_ms, older_than_ms)
        return Queue(self._newest, len(wanted), self.forgotten, wanted[:limit], backlog)


def _order(post: UrgentPost) -> tuple[float, int, str]:
    """Newest and most urgent first, in one order that does not change as time passes."""
    return -(math.log2(max(post.urgency, 1e-9)) + post.time_ms / HALF_LIFE_MS), -post.time_ms, post.id


def _matched(requests: Iterable[UrgentPost], offers: Iterable[Offer]) -> Mapping[str, bool]:
    """Request id -> whether an offer is left for it: the oldest request gets the oldest offer of its need and place.

    Requests without need or place are left out.
    """
    there: dict[tuple[str, str], deque[str]] = defaultdict(deque)
    for offer in sorted(offers, key=lambda offer: (offer.time_ms, offer.id)):
        for place in offer.places:
            there[place, offer.need].append(offer.id)
    taken: set[str] = set()
    out: dict[str, bool] = {}
    for post in sorted(requests, key=lambda post: (post.time_ms, post.id)):
        if not post.places or post.need == UNSPECIFIED:
            continue
        out[post.id] = False
        for left in (there[place, post.need] for place in post.places):
            while left and left[0] in taken:
                left.popleft()
            if left:
                taken.add(left.popleft())
                out[post.id] = True
                break
    return out


def _backlog(posts: Iterable[UrgentPost], before_ms: int, older_than_ms: int) -> Backlog:
    cells: dict[tuple[str, str], list[int]] = defaultdict(list)
    counts = {True: 0, False: 0, None: 0}
    for post in posts:
        if post.time_ms > before_ms:
            continue
        counts[post.matched] += 1
        if post.matched is False:
            cells[post.places[0], post.need].append(post.time_ms)
    told = [BacklogCell(place, need, len(times), min(times)) for (place, need), times in cells.items()]
    told.sort(key=lambda cell: (-cell.unmatched, cell.place, cell.need))
    return Backlog(older_than_ms, counts[False], counts[True], counts[None], told)


class Urgency:
    """Finds the requests and offers among scored posts of the crisis domain. Copies of known texts are passed over.

    Raises:
        ConfigInvalid: the engine lacks a head or a label.
    """

    def __init__(self, spec: EngineSpec) -> None:
        self._request, self._offer, *self._needs = label_indexes(spec, "disaster_message", ["request", "offer", *NEEDS])
        self._fear, self._sadness = label_indexes(spec, "goemotions28", ["fear", "sadness"])
        head = spec.head("disaster_message")
        given = head.thresholds if head is not None else ()
        self._limits = np.rint((np.array(given) if given else np.full(len(head.labels) if head else 0, 0.5)) * MICRO)
        self._offers = Cues(OFFERS)

    def find(self, batch: PostBatch) -> tuple[list[UrgentPost], list[Offer]]:
        """Requests: P(request) at its threshold. Offers: P(offer) (or the cue's, see `offered`) at least a half."""
        scores = batch.scores["disaster_message"].astype(np.int64)
        said = scores[:, self._request] >= self._limits[self._request]
        own = ~(batch.near | batch.reposts)
        gives = offered(scores[:, self._request], scores[:, self._offer], self._offers.found(batch.texts)) * 2 >= MICRO
        needs = self._need(scores)
        places: dict[int, list[str]] = defaultdict(list)
        for row, name in zip(batch.link_rows.tolist(), batch.link_names, strict=True):
            if name.startswith("place:"):
                places[row].append(name)
        times = batch.times_ms.tolist()
        requests = [
            self._post(batch, row, needs[row], tuple(places[row])) for row in np.flatnonzero(said & own).tolist()
        ]
        offers = [
            Offer(batch.ids[row], times[row], needs[row], tuple(places[row]))
            for row in np.flatnonzero(gives & ~said & own).tolist()
            if places[row] and needs[row] != UNSPECIFIED
        ]
        return requests, offers

    def _need(self, scores: I64) -> list[str]:
        over = np.where(scores[:, self._needs] >= self._limits[self._needs], scores[:, self._needs], -1)
        best = over.argmax(axis=1)
        return [NEEDS[k] if over[row, k] >= 0 else UNSPECIFIED for row, k in enumerate(best.tolist())]

    def _post(self, batch: PostBatch, row: int, need: str, places: tuple[str, ...]) -> UrgentPost:
        request = int(batch.scores["disaster_message"][row, self._request]) / MICRO
        fear, sadness = (int(batch.scores["goemotions28"][row, k]) / MICRO for k in (self._fear, self._sadness))
        return UrgentPost(
            id=batch.ids[row],
            time_ms=int(batch.times_ms[row]),
            urgency=request * (0.5 + 0.5 * max(fear, sadness)),
            request=request,
            fear=fear,
            sadness=sadness,
            need=need,
            places=places,
            text_masked=mask(batch.texts[row]),
            lang=batch.langs[row],
        )
