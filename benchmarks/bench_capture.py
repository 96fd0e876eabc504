"""Thirty cameras at five frames a second, live: what is scored, how long it takes, and when the room's row is there.

    AFFECT_DATA=... python benchmarks/bench_capture.py [--seats 30] [--rate 5] [--seconds 100] [--mode topics]

The engine, its door and `face-affect` run in this process, as `affect run` has them; the cameras are WebSockets of
another process. `capture to score`: from the sender's clock to the reading of the seat. `minute to row`: from the end
of a minute to its row in the feed; event time waits for late words on purpose. Of each seat only the newest picture
waits, so what the machine cannot score is overtaken, and counted. With `--mode topics` pictures are written to their
topic first and scored from there; what could not be scored in time is not written, and counted so too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aiohttp
import cv2
import msgspec
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.bench_frames import frames
from benchmarks.harness import machine, table
from engines.load_media import load_face_model
from operators.errors import Rejected
from stream.audit import Audit
from stream.capture import PICTURE, Piece, message_of
from stream.capture_config import MODES
from stream.capture_desk import CaptureDesk, Watch
from stream.config import Config
from stream.feed import Feed
from stream.frame_strand import FrameStrand
from stream.history import SeriesKey
from stream.lesson_desk import LessonDesk
from stream.metrics import Metrics
from stream.runner import Runner
from stream.sqlite_log import SqliteLog
from stream.system_clock import SystemClock
from stream.topology import build
from stream.web import LiveServer
from stream.web_capture import CaptureRoutes
from stream.web_lesson import LessonRoutes

MINUTE = 60_000
SETTINGS = {
    "domain": "classroom",
    "windows": {"sizes": ["1m"]},
    "time": {"disorder": "5s", "lateness": "5s", "idle": "30s", "future": "1h"},
}
POLICY = {
    "jurisdiction": "US", "setting": "research", "modalities": ["text", "participation", "face"], "purpose": "research",
    "unit": "group", "research": True, "audit": "audit.jsonl",
}  # fmt: skip


class Timed(CaptureDesk):
    """Notes how old a picture is when it has been read, in milliseconds."""

    ages: list[int]

    async def look(self, watch: Watch) -> Rejected | None:
        waiting = watch.waiting
        why = await super().look(watch)
        if waiting is not None:
            self.ages.append(SystemClock().now_ms() - waiting[1])
        return why


def camera_frames() -> list[bytes]:
    """JPEGs of 640 x 480, as a page sends them."""
    grey, shown = frames(40)
    print(f"pictures: {shown}", file=sys.stderr)
    return [bytes(cv2.imencode(".jpg", np.asarray(one), [cv2.IMWRITE_JPEG_QUALITY, 80])[1]) for one in grey]


async def cameras(url: str, code: str, seats: int, rate: float, seconds: float) -> None:
    """Every seat joins, sends and says at the end what its page was told."""
    pictures = camera_frames()

    async def one(session: aiohttp.ClientSession, number: int) -> dict[str, str]:
        told: dict[str, str] = {}
        async with session.ws_connect("/capture/ws") as ws:
            await ws.send_json({"do": "join", "room": "1", "code": code})

            async def listen() -> None:
                async for message in ws:
                    said = json.loads(message.data)
                    if said["type"] == "counts":
                        told.update(said)

            ear = asyncio.create_task(listen())
            await asyncio.sleep(number / rate / seats)
            begin = time.monotonic()
            for k in range(int(seconds * rate)):
                await asyncio.sleep(max(0.0, begin + k / rate - time.monotonic()))
                now = time.time_ns() // 1_000_000
                await ws.send_bytes(message_of(Piece(PICTURE, k, now, pictures[(k + number) % len(pictures)])))
            await asyncio.sleep(6)  # the next report of counts
            ear.cancel()
        return told

    async with aiohttp.ClientSession(url) as session:
        found = await asyncio.gather(*(one(session, number) for number in range(seats)))
    print(json.dumps({"sent": int(seconds * rate) * seats, "told": found}))


async def measured(options: argparse.Namespace, folder: Path) -> None:
    clock = SystemClock()
    config = msgspec.convert(SETTINGS | {"policy": POLICY, "capture": {"mode": options.mode}}, Config).check()
    audit = Audit(folder / "audit.jsonl", clock)
    desk, looks = LessonDesk(config, clock, audit), Timed(load_face_model(research=True), None)
    looks.ages = []
    if options.mode == "topics":
        strand = FrameStrand(config, clock)
        looks.keeper = strand.frames
        desk.carry(strand, looks)
    log, feed = SqliteLog(folder / "lesson.db"), Feed()
    routes = CaptureRoutes(desk, looks)
    server = LiveServer(feed, Metrics(process=False), port=0, lesson=LessonRoutes(desk), capture=routes)
    topology = build(config, 1)
    runner = Runner(topology, log, clock, until_end=False, feed=feed, on_rows=desk.see)
    running = asyncio.create_task(runner.run())
    await server.start()
    await desk.start(log, topology)
    code = desk.lesson.rooms["1"].code
    child = [sys.executable, __file__, "--cameras", server.url, code, "--seats", str(options.seats)]
    child += ["--rate", str(options.rate), "--seconds", str(options.seconds)]
    began, cpu = time.monotonic(), time.process_time()
    process = await asyncio.create_subprocess_exec(*child, stdout=subprocess.PIPE)
    rows: dict[int, float] = {}
    over = asyncio.create_task(process.communicate())
    while not over.done():
        await asyncio.sleep(0.1)
        for row in feed.history.rows(SeriesKey("classroom.engagement", "room:1", MINUTE)):
            rows.setdefault(row.window_end, clock.now_ms() / 1e3 - row.window_end / 1e3)
    seconds, spent = time.monotonic() - began, time.process_time() - cpu
    said = json.loads((await over)[0])
    await server.stop()
    await desk.stop()
    runner.stop()
    await running
    await log.close()
    audit.close()
    report(options, said, looks.ages, rows, seconds, spent)


def report(
    options: argparse.Namespace,
    said: dict[str, object],
    ages: list[int],
    rows: dict[int, float],
    seconds: float,
    spent: float,
) -> None:
    """One table."""
    p50, p99 = np.percentile(ages, [50, 99]) if ages else (float("nan"), float("nan"))
    sent = said["sent"]
    assert isinstance(sent, int)
    table(
        f"{options.seats} seats, {options.rate:g} frames a second each, {options.seconds:g} s, {options.mode}",
        ("what", "value"),
        [
            ("frames sent", sent),
            ("scored", f"{len(ages)} ({len(ages) / sent:.0%}), {len(ages) / options.seconds:.0f} a second"),
            ("overtaken by a newer one or lost", sent - len(ages)),
            ("capture to score, p50 / p99", f"{p50:.0f} / {p99:.0f} ms"),
            ("minute to row", ", ".join(f"{late:.1f} s" for late in rows.values()) or "no whole minute"),
            ("CPU of the engine's process", f"{spent / seconds:.2f} cores"),
        ],
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seats", type=int, default=30)
    parser.add_argument("--rate", type=float, default=5.0, help="frames a second and seat (default: 5)")
    parser.add_argument("--seconds", type=float, default=100.0, help="how long cameras send (default: 100)")
    parser.add_argument("--mode", choices=MODES, default="private", help="what becomes of frames (default: private)")
    parser.add_argument("--cameras", nargs=2, metavar=("URL", "CODE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cameras:
        asyncio.run(cameras(*options.cameras, options.seats, options.rate, options.seconds))
        return 0
    if not os.environ.get("AFFECT_DATA"):
        print("AFFECT_DATA is not set: drawn pictures without a face are sent", file=sys.stderr)
    print(machine(), file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measured(options, Path(folder)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
