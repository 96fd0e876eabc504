"""A fake microphone plays acted speech: what of it the engine hears through Chromium, and how fast it is forgotten."""

from __future__ import annotations

import asyncio
import csv
import gc
import os
import time
import wave
import weakref
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from capturing import room
from numpy.typing import NDArray

from engines.load_media import load_voice_model
from engines.media import SOUND_RATE
from operators.seat_readings import SeatReadings
from stream.capture_desk import CaptureDesk
from stream.config import Config
from stream.lesson_desk import LessonDesk
from stream.memory import MemoryLog

pytestmark = [pytest.mark.browser, pytest.mark.data]
CONFIG = msgspec.convert({"domain": "classroom", "windows": {"sizes": ["1m"]}}, Config).check()
SPEECH = Path(os.environ.get("AFFECT_DATA", "")) / "av" / "ravdess-speech"
QUIET_S, LOUD_S = 6.0, 8.0
SPEAKERS = 4


def said(emotion: str) -> NDArray[np.float32]:
    """Eight seconds of one emotion, acted strongly where it can be, by the first speakers of the test split in turn."""
    soundfile = pytest.importorskip("soundfile")
    with (SPEECH / "labels.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test" and row["emotion"] == emotion]
    parts = []
    for row in sorted(rows, key=lambda row: (row["intensity"] != "strong", row["repetition"], row["speaker"]))[
        :SPEAKERS
    ]:
        sound, rate = soundfile.read(SPEECH / row["file"], dtype="float32")
        assert rate == SOUND_RATE
        parts.append(sound)
    return np.concatenate(parts)[: int(LOUD_S * SOUND_RATE)]


def track(path: Path) -> Path:
    """Quiet, angry speech, quiet, calm speech: Chromium plays it over and over."""
    quiet = np.zeros(int(QUIET_S * SOUND_RATE), np.float32)
    sound = np.concatenate([quiet, said("angry"), quiet, said("calm")])
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(SOUND_RATE)
        out.writeframes((np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())
    return path


@dataclass
class Heard:
    """Windows of voice as they reach the seat: end and share of negative tones, in runs without a gap."""

    runs: list[list[tuple[int, float]]] = field(default_factory=list)

    def add(self, end_ms: int, shares: NDArray[np.float64]) -> None:
        if not self.runs or end_ms - self.runs[-1][-1][0] > 1000 * (QUIET_S - 2):
            self.runs.append([])
        self.runs[-1].append((end_ms, float(shares[0])))

    def negative(self, run: int) -> float:
        return float(np.mean([share for _, share in self.runs[run]]))


async def forgotten(page: Any, desk: LessonDesk, log: MemoryLog) -> float:
    """Withdraw; seconds from when the engine hears of it until it holds nothing of the seat and the log knows."""
    seat = next(iter(desk.lesson.rooms["1"].seats.values()))
    held, name, begun = weakref.ref(seat.readings), seat.name, 0.0
    withdraw = desk.lesson.withdraw

    def timed(*given: Any) -> Any:
        nonlocal begun
        begun = time.monotonic()
        return withdraw(*given)

    desk.lesson.withdraw = timed  # type: ignore[method-assign]
    del seat
    start = len(await log.read(CONFIG.topic, 0, 0, 100_000))
    await page.click("#off")
    async with asyncio.timeout(30):
        gone = False
        while True:
            if not gone:
                records = await log.read(CONFIG.topic, 0, start, 10_000)
                words = [msgspec.json.decode(record.value) for record in records]
                gone = any(word["author"] == name and word["text"] == "gone" for word in words)
            elif held() is not None:
                gc.collect()  # of what a task that has ended held, Python lets go when it likes
            if begun and gone and held() is None and not desk.lesson.rooms["1"].seats:
                return time.monotonic() - begun
            await asyncio.sleep(0.02)


@pytest.mark.data
def test_a_microphone_is_heard_in_order_and_forgotten_in_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard, hear = Heard(), SeatReadings.hear

    def noted(self: SeatReadings, end_ms: int, shares: NDArray[np.float64]) -> None:
        heard.add(end_ms, shares)
        hear(self, end_ms, shares)

    monkeypatch.setattr(SeatReadings, "hear", noted)
    flags = [f"--use-file-for-fake-audio-capture={track(tmp_path / 't.wav')}"]
    looks = CaptureDesk(None, load_voice_model(research=True))

    async def whole() -> None:
        log = MemoryLog()
        async with room(CONFIG, log, looks, flags, seconds=150) as here:
            context = await here.browser.new_context(permissions=["microphone"])
            page = await context.new_page()
            await page.goto(here.url)
            await page.check("#microphone")
            await page.click("#on")
            await page.wait_for_selector("#running:not([hidden])")
            while len(heard.runs) < 2 or len(heard.runs[1]) < 2:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.1)
            records = await log.read(CONFIG.topic, 0, 0, 10_000)
            words = [str(msgspec.json.decode(record.value)["text"]).split()[0] for record in records]
            assert "voice" in words
            assert "face" not in words
            assert await forgotten(page, here.desk, log) <= 1.0
            await page.wait_for_selector("#consent:not([hidden])")
        await log.close()

    asyncio.run(whole())
    first, second = heard.runs[0], heard.runs[1]
    assert 3 <= len(first) <= LOUD_S + 2
    assert second[0][0] - first[-1][0] >= 1000 * (QUIET_S - 3)
    assert heard.negative(0) > heard.negative(1) + 0.3
