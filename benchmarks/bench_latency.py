"""From a post's time to a row of its ticker on the signal topic, at half of the load one worker can take.

    python benchmarks/bench_latency.py [--seconds 20] [--rate POSTS_PER_SECOND]

A real Apache Kafka, stub model, one-minute windows per ticker. First a backlog says what one worker on one core can
take; then posts come at half of that, evenly, whether or not anybody keeps up (open loop). Every 20 ms one of them
names a ticker nobody named before; its latency ends when a consumer of its own, in another process, has the first row
of that ticker. The commit interval is the larger part of it, so it is a column.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import statistics
import sys
import time
import uuid
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import msgspec

from benchmarks.cluster import broker, child, collect, spawn
from benchmarks.harness import table
from benchmarks.posts import TOPIC, make, send
from operators.records import Post
from stream.base import CommitUnit, Output, TopicSpec, partition_of
from stream.connect import open_log
from stream.topics import engine_topics

PARTITIONS = 4
TICK_S = 0.02


def capacity(bootstrap: str, core: int) -> float:
    """Posts per second that one worker takes from a backlog."""
    url = f"kafka://{bootstrap}?prefix={uuid.uuid4().hex[:8]}."
    stream = make(100_000, "json", PARTITIONS)
    send(url, stream.outputs, PARTITIONS)
    run = child("benchmarks/pipeline_workers.py", "engine", url, "json", core=core)
    return float(run["consumed"]) / float(run["wall_s"])


async def offer(
    url: str, messages: list[tuple[bytes, bytes]], rate: float, seconds: float
) -> tuple[dict[int, float], list[float]]:
    """Send at `rate`, each post stamped with the moment it was due.

    Returns:
        When each probe was due, epoch ms; and how long after that the broker had it, ms: no part of it is the engine's.
    """
    log = open_log(url)
    encode = msgspec.json.encode
    due: dict[int, float] = {}
    behind: list[float] = []
    try:
        await log.topics()
        begin, tick = time.time(), 0
        while tick < int(seconds / TICK_S):
            await asyncio.sleep(max(0.0, begin + tick * TICK_S - time.time()))
            outputs: list[Output] = []
            first = tick
            # All that is due by now in one go: a slow append makes later ones larger, never later than they must be.
            while tick < int(seconds / TICK_S) and begin + tick * TICK_S <= time.time():
                at = begin + tick * TICK_S
                due[tick] = at * 1000
                probe = encode(Post(id=f"probe-{tick}", text="probe", lang="en", tickers=(f"P{tick}",)))
                ready = messages[int(tick * TICK_S * rate) : int((tick + 1) * TICK_S * rate)]
                for key, value in (*ready, (b"probe-%d" % tick, probe)):
                    outputs.append(Output(TOPIC, partition_of(key, PARTITIONS), key, value, round(at * 1000)))
                tick += 1
            await log.commit(CommitUnit("bench-send", outputs=outputs))
            behind += [time.time() * 1000 - due[k] for k in range(first, tick)]
    finally:
        await log.close()
    return due, behind


async def prepare(url: str) -> None:
    """The topics, before anybody looks for them."""
    log = open_log(url)
    try:
        await log.ensure([*engine_topics(TOPIC, PARTITIONS, -1), TopicSpec(TOPIC, PARTITIONS)])
    finally:
        await log.close()


def run(bootstrap: str, commit: str, rate: float, seconds: float, core: int) -> tuple[list[float], list[float], float]:
    """Latencies of the probes that were seen and of the way to the broker, ms; share of its core the worker used."""
    url = f"kafka://{bootstrap}?prefix={uuid.uuid4().hex[:8]}."
    asyncio.run(prepare(url))
    # No `created_at`: a post happens when it is appended. Ids repeat only beyond the run.
    count = int(rate * seconds) + 1
    posts = (msgspec.json.decode(o.value) for o in make(count, "json", PARTITIONS).outputs)
    messages = [
        (f"{k}".encode(), msgspec.json.encode({**post, "id": str(k), "created_at": None}))
        for k, post in enumerate(posts)
    ]
    worker = spawn("benchmarks/live_workers.py", "worker", url, "--commit", commit, core=core)
    assert worker.stdout is not None
    for line in worker.stdout:
        first = msgspec.json.decode(line)
        if len(first["records"]) == PARTITIONS:
            break
    reader = spawn("benchmarks/live_workers.py", "probes", url, int(seconds / TICK_S))
    assert reader.stdout is not None
    reader.stdout.readline()
    due, behind = asyncio.run(offer(url, messages, rate, seconds))
    seen = collect(reader)["seen"]
    worker.send_signal(signal.SIGTERM)
    last = collect(worker)
    busy = (last["cpu_s"] - first["cpu_s"]) / (last["at"] - first["at"])
    found = [seen[str(k)] - at for k, at in due.items() if str(k) in seen]
    return found, behind, busy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rate", type=float, default=None, help="posts per second (default: half of what it can take)")
    parser.add_argument("--commit", default="1s", help="commit intervals (default: 1s)")
    args = parser.parse_args()
    core = (os.cpu_count() or 1) - 1
    rows = []
    with broker() as bootstrap:
        most = capacity(bootstrap, core) if args.rate is None else 2 * args.rate
        rate = most / 2
        for commit in args.commit.split(","):
            found, behind, busy = run(bootstrap, commit, rate, args.seconds, core)
            cuts, lost, sent = statistics.quantiles(found, n=100), len(behind) - len(found), statistics.median(behind)
            rows.append(
                (commit, f"{rate:,.0f}", len(found), lost, f"{sent:.0f}", f"{cuts[49]:.0f}", f"{cuts[94]:.0f}",
                 f"{cuts[98]:.0f}", f"{max(found):.0f}", f"{busy:.0%}")
            )  # fmt: skip
    table(
        f"post to row on the signal topic, {PARTITIONS} partitions, one worker on one core"
        + (f" that takes {most:,.0f} posts/s from a backlog" if args.rate is None else ""),
        (
            "commit interval",
            "posts/s",
            "probes",
            "lost",
            "sent after ms",
            "p50 ms",
            "p95 ms",
            "p99 ms",
            "max ms",
            "core used",
        ),
        rows,
    )
    if any(row[3] for row in rows):
        raise SystemExit("probes were lost")


if __name__ == "__main__":
    main()
