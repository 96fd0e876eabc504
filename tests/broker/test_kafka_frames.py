"""Frames over a real Kafka: topics of short retention, the words of the embedded logs, once though read twice."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("cv2")

from stream.connect import open_log
from stream.memory import MemoryLog
from stream.topics import FRAMES
from tests.stream import kept_frames

pytestmark = pytest.mark.broker


def test_frames_over_kafka_say_the_same_words(kafka_bootstrap: str, tmp_path: Path) -> None:
    sent = kept_frames.recorded(20, 2)
    clock = kept_frames.Clock(kept_frames.END)

    async def whole() -> None:
        said = []
        for log in (MemoryLog(clock), open_log(f"kafka://{kafka_bootstrap}?prefix=f{secrets.token_hex(4)}.")):
            looks = kept_frames.looks(tmp_path)
            await kept_frames.written(log, looks, sent, clock)
            for _ in range(2):
                reader = await kept_frames.alive(log, looks, clock)
                await reader.catch_up()
                assert reader.counts["read"] == reader.counts["scored"] == len(sent)
            said.append(await kept_frames.words(log))
            kept = {spec.name: spec.retention_ms for spec in await log.topics()}
            assert [kept[name] for name in FRAMES] == [600_000] * 2
            await log.close()
        assert said[0] == said[1]
        assert len(said[0]) >= 2 * 3 * 3

    asyncio.run(whole())
