"""What a live run shows and plays: masked posts with their label, and a scenario at the speed asked for."""

from __future__ import annotations

import asyncio
import contextlib
from itertools import islice

import msgspec
import numpy as np
import pytest

from engines.stub import stub_spec
from operators.records import PostBatch
from stream.base import partition_of
from stream.config import Config
from stream.feed import Feed
from stream.live import PER_BATCH, SPOT_TASK, Play, play_scenario, scenario_posts, spotlight_into
from stream.memory import MemoryLog

SPEC = stub_spec()


def batch(texts: list[str], rows: list[dict[str, int]], links: list[tuple[int, str]], domain: str) -> PostBatch:
    task = SPOT_TASK[domain]
    labels = SPEC.head(task).labels
    n = len(texts)
    return PostBatch(
        partition=0, offsets=np.arange(n), ids=[str(k) for k in range(n)], texts=texts, times_ms=np.arange(n) * 1_000,
        authors=np.zeros(n, np.uint64), langs=["en"] * n, tickers=[None] * n, places=[None] * n, events=[None] * n,
        reposts=np.arange(n) % 2 == 1, near=np.zeros(n, np.bool_),
        link_rows=np.array([row for row, _ in links], np.int32), link_names=[name for _, name in links],
        scores={
            task: np.array([[row.get(label, 0) for label in labels] for row in rows], np.int32),
            **({} if domain == "social" else {"goemotions28": np.zeros((n, 28), np.int32)}),
        },
    )  # fmt: skip


def test_posts_are_shown_masked_with_their_strongest_label() -> None:
    feed = Feed(first_id=0)
    said = [{"happy": 700_000, "fear": 300_000}, {"fear": 900_000, "happy": 100_000}]
    links = [(0, "ticker:A"), (0, "all:*"), (1, "all:*")]
    spotlight_into(feed, "market", SPEC)(batch(["@bob buy https://x.y", "down"], said, links, "market"))
    (post,) = feed.posts("ticker:A")
    assert (post.text_masked, post.label, post.score, post.lang) == ("@user buy http", "happy", 0.7, "en")
    assert [(p.label, p.time_ms, p.repost) for p in feed.posts("all:*")] == [("fear", 1_000, True), ("happy", 0, False)]


def test_labels_that_say_only_that_a_post_is_on_topic_do_not_count() -> None:
    feed = Feed(first_id=0)
    said = [{"related": 990_000, "aid_related": 900_000, "direct_report": 800_000, "water": 400_000}]
    spotlight_into(feed, "crisis", SPEC)(batch(["no water"], said, [(0, "all:*")], "crisis"))
    assert (feed.posts("all:*")[0].label, feed.posts("all:*")[0].score) == ("water", 0.4)


def test_requests_go_to_the_urgency_queue_masked() -> None:
    feed = Feed(first_id=0)
    said = [{"request": 900_000, "water": 800_000}, {"request": 900_000}, {"request": 300_000, "water": 900_000}]
    links = [(0, "place:Houma"), (0, "all:*"), (1, "all:*"), (2, "all:*")]
    texts = ["@fema no water, call 555-123-4567", "@fema no water, call 555-123-4567", "water"]
    spotlight_into(feed, "crisis", SPEC)(batch(texts, said, links, "crisis"))
    (post,) = feed.urgency.queue().posts  # the second is a repost
    assert (post.text_masked, post.places, post.need) == ("@user no water, call <phone>", ("place:Houma",), "water")
    assert post.urgency == pytest.approx(0.45)


def test_a_batch_shows_at_most_so_many_posts_of_an_entity_the_newest() -> None:
    feed = Feed(first_id=0)
    n = PER_BATCH + 5
    made = batch(["t"] * n, [{"happy": 10**6}] * n, [(k, "all:*") for k in range(n)], "market")
    spotlight_into(feed, "market", SPEC)(made)
    assert [p.time_ms for p in feed.posts("all:*")] == [k * 1_000 for k in range(n - 1, 4, -1)]


def test_one_scenario_follows_another_without_a_repeated_post() -> None:
    start = 1_790_000_040_000
    posts = list(islice(scenario_posts("panic", 3, start, minutes=2), 1_500))
    times = [int(p["created_at"]) for p in posts if isinstance(p["created_at"], int)]
    assert max(times) > start + 4 * 60_000
    texts_by_id: dict[object, object] = {}
    for post in posts:
        assert texts_by_id.setdefault(post["id"], post["text"]) == post["text"]
    assert len(texts_by_id) > 1_300


class Ticking:
    """A clock the test moves."""

    def __init__(self) -> None:
        self.now = 1_790_000_040_000

    def now_ms(self) -> int:
        return self.now


@pytest.mark.parametrize("speed", [1.0, 60.0])
def test_ten_minutes_are_there_and_time_brings_the_rest(speed: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream.live.TICK_S", 0.001)
    settings = msgspec.convert({"input": {"partitions": 2}}, Config)
    clock = Ticking()
    start = clock.now - 40 * 60_000

    async def newest(log: MemoryLog) -> int:
        """Newest event time on the log, once it has stopped growing; every post lies where its id belongs."""
        before = -1
        while True:
            lanes = [await log.read(settings.topic, p, 0, 10**6) for p in range(2)]
            posts = [(p, msgspec.json.decode(r.value)) for p, lane in enumerate(lanes) for r in lane]
            if posts and len(posts) == before:
                assert all(partition_of(str(post["id"]).encode(), 2) == p for p, post in posts)
                return max(post["created_at"] for _, post in posts)
            before = len(posts)
            await asyncio.sleep(0.15)

    async def scene() -> None:
        log = MemoryLog()
        await log.ensure([])
        playing = asyncio.create_task(play_scenario(log, settings, Play("panic", 5, speed), clock))
        await asyncio.sleep(0.2)
        shown = await newest(log) - start
        assert 9 * 60_000 < shown <= 10 * 60_000
        clock.now += 2_000
        later = await newest(log) - start
        assert shown + 2_000 * speed - 3_000 <= later <= 10 * 60_000 + 2_000 * speed
        playing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await playing

    asyncio.run(scene())
