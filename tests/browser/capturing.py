"""A room whose cameras and microphones are Chromium's fake ones: the engine's server, and a browser beside it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from conftest import CHROMIUM, FLAGS

from stream.capture_desk import CaptureDesk
from stream.config import Config
from stream.feed import Feed
from stream.frame_strand import FrameStrand
from stream.lesson_desk import LessonDesk
from stream.memory import MemoryLog
from stream.metrics import Metrics
from stream.system_clock import SystemClock
from stream.topology import build
from stream.web import LiveServer
from stream.web_capture import CaptureRoutes
from stream.web_lesson import LessonRoutes


@dataclass(frozen=True)
class Room:
    """`url`: the capture page of room 1, with its code. `browser`: Playwright's."""

    url: str
    browser: Any
    desk: LessonDesk


@asynccontextmanager
async def room(
    config: Config,
    log: MemoryLog,
    looks: CaptureDesk,
    flags: Sequence[str] = (),
    strand: FrameStrand | None = None,
    seconds: float = 240,
) -> AsyncIterator[Room]:
    """Served and open for `seconds` at most. `flags`: what the fake devices play. Skips without a browser."""
    if CHROMIUM is None:
        pytest.skip("no Chromium at /usr/bin/chromium; on Debian: apt-get install chromium")
    api = pytest.importorskip("playwright.async_api", reason="playwright is missing: pip install affectstream[dev]")
    desk = LessonDesk(config, SystemClock())
    if strand is not None:
        looks.keeper = strand.frames
        desk.carry(strand, looks)
    routes = {"lesson": LessonRoutes(desk), "capture": CaptureRoutes(desk, looks)}
    server = LiveServer(Feed(), Metrics(process=False), port=0, **routes)
    await server.start()
    await desk.start(log, build(config, 1))
    words = [*FLAGS, "--use-fake-device-for-media-stream", *flags]
    try:
        async with asyncio.timeout(seconds), api.async_playwright() as player:
            browser = await player.chromium.launch(executable_path=CHROMIUM, args=words)
            yield Room(f"{server.url}capture?room=1&code={desk.lesson.rooms['1'].code}", browser, desk)
            await browser.close()
    finally:
        await server.stop()
        await desk.stop()
