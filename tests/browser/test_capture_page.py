"""The capture page with Chromium's fake camera and microphone: pieces arrive; a denial opens no socket; off is off."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from conftest import CHROMIUM, FLAGS
from test_page_access import axe, problems

from stream.capture_desk import CaptureDesk
from stream.config import Config
from stream.feed import Feed
from stream.lesson_desk import LessonDesk
from stream.memory import MemoryLog
from stream.metrics import Metrics
from stream.system_clock import SystemClock
from stream.topology import build
from stream.web import LiveServer
from stream.web_capture import CaptureRoutes
from stream.web_lesson import LessonRoutes
from tests.engines import tiny_media

pytestmark = pytest.mark.browser
CONFIG = msgspec.convert({"domain": "classroom", "windows": {"sizes": ["1m"]}}, Config).check()
__all__ = ["axe"]


async def refusals(browser: Any, url: str, axe: str) -> None:
    """Nothing ticked, a declined page, a browser told not to allow it: no socket, nothing on."""
    context = await browser.new_context(viewport={"width": 375, "height": 812})
    page = await context.new_page()
    sockets: list[str] = []
    page.on("websocket", lambda ws: sockets.append(ws.url))
    await page.goto(url)
    assert await page.evaluate("document.documentElement.scrollWidth") == 375
    assert await problems(page, axe) == []
    await page.click("#decline")
    await page.wait_for_selector("#declined:not([hidden])")
    await page.click("#on")
    await page.wait_for_selector("#refused:has-text('Tick')")
    await page.check("#camera")
    await page.click("#on")
    await page.wait_for_selector("#refused:has-text('not to allow')")
    assert sockets == []
    assert "Off" in await page.inner_text("#link")
    await context.close()


async def on_and_off(browser: Any, url: str, desk: LessonDesk, log: MemoryLog) -> None:
    context = await browser.new_context(viewport={"width": 375, "height": 812}, permissions=["camera", "microphone"])
    page = await context.new_page()
    await page.goto(url)
    await page.check("#camera")
    await page.check("#microphone")
    await page.click("#on")
    await page.wait_for_selector("#running:not([hidden])")
    words: list[str] = []
    async with asyncio.timeout(90):
        while not any(word.startswith("face ") for word in words):
            await asyncio.sleep(0.2)
            records = await log.read(CONFIG.topic, 0, 0, 10_000)
            words = [str(msgspec.json.decode(record.value)["text"]) for record in records]
    looked = next(word for word in words if word.startswith("face "))
    assert int(looked.split()[1]) >= 1
    await page.wait_for_selector("#sent:has-text('taken')", timeout=60_000)
    assert int((await page.inner_text("#sent")).split()[0]) > 5
    await page.click("#off")
    await page.wait_for_selector("#consent:not([hidden])")
    assert desk.lesson.rooms["1"].seats == {}
    assert await page.evaluate("document.querySelector('#mirror').srcObject?.active ?? false") is False
    await context.close()


def test_a_fake_camera_arrives_and_a_denial_opens_nothing(axe: str, tmp_path: Path) -> None:
    if CHROMIUM is None:
        pytest.skip("no Chromium at /usr/bin/chromium; on Debian: apt-get install chromium")
    api = pytest.importorskip("playwright.async_api", reason="playwright is missing: pip install affectstream[dev]")
    pytest.importorskip("cv2")
    for name in ("face", "voice"):
        (tmp_path / name).mkdir()
    looks = CaptureDesk(tiny_media.face_model(tmp_path / "face"), tiny_media.voice_model(tmp_path / "voice"))

    async def whole() -> None:
        log, clock = MemoryLog(), SystemClock()
        desk = LessonDesk(CONFIG, clock)
        server = LiveServer(
            Feed(), Metrics(process=False), port=0, lesson=LessonRoutes(desk), capture=CaptureRoutes(desk, looks)
        )
        await server.start()
        await desk.start(log, build(CONFIG, 1))
        url = f"{server.url}capture?room=1&code={desk.lesson.rooms['1'].code}"
        try:
            async with asyncio.timeout(240), api.async_playwright() as player:
                flags = [*FLAGS, "--use-fake-device-for-media-stream"]
                browser = await player.chromium.launch(executable_path=CHROMIUM, args=flags)
                await refusals(browser, url, axe)
                await on_and_off(browser, url, desk, log)
                await browser.close()
        finally:
            await desk.stop()
            await server.stop()
            await log.close()

    asyncio.run(whole())
