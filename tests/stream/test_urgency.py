"""The urgency queue: its order, its bounds, matching and the backlog; any order of arrival gives the same queue."""

from __future__ import annotations

import asyncio
import json
import random

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.stub import stub_spec
from operators.records import PostBatch
from stream.feed import Feed, FeedEvent
from stream.urgency import HALF_LIFE_MS, KEEP_MS, OLD_MS, Offer, Urgency, UrgencyQueue, UrgentPost

T = 1_700_000_000_000
SPEC = stub_spec()
MICRO = 1_000_000


def post(
    name: str, at: int = 0, urgency: float = 0.5, need: str = "water", place: str | None = "place:Houma"
) -> UrgentPost:
    return UrgentPost(
        id=name, time_ms=T + at, urgency=urgency, request=urgency, fear=1.0, sadness=0.0, need=need,
        places=() if place is None else (place,), text_masked=name,
    )  # fmt: skip


def offer(name: str, at: int = 0, need: str = "water", place: str = "place:Houma") -> Offer:
    return Offer(name, T + at, need, (place,))


def test_newest_and_most_urgent_first() -> None:
    queue = UrgencyQueue()
    queue.add([post("old", 0, 0.8), post("new", HALF_LIFE_MS, 0.45), post("newer", 2 * HALF_LIFE_MS, 0.1)], [], T)
    assert [p.id for p in queue.queue().posts] == ["new", "old", "newer"]  # a half-life is worth a factor of two
    assert [p.id for p in queue.queue(limit=1).posts] == ["new"]
    assert queue.queue(limit=1).total == 3


def test_what_is_new_is_said_once() -> None:
    queue = UrgencyQueue()
    assert [p.id for p in queue.add([post("a", 0, 0.3), post("b", 0, 0.9)], [], T)] == ["b", "a"]
    assert [p.id for p in queue.add([post("a", 0, 0.3), post("c")], [], T)] == ["c"]
    assert len(queue) == 3


def test_bounds_the_oldest_go() -> None:
    queue = UrgencyQueue(most=3)
    assert [p.id for p in queue.add([post(f"p{k}", k) for k in range(5)], [], T)] == ["p4", "p3", "p2"]
    assert queue.queue().forgotten == 2
    queue.add([], [], T + KEEP_MS + 4)
    assert [p.id for p in queue.queue().posts] == ["p4"]
    assert queue.queue().forgotten == 2  # time, not want of room


def test_backlog_an_offer_serves_one_request_of_its_need_and_place() -> None:
    queue = UrgencyQueue()
    queue.add(
        [post("first", 0), post("second", 1), post("food", 2, need="food"), post("far", 3, place="place:Slidell"),
         post("nowhere", 4, place=None), post("vague", 5, need="unspecified"), post("fresh", OLD_MS)],
        [offer("late", 60_000), offer("shelter", 0, need="shelter")],
        T + OLD_MS + 10,
    )  # fmt: skip
    found = queue.queue()
    assert {p.id: p.matched for p in found.posts} == {
        "first": True, "second": False, "food": False, "far": False, "nowhere": None, "vague": None, "fresh": False
    }  # fmt: skip
    backlog = found.backlog
    assert (backlog.unmatched, backlog.matched, backlog.unmatchable) == (3, 1, 2)
    assert {(c.place, c.need): (c.unmatched, c.oldest_ms) for c in backlog.cells} == {
        ("place:Houma", "water"): (1, T + 1),
        ("place:Houma", "food"): (1, T + 2),
        ("place:Slidell", "water"): (1, T + 3),
    }
    narrow = queue.queue(place="place:Houma", need="water")
    assert sorted(p.id for p in narrow.posts) == ["first", "fresh", "second"]
    assert narrow.backlog.unmatched == 1
    assert queue.queue(older_than_ms=0).backlog.unmatched == 4


@given(st.integers(0, 2**32), st.integers(1, 30))
def test_any_order_and_cut_gives_the_same_queue(seed: int, most: int) -> None:
    dice = random.Random(seed)
    needs, places = ["water", "food"], ["place:A", "place:B", None]
    requests = [
        post(f"r{k}", dice.randrange(2 * KEEP_MS), dice.random(), dice.choice(needs), dice.choice(places))
        for k in range(40)
    ]
    offers = [offer(f"o{k}", dice.randrange(2 * KEEP_MS), dice.choice(needs), "place:A") for k in range(10)]
    newest = max(item.time_ms for item in (*requests, *offers))
    whole = UrgencyQueue(most)
    whole.add(requests, offers, newest)
    piecewise, items = UrgencyQueue(most), [*requests, *offers]
    dice.shuffle(items)
    for item in items:
        mine = isinstance(item, UrgentPost)
        piecewise.add([item] if mine else [], [] if mine else [item], item.time_ms)
    a, b = whole.queue(), piecewise.queue()
    assert msgspec.structs.replace(a, forgotten=0) == msgspec.structs.replace(b, forgotten=0)


def batch(rows: list[tuple[str, dict[str, float], dict[str, float]]]) -> PostBatch:
    n = len(rows)

    def table(task: str, said: list[dict[str, float]]) -> np.ndarray:
        return np.array([[round(s.get(x, 0.0) * MICRO) for x in SPEC.head(task).labels] for s in said], np.int32)

    return PostBatch(
        partition=0, offsets=np.arange(n), ids=[str(k) for k in range(n)], texts=[text for text, _, _ in rows],
        times_ms=np.arange(n) + T, authors=np.zeros(n, np.uint64), langs=["en"] * n, tickers=[None] * n,
        places=[None] * n, events=[None] * n, reposts=np.zeros(n, np.bool_), near=np.zeros(n, np.bool_),
        link_rows=np.arange(n, dtype=np.int32), link_names=["place:Houma"] * n,
        scores={"disaster_message": table("disaster_message", [s for _, s, _ in rows]),
                "goemotions28": table("goemotions28", [s for _, _, s in rows])},
    )  # fmt: skip


def test_urgency_by_hand() -> None:
    """U = P(request) * (0.5 + 0.5 * max(fear, sadness)); the need is the most probable one above its threshold."""
    requests, offers = Urgency(SPEC).find(
        batch(
            [
                ("no water", {"request": 0.8, "water": 0.7, "food": 0.6}, {"fear": 0.5, "sadness": 0.25}),
                ("help us", {"request": 0.5, "water": 0.4}, {}),
                ("no request", {"request": 0.4, "water": 1.0}, {"fear": 1.0}),
                ("free meals, come and eat", {"request": 0.25, "food": 0.9}, {}),
                ("please, free meals", {"request": 0.9, "food": 0.9}, {"sadness": 1.0}),
                ("we have water", {"offer": 0.9, "water": 0.9}, {}),
                ("happy to help", {}, {}),
            ]
        )
    )
    assert [(p.id, p.need, p.urgency) for p in requests] == [
        ("0", "water", pytest.approx(0.6)), ("1", "unspecified", pytest.approx(0.25)), ("4", "food", pytest.approx(0.9))
    ]  # fmt: skip
    assert [(o.id, o.need) for o in offers] == [("3", "food"), ("5", "water")]  # an offer of nothing matches nothing


def test_readers_of_the_domain_and_place_hear_of_new_requests() -> None:
    async def scene() -> list[list[str]]:
        feed = Feed(first_id=0)
        readers = [feed.subscribe(**only) for only in ({}, {"domain": "crisis"}, {"domain": "market"},
                                                       {"entity": "place:Slidell"})]  # fmt: skip
        feed.urge([post("a"), post("b", place="place:Slidell", urgency=0.9)], [], T)
        feed.urge([post("a")], [], T)  # known already: nobody is told
        feed.close()
        heard: list[list[FeedEvent]] = [[event async for event in reader] for reader in readers]
        return [[p["id"] for e in es if e.kind == "queue" for p in json.loads(e.data)["posts"]] for es in heard]

    assert asyncio.run(scene()) == [["b", "a"], ["b", "a"], [], ["b"]]
