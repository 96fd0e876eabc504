"""Pieces as records: checked on both sides, whatever the bytes; sound has one clock a run; doors give way."""

from __future__ import annotations

import asyncio
import random
import struct
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.media import SOUND_RATE
from operators.errors import Rejected
from operators.frame_wire import Frame
from operators.speech import VoiceReader
from stream.capture import PICTURE, SOUND, Piece
from stream.frame_log import MOST_BYTES, FrameLog
from stream.frame_record import MOST, SoundClock, check_frame, frame_of
from stream.memory import MemoryLog
from stream.topics import FRAMES, frame_topics
from stream.topology import build_codec
from tests.engines import tiny_media
from tests.stream.kept_frames import END, START, Clock, voice

CODEC = build_codec()
PNG = (
    b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBBI", 13, b"IHDR", 64, 48, 8, 0, 0, 0, 0, 0) + b"IDAT-a-face-IEND1234"
)


def frames() -> list[tuple[str, Frame]]:
    """A picture and a sound as the doors make them, and their topics."""
    made = [
        frame_of("1", "s", Piece(kind, 7, START, body), START, START + 30, -5, SoundClock())
        for kind, body in ((PICTURE, PNG), (SOUND, bytes(640)))
    ]
    return list(zip(FRAMES, made, strict=True))


def test_a_record_says_what_its_piece_was() -> None:
    (_, picture), (_, sound) = frames()
    assert (picture.codec, picture.width, picture.height, picture.rate) == ("png", 64, 48, None)
    assert (sound.codec, sound.width, sound.rate, sound.skew_ms, sound.number) == ("pcm16", None, SOUND_RATE, -5, 7)
    for topic, frame in frames():
        assert check_frame(frame, topic, START + 30) == (PICTURE if topic == FRAMES[0] else SOUND)
    for kind, body in ((PICTURE, b"GIF89a" + bytes(40)), (PICTURE, PNG[:30]), (SOUND, b"odd"), (SOUND, bytes(32_002))):
        with pytest.raises(Rejected):
            frame_of("1", "s", Piece(kind, 1, START, body), START, START, 0, SoundClock())


def test_mutated_records_are_frames_or_are_rejected_and_nothing_else() -> None:
    dice, known, seeds = random.Random(1), 0, [(topic, CODEC.encode(frame)) for topic, frame in frames()]
    said: list[str] = []
    for _ in range(4_000):
        topic, raw = dice.choice(seeds)
        body = bytearray(raw)
        for _ in range(dice.randrange(1, 5)):
            at = dice.randrange(len(body))
            body[at : at + dice.randrange(3)] = dice.randbytes(dice.randrange(4))
        try:
            check_frame(CODEC.decode_frame(bytes(body), MOST[topic]), topic, START + 30)
            known += 1
        except Rejected as why:
            said.append(str(why))
    assert not any("a-face" in one for one in said)
    assert 0 < known < 4_000


@given(st.lists(st.tuples(st.integers(1, 200), st.integers(-80, 80)), min_size=1, max_size=40), st.integers(0, 300))
def test_a_run_of_pieces_has_the_clock_of_its_first(pieces: list[tuple[int, int]], gap_ms: int) -> None:
    clock, at_ms, first = SoundClock(), START, None
    for hundreds, off in pieces:
        samples = 160 * hundreds
        stamp = clock.stamp(at_ms + (off if first is not None else 0), samples)
        first = stamp if first is None else first
        assert stamp == at_ms
        at_ms += hundreds * 10
    begun = clock.stamp(at_ms + 101 + gap_ms, 160)
    assert begun == at_ms + 101 + gap_ms, "more than half a slice away: another run"


def test_reading_that_begins_within_a_run_finds_the_same_windows(tmp_path: Path) -> None:
    model = tiny_media.voice_model(tmp_path)
    sound = np.frombuffer(voice(1), "<i2").astype(np.float32) / 32_768
    clock, dice, whole, late = SoundClock(), random.Random(4), VoiceReader(model), VoiceReader(model)
    found: list[tuple[int, bytes]] = []
    again: list[tuple[int, bytes]] = []
    for k in range(200):
        part = sound[3_200 * k : 3_200 * (k + 1)]
        stamp = clock.stamp(START + 137 + 200 * k + dice.randrange(-60, 60) * (k > 0), len(part))
        for reader, into, begins in ((whole, found, 0), (late, again, 57)):
            if k >= begins:
                for one in reader.read(part, stamp):
                    into.append((one.end_ms, b"" if one.micro is None else one.micro.tobytes()))
    warm = START + 57 * 200 + 13_000
    assert [one for one in again if one[0] >= warm] == [one for one in found if one[0] >= warm]
    assert len([one for one in again if one[0] >= warm]) > 10


def test_doors_write_nothing_that_could_not_be_scored_in_time() -> None:
    (_, picture), (_, sound) = frames()

    async def whole() -> None:
        log, clock = MemoryLog(Clock(END)), Clock(END)
        writer = FrameLog(CODEC, "10m", clock)
        assert not writer.put(picture), "there is no log yet"
        await log.ensure(frame_topics(600_000))
        await writer.open(log, dict.fromkeys(FRAMES, 1), 600_000)
        writer.read_ms = picture.arrived_ms - 2_001
        assert not writer.put(picture)
        assert writer.put(sound)
        writer.read_ms = sound.arrived_ms - 3_001
        assert not writer.put(sound)
        writer.read_ms = sound.arrived_ms
        assert writer.settled_ms() == sound.arrived_ms, "it waits: not everything is on the log"
        await writer.flush()
        assert writer.settled_ms() == clock.ms
        large = msgspec.structs.replace(sound, body=bytes(32_000))
        taken = sum(writer.put(large) for _ in range(2 * MOST_BYTES // 32_000))
        assert taken == MOST_BYTES // 32_000
        writer.forget("s")
        assert writer.settled_ms() == clock.ms, "what waited is dropped"
        await writer.flush()
        assert [end for _, end in await log.span(FRAMES[1])] == [1]
        again = FrameLog(CODEC, "10m", clock)
        await again.open(log, dict.fromkeys(FRAMES, 1), 600_000)
        assert again.withdrawn == {"s": END}
        clock.ms += 2 * 600_000 + 86_400_001
        later = FrameLog(CODEC, "10m", clock)
        await later.open(log, dict.fromkeys(FRAMES, 1), 600_000)
        await later.flush()
        assert later.withdrawn == {}
        assert await log.restore("affect-frames", "withdrawn/") == {}

    asyncio.run(whole())
