"""The capture page with Chromium's fake camera and microphone: pieces arrive; a denial opens no socket; off is off."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from capturing import room
from test_page_access import axe, problems

from engines.load_media import load_face_model
from stream.capture_desk import CaptureDesk
from stream.config import Config
from stream.frame_strand import FrameStrand
from stream.lesson_desk import LessonDesk
from stream.memory import MemoryLog
from stream.system_clock import SystemClock
from stream.topics import FRAMES
from tests.engines import tiny_media
from tests.stream import kept_frames
from tests.stream.kept_frames import POLICY

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


async def faces_on(log: MemoryLog) -> list[list[int]]:
    """What was said of pictures so far: how many, with a face, valence in millionths."""
    records = await log.read(CONFIG.topic, 0, 0, 10_000)
    words = [str(msgspec.json.decode(record.value)["text"]).split() for record in records]
    return [[int(part) for part in word[1:]] for word in words if word[0] == "face"]


async def cries_then_laughs(log: MemoryLog) -> None:
    """The clip: crying to about 5 s, a hand on the face, laughing from 10 s."""
    async with asyncio.timeout(90):
        while not any(word[2] > 500_000 for word in await faces_on(log)):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.2)
    valences = [word[2] for word in await faces_on(log) if word[1]]
    laughing = next(k for k, valence in enumerate(valences) if valence > 500_000)
    assert min(valences[:laughing]) < 0


def clip(folder: Path) -> Path | None:
    """The sample clip as Chromium's fake camera takes it; None where there is no data."""
    source = Path(os.environ.get("AFFECT_DATA", "")) / "av" / "sample-media" / "WolfgangLanger_Pexels.mp4"
    if not source.is_file():
        return None
    cv2 = pytest.importorskip("cv2")
    reader, made = cv2.VideoCapture(str(source)), folder / "clip.mjpeg"
    with made.open("wb") as out:
        while (read := reader.read())[0]:
            out.write(cv2.imencode(".jpg", read[1])[1].tobytes())
    return made


async def on_and_off(browser: Any, url: str, desk: LessonDesk, log: MemoryLog, played: bool) -> None:
    context = await browser.new_context(viewport={"width": 375, "height": 812}, permissions=["camera", "microphone"])
    page = await context.new_page()
    await page.goto(url)
    await page.check("#camera")
    await page.check("#microphone")
    await page.click("#on")
    await page.wait_for_selector("#running:not([hidden])")
    assert await page.evaluate("document.activeElement.textContent") == "Camera and microphone are on"
    async with asyncio.timeout(90):
        while not await faces_on(log):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.2)
    assert (await faces_on(log))[0][0] >= 1
    if played:
        await cries_then_laughs(log)
    await page.wait_for_selector("#sent:has-text('taken')", timeout=60_000)
    assert int((await page.inner_text("#sent")).split()[0]) > 5
    await page.click("#off")
    await page.wait_for_selector("#consent:not([hidden])")
    assert desk.lesson.rooms["1"].seats == {}
    assert await page.locator(":checked").count() == 0  # the next time is asked anew
    assert await page.evaluate("document.querySelector('#mirror').srcObject?.active ?? false") is False
    await context.close()


def test_a_fake_camera_arrives_and_a_denial_opens_nothing(axe: str, tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    for name in ("face", "voice"):
        (tmp_path / name).mkdir()
    played = clip(tmp_path)
    look = tiny_media.face_model(tmp_path / "face") if played is None else load_face_model(research=True)
    looks = CaptureDesk(look, tiny_media.voice_model(tmp_path / "voice"))

    async def whole() -> None:
        log = MemoryLog()
        flags = [] if played is None else [f"--use-file-for-fake-video-capture={played}"]
        async with room(CONFIG, log, looks, flags) as here:
            await refusals(here.browser, here.url, axe)
            await on_and_off(here.browser, here.url, here.desk, log, played is not None)
        await log.close()

    asyncio.run(whole())


def test_where_frames_are_kept_the_page_says_so_before_and_after(axe: str, tmp_path: Path) -> None:
    config = msgspec.convert(
        {"domain": "classroom", "windows": {"sizes": ["1m"]}, "policy": POLICY, "capture": {"mode": "topics"}}, Config
    ).check()

    async def whole() -> None:
        log, looks, strand = MemoryLog(), kept_frames.looks(tmp_path), FrameStrand(config, SystemClock())
        async with room(config, log, looks, strand=strand, seconds=120) as here:
            await stored(here.browser, here.url, axe, tmp_path)
        assert await log.read(FRAMES[0], 0, 0, 10) != []
        assert len(strand.frames.withdrawn) == 1
        await log.close()

    asyncio.run(whole())


async def stored(browser: Any, url: str, axe: str, folder: Path) -> None:
    """Consent, a while on, and off, as somebody with a phone sees it."""
    context = await browser.new_context(viewport={"width": 375, "height": 812}, permissions=["camera", "microphone"])
    page = await context.new_page()
    await page.goto(url)
    assert await page.evaluate("document.documentElement.scrollWidth") == 375
    assert await problems(page, axe) == []
    consent = await page.inner_text("#consent")
    assert "Pictures and sound are kept." in consent
    assert consent.count("10 minutes") == 2
    assert "thrown away" not in consent
    await page.screenshot(path=folder / "consent.png", full_page=True)
    await page.check("#camera")
    await page.click("#on")
    await page.wait_for_selector("#sent:has-text('stored in the log for 10 minutes')", timeout=60_000)
    await page.screenshot(path=folder / "on.png", full_page=True)
    await page.click("#off")
    await page.wait_for_selector("#declined:has-text('What was stored stays in the log for 10 minutes.')")
    await context.close()
