"""Frames read from their topics by processes that are killed with SIGKILL: the same words of every seat, each once."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_kill9 import Hunter

pytest.importorskip("onnxruntime")
pytest.importorskip("cv2")

from stream.sqlite_log import SqliteLog
from tests.stream import kept_frames

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]
KILLS = 2


def test_kill_9_changes_no_word_of_what_frames_show(tmp_path: Path) -> None:
    sent = kept_frames.recorded(40, 2)
    clock = kept_frames.Clock(kept_frames.END)

    async def filled() -> None:
        log = SqliteLog(tmp_path / "log.db", clock=clock)
        await kept_frames.written(log, kept_frames.looks(tmp_path), sent, clock)
        await log.close()

    async def said(path: Path) -> list[tuple[str, int, str]]:
        log = SqliteLog(path, clock=clock)
        found = sorted((await kept_frames.words(log)).values())
        await log.close()
        return found

    asyncio.run(filled())
    (tmp_path / "killed").mkdir()
    killed = Path(shutil.copy(tmp_path / "log.db", tmp_path / "killed" / "log.db"))
    verb = [sys.executable, "-m", "tests.stream.frame_process"]
    done = subprocess.run(
        [*verb, str(tmp_path / "log.db"), str(tmp_path)], capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode == 0, done.stderr
    words = [*verb, str(killed), str(tmp_path)]
    hunter = Hunter(words, killed, seed=2)
    ended = hunter.lives(KILLS)
    assert hunter.kills >= 1
    assert json.loads(ended) == json.loads(done.stdout)
    undisturbed = asyncio.run(said(tmp_path / "log.db"))
    assert len(undisturbed) >= 2 * 3 * 7
    assert asyncio.run(said(killed)) == undisturbed
