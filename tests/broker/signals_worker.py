"""What the tests of `affect signals serve` start: it as a process of its own, with these rules and sectors."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.ports import free_port

SECTORS = "ticker,sector\nAAPL,tech\nMSFT,tech\nJPM,banks\nGS,banks\n"
RULES = """
[[rule]]
name = "fear"
signal = "market.fear"
entity = "ticker:*"
window = "1m"
above = 0.6
hysteresis = 0.1
cool_down = "2m"
[[rule]]
name = "jump"
signal = "market.fear"
window = "1m"
kind = "change"
by = 0.3
[[rule]]
name = "crowd"
signal = "market.fear"
window = "1m"
kind = "burst"
z = 3
warm_up = 3
"""


class Worker:
    """`affect signals serve` as a process; killed at the latest when the block ends."""

    def __init__(self, folder: Path, url: str, *more: str) -> None:
        (folder / "rules.toml").write_text(RULES)
        (folder / "sectors.csv").write_text(SECTORS)
        self.port = free_port()
        self.out = folder / f"worker{self.port}.log"
        words = ["signals", "serve", "--log", url, "--port", str(self.port)]
        words += ["--rules", str(folder / "rules.toml"), "--sectors", str(folder / "sectors.csv"), *more]
        with self.out.open("wb") as out:
            self.process = subprocess.Popen([sys.executable, "-m", "stream.cli", *words], stdout=out, stderr=out)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait()

    @property
    def said(self) -> str:
        return self.out.read_text()

    def get(self, path: str) -> Any:
        """JSON, or None where it cannot answer now."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code != 503:
                raise
            return None
        except OSError:
            return None

    def until(self, true: Callable[[], bool], seconds: float = 120.0) -> None:
        deadline = time.monotonic() + seconds
        while not true():
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, (self.said, self.get("/readyz"), self.get("/api/plane"))
            time.sleep(0.1)

    def reads_to(self, end: int) -> None:
        """Until every row before `end` is done with; asked here, whoever does it."""
        self.until(lambda: ((self.get("/api/plane") or {}).get("offset") or 0) >= end)

    def ready(self) -> None:
        self.until(lambda: self.get("/readyz") is not None)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(30) == 0, self.said
