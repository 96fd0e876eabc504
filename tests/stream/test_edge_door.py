"""Edge boxes over real sockets: scored where it arrives and nowhere kept; strangers, garbage and the gate."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from test_lesson_live import Class, kept, until

from engines.remote import new_keys
from stream.capture import PICTURE, PICTURE_MAX, SOUND
from stream.capture_desk import CaptureDesk
from stream.cli import main
from stream.errors import StreamError, UsageError
from stream.topics import FRAMES
from tests.engines import tiny_media
from tests.stream.kept_frames import POLICY

cv2 = pytest.importorskip("cv2")
soundfile = pytest.importorskip("soundfile")
pytest.importorskip("onnxruntime")
pytest.importorskip("zmq")

from stream.edge_box import EdgeBox  # noqa: E402
from stream.edge_door import MOST_OF_A_KEY, MOST_REFUSED, EdgeDoor  # noqa: E402
from stream.edge_source import LONGEST_SIDE, SLICE, Pictures, slices  # noqa: E402

NAME = "the-seat-by-the-window-4711"


@pytest.fixture
def looks(tmp_path: Path) -> CaptureDesk:
    for name in ("face", "voice", "run", "edge"):
        (tmp_path / name).mkdir()
    return CaptureDesk(tiny_media.face_model(tmp_path / "face"), tiny_media.voice_model(tmp_path / "voice"))


@asynccontextmanager
async def opened(
    tmp_path: Path, looks: CaptureDesk, policy: dict[str, object] | None = None, mode: str = "private"
) -> AsyncIterator[tuple[Class, EdgeDoor]]:
    """A lesson with a door for edge boxes; `tmp_path/keys/for-box` has the keys of one."""
    new_keys(tmp_path / "keys", "box")
    room = Class(tmp_path / "run", looks=looks, policy=policy, capture={"mode": mode})
    async with room.going():
        door = EdgeDoor(room.desk, looks, "tcp://127.0.0.1:*", tmp_path / "keys")
        await door.start()
        try:
            yield room, door
        finally:
            await door.stop()


def film(path: Path, frames: int, side: int = 120) -> str:
    """A video of one picture of noise, ten a second."""
    made = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10.0, (side, side))
    still = np.random.default_rng(5).integers(0, 256, (side, side, 3)).astype(np.uint8)
    for _ in range(frames):
        made.write(still)
    made.release()
    return str(path)


def test_a_box_is_scored_and_what_it_sends_is_found_nowhere(tmp_path: Path, looks: CaptureDesk) -> None:
    video = film(tmp_path / "edge" / "film.avi", 600)
    audio = str(tmp_path / "edge" / "noise.wav")
    soundfile.write(audio, np.random.default_rng(3).normal(0, 0.2, 60 * 16_000), 16_000)
    pictures = Pictures(video)
    picture = pictures.at(0.0)
    pictures.close()
    assert picture is not None

    async def whole() -> str:
        async with opened(tmp_path, looks) as (room, door):
            words = [sys.executable, "-W", "error", "-m", "stream.cli", "capture", "--to", door.address, "--keys"]
            words += [str(tmp_path / "keys" / "for-box"), "--seat", NAME, "--fps", "10"]
            box = await asyncio.create_subprocess_exec(
                *words, "--video", video, "--audio", audio, stdout=asyncio.subprocess.PIPE
            )
            said: set[str] = set()
            told: set[int] = set()  # moments counts were told at: of three, the box has heard the first
            async with asyncio.timeout(120):
                while "face" not in said or len(told) < 3:
                    told |= {one.watch.told_ms for one in door._boxes.values()}
                    room.clock.ms += 100
                    await asyncio.sleep(0.05)
                    records = await room.log.read(room.config.topic, 0, 0, 10_000)
                    said = {json.loads(r.value)["text"].split()[0] for r in records}
                (there,) = door._boxes.values()
                assert there.watch.voices is not None
                assert all(passage.taken > 5 for passage in there.watch.passages.values())
                box.send_signal(signal.SIGTERM)
                out, _ = await box.communicate()
            assert box.returncode == 0
            assert len(room.desk.lesson.rooms["1"].seats) == 1
            await until(lambda: not room.desk._waiting)
            gone = await asyncio.create_subprocess_exec(*words, "--withdraw", stdout=asyncio.subprocess.DEVNULL)
            assert await gone.wait() == 0
            assert room.desk.lesson.rooms["1"].seats == {}
            return out.decode()

    out = asyncio.run(whole())
    counts = {name: int(count) for count, name in (part.split() for part in out.split("there: ")[1].split(", "))}
    assert counts["taken"] > 10
    assert counts["refused"] == counts["repeated"] == 0
    assert kept(tmp_path / "run", b'"face ') != [], "the search itself must find what is there"
    assert kept(tmp_path / "edge", slices(audio)[7]) != []
    for secret in (picture[-200:-100], NAME.encode(), *(piece[:64] for piece in slices(audio)[:20])):
        assert kept(tmp_path / "run", secret) == []


def test_strangers_stay_out_garbage_is_counted_and_consent_can_be_taken_back(
    tmp_path: Path, looks: CaptureDesk
) -> None:
    new_keys(tmp_path / "other", "box")

    async def whole() -> None:
        async with opened(tmp_path, looks) as (room, door), AsyncExitStack() as held:
            keys, seats = tmp_path / "keys" / "for-box", room.desk.lesson.rooms["1"].seats

            def opens(folder: Path, seat: str, where: str = "1") -> EdgeBox:
                return held.enter_context(EdgeBox(door.address, folder, where, seat, room.clock))

            shutil.copy(tmp_path / "keys" / "server.key", tmp_path / "other" / "for-box" / "server.key")
            stranger = opens(tmp_path / "other" / "for-box", "a")
            with pytest.raises(StreamError, match="not known there"):
                await asyncio.to_thread(stranger.ask, "join", 1.0)
            await until(lambda: door.counts["strangers"] > 0)
            stranger.send(PICTURE, b"x")
            assert stranger.counts["dropped"] == 1

            box = opens(keys, "a")
            elsewhere = opens(keys, "a", "nowhere")
            with pytest.raises(StreamError, match="no such room"):
                await asyncio.to_thread(elsewhere.ask, "join", 60.0)
            await asyncio.to_thread(box.ask, "join", 60.0)
            assert box.modalities == ("face", "voice")
            box.send(PICTURE, bytes(PICTURE_MAX + 1))
            box._put(b"\x07 no piece")
            box._put(b'{"do": "conquer"}')
            await until(lambda: door.counts["garbage"] == 3)
            box.send(SOUND, b"odd")
            await until(lambda: next(iter(door._boxes.values())).watch.passages[SOUND].refused == 1)
            assert len(seats) == 1
            with pytest.raises(StreamError, match="neither a picture nor a sound"):
                await asyncio.to_thread(_listened, box, b"\x07 no piece")
            assert not door._boxes
            assert door.counts["garbage"] >= MOST_REFUSED
            box.send(SOUND, bytes(2))
            await until(lambda: door.counts["unseated"] > 0)

            key = next(iter(seats))
            again = opens(keys, "a")
            await asyncio.to_thread(again.ask, "join", 60.0)
            assert list(seats) == [key], "the seat it was"
            other = opens(keys, "a")
            await asyncio.to_thread(other.ask, "withdraw", 60.0)
            with pytest.raises(StreamError, match="taken back"):
                await asyncio.to_thread(_listened, again)
            assert seats == {}

            boxes = [opens(keys, f"s{k}") for k in range(MOST_OF_A_KEY + 1)]
            for one in boxes[:-1]:
                room.clock.ms += 1_000
                await asyncio.to_thread(one.ask, "join", 60.0)
            with pytest.raises(StreamError, match="a key has no more"):
                await asyncio.to_thread(boxes[-1].ask, "join", 60.0)
            assert len(seats) == MOST_OF_A_KEY
            room.clock.ms += 11_000
            await until(lambda: not door._boxes)
            assert all(seat.sockets == 0 for seat in seats.values())

    asyncio.run(whole())


def _listened(box: EdgeBox, sends: bytes = b"") -> None:
    """Heed what is said for up to a minute; send `sends` all the while."""
    for _ in range(600):
        if sends:
            box._put(sends)
        box.listen(0.1)


def test_sources_are_bounded_and_no_addresses(tmp_path: Path) -> None:
    pictures = Pictures(film(tmp_path / "large.avi", 5, 1_000))
    found = [pictures.at(0.0), pictures.at(0.3)]
    assert pictures.at(2.0) is None
    for data in found:
        assert data is not None
        assert len(data) <= PICTURE_MAX
        assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED).shape == (LONGEST_SIDE, LONGEST_SIDE)
    pictures.close()
    soundfile.write(str(tmp_path / "a.wav"), np.zeros((4_410, 2)), 44_100)
    assert [len(piece) for piece in slices(str(tmp_path / "a.wav"))] == [3_200]
    assert SLICE * 5 == 16_000
    (tmp_path / "no.avi").write_bytes(b"no film")
    for source in ("http://127.0.0.1/x.avi", "camera:x", "camera:-1", str(tmp_path / "no.avi")):
        with pytest.raises(UsageError, match="--video"):
            Pictures(source)
    for sound in ("none.wav", "no.avi"):
        with pytest.raises(UsageError, match="--audio"):
            slices(str(tmp_path / sound))


@pytest.mark.parametrize(
    ("domain", "policy", "keys", "code", "says"),
    [
        ("classroom", 'modalities = ["text", "participation", "face"]', "k", 78, "AI Act Article 5(1)(f)"),
        ("classroom", 'modalities = ["text", "participation"]', "k", 78, "declare face or voice"),
        ("classroom", 'modalities = ["text", "participation"]', "", 2, "capture.keys"),
        ("market", 'modalities = ["text"]', "k", 2, "domain classroom"),
    ],
)
def test_no_door_where_the_gate_or_the_settings_have_none(
    domain: str, policy: str, keys: str, code: int, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "c.toml"
    file.write_text(
        f'domain = "{domain}"\n[log]\nurl = "sqlite:///{tmp_path}/x.db"\n[windows]\nsizes = ["1m"]\n[policy]\n'
        f'setting = "education"\n{policy}\npurpose = "teaching"\nunit = "group"\nresearch = true\n'
        f'audit = "{tmp_path}/a.jsonl"\n[capture]\nbind = "tcp://127.0.0.1:*"\nkeys = "{keys}"\n'
    )
    assert main(["run", "-c", str(file), "--seconds", "1"]) == code
    said = capsys.readouterr()
    assert says in said.err
    assert "capture door" not in said.out
    assert not (tmp_path / "x.db").exists()


def test_a_door_needs_its_keys(tmp_path: Path, looks: CaptureDesk, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match=r"capture\.keys"):
        EdgeDoor(Class(tmp_path / "run").desk, looks, "tcp://127.0.0.1:*", tmp_path)
    assert main(["capture", "--to", "tcp://127.0.0.1:1", "--keys", str(tmp_path), "--seat", "a", "--withdraw"]) == 1
    assert "affect engine keys" in capsys.readouterr().err


def test_where_frames_are_kept_a_box_sends_them_only_if_it_was_told_to(tmp_path: Path, looks: CaptureDesk) -> None:
    video = film(tmp_path / "edge" / "film.avi", 100)
    pictures = Pictures(video)
    picture = pictures.at(0.0)
    pictures.close()
    assert picture is not None

    async def whole() -> None:
        async with opened(tmp_path, looks, POLICY, "topics") as (room, door):
            words = [sys.executable, "-W", "error", "-m", "stream.cli", "capture", "--to", door.address, "--keys"]
            words += [str(tmp_path / "keys" / "for-box"), "--seat", NAME, "--fps", "10", "--video", video]
            told = []
            for more in ([], ["--kept", "--seconds", "2"]):
                room.clock.ms += 2_000
                box = await asyncio.create_subprocess_exec(*words, *more, stderr=asyncio.subprocess.PIPE)
                _, said = await box.communicate()
                told.append((box.returncode, said.decode()))
                await until(lambda: not room.desk._waiting)
                records = await room.log.read(FRAMES[0], 0, 0, 1_000)
                assert (len(records) > 5) == bool(more)
            assert all(
                "KEEPS pictures and sound: they are stored in its log for 10 minutes" in said for _, said in told
            )
            assert [code for code, _ in told] == [2, 0]
            assert "give --kept" in told[0][1]
            for spec in await room.log.topics():
                held = await room.log.read(spec.name, 0, 0, 1_000)
                assert any(picture[-200:-100] in record.value for record in held) == (spec.name == FRAMES[0])
                assert not any(NAME.encode() in record.value for record in held)

    asyncio.run(whole())
