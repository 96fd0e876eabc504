"""One process of a pipeline benchmark: the engine itself, or the bare loop it is compared with. Prints JSON.

python benchmarks/pipeline_workers.py engine|bare URL FORM [--near] [--batch N] [--profile FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import sys
import time
import zlib
from collections.abc import Callable, Coroutine, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import aiokafka
import fastavro
import msgspec

from benchmarks.posts import TOPIC, WINDOW_MS
from operators.gate import HEADER
from operators.records import SignalRow
from operators.registry import BUILT_IN
from operators.sent import WirePost
from stream.config import Config
from stream.connect import open_log
from stream.runner import Runner
from stream.system_clock import SystemClock
from stream.topology import build

Windows = dict[tuple[str, int], list[int]]


def config_for(url: str, near: bool, batch: int, commit: str = "1s") -> Config:
    """Stub model, one-minute windows per ticker."""
    return msgspec.convert(
        {
            "domain": "market",
            "log": {"url": url, "retention": "36500d"},
            "engine": {"name": "stub"},
            "time": {"disorder": "30s", "lateness": "1m"},
            "windows": {"sizes": ["1m"], "minimum": 1.0},
            "run": {"batch_size": batch, "near_duplicates": near, "commit_interval": commit},
        },
        Config,
    ).check()


async def engine(url: str, near: bool, batch: int) -> dict[str, Any]:
    """The engine over all that lies on the topic. Returns its conservation sum and the count of each window."""
    log = open_log(url)
    counts: dict[str, int] = {}
    rows = 0

    def add(emitted: Sequence[SignalRow]) -> None:
        nonlocal rows
        rows += len(emitted)
        for row in emitted:
            if row.signal == "market.buzz" and row.entity.startswith("ticker:"):
                counts[f"{row.entity.removeprefix('ticker:')}|{row.window_start}"] = row.n

    try:
        config = config_for(url, near, batch)
        topology = build(config, len(await log.span(config.topic)))
        runner = Runner(topology, log, SystemClock(), until_end=True, on_rows=add)
        started = Stopwatch()
        await runner.run()
        spent = started.read()
        status = await runner.status()
    finally:
        await log.close()
    sums = {k: getattr(status, k) for k in ("consumed", "applied", "duplicate", "late", "rejected", "in_flight")}
    return {**spent, **sums, "rows": rows, "counts": counts}


class Stopwatch:
    """CPU seconds (user and system, all threads) and wall seconds of this process from here on."""

    def __init__(self) -> None:
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    def read(self) -> dict[str, float]:
        # Not getrusage: its peak begins with that of the process which forked this one.
        status = Path("/proc/self/status").read_text().splitlines()
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024
        cpu, wall = time.process_time() - self._cpu, time.perf_counter() - self._wall
        return {"cpu_s": cpu, "wall_s": wall, "start_cpu_s": self._cpu, "peak_mib": peak}


async def bare(url: str, form: str) -> dict[str, Any]:
    """`getmany`, decode, a set of ids and a dict of windows: no gate, no authors, no state, no output, no commit."""
    servers, _, query = url.removeprefix("kafka://").partition("?")
    prefix = query.removeprefix("prefix=")
    decode = decoder(form)
    consumer = aiokafka.AIOKafkaConsumer(bootstrap_servers=servers, auto_offset_reset="earliest")
    await consumer.start()
    try:
        partitions = consumer.partitions_for_topic(prefix + TOPIC)
        if not partitions:
            await consumer._client.add_topic(prefix + TOPIC)
            partitions = consumer.partitions_for_topic(prefix + TOPIC)
        places = [aiokafka.TopicPartition(prefix + TOPIC, p) for p in sorted(partitions or ())]
        consumer.assign(places)
        left = sum((await consumer.end_offsets(places)).values())
        consumed = left
        started = Stopwatch()
        windows: Windows = {}
        seen: set[str] = set()
        while left > 0:
            for records in (await consumer.getmany(timeout_ms=1000, max_records=8192)).values():
                left -= len(records)
                fold(records, decode, windows, seen)
        spent = started.read()
    finally:
        await consumer.stop()
    counts = {f"{ticker}|{start}": cell[0] for (ticker, start), cell in windows.items()}
    return {**spent, "consumed": consumed, "applied": len(seen), "rows": len(windows), "counts": counts}


def fold(records: Sequence[Any], decode: Callable[[bytes], Any], windows: Windows, seen: set[str]) -> None:
    """Add records to their windows, each id once."""
    for record in records:
        post = decode(record.value)
        if post.id in seen:
            continue
        seen.add(post.id)
        score = zlib.crc32(post.text.encode()) % 1000
        start = post.created_at // WINDOW_MS * WINDOW_MS
        for ticker in post.tickers:
            cell = windows.get((ticker, start))
            if cell is None:
                windows[ticker, start] = [1, score]
            else:
                cell[0] += 1
                cell[1] += score


def decoder(form: str) -> Callable[[bytes], Any]:
    """The codec of the engine without its gate: msgspec or fastavro."""
    if form == "json":
        return msgspec.json.Decoder(WirePost).decode
    schema = fastavro.parse_schema(msgspec.json.decode((BUILT_IN / "post.avsc").read_bytes()), {})
    read = fastavro.schemaless_reader

    def decode(raw: bytes) -> WirePost:
        body = BytesIO(raw)
        body.seek(HEADER)
        return WirePost(**read(body, schema, None))

    return decode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("who", choices=("engine", "bare"))
    parser.add_argument("url")
    parser.add_argument("form", choices=("json", "avro"))
    parser.add_argument("--near", action="store_true", help="look for near-duplicates")
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--profile", default=None, metavar="FILE", help="write a cProfile of it")
    args = parser.parse_args()
    work: Coroutine[Any, Any, dict[str, Any]]
    work = engine(args.url, args.near, args.batch) if args.who == "engine" else bare(args.url, args.form)
    if args.profile is None:
        found = asyncio.run(work)
    else:
        profile = cProfile.Profile(time.thread_time)
        found = profile.runcall(asyncio.run, work)
        profile.dump_stats(args.profile)
    print(msgspec.json.encode(found).decode())


if __name__ == "__main__":
    main()
