"""One process of a live benchmark: a worker until SIGTERM, or a reader of the signal topic. Prints JSON lines.

python benchmarks/live_workers.py worker URL [--commit 1s]
python benchmarks/live_workers.py probes URL COUNT
"""

from __future__ import annotations

import argparse
import asyncio
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import msgspec

from benchmarks.pipeline_workers import config_for
from stream.connect import open_log
from stream.runner import Runner
from stream.system_clock import SystemClock
from stream.topics import SIGNALS
from stream.topology import build

REPORT_S = 0.05
PATIENCE_S = 30.0
PROBE = re.compile(rb"market\.buzz\|ticker:P(\d+)\|")


def say(line: dict[str, Any]) -> None:
    print(msgspec.json.encode(line).decode(), flush=True)


async def worker(url: str, commit: str) -> None:
    """Run; tell every now and then how many records of each owned partition are done."""
    log = open_log(url)
    try:
        config = config_for(url, near=False, batch=1000, commit=commit)
        topology = build(config, len(await log.span(config.topic)))
        runner = Runner(topology, log, SystemClock(), until_end=False)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, runner.stop)
        task = asyncio.create_task(runner.run())
        while not task.done():
            done = {p: s.counts.records for w in runner.workers for p, s in w.scorers.items()}
            say({"at": time.monotonic(), "cpu_s": time.process_time(), "records": done})
            await asyncio.wait({task}, timeout=REPORT_S)
        task.result()
    finally:
        await log.close()


async def probes(url: str, count: int) -> None:
    """Wait for the first row of each of `count` probe tickers; tell when each was there, epoch ms."""
    log = open_log(url)
    seen: dict[int, float] = {}
    offset, last = 0, time.monotonic()
    try:
        say({"ready": True})
        while len(seen) < count:
            records = await log.read(SIGNALS, 0, offset, 10_000, 0.5)
            now = time.time() * 1000
            for record in records:
                offset = record.offset + 1
                found = PROBE.match(record.key or b"")
                if found is not None:
                    seen.setdefault(int(found[1]), now)
                    last = time.monotonic()
            if time.monotonic() - last > PATIENCE_S:
                break
    finally:
        await log.close()
    say({"seen": {str(k): at for k, at in seen.items()}})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("worker", "probes"))
    parser.add_argument("url")
    parser.add_argument("count", type=int, nargs="?", default=0)
    parser.add_argument("--commit", default="1s")
    args = parser.parse_args()
    asyncio.run(worker(args.url, args.commit) if args.what == "worker" else probes(args.url, args.count))


if __name__ == "__main__":
    main()
