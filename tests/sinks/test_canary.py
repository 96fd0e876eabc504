"""A marked picture goes through a lesson whose rows a real PostgreSQL keeps: it is in none of the server's files."""

from __future__ import annotations

import asyncio
import struct
from pathlib import Path

import numpy as np
import psycopg
import pytest
from lives import affect
from postgres_cluster import Cluster, held

from stream.capture import PICTURE, SOUND, Piece, message_of
from stream.capture_desk import CaptureDesk
from tests.engines import tiny_media
from tests.stream.test_lesson_live import MINUTE, START, Class, heard, kept, until

cv2 = pytest.importorskip("cv2")
pytest.importorskip("onnxruntime")
MARK = b"CANARY-4711-of-the-postgres-test"


@pytest.mark.postgres
def test_a_marked_picture_is_in_no_file_of_postgresql(cluster: Cluster, dsn: str, tmp_path: Path) -> None:
    for name in ("face", "voice", "run"):
        (tmp_path / name).mkdir()
    looks = CaptureDesk(tiny_media.face_model(tmp_path / "face"), tiny_media.voice_model(tmp_path / "voice"))
    room = Class(tmp_path / "run", looks=looks)
    grey = bytes(cv2.imencode(".jpg", np.random.default_rng(5).integers(0, 256, (240, 240)).astype(np.uint8))[1])
    picture = grey[:2] + b"\xff\xfe" + struct.pack(">H", len(MARK) + 2) + MARK + grey[2:]
    samples = (np.random.default_rng(3).normal(0, 0.2, 3_200) * 32_767).astype("<i2").tobytes()

    async def whole() -> None:
        async with room.going() as session:
            for _ in range(10):
                await room.join(session)
            camera = await session.ws_connect("/capture/ws")
            await camera.send_json({"do": "join", "room": "1", "code": room.desk.lesson.rooms["1"].code})
            await heard(camera, "seat")
            for number in range(1, 60):
                await camera.send_bytes(message_of(Piece(PICTURE, number, room.clock.ms, picture)))
                await camera.send_bytes(message_of(Piece(SOUND, number, room.clock.ms, samples)))
                room.clock.ms += 200
                await asyncio.sleep(0.01)
            await room.pass_time(100_000)
            await until(lambda: room.row("engagement", START + MINUTE) is not None)

    asyncio.run(whole())
    assert kept(tmp_path / "run", b'"face ') != [], "the pictures were looked at"
    done = affect(
        "sink", "postgres", "--log", f"sqlite:///{tmp_path}/run/lesson.db", "--until-end", AFFECT_POSTGRES=dsn
    )
    assert done.returncode == 0, done.stderr
    assert any(row.signal == "classroom.engagement" and row.value is not None for row in held(dsn))
    marks = (MARK, grey[-200:-100], samples[:64])
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CHECKPOINT")
        assert kept(cluster.folder, b"classroom.engagement") != []
        for mark in marks:
            assert kept(cluster.folder, mark) == []
        connection.execute("CREATE TABLE canary AS SELECT %s::bytea AS frame", (MARK,))
        assert kept(cluster.folder, MARK) != [], "the search itself must find what is there"
