"""Alerts reach the page at once and their posts later: a live run, a slow search, one that fails, a restart."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from operators.records import Alert
from stream.alert_cards import AlertPost, card_of
from stream.alert_desk import LATE_S, MOST_WAITING, AlertDesk, posts_behind
from stream.base import CommitUnit, Output
from stream.config import Config
from stream.contributing import explainer
from stream.contribution import By, ContributingPost, Contribution
from stream.errors import LogUnavailable, UsageError
from stream.feed import MAX_ALERTS, Feed, Subscription
from stream.memory import MemoryLog
from stream.runner import Runner
from stream.system_clock import SystemClock
from stream.topology import build


def alert(k: int = 1, domain: str = "market") -> Alert:
    return Alert(
        rule="fear", kind="threshold", severity="warning", row_id=f"{domain}.fear|all:*|{k}|{k + 60_000}",
        signal=f"{domain}.fear", domain=domain, entity="all:*", window_start=k, window_end=k + 60_000, value=0.9,
        lo=0.8, hi=0.95, n=50, measure=0.9, reference=0.6, status="final", revision=0, message="m",
    )  # fmt: skip


async def until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110, what is waited for sets no event
        await asyncio.sleep(0.02)


async def events(reader: Subscription, count: int) -> list[dict[str, Any]]:
    """The next `count` events of kind `alerts`, decoded."""
    out: list[dict[str, Any]] = []
    async for event in reader:
        if event.kind == "alerts":
            out.append(json.loads(event.data))
        if len(out) == count:
            break
    return out


def test_an_alert_is_shown_at_once_and_again_with_its_posts() -> None:
    async def scene() -> None:
        found = asyncio.Event()

        async def posts_of(one: Alert) -> tuple[AlertPost, ...]:
            await found.wait()
            return (AlertPost("p", "masked", "fear", 0.1),)

        feed = Feed(first_id=0)
        reader = feed.subscribe(entity="ticker:KO", domain="market")
        other = feed.subscribe(domain="crisis")
        desk = AlertDesk(feed, "/", posts_of)
        desk.take([alert()])
        ((first,),) = [told["alerts"] for told in await events(reader, 1)]
        assert (first["id"], first["posts"]) == (alert().alert_id, [])
        assert first["link"] == "/?view=market&entity=all%3A%2A&window=60000"
        found.set()
        ((again,),) = [told["alerts"] for told in await events(reader, 1)]
        assert again == {**first, "posts": [{"post_id": "p", "text_masked": "masked", "label": "fear", "moved": 0.1}]}
        assert [card.posts[0].post_id for card in feed.alerts()] == ["p"]
        await desk.stop()
        feed.close()
        assert [event.kind async for event in other] == ["status"]

    asyncio.run(scene())


def test_a_search_that_fails_costs_the_posts_alone_and_a_storm_of_alerts_is_bounded() -> None:
    async def scene() -> None:
        asked: list[str] = []

        async def explain(row_id: str, top: int, by: By) -> Contribution:
            asked.append(row_id)
            raise LogUnavailable("away")

        feed = Feed(first_id=0)
        desk = AlertDesk(feed, "", posts_behind(explain, 3))
        storm = [alert(k) for k in range(300)]
        desk.take(storm)
        await until(lambda: len(asked) == MOST_WAITING)
        await desk.stop()
        await desk.stop()
        assert asked == [one.row_id for one in storm[-MOST_WAITING:]]
        held = feed.alerts()
        assert [card.id for card in held] == [one.alert_id for one in storm[: -MAX_ALERTS - 1 : -1]]
        assert {(card.link, card.posts) for card in held} == {(None, ())}

    asyncio.run(scene())


def found(row_id: str) -> Contribution:
    post = ContributingPost("p", 0, 0, 1, 0.1, "fear", "masked")
    return Contribution(row_id, 0.9, 0.8, 0.95, 50, 0.1, 50, 0.8, None, "source", (), (post,), (), True)


def test_posts_that_wait_for_their_turn_come_late_on_the_page_and_not_at_all_to_a_webhook() -> None:
    async def scene() -> None:
        turn = asyncio.Lock()
        await turn.acquire()  # another domain searches

        async def explain(row_id: str, top: int, by: By) -> Contribution:
            async with turn:
                return found(row_id)

        hasty = posts_behind(explain, 3, 0.01)
        assert hasty is not None
        assert await hasty(alert()) == ()
        feed = Feed(first_id=0)
        desk = AlertDesk(feed, "", posts_behind(explain, 3, LATE_S))
        desk.take([alert(1), alert(2)])
        await asyncio.sleep(0.05)
        assert [card.posts for card in feed.alerts()] == [(), ()]
        turn.release()
        await until(lambda: all(card.posts for card in feed.alerts()))
        await desk.stop()

    asyncio.run(asyncio.wait_for(scene(), 30))


def test_nobody_looks_where_none_are_wanted() -> None:
    async def explain(row_id: str, top: int, by: By) -> Contribution:
        raise AssertionError

    assert posts_behind(explain, 0) is None
    assert posts_behind(None, 3) is None
    card = card_of(alert(), "")
    assert msgspec.json.decode(msgspec.json.encode(card), type=type(card)) == card


def test_a_live_run_shows_alerts_with_masked_posts_and_after_a_restart_still_has_them(tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text(
        '[[rule]]\nname = "any"\nsignal = "market.neutral"\nentity = "ticker:*"\nwindow = "1m"\nabove = 0\n'
    )

    async def scene() -> None:
        given: dict[str, Any] = {
            "domain": "market", "engine": {"name": "stub"}, "log": {"url": "memory://"},
            "windows": {"sizes": ["1m"], "minimum": 1}, "time": {"future": "36500d"}, "alerts": {"rules": str(rules)},
        }  # fmt: skip
        config = msgspec.convert(given, Config).check()
        log, topology = MemoryLog(), build(config, 1)
        posts = [{"id": f"p{k}", "text": f"@jane $AAPL word{k}", "created_at": k * 1000} for k in range(200)]
        await log.ensure(topology.topics)
        outputs = [Output(config.topic, 0, None, msgspec.json.encode(post), 0) for post in posts]
        await log.commit(CommitUnit("test", outputs=outputs))
        explain = explainer(log, topology, asyncio.Lock())
        feed = Feed()
        runner = Runner(topology, log, SystemClock(), until_end=False, feed=feed, explain=explain)
        running = asyncio.create_task(runner.run())
        await until(lambda: bool(feed.alerts()) and all(card.posts for card in feed.alerts()))
        runner.stop()
        await running
        for card in feed.alerts():
            inside = [p["id"] for p in posts if card.window_start <= int(str(p["created_at"])) < card.window_end]
            assert {post.post_id for post in card.posts} <= set(inside)
            assert len(card.posts) == 3
            assert all(post.text_masked.startswith("@user $AAPL") for post in card.posts)
        later = Feed()
        again = Runner(build(config, 1), log, SystemClock(), until_end=False, feed=later)
        running = asyncio.create_task(again.run())
        await until(lambda: bool(later.alerts()))
        again.stop()
        await running
        assert [card.id for card in later.alerts()] == [card.id for card in feed.alerts()]

    asyncio.run(asyncio.wait_for(scene(), 90))


@pytest.mark.parametrize("posts", [-1, 51])
def test_posts_of_a_webhook_are_bounded(posts: int) -> None:
    with pytest.raises(UsageError, match=r"alerts.posts: expected a whole number from 0 to 50"):
        msgspec.convert({"alerts": {"posts": posts}}, Config).check()
