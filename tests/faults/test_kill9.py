"""A replay killed with SIGKILL again and again, each time started anew on the same log, leaves the same bytes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rough_file import Rough, write_rough

from stream.sqlite_log import SqliteLog
from stream.topics import DEAD_LETTER, LATE

pytestmark = [pytest.mark.faults, pytest.mark.timeout(400)]


def command(rough: Rough, out: Path, *more: str) -> list[str]:
    verb = [sys.executable, "-m", "stream.cli", "replay", str(rough.path), "--domain", "market", "--engine", "stub"]
    return [*verb, "--out", str(out), "--json", *more]


def undisturbed(rough: Rough, out: Path, *more: str) -> dict[str, int]:
    done = subprocess.run(command(rough, out, *more), capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


class Hunter:
    """Starts the command and kills its process group at a random moment, counted in commits or in seconds."""

    def __init__(self, words: list[str], log: Path, seed: int) -> None:
        self._words = words
        self._wal = log.with_name(log.name + "-wal")
        self._rng = random.Random(seed)
        self.kills = 0
        self.after_a_commit = 0

    def _written(self) -> tuple[int, int]:
        with contextlib.suppress(FileNotFoundError):
            found = os.stat(self._wal)
            return found.st_mtime_ns, found.st_size
        return 0, 0

    def _hunt(self, life: subprocess.Popen[str]) -> bool:
        """Wait for the moment; true if the process had written to the log by then."""
        rng = self._rng
        before = self._written()
        commits = rng.choice((0, 1, 1, 2, 3))
        until = time.monotonic() + (60 if commits else rng.uniform(0.2, 1.6))
        last, seen = before, 0
        while life.poll() is None and time.monotonic() < until:
            time.sleep(0.002)
            now = self._written()
            if now != last:
                last, seen = now, seen + 1
                if seen == commits:
                    until = time.monotonic() + rng.choice((0.0, rng.uniform(0.0, 0.03), rng.uniform(0.0, 0.6)))
        return self._written() != before

    def life(self) -> str | None:
        """Run once and kill; what it printed where it ended by itself before that."""
        life = subprocess.Popen(
            self._words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        wrote = self._hunt(life)
        if life.poll() is None:
            os.killpg(life.pid, signal.SIGKILL)
        out, err = life.communicate(timeout=30)
        if life.returncode == -signal.SIGKILL:
            self.kills += 1
            self.after_a_commit += wrote
            return None
        assert life.returncode == 0, err
        return out

    def lives(self, most: int) -> str:
        """Kill it `most` times at most, then let it end; what it printed in the life that ended."""
        while self.kills < most:
            ended = self.life()
            if ended is not None:
                return ended
        last = subprocess.run(self._words, capture_output=True, text=True, check=False, timeout=200)
        assert last.returncode == 0, last.stderr
        return last.stdout


def side_outputs(path: Path) -> dict[str, int]:
    """Messages on the topics of what left by the side."""

    async def count() -> dict[str, int]:
        log = SqliteLog(path)
        try:
            return {topic: (await log.span(topic))[0][1] for topic in (DEAD_LETTER, LATE)}
        finally:
            await log.close()

    return asyncio.run(count())


@pytest.mark.parametrize(
    ("workers", "posts", "kills", "timing"),
    [
        pytest.param(1, 20_000, 30, ("--disorder", "5s", "--lateness", "5s"), id="one worker, posts too late"),
        pytest.param(3, 8_000, 8, (), id="three workers"),
    ],
)
def test_kill_9_at_random_moments_changes_no_byte(
    workers: int, posts: int, kills: int, timing: tuple[str, ...], tmp_path: Path
) -> None:
    """With three workers the reference is a run of one worker: all partitions count."""
    rough = write_rough(tmp_path / "posts.jsonl", posts)
    reference = tmp_path / "undisturbed.jsonl"
    sums = undisturbed(rough, reference, *timing)
    assert sums["in"] == rough.lines
    assert sums["in_flight"] == 0
    assert sums["rejected"] == rough.broken
    assert sums["applied"] + sums["duplicate"] + sums["late"] == rough.posts + rough.repeats
    assert (sums["late"] > 0) == bool(timing)
    killed = after_a_commit = 0
    for turn in range(kills):  # a fast machine may end before all kills landed: then once more from the start
        log, out = tmp_path / f"log{turn}.db", tmp_path / f"rows{turn}.jsonl"
        more = ("--log", f"sqlite:///{log}", "--batch-size", "20", "--workers", str(workers))
        hunter = Hunter(command(rough, out, *timing, *more), log, seed=100 * workers + turn)
        again = json.loads(hunter.lives(kills - killed).splitlines()[-1])
        assert out.read_bytes() == reference.read_bytes()
        assert again == sums
        assert side_outputs(log) == {DEAD_LETTER: rough.broken, LATE: sums["late"]}
        killed += hunter.kills
        after_a_commit += hunter.after_a_commit
        if killed == kills:
            break
    assert killed == kills
    assert after_a_commit >= kills // 2
