"""A lesson replayed, killed with SIGKILL again and again: what was told of the room is the same, to the byte."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from test_kill9 import Hunter

from stream.scenario_lesson import lesson
from tests.stream import camera_lesson

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]
KILLS = 2


def command(events: Path, out: Path, *more: str) -> list[str]:
    verb = [sys.executable, "-m", "stream.cli", "replay", str(events), "--domain", "classroom", "--engine", "stub"]
    return [*verb, "--lateness", "5s", "--disorder", "5s", "--out", str(out), "--json", *more]


def declared(folder: Path) -> Path:
    """Settings that let cameras in: outside the EU, with an audit log."""
    path, policy = folder / "room.toml", camera_lesson.POLICY
    path.write_text(
        f'domain = "classroom"\n[windows]\nsizes = ["1m"]\n[policy]\njurisdiction = "{policy.jurisdiction}"\n'
        f'setting = "{policy.setting}"\nmodalities = {json.dumps(policy.modalities)}\npurpose = "{policy.purpose}"\n'
        f'unit = "{policy.unit}"\naudit = "{folder}/audit.jsonl"\n'
    )
    return path


@pytest.mark.parametrize("cameras", [False, True], ids=["participation", "cameras"])
def test_kill_9_changes_no_byte_of_what_a_room_tells(cameras: bool, tmp_path: Path) -> None:
    events, reference = tmp_path / "events.jsonl", tmp_path / "reference.jsonl"
    posts = camera_lesson.posts(6) if cameras else lesson(3, 20, 1_700_000_000_000).posts
    events.write_text("\n".join(map(json.dumps, posts)) + "\n")
    more = ["--policy", str(declared(tmp_path))] if cameras else []
    done = subprocess.run(command(events, reference, *more), capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    sums = json.loads(done.stdout.splitlines()[-1])
    rows = [json.loads(line) for line in reference.read_text().splitlines()]
    assert any("stale" in why or row["value"] is not None for row in rows for why in row["reasons"])
    log, out = tmp_path / "log.db", tmp_path / "rows.jsonl"
    assert any(row["value"] is not None for row in rows if row["signal"] == "classroom.feeling") == cameras
    words = command(events, out, "--log", f"sqlite:///{log}", "--batch-size", "5", *more)
    hunter = Hunter(words, log, seed=5)
    ended = hunter.lives(KILLS)
    assert hunter.kills >= 1
    assert out.read_bytes() == reference.read_bytes()
    assert json.loads(ended.splitlines()[-1]) == sums
