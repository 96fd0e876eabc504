"""A camera over a real socket: scored where it arrives; a marked picture is found nowhere; bombs are refused."""

from __future__ import annotations

import asyncio
import json
import struct
import zlib
from pathlib import Path

import aiohttp
import msgspec
import numpy as np
import pytest
from test_lesson_live import Class, heard, kept

from engines.errors import ResearchOnly, UnknownModel
from stream.assets import load_assets
from stream.capture import PICTURE, SOUND, Piece, message_of
from stream.capture_config import spelt
from stream.capture_desk import CaptureDesk, capture_desk
from stream.cli import main
from stream.config import Config
from stream.web_capture import consent_page
from tests.engines import tiny_media

cv2 = pytest.importorskip("cv2")
pytest.importorskip("onnxruntime")
MARK = b"CANARY-4711-of-the-capture-test"


def picture() -> bytes:
    """A JPEG with a mark in a comment, and pixels that mark it too."""
    grey = np.random.default_rng(5).integers(0, 256, (240, 240)).astype(np.uint8)
    data = bytes(cv2.imencode(".jpg", grey)[1])
    return data[:2] + b"\xff\xfe" + struct.pack(">H", len(MARK) + 2) + MARK + data[2:]


def large() -> bytes:
    """A JPEG of few bytes and more pixels than are decoded."""
    return bytes(cv2.imencode(".jpg", np.zeros((1_300, 1_300), np.uint8))[1])


def bomb() -> bytes:
    """A PNG of a few kilobytes that says it has 144 megapixels, and has."""
    rows = zlib.compress(bytes(12_001) * 200, 9)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 12_000, 12_000, 8, 0, 0, 0, 0)), (b"IDAT", rows), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks
    )


def test_a_marked_picture_is_scored_and_found_nowhere(tmp_path: Path) -> None:
    for name in ("face", "voice", "run"):
        (tmp_path / name).mkdir()
    looks = CaptureDesk(tiny_media.face_model(tmp_path / "face"), tiny_media.voice_model(tmp_path / "voice"))
    room = Class(tmp_path / "run", looks=looks)
    data = picture()
    body = data[-200:-100]
    samples = (np.random.default_rng(3).normal(0, 0.2, 3_200) * 32_767).astype("<i2").tobytes()

    async def whole() -> None:
        async with room.going() as session:
            ws = await session.ws_connect("/capture/ws")
            await ws.send_json({"do": "join", "room": "1", "code": room.desk.lesson.rooms["1"].code})
            seat = await heard(ws, "seat")
            assert seat["modalities"] == ["face", "voice"]
            await sent(room, ws, data, samples)
            bad = [bomb(), data[:60], b"\xff\xd8" + bytes(300), b"GIF89a" + bytes(40), large()]
            for k, junk in enumerate(bad):
                await ws.send_bytes(message_of(Piece(PICTURE, 1_000 + k, room.clock.ms, junk)))
                await refused(room, ws, k + 1)  # only the newest picture that waits is looked at
            await ws.send_bytes(b"\x07 no piece")
            await ws.send_bytes(message_of(Piece(SOUND, 500, room.clock.ms, b"odd")))
            counts = await refused(room, ws, len(bad) + 1)
            assert int(counts["missing"]) > 900
            for path in ("/api/rows?limit=500", "/api/posts?entity=room:1", "/metrics", "/api/status"):
                assert MARK not in await (await session.get(path)).read()
            await ws.send_json({"do": "withdraw"})
            await heard(ws, "withdrawn")
            assert room.desk.lesson.rooms["1"].seats == {}

    asyncio.run(whole())
    assert kept(tmp_path / "run", b'"face ') != [], "the search itself must find what is there"
    for secret in (MARK, body, samples[:64]):
        assert kept(tmp_path / "run", secret) == []


async def refused(room: Class, ws: aiohttp.ClientWebSocketResponse, count: int) -> dict[str, str]:
    """Let time pass until the page is told that so many pieces were refused."""
    while True:
        room.clock.ms += 6_000
        counts = await heard(ws, "counts")
        if int(counts["refused"]) >= count:
            assert int(counts["refused"]) == count
            return counts


async def sent(room: Class, ws: aiohttp.ClientWebSocketResponse, data: bytes, samples: bytes) -> None:
    """Send pictures and sound until a word about them is on the log."""
    async with asyncio.timeout(60):
        for number in range(1, 400):
            await ws.send_bytes(message_of(Piece(PICTURE, number, room.clock.ms, data)))
            await ws.send_bytes(message_of(Piece(SOUND, number, room.clock.ms, samples)))
            room.clock.ms += 200
            await asyncio.sleep(0.02)
            records = await room.log.read(room.config.topic, 0, 0, 10_000)
            words = [json.loads(r.value)["text"] for r in records]
            if number > 60 and any(word.startswith("face ") for word in words):
                return
    raise AssertionError("no word about the pictures reached the log")


POLICY = {"modalities": ["text", "participation", "face"], "purpose": "teaching", "unit": "group", "audit": "a.jsonl"}


def config(**policy: object) -> Config:
    tree = {"domain": "classroom", "windows": {"sizes": ["1m"]}, "policy": policy}
    return msgspec.convert(tree, Config).check()


def test_without_faces_declared_there_is_no_desk_and_with_them_the_model_must_be_there() -> None:
    assert capture_desk(config()) is None
    faces = config(jurisdiction="US", setting="education", **POLICY)
    with pytest.raises((UnknownModel, ResearchOnly), match="face"):
        capture_desk(faces)


@pytest.mark.parametrize(("research", "code"), [("true", 0), ("false", 78)])
def test_policy_check_asks_the_licences_of_what_looks_and_listens(
    research: str, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "c.toml"
    file.write_text(
        'domain = "classroom"\n[windows]\nsizes = ["1m"]\n[policy]\njurisdiction = "US"\nsetting = "education"\n'
        'modalities = ["text", "participation", "face", "voice"]\npurpose = "teaching"\nunit = "group"\n'
        f'research = {research}\naudit = "a.jsonl"\n'
    )
    assert main(["policy", "check", "-c", str(file)]) == code
    assert ("research only" in capsys.readouterr().err) == (code == 78)


def test_a_camera_in_a_european_classroom_does_not_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "c.toml"
    file.write_text(
        f'domain = "classroom"\n[log]\nurl = "sqlite:///{tmp_path}/x.db"\n[windows]\nsizes = ["1m"]\n[policy]\n'
        f'setting = "education"\nmodalities = ["text", "participation", "face"]\npurpose = "teaching"\n'
        f'unit = "group"\nresearch = true\naudit = "{tmp_path}/a.jsonl"\n'
    )
    assert main(["run", "-c", str(file), "--seconds", "1"]) == 78
    assert "AI Act Article 5(1)(f)" in capsys.readouterr().err
    assert not (tmp_path / "x.db").exists()


FACES_KEPT = {
    "jurisdiction": "US", "setting": "research", "modalities": ["text", "participation", "face", "voice"],
    "purpose": "research", "unit": "group", "research": True, "audit": "a.jsonl",
}  # fmt: skip


def test_where_frames_are_kept_a_marked_one_is_on_its_topic_and_nowhere_else(tmp_path: Path) -> None:
    for name in ("face", "voice", "run"):
        (tmp_path / name).mkdir()
    looks = CaptureDesk(tiny_media.face_model(tmp_path / "face"), tiny_media.voice_model(tmp_path / "voice"))
    room = Class(tmp_path / "run", looks=looks, policy=FACES_KEPT, capture={"mode": "topics"})
    data = picture()
    samples = (np.random.default_rng(3).normal(0, 0.2, 3_200) * 32_767).astype("<i2").tobytes()
    marks = {"affect.frames.video.v1": data[-200:-100], "affect.frames.audio.v1": samples[:64]}

    async def whole() -> str:
        async with room.going() as session:
            page = await (await session.get("/capture")).text()
            ws = await session.ws_connect("/capture/ws")
            await ws.send_json({"do": "join", "room": "1", "code": room.desk.lesson.rooms["1"].code})
            assert (await heard(ws, "seat"))["kept"] == "10 minutes"
            await sent(room, ws, data, samples)
            await ws.send_bytes(message_of(Piece(PICTURE, 1_000, room.clock.ms, data[:60])))
            await refused(room, ws, 1)
            await ws.send_json({"do": "withdraw"})
            await heard(ws, "withdrawn")
            for path in ("/api/rows?limit=500", "/metrics", "/api/status", "/teach"):
                assert MARK not in await (await session.get(path)).read()
            assert room.strand is not None
            await room.strand.frames.flush()
            assert len(room.strand.frames.withdrawn) == 1
            found = {}
            for spec in await room.log.topics():
                records = await room.log.read(spec.name, 0, 0, 10_000)
                for record in records:
                    for mark in (MARK, *marks.values()):
                        if mark in record.value or mark in (record.key or b""):
                            found.setdefault(spec.name, set()).add(mark)
            assert found == {
                "affect.frames.video.v1": {MARK, marks["affect.frames.video.v1"]},
                "affect.frames.audio.v1": {marks["affect.frames.audio.v1"]},
            }
            state = await room.log.restore("affect-frames-read", "")
            assert state.keys() == {"standing"}
            assert not any(mark in held for held in state.values() for mark in (MARK, *marks.values()))
            return page

    page = asyncio.run(whole())
    assert "stored in its log for 10 minutes" in page
    assert "thrown away" not in page
    assert "{retention}" not in page
    for mark in (MARK, *marks.values()):
        assert set(kept(tmp_path / "run", mark)) <= {"lesson.db", "lesson.db-wal"}


def test_the_page_says_what_becomes_of_frames() -> None:
    asset = load_assets()["capture.html"]
    private = consent_page(asset, "").body.decode()
    assert "thrown away; none is stored" in private
    assert "kept" not in private
    kept_page = consent_page(asset, "1 hour").body.decode()
    assert kept_page.count("1 hour") == 2
    assert spelt("10m") == "10 minutes"
    assert spelt("1h") == "1 hour"
