"""A process that holds a marked frame crashes: nothing of it lies on the disk; without the guard it is found there."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import numpy as np
import pytest
from test_lesson_live import heard

from stream.capture import PICTURE, Piece, message_of

cv2 = pytest.importorskip("cv2")
pytest.importorskip("onnxruntime")
pytest.importorskip("zmq")

from engines.remote import new_keys  # noqa: E402

pytestmark = pytest.mark.faults
MARK = bytes(np.random.default_rng(4711).integers(1, 256, 32).astype(np.uint8))
"""Of a frame: bytes no other memory has. They are never on a command line or in the environment."""
GUARDED = "import sys; from stream.cli import main; sys.exit(main())"
BARE = f"import stream.serve; stream.serve.forbid_core_dumps = lambda: None; {GUARDED}"


def config(folder: Path) -> Path:
    file = folder / "c.toml"
    file.write_text(
        f'domain = "classroom"\n[log]\nurl = "sqlite:///{folder}/run.db"\n[windows]\nsizes = ["1m"]\n[web]\nport = 0\n'
        '[policy]\njurisdiction = "US"\nsetting = "research"\nmodalities = ["text", "participation", "face"]\n'
        f'purpose = "research"\nunit = "group"\nresearch = true\naudit = "{folder}/audit.jsonl"\n'
    )
    return file


@contextmanager
def running(folder: Path, program: str, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process with `folder` as its current one, whose limit of core dumps is as high as it may be."""
    highest = resource.getrlimit(resource.RLIMIT_CORE)[1]
    with (folder / "said").open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", program, *words], cwd=folder, stdout=out, stderr=out,
            env={**os.environ, "PYTHONPATH": str(Path.cwd())},
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (highest, highest)),
        )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def said(folder: Path, process: subprocess.Popen[bytes], words: str) -> str:
    """What stands behind `words` on the line that has them; waited for."""
    until = time.monotonic() + 60
    while True:
        text = (folder / "said").read_text()
        found = re.search(rf"{words}(.*)\n", text, re.MULTILINE)
        if found is not None:
            return found[1]
        assert time.monotonic() < until, text
        assert process.poll() is None, text
        time.sleep(0.05)


async def show(url: str) -> str:
    """Send a marked picture as a capture page does; /metrics, once it is there."""
    async with aiohttp.ClientSession(url) as session:
        teacher = await session.ws_connect("/teach/ws")
        async with asyncio.timeout(60):
            while not (told := json.loads((await teacher.receive()).data)).get("ready"):
                pass
        ws = await session.ws_connect("/capture/ws")
        await ws.send_json({"do": "join", "room": "1", "code": told["code"]})
        await heard(ws, "seat")
        grey = bytes(cv2.imencode(".jpg", np.random.default_rng(5).integers(0, 256, (240, 240)).astype(np.uint8))[1])
        marked = grey[:2] + b"\xff\xfe" + struct.pack(">H", 200 * len(MARK) + 2) + MARK * 200 + grey[2:]
        for number in range(1, 9):
            await ws.send_bytes(message_of(Piece(PICTURE, number, int(time.time() * 1000), marked)))
        while int((await heard(ws, "counts"))["taken"]) < 8:
            pass
        return await (await session.get("/metrics")).text()


def limit(process: subprocess.Popen[bytes]) -> list[str]:
    lines = Path(f"/proc/{process.pid}/limits").read_text().splitlines()
    return next(line for line in lines if line.startswith("Max core file size")).split()[4:6]


def crash(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Kill it so that the kernel would dump it, with the limit put up again where we may: pipes do not heed it."""
    highest = resource.getrlimit(resource.RLIMIT_CORE)[1]
    with contextlib.suppress(PermissionError):
        resource.prlimit(process.pid, resource.RLIMIT_CORE, (highest, highest))
    process.send_signal(number)
    assert process.wait(60) == -number


def holding(folder: Path, mark: bytes) -> list[str]:
    """Names of the files below `folder` that hold `mark`; of large ones too."""
    found = []
    for path in (p for p in folder.rglob("*") if p.is_file()):
        with path.open("rb") as file:
            tail = b""
            while block := file.read(1 << 24):
                if mark in tail + block:
                    found.append(path.name)
                    break
                tail = block[-len(mark) :]
    return found


def cores(folder: Path) -> list[str]:
    return [p.name for p in folder.rglob("core*") if p.is_file()]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_an_engine_that_crashes_leaves_no_frame_behind(tmp_path: Path) -> None:
    with running(tmp_path, GUARDED, "run", "-c", str(config(tmp_path))) as process:
        metrics = asyncio.run(show(said(tmp_path, process, "live page: ")))
        assert "process_open_fds" in metrics, "it still reads what it needs of itself"
        assert limit(process) == ["0", "0"]
        crash(process, signal.SIGSEGV)
    assert cores(tmp_path) == []
    assert holding(tmp_path, MARK) == []


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_without_the_guard_the_frame_would_lie_there(tmp_path: Path) -> None:
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    if "/" in pattern or "|" in pattern or resource.getrlimit(resource.RLIMIT_CORE)[1] != resource.RLIM_INFINITY:
        pytest.skip(f"cores of this machine go elsewhere ({pattern}), or are cut")
    with running(tmp_path, BARE, "run", "-c", str(config(tmp_path))) as process:
        asyncio.run(show(said(tmp_path, process, "live page: ")))
        crash(process, signal.SIGABRT)
    assert len(cores(tmp_path)) == 1
    assert holding(tmp_path, MARK) == cores(tmp_path), "the search itself must find what is there"
    for name in cores(tmp_path):
        (tmp_path / name).unlink()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_an_edge_box_that_crashes_leaves_no_sound_behind(tmp_path: Path) -> None:
    pytest.importorskip("soundfile")
    new_keys(tmp_path / "keys", "box")
    other = tmp_path / "elsewhere"
    other.mkdir()
    with wave.open(str(other / "sound.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(MARK * 2_000)
    words = ["capture", "--to", "tcp://127.0.0.1:9", "--keys", str(tmp_path / "keys" / "for-box"), "--seat", "s"]
    with running(tmp_path, GUARDED, *words, "--audio", str(other / "sound.wav")) as process:
        said(tmp_path, process, "^Whoever sits here")
        assert limit(process) == ["0", "0"]
        crash(process, signal.SIGABRT)
    shutil.rmtree(other)
    assert cores(tmp_path) == []
    assert holding(tmp_path, MARK) == []
