"""One and two worker processes on one consumer group: posts per second while all of them have work.

    python benchmarks/bench_scale.py [--posts 400000] [--workers 1,2]

A real Apache Kafka, stub model, one-minute windows per ticker, a backlog on four partitions. The rate is taken from the
moment every process owns its share of the partitions until the first of them has read all of it. Broker and workers
share the cores of this machine. In the end every post must have been read once, or the program stops.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import msgspec

from benchmarks.cluster import broker, spawn
from benchmarks.harness import table
from benchmarks.posts import make, send

PARTITIONS = 4
Line = dict[str, Any]


class Told:
    """What a worker process says, collected as it comes."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.lines: list[Line] = []
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(msgspec.json.decode(line))

    @property
    def records(self) -> int:
        """Done in the partitions it owns now."""
        return sum(self.lines[-1]["records"].values()) if self.lines else 0

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        if self.process.wait() != 0:
            raise SystemExit(f"a worker ended with {self.process.returncode}")
        self._thread.join()


def run(bootstrap: str, workers: int, posts: int, outputs: list[Any]) -> tuple[float, float]:
    """(posts per second, CPU us per post) while all have work."""
    url = f"kafka://{bootstrap}?prefix={uuid.uuid4().hex[:8]}."
    send(url, outputs, PARTITIONS)
    told = [Told(spawn("benchmarks/live_workers.py", "worker", url)) for _ in range(workers)]
    try:
        while sum(t.records for t in told) < posts:
            if any(t.process.poll() is not None for t in told):
                raise SystemExit("a worker ended early")
            time.sleep(0.05)
        read = sum(t.records for t in told)
    finally:
        for t in told:
            if t.process.poll() is None:
                t.stop()
    if read != posts:
        raise SystemExit(f"{read} of {posts} posts read")
    return window(told, workers)


def window(told: list[Told], workers: int) -> tuple[float, float]:
    """(posts per second, CPU us per post) between the moment all have their share and the first one's end."""
    share = PARTITIONS // workers
    begin = max(next(line["at"] for line in t.lines if len(line["records"]) == share) for t in told)
    most = [max(sum(line["records"].values()) for line in t.lines if len(line["records"]) == share) for t in told]
    end = min(
        next(line["at"] for line in t.lines if sum(line["records"].values()) == n and len(line["records"]) == share)
        for t, n in zip(told, most, strict=True)
    )
    if end <= begin:
        raise SystemExit("too few posts: one process was done before the other began; raise --posts")
    done, cpu = 0, 0.0
    for t in told:
        inside = [line for line in t.lines if begin <= line["at"] <= end and len(line["records"]) == share]
        done += sum(inside[-1]["records"].values()) - sum(inside[0]["records"].values())
        cpu += inside[-1]["cpu_s"] - inside[0]["cpu_s"]
    return done / (end - begin), cpu / done * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--posts", type=int, default=1_200_000)
    parser.add_argument("--workers", default="1,2")
    args = parser.parse_args()
    counts = [int(text) for text in args.workers.split(",")]
    if any(PARTITIONS % count for count in counts):
        raise SystemExit(f"--workers: expected divisors of {PARTITIONS}, got {args.workers}")
    rows = []
    with broker() as bootstrap:
        outputs = make(args.posts, "json", PARTITIONS).outputs
        first = 0.0
        for count in counts:
            rate, cpu = run(bootstrap, count, args.posts, outputs)
            first = first or rate
            rows.append((count, f"{rate:,.0f}", f"{rate / first:.2f}x", f"{cpu:.1f}"))
    table(
        f"{args.posts:,} JSON posts on {PARTITIONS} partitions, broker and workers on {os.cpu_count()} cores",
        ("workers", "posts/s", "of one", "CPU us/post"),
        rows,
    )


if __name__ == "__main__":
    main()
