"""The two pages of a lesson on a phone: no socket before consent, nothing cut off, nothing axe-core objects to."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
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


WATCHED = msgspec.convert(
    {
        "domain": "classroom", "windows": {"sizes": ["1m"]},
        "policy": {
            "jurisdiction": "US", "setting": "education", "purpose": "teaching", "unit": "group", "audit": "a.jsonl",
            "modalities": ["text", "participation", "face", "voice"],
        },
    },
    Config,
).check()  # fmt: skip
STARTED = 20
"""Minutes the lesson of the next test has gone on for."""


def watched(now: int) -> list[SignalRow]:
    """Rows of a lesson with cameras: attention .8 for ten minutes, then .4; the others do not move."""
    begun = now // MINUTE * MINUTE - STARTED * MINUTE
    steady = {"engagement": 0.6, "coverage": 0.9, "distraction": 0.1, "engagement.seen": 0.55, "fatigue": 0.05}
    steady |= {"synchrony": -0.1, "feeling": 0.15, "ambivalence": 0.2, "confidence": 0.45, "resolved": 0.7}
    return [
        SignalRow(
            signal=f"classroom.{name}", domain="classroom", entity="room:1", window_start=begun + k * MINUTE,
            window_end=begun + (k + 1) * MINUTE, value=value, lo=value - 0.1, hi=value + 0.1, n=20, n_eff=20.0,
            authors=20, buzz=20.0, status="final", revision=0, watermark=begun + (k + 1) * MINUTE, model="m@1",
            ontology="o", reasons=("proxy, not validated",),
        )
        for k in range(STARTED)
        for name, value in (*steady.items(), ("attention", 0.8 if k < 10 else 0.4))
    ]  # fmt: skip


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_teacher_with_cameras_sees_their_curve_and_what_a_marker_changed(
    chrome: tuple[asyncio.Runner, Any], axe: str, scheme: str
) -> None:
    loop, browser = chrome

    async def whole() -> None:
        feed, log, clock = Feed(), MemoryLog(), SystemClock()
        now = clock.now_ms()
        feed.publish(watched(now))
        desk = LessonDesk(WATCHED, clock)
        server = LiveServer(feed, Metrics(process=False), port=0, lesson=LessonRoutes(desk))
        await server.start()
        await desk.start(log, build(WATCHED, 1))
        half = now // MINUTE * MINUTE - 10 * MINUTE
        desk.lesson.mark("1", "group work", half)
        desk.lesson.mark("1", "half a minute later", half + 30_000)
        desk.lesson.mark("1", "a name that is longer than a marker's place", half + MINUTE)
        context = await browser.new_context(viewport={"width": 375, "height": 812}, color_scheme=scheme)
        try:
            async with asyncio.timeout(120):
                page = await context.new_page()
                await page.goto(f"{server.url}teach")
                await page.wait_for_selector("[data-signal=attention]")
                await page.wait_for_selector("#link[data-state=live]")
                for name, value in (("attention", "0.40"), ("fatigue", "0.05"), ("synchrony", "−0.10")):
                    assert value in await page.inner_text(f"[data-signal='{name}']")
                await page.wait_for_selector(".plot .line.c-attention", state="attached")
                await curves_keep_their_names_and_the_keyboard(page)
                said = await page.inner_text("#plot")
                assert "Faces seen: 0.60 of the lesson so far; below 0.8 of its start since" in said
                marks = await page.inner_text("#marks")
                # [-120, 0) s is .8 and [0, 120) s is .4; half a minute later it is .7 and .4.
                assert "faces seen −0.40" in marks
                assert "faces seen −0.30" in marks
                assert "turned away +0.00" in marks
                assert "No camera" not in await page.inner_text("footer")
                assert f"/capture?room=1&code={desk.lesson.rooms['1'].code}" in await page.inner_text("#seen")
                assert await page.evaluate("document.documentElement.scrollWidth") == 375
                assert await problems(page, axe) == []
                assert "thrown away" in await page.inner_text("footer")
                desk.config = replace(WATCHED, capture=replace(WATCHED.capture, mode="topics", retention="10m"))
                await page.wait_for_selector("footer:has-text('stored in the log for 10 minutes')")
        finally:
            await context.close()
            await desk.stop()
            await server.stop()
            await log.close()

    loop.run(whole())


async def curves_keep_their_names_and_the_keyboard(page: Any) -> None:
    """A switch that was pressed keeps the focus while rows come in; names on the curve do not lie on each other."""
    await page.click(".pick.c-distraction")
    await page.wait_for_selector(".plot .line.c-distraction", state="attached")
    await asyncio.sleep(4.5)  # rows are asked for every four seconds
    assert "c-distraction" in await page.evaluate("document.activeElement.className")
    names = await page.eval_on_selector_all(".curve-name", "all => all.map(one => one.textContent)")
    assert sorted(names) == ["engagement", "faces seen", "turned away"]
    boxes = await page.eval_on_selector_all(
        ".marker-text, .curve-name", "all => all.map(one => one.getBBox()).map(b => [b.x, b.y, b.width, b.height])"
    )
    assert len(boxes) == 6
    for k, (x, y, width, height) in enumerate(boxes):
        assert x >= 0
        for left, top, wide, high in boxes[k + 1 :]:
            assert x + width <= left or left + wide <= x or abs(y - top) >= min(height, high) * 0.7


async def teach(context: Any, server: LiveServer, axe: str) -> Any:
    page = await context.new_page()
    await page.goto(f"{server.url}teach")
    await page.wait_for_selector(".plot svg polyline", state="attached")
    await page.wait_for_selector("#link[data-state=live]")
    assert "0.60" in await page.inner_text("[data-signal=engagement]")
    assert "No camera, no microphone" in await page.inner_text("footer")
    assert await page.locator("#seen").is_hidden()
    assert await page.locator(".c-attention, [data-signal=attention]").count() == 0
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
    assert await page.evaluate("document.activeElement.textContent") == "Take part?"
    assert desk.lesson.rooms["1"].seats == {}
