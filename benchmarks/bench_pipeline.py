"""The whole pipeline on a real Apache Kafka: CPU time per post, beside a bare consumer with the same codec.

    python benchmarks/bench_pipeline.py [--posts 200000] [--partitions 4] [--repeat 3] [--batch 1000]

Stub model, one-minute windows per ticker, a backlog read at full speed; near-duplicates off (and once on). Each worker
is a process of its own on one core; figures are its CPU time, user and system, of all its threads, from the moment it
joins to the moment its last row is committed. Engine and bare loop read the same topic one after the other. Every
window must hold exactly the posts that were sent, in both, or the program stops.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import uuid
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.cluster import broker, child
from benchmarks.harness import table
from benchmarks.posts import Stream, make, send

WORKER = "benchmarks/pipeline_workers.py"


def check(who: str, stream: Stream, found: dict[str, Any]) -> None:
    """Nothing lost, nothing counted twice."""
    expected = {f"{ticker}|{start}": n for (ticker, start), n in stream.expected.items()}
    if found["counts"] != expected or found["applied"] != stream.distinct:
        wrong = sum(found["counts"].get(k) != n for k, n in expected.items())
        raise SystemExit(
            f"{who}: {found['applied']} of {stream.distinct} posts counted, {wrong} of {len(expected)} windows wrong"
        )


def measure(bootstrap: str, form: str, stream: Stream, args: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """`repeat` rounds; each engine run has topics of its own, and the bare loop reads the same input."""
    core = (os.cpu_count() or 1) - 1
    found: dict[str, list[dict[str, Any]]] = {}
    for _ in range(args.repeat):
        url = f"kafka://{bootstrap}?prefix={uuid.uuid4().hex[:8]}."
        send(url, stream.outputs, args.partitions)
        for who, options in (("bare", []), ("engine", []), ("engine, near-duplicates", ["--near"])):
            if options:
                url = f"kafka://{bootstrap}?prefix={uuid.uuid4().hex[:8]}."
                send(url, stream.outputs, args.partitions)
            kind = who.partition(",")[0]
            run = child(WORKER, kind, url, form, "--batch", args.batch, *options, core=core)
            check(f"{who} {form}", stream, run)
            found.setdefault(who, []).append(run)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--posts", type=int, default=200_000)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--batch", type=int, default=1000)
    args = parser.parse_args()
    rows = []
    with broker() as bootstrap:
        for form in ("json", "avro"):
            stream = make(args.posts, form, args.partitions)
            size = sum(len(o.value) for o in stream.outputs) / len(stream.outputs)
            found = measure(bootstrap, form, stream, args)
            floor = statistics.median(run["cpu_s"] for run in found["bare"])
            for who, runs in found.items():
                cpu = statistics.median(run["cpu_s"] for run in runs)
                spread = [run["cpu_s"] / args.posts * 1e6 for run in runs]
                wall = statistics.median(run["wall_s"] for run in runs)
                rows.append(
                    (form, who, f"{size:.0f}", f"{cpu / args.posts * 1e6:.1f}", f"{min(spread):.1f}-{max(spread):.1f}",
                     f"{cpu / floor:.1f}x", f"{args.posts / wall:,.0f}", runs[0]["rows"],
                     f"{max(run['peak_mib'] for run in runs):.0f}", "0")
                )  # fmt: skip
    table(
        f"{args.posts:,} posts on {args.partitions} partitions, one process on one core, batches of {args.batch}",
        ("in", "who", "bytes", "CPU us/post", "range", "of bare", "posts/s", "rows", "peak MiB", "lost"),
        rows,
    )


if __name__ == "__main__":
    main()
