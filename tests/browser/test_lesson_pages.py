"""The two pages of a lesson on a phone: no socket before consent, nothing cut off, nothing axe-core objects to."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from test_page_access import axe, problems

from operators.records import SignalRow
from stream.config import Config
from stream.feed import Feed
from stream.lesson_desk import LessonDesk
from stream.memory import MemoryLog
from stream.metrics import Metrics
from stream.system_clock import SystemClock
from stream.topology import build
from stream.web import LiveServer
from stream.web_lesson import LessonRoutes

pytestmark = pytest.mark.browser
MINUTE = 60_000
CONFIG = msgspec.convert({"domain": "classroom", "windows": {"sizes": ["1m"]}}, Config).check()
__all__ = ["axe"]


def told(now: int) -> list[SignalRow]:
    end = now // MINUTE * MINUTE
    return [
        SignalRow(
            signal=f"classroom.{name}", domain="classroom", entity="room:1", window_start=end - (k + 1) * MINUTE,
            window_end=end - k * MINUTE, value=value, lo=value - 0.1, hi=value + 0.1, n=20, n_eff=20.0, authors=20,
            buzz=20.0, status="final", revision=0, watermark=end - k * MINUTE, model="m@1", ontology="o",
            reasons=("proxy, not validated",),
        )
        for name, value in (("engagement", 0.6), ("confusion", 0.25), ("pace", 0.1), ("answer.a", 0.4))
        for k in range(6)
    ]  # fmt: skip


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_pages_work_on_a_phone(chrome: tuple[asyncio.Runner, Any], axe: str, scheme: str, tmp_path: Path) -> None:
    loop, browser = chrome

    async def whole() -> None:
        feed, log, clock = Feed(), MemoryLog(), SystemClock()
        feed.publish(told(clock.now_ms()))
        desk = LessonDesk(CONFIG, clock)
        server = LiveServer(feed, Metrics(process=False), port=0, lesson=LessonRoutes(desk))
        await server.start()
        await desk.start(log, build(CONFIG, 1))
        context = await browser.new_context(viewport={"width": 375, "height": 812}, color_scheme=scheme)
        try:
            async with asyncio.timeout(120):
                teacher = await teach(context, server, axe)
                await take_part(context, server, desk, axe)
                await teacher.close()
        finally:
            await context.close()
            await desk.stop()
            await server.stop()
            await log.close()

    loop.run(whole())


async def teach(context: Any, server: LiveServer, axe: str) -> Any:
    page = await context.new_page()
    await page.goto(f"{server.url}teach")
    await page.wait_for_selector(".plot svg polyline", state="attached")
    await page.wait_for_selector("#link[data-state=live]")
    assert "0.60" in await page.inner_text("[data-signal=engagement]")
    await page.fill("#mark-text", "group work")
    await page.click("#mark button")
    await page.wait_for_selector(".marks li")
    for k, option in enumerate(("54", "56")):
        await page.locator(".choice input:not([type=checkbox])").nth(k).fill(option)
    await page.click("#quiz .main")
    await page.wait_for_selector("#close:not([hidden])")
    assert await page.evaluate("document.documentElement.scrollWidth") == 375
    assert await problems(page, axe) == []
    return page


async def take_part(context: Any, server: LiveServer, desk: LessonDesk, axe: str) -> None:
    page = await context.new_page()
    sockets: list[str] = []
    page.on("websocket", lambda ws: sockets.append(ws.url))
    await page.goto(f"{server.url}join?room=1&code={desk.lesson.rooms['1'].code}")
    await page.click("#decline")
    await page.wait_for_selector("#declined:not([hidden])")
    assert sockets == []
    assert await problems(page, axe) == []
    await page.click("#join")
    await page.wait_for_selector("#ask:not([hidden])")
    assert len(sockets) == 1
    await page.click(".act.lost")
    await page.wait_for_selector("#said:has-text('lost')")
    await page.locator(".option").nth(1).click()
    await page.wait_for_selector(".option.chosen")
    assert await page.evaluate("document.documentElement.scrollWidth") == 375
    low = await page.eval_on_selector_all(".act, .option, #leave", "all => Math.min(...all.map(b => b.offsetHeight))")
    assert low >= 44
    assert await problems(page, axe) == []
    await page.click("#leave")
    await page.wait_for_selector("#consent:not([hidden])")
    assert desk.lesson.rooms["1"].seats == {}
