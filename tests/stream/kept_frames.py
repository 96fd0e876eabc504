"""A recorded minute of five seats with camera and microphone, as pieces, and what is on the log of it afterwards."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from stream.base import Log, TopicSpec
from stream.capture import PICTURE, SOUND, Piece
from stream.capture_desk import CaptureDesk
from stream.frame_log import FrameLog
from stream.frame_reader import FrameReader
from stream.lesson import Seat
from stream.topics import DEAD_LETTER, FRAMES, frame_topics
from stream.topology import build_codec
from tests.engines import tiny_media

START = 1_700_000_040_000
END = START + 120_000
SEATS = 5
SECONDS = 70
PARTICIPATION = "affect.participation.v1"
POLICY: dict[str, object] = {
    "jurisdiction": "US", "setting": "research", "modalities": ["text", "participation", "face", "voice"],
    "purpose": "research", "unit": "group", "research": True, "audit": "audit.jsonl",
}  # fmt: skip
MEDIA = Path(os.environ.get("AFFECT_DATA", "")) / "av" / "sample-media" / "single_face.jpg"


class Clock:
    """Time as the test has it."""

    def __init__(self, ms: int) -> None:
        self.ms = ms

    def now_ms(self) -> int:
        return self.ms


class Sent(NamedTuple):
    """A piece that seat `seat` sends `at_ms` after the start; it arrives `delay_ms` later."""

    at_ms: int
    delay_ms: int
    seat: int
    piece: Piece


def looks(folder: Path) -> CaptureDesk:
    """Small networks of random weights."""
    for name in ("face", "voice"):
        (folder / name).mkdir(exist_ok=True)
    return CaptureDesk(tiny_media.face_model(folder / "face"), tiny_media.voice_model(folder / "voice"))


def pictures() -> list[bytes]:
    """A face where the sample media are there, and noise; as JPEG."""
    random = np.random.default_rng(5)
    found = [random.integers(0, 256, (120, 120)).astype(np.uint8) for _ in range(3)]
    if MEDIA.is_file():
        whole = cv2.imread(str(MEDIA), cv2.IMREAD_GRAYSCALE)
        factor = 200 / max(whole.shape)
        small = cv2.resize(whole, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        found += [small, np.clip(small.astype(int) + 12, 0, 255).astype(np.uint8), np.roll(small, 6, 1)]
    return [bytes(cv2.imencode(".jpg", grey)[1]) for grey in found]


def voice(seat: int) -> bytes:
    """A hum with the rhythm of syllables, signed 16-bit samples at 16 kHz, of the whole recording."""
    time_s = np.arange(SECONDS * 16_000) / 16_000
    pitch = 110 + 20 * seat
    hum = sum(np.sin(2 * np.pi * pitch * k * time_s) / k for k in range(1, 12))
    loud = 0.5 + 0.5 * np.sin(2 * np.pi * (2.5 + 0.3 * seat) * time_s)
    return bytes((hum * loud * 3_000).astype("<i2").tobytes())


def recorded(seconds: int = SECONDS, seats: int = SEATS) -> list[Sent]:
    """The pieces of the first seats and seconds, in the order in which they arrive."""
    random, shown = np.random.default_rng(11), pictures()
    sent = []
    for seat in range(seats):
        sound = voice(seat)
        for second in range(seconds):
            for k in range(2):
                body = shown[int(random.integers(len(shown)))]
                at_ms = 1_000 * second + 500 * k + 37 * seat
                piece = Piece(PICTURE, 2 * second + k, at_ms, body)
                sent.append(Sent(at_ms, int(random.integers(5, 90)), seat, piece))
            at_ms = 1_000 * second + int(random.integers(0, 12))
            piece = Piece(SOUND, second, at_ms, sound[32_000 * second : 32_000 * (second + 1)])
            sent.append(Sent(at_ms, 1_000 + int(random.integers(5, 90)), seat, piece))
    return sorted(sent, key=lambda one: one.at_ms + one.delay_ms)


async def words(log: Log) -> dict[str, tuple[str, int, str]]:
    """What was said of faces, voices and both: id of the post -> (seat, time, word), each id once."""
    found = {}
    for record in await log.read(PARTICIPATION, 0, 0, 100_000):
        post = json.loads(record.value)
        if post["text"].split()[0] in ("face", "voice", "mix"):
            found.setdefault(post["id"], (post["author"], post["created_at"], post["text"]))
    return found


async def written(log: Log, looks: CaptureDesk, sent: list[Sent], clock: Clock) -> None:
    """What the doors of a run write of a recording."""
    await log.ensure([*frame_topics(600_000), TopicSpec(PARTICIPATION), TopicSpec(DEAD_LETTER)])
    frames = FrameLog(build_codec(), "10m", clock)
    await frames.open(log, dict.fromkeys(FRAMES, 1), 600_000)
    looks.keeper = frames
    watches = [looks.watch(Seat(f"seat-{k}", "1", START, START), START) for k in range(SEATS)]
    for count, one in enumerate(sent):
        piece = Piece(one.piece.kind, one.piece.number, START + one.piece.sent_ms, one.piece.body)
        looks.take(watches[one.seat], piece, START + one.at_ms + one.delay_ms)
        if count % 20 == 0:
            await frames.flush()
    await frames.flush()
    assert sum(watch.overtaken for watch in watches) == 0


async def alive(log: Log, looks: CaptureDesk, clock: Clock) -> FrameReader:
    """A reader, as a new process opens it."""
    codec = build_codec()
    frames = FrameLog(codec, "10m", clock)
    await frames.open(log, dict.fromkeys(FRAMES, 1), 600_000)
    reader = FrameReader(looks, frames, codec, clock, PARTICIPATION, ("1",))
    await reader.open(log, [(name, 0) for name in FRAMES], 1)
    return reader
