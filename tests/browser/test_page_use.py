"""The page in use: by keyboard alone, over lost connections, empty, not ready and stale."""

from __future__ import annotations

from typing import Any

import pytest
from browsing import (
    MINUS,
    STATUS,
    STEP,
    T0,
    Play,
    market,
    row,
    shown,
    text,
    until,
)

from stream.feed import Feed
from stream.metrics import Metrics
from stream.ops_status import OpsStatus
from stream.web import LiveServer

pytestmark = pytest.mark.browser


async def focus_by_tab(page: Any, selector: str) -> None:
    for _ in range(40):
        await page.keyboard.press("Tab")
        if await page.evaluate("s => document.activeElement.matches(s)", selector):
            return
    raise AssertionError(f"Tab never reached {selector}")


def test_everything_works_by_keyboard_alone(play: Play) -> None:
    async def scene(feed: Feed, server: LiveServer, page: Any) -> None:
        await shown(page)
        await page.keyboard.press("Tab")
        assert await page.evaluate("document.activeElement.textContent") == "Skip to the signals"
        await focus_by_tab(page, "#entity")
        await page.keyboard.type("tsl")
        assert await page.get_attribute("#entity", "aria-expanded") == "true"
        active = await page.get_attribute("#entity", "aria-activedescendant")
        assert await text(page, f"#{active}") == "TSLA 640"
        await page.keyboard.press("Enter")
        await until(page, "document.title.startsWith('TSLA')")
        assert "entity=ticker%3ATSLA" in page.url
        assert "50.0 %" in await text(page, "#tiles [data-signal='market.joy']")
        await page.keyboard.press("ArrowDown")
        for _ in range(3):
            await page.keyboard.press("ArrowUp")
        await page.keyboard.press("Enter")
        await until(page, "document.title.startsWith('AAPL')")
        await page.keyboard.type("zzz")
        assert await text(page, "#entity-list") == "Nothing called “zzz”"
        await page.keyboard.press("Escape")
        assert await page.input_value("#entity") == "AAPL"
        await focus_by_tab(page, "#windows input")
        await page.keyboard.press("ArrowRight")
        await until(page, "location.search.includes('window=300000')")
        await until(page, "document.querySelector('#tiles').innerText.includes('20.5')")
        await page.keyboard.press("ArrowLeft")
        await page.wait_for_selector("[data-group=mood] .frame canvas")
        await focus_by_tab(page, "[data-group=mood] .frame")
        await page.keyboard.press("End")
        await page.keyboard.press("ArrowLeft")
        said = await page.text_content("[data-group=mood] .frame [aria-live]")
        assert "to 14:14:00 · final" in said
        assert f"Valence, {MINUS}0.12" in said
        outline = await page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"
        await page.focus("[data-group=emotions] .chip[data-signal='market.neutral']")
        await page.keyboard.press("Space")
        assert await page.get_attribute(".chip[data-signal='market.neutral']", "aria-pressed") == "true"

    play(scene)


def test_the_page_resumes_after_the_server_was_away(play: Play) -> None:
    async def scene(feed: Feed, server: LiveServer, page: Any) -> None:
        await shown(page)
        asked: list[str] = []
        page.on("request", lambda r: asked.append(r.url))
        await server.stop()
        await page.wait_for_selector("#link[data-state=reconnecting]")
        assert "values below are the last ones received" in await text(page, "#notice")
        assert await text(page, "#tiles [data-signal='market.valence'] .num") == f"{MINUS}0.12"
        feed.publish([row("market.valence", T0 + STEP, 0.31, 0.2, 0.4)])
        missed = feed.last_id
        await server.start()
        await page.wait_for_selector("#link[data-state=live]", timeout=15_000)
        await until(
            page, "document.querySelector(\"#tiles [data-signal='market.valence'] .num\").textContent === '+0.31'"
        )
        assert any(f"last_id={missed - 1}" in url for url in asked if "/events" in url)
        assert not any("/api/series" in url for url in asked)
        assert await page.is_hidden("#notice")

    play(scene)


def test_a_new_process_on_the_same_port_makes_the_page_load_history_again(play: Play) -> None:
    async def scene(feed: Feed, server: LiveServer, page: Any) -> None:
        await shown(page)
        port = server.port
        await server.stop()
        await page.wait_for_selector("#link[data-state=reconnecting]")
        later = Feed(first_id=5_000_000)
        later.publish([row("market.valence", T0 + STEP, 0.64, 0.6, 0.7)])
        later.status(STATUS)
        second = LiveServer(later, Metrics(process=False), port=port)
        await second.start()
        try:
            await until(
                page,
                "document.querySelector(\"#tiles [data-signal='market.valence'] .num\").textContent === '+0.64'",
            )
        finally:
            await second.stop()

    play(scene)


def test_empty_and_not_ready_are_said_in_words_and_the_page_fills_by_itself(play: Play) -> None:
    async def scene(feed: Feed, server: LiveServer, page: Any) -> None:
        await page.wait_for_selector("#empty:not([hidden])")
        await page.wait_for_selector("#link[data-state=waiting]")
        assert await text(page, "#empty") == "The engine is not ready yet It says: log locked, stop the other process."
        feed.status(STATUS)
        await page.wait_for_selector("#link[data-state=live]")
        await until(page, "document.querySelector('#empty-title').textContent === 'No signals yet'")
        assert "waiting for posts" in await text(page, "#empty")
        feed.publish(market(T0))
        await shown(page)
        assert await page.is_hidden("#empty")

    feed = Feed(first_id=0)
    feed.status(OpsStatus(ready=False, problem="log locked, stop the other process"))
    play(scene, feed, path="")


def test_silence_is_called_stale(play: Play) -> None:
    async def scene(feed: Feed, server: LiveServer, page: Any) -> None:
        await page.clock.install()
        await page.reload()
        await page.clock.run_for(1_000)
        await shown(page)
        assert await text(page, "#link") == "Live"
        await page.clock.run_for(17_000)
        await page.wait_for_selector("#link[data-state=stale]")
        assert await text(page, "#link") == "Stale"
        assert "Nothing new from the engine for 15 seconds" in await text(page, "#notice")
        feed.status(STATUS)
        await page.wait_for_selector("#link[data-state=live]")

    play(scene)
