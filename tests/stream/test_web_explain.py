"""/api/explain over a socket: kept for as long as the row stays as it is, one at a time, and says what is wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
from published_rows import MINUTE, row

from stream.contribution import By, Contribution, Explain
from stream.errors import LogUnavailable, UsageError
from stream.feed import Feed
from stream.metrics import Metrics
from stream.web import LiveServer
from stream.web_explain import MOST_WAITING

ID = row().row_id


class Slow:
    """An explainer that counts, and waits until it is let go."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int, str]] = []
        self.at_once = self.most_at_once = 0
        self.begun, self.go = asyncio.Event(), asyncio.Event()
        self.fails: Exception | None = None

    async def __call__(self, row_id: str, top: int, by: By) -> Contribution:
        self.asked.append((row_id, top, by))
        self.begun.set()
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.go.wait()
            if self.fails is not None:
                raise self.fails
            return Contribution(row_id, 0.5, 0.4, 0.6, 40, None, 0, None, None, by, (), (), (), True)
        finally:
            self.at_once -= 1


def play(scene: Callable[[Feed, aiohttp.ClientSession, Slow], Awaitable[None]]) -> None:
    async def run() -> None:
        feed, slow = Feed(first_id=0), Slow()
        explainers: dict[str, Explain] = {"market": slow}
        server = LiveServer(feed, Metrics(process=False), port=0, explainers=explainers)
        await server.start()
        try:
            async with asyncio.timeout(30), aiohttp.ClientSession(server.url) as http:
                await scene(feed, http, slow)
        finally:
            await server.stop()

    asyncio.run(run())


async def ask(http: aiohttp.ClientSession, **params: Any) -> tuple[int, dict[str, Any]]:
    async with http.get("/api/explain", params={"id": ID, **params}) as answer:
        return answer.status, await answer.json()


def test_kept_until_the_row_changes() -> None:
    async def scene(feed: Feed, http: aiohttp.ClientSession, slow: Slow) -> None:
        slow.go.set()
        status, told = await ask(http)
        assert (status, told["id"], told["value"], told["complete"]) == (200, ID, 0.5, True)
        await ask(http)
        assert len(slow.asked) == 2  # a row nobody holds may change unseen
        feed.publish([row(n=40)])
        for _ in range(3):
            await ask(http)
        assert len(slow.asked) == 3
        await ask(http, top=7, by="author")
        assert slow.asked[-1] == (ID, 7, "author")
        feed.publish([row(n=41, revision=1, status="revised")])
        await ask(http)
        assert len(slow.asked) == 5

    play(scene)


def test_one_at_a_time_the_same_question_is_worked_out_once_and_too_many_are_sent_away() -> None:
    async def scene(feed: Feed, http: aiohttp.ClientSession, slow: Slow) -> None:
        feed.publish([row(), row(2 * MINUTE)])
        asking = [asyncio.create_task(ask(http, id=row((1 + k % 2) * MINUTE).row_id)) for k in range(MOST_WAITING)]
        await slow.begun.wait()
        status, told = 200, {}
        while status == 200:  # the last of them may still be on its way
            late = asyncio.create_task(ask(http))
            done, _ = await asyncio.wait({late}, timeout=0.2)
            status, told = late.result() if done else (200, {})
        assert status == 503
        assert "others are being answered" in told["error"]
        slow.go.set()
        assert {(await one)[0] for one in asking} == {200}
        assert slow.most_at_once == 1
        assert len(slow.asked) == 2

    play(scene)


def test_what_cannot_be_answered_says_why() -> None:
    async def scene(feed: Feed, http: aiohttp.ClientSession, slow: Slow) -> None:
        slow.go.set()
        status, told = await ask(http, id="market.joy")
        assert (status, "id: expected signal|entity|window_start|window_end, got 'market.joy'" in told["error"]) == (
            400,
            True,
        )
        status, told = await ask(http, id="crisis.fear|all:*|0|60000")
        assert (status, "no posts of its domain are read here" in told["error"]) == (503, True)
        slow.fails = UsageError("ID: no signal 'market.jo'; there is: market.joy")
        assert await ask(http) == (400, {"error": "/api/explain: id: no signal 'market.jo'; there is: market.joy"})
        slow.fails = LogUnavailable("the broker is away")
        assert await ask(http) == (503, {"error": "/api/explain: the broker is away"})
        status, told = await ask(http, by="moon")
        known = "auto, entity, source, language, author, copy"
        assert (status, told["error"]) == (400, f"/api/explain: by: expected one of {known}")

    play(scene)
