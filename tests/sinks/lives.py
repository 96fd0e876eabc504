"""`affect ...` as processes of their own: run to the end, or started, looked at and killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

VERB = [sys.executable, "-m", "stream.cli"]


def affect(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run to the end."""
    return subprocess.run(
        [*VERB, *words], env={**os.environ, **env}, capture_output=True, text=True, timeout=120, check=False
    )


def wait_for(true: Callable[[], bool], what: Callable[[], str] = str, seconds: float = 60.0) -> None:
    """Wait for it; fail with what there is instead."""
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, what()
        time.sleep(0.02)


class Life:
    """A process in the background; its stderr goes to a file. Killed at the latest when the block ends."""

    def __init__(self, said: Path, *words: str, **env: str) -> None:
        self._said = said
        with said.open("ab") as out:
            self._process = subprocess.Popen([*VERB, *words], env={**os.environ, **env}, stdout=out, stderr=out)

    def __enter__(self) -> Life:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def said(self) -> str:
        return self._said.read_text()

    def says(self, words: str) -> None:
        """Wait until it has said so."""
        wait_for(lambda: words in self.said, lambda: f"expected {words!r}, got: {self.said}")

    def sees(self, true: Callable[[], bool]) -> None:
        """Wait until something is so; the process must live meanwhile."""
        wait_for(lambda: true() or self._process.poll() is not None, lambda: self.said)
        assert self._process.poll() is None, self.said

    def kill(self) -> None:
        """kill -9."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(60)
