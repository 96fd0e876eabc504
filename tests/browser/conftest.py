"""One headless Chromium for all browser tests, and `play`: a scene on a page of its own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import (
    Play,
    Scene,
    filled,
    opened,
)

from stream.feed import Feed

CHROMIUM = next((p for p in ("/usr/bin/chromium", "/usr/bin/chromium-browser") if Path(p).exists()), None)
FLAGS = [
    *(["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []),
    "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="module")
def chrome() -> Iterator[tuple[asyncio.Runner, Any]]:
    if CHROMIUM is None:
        pytest.skip("no Chromium at /usr/bin/chromium; on Debian: apt-get install chromium")
    api = pytest.importorskip("playwright.async_api", reason="playwright is missing: pip install affectstream[dev]")
    with asyncio.Runner() as loop:

        async def launch() -> tuple[Any, Any]:
            player = await api.async_playwright().start()
            return player, await player.chromium.launch(executable_path=CHROMIUM, args=FLAGS)

        player, browser = loop.run(launch())
        yield loop, browser

        async def quit_all() -> None:
            await browser.close()
            await player.stop()

        loop.run(quit_all())


@pytest.fixture
def play(chrome: tuple[asyncio.Runner, Any]) -> Play:
    loop, browser = chrome

    def run(
        scene: Scene, feed: Feed | None = None, path: str = "?entity=ticker:AAPL&window=60000", **context: Any
    ) -> None:
        async def whole() -> None:
            held = filled() if feed is None else feed
            async with asyncio.timeout(60), opened(browser, held, path, **context) as (server, page):
                await scene(held, server, page)

        loop.run(whole())

    return run
