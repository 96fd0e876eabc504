"""Makes `teacher-cameras.png`: the teacher page over a made-up lesson with cameras, `python docs/lesson_picture.py`.

Needs the `dev` extra (playwright) and /usr/bin/chromium. Rows are a replay of recorded features of made-up seats
(`tests/stream/camera_lesson.py`) and of the buttons those seats press (`stream/scenario_lesson.py`), moved to end now.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path

import msgspec
from playwright.async_api import async_playwright

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from operators.records import SignalRow  # noqa: E402 - the tests are not part of the package
from stream.config import Config  # noqa: E402
from stream.feed import Feed  # noqa: E402
from stream.lesson_desk import LessonDesk  # noqa: E402
from stream.memory import MemoryLog  # noqa: E402
from stream.metrics import Metrics  # noqa: E402
from stream.replaying import replay, replay_config  # noqa: E402
from stream.scenario_lesson import lesson  # noqa: E402
from stream.system_clock import SystemClock  # noqa: E402
from stream.topology import build  # noqa: E402
from stream.web import LiveServer  # noqa: E402
from stream.web_lesson import LessonRoutes  # noqa: E402
from tests.stream.camera_lesson import POLICY, START, posts  # noqa: E402

CHROMIUM = "/usr/bin/chromium"
SIZE, SCALE = {"width": 960, "height": 1310}, 0.75
LARGEST = 150_000
MINUTES, MINUTE_MS = 24, 60_000
SEATS = tuple(range(1, 28))
PLANTED = {8: "group work", 13: "talked over in the room"}
"""Minute -> name of a marker: where the hard part of the scenario begins and ends."""


def events() -> list[dict[str, object]]:
    """What the seats press and what their cameras say, under the same names."""
    names = {f"{seat:016x}" for seat in SEATS}
    pressed = [dict(event) for event in lesson(1, MINUTES, START, seats=len(SEATS)).posts]
    authors = list(dict.fromkeys(str(event["author"]) for event in pressed))
    renamed = dict(zip(authors, sorted(names), strict=True))
    for event in pressed:
        event["author"] = renamed[str(event["author"])]
    return sorted([*pressed, *posts(MINUTES, SEATS)], key=lambda event: int(str(event["created_at"])))


async def rows(end_ms: int) -> list[SignalRow]:
    """Rows of the lesson, told as they would be live, the last one ending at `end_ms`."""
    config = replay_config("classroom", windows=["1m"], lateness="5s", disorder="5s", engine="stub", policy=POLICY)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.jsonl"
        path.write_text("\n".join(map(json.dumps, events())) + "\n")
        told, _ = await replay(MemoryLog(), config, path)
    found = [msgspec.json.decode(line, type=SignalRow) for line in told.lines()]
    moved = end_ms - START - MINUTES * MINUTE_MS
    return [
        msgspec.structs.replace(
            row,
            window_start=row.window_start + moved,
            window_end=row.window_end + moved,
            watermark=row.watermark + moved,
        )
        for row in found
        if row.window_end <= START + MINUTES * MINUTE_MS
    ]


async def shoot(path: Path) -> None:
    """The page, photographed from its head down to the markers."""
    clock, feed, log = SystemClock(), Feed(), MemoryLog()
    end_ms = clock.now_ms() // MINUTE_MS * MINUTE_MS
    feed.publish(await rows(end_ms))
    config = Config(domain="classroom", windows=replay_config("classroom", windows=["1m"]).windows, policy=POLICY)
    desk = LessonDesk(config.check(), clock)
    server = LiveServer(feed, Metrics(process=False), port=0, lesson=LessonRoutes(desk))
    await server.start()
    await desk.start(log, build(config, 1))
    try:
        for _ in SEATS:
            desk.lesson.join("1", desk.lesson.rooms["1"].code, "", clock.now_ms())
        for minute, name in PLANTED.items():
            desk.lesson.mark("1", name, end_ms - (MINUTES - minute) * MINUTE_MS)
        async with async_playwright() as driver:
            browser = await driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page = await browser.new_page(
                viewport=SIZE, device_scale_factor=SCALE, color_scheme="light", reduced_motion="reduce"
            )
            await page.goto(f"{server.url}teach")
            await page.wait_for_selector(".plot .line.c-attention", state="attached")
            await page.wait_for_selector(".marks li")
            await page.screenshot(path=path)
            await browser.close()
    finally:
        await desk.stop()
        await server.stop()
        await log.close()


if __name__ == "__main__":
    made = HERE / "teacher-cameras.png"
    asyncio.run(shoot(made))
    size = made.stat().st_size
    print(f"docs/{made.name}: {size / 1000:.0f} kB")
    if size > LARGEST:
        raise SystemExit(f"docs/{made.name}: expected at most {LARGEST} bytes, got {size}; lower SCALE")
