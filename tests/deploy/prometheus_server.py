"""A real Prometheus of our own: a temporary folder, a free loopback port, stopped at the end."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

T = TypeVar("T")


def tool(name: str) -> str:
    """The path of a program of the Debian package `prometheus`. Skips without it; in CI that is a failure."""
    found = shutil.which(name)
    if found is not None:
        return found
    why = f"no {name} here: apt-get install -y prometheus"
    if os.environ.get("CI") == "true":
        pytest.fail(why)
    pytest.skip(why)


def wait_for(what: Callable[[], T | None], why: Callable[[], object], seconds: float = 120.0) -> T:
    """What `what` gives once it gives something; fails with `why` if that does not come."""
    until = time.monotonic() + seconds
    while (found := what()) is None:
        if time.monotonic() > until:
            pytest.fail(f"waited {seconds:.0f} s in vain: {why()}")
        time.sleep(0.2)
    return found


class Prometheus:
    """The server, and its API."""

    def __init__(self, config: Path) -> None:
        self._log = config.parent / "prometheus.log"
        words = [
            tool("prometheus"), f"--config.file={config}", f"--storage.tsdb.path={config.parent / 'tsdb'}",
            "--web.listen-address=127.0.0.1:0", "--log.level=info",
        ]  # fmt: skip
        with self._log.open("wb") as log:
            self._life = subprocess.Popen(words, stdout=log, stderr=log, cwd=config.parent)
        self._at = ""

    def start(self) -> Prometheus:
        """Wait until it answers; the port is that of its log."""
        found = wait_for(self._listening, self._said)
        self._at = f"http://127.0.0.1:{found}"
        return self

    def _said(self) -> str:
        return self._log.read_text(errors="replace")[-2000:]

    def _listening(self) -> str | None:
        assert self._life.poll() is None, self._said()
        found = re.search(r'"?Listening on"? address=127\.0\.0\.1:(\d+)', self._said())
        return None if found is None else found[1]

    def get(self, path: str, **asked: str) -> Any:
        """The `data` of an answer of the API."""
        with urlopen(f"{self._at}/api/v1/{path}?{urlencode(asked)}", timeout=30) as answer:
            told = json.load(answer)
        assert told["status"] == "success", told
        return told["data"]

    def ask(self, query: str) -> list[Any]:
        """The result of an instant query."""
        found = self.get("query", query=query)["result"]
        assert isinstance(found, list)
        return found

    def stop(self) -> None:
        if self._life.poll() is None:
            self._life.terminate()
            try:
                self._life.wait(30)
            except subprocess.TimeoutExpired:
                self._life.kill()
                self._life.wait()
