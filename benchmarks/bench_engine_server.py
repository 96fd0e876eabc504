"""The engine server against the same model in process, in one run: throughput, where it goes, latency, a crowd.

    python benchmarks/bench_engine_server.py [--engines hashed,text-affect] [--rounds 7] [--connections 10000]

Tensors are made beforehand, so the model and the way to it are measured, not tokenising. Rounds of both kinds take
turns; the ratio is the median over pairs of rounds. `wall` is rows a second as a caller sees it, with `--clients`
callers that keep one request each open; `cpu` is rows a second of CPU time of the process that scores, which other work
on the machine does not change. Batch messages: as many rows as the model takes at a time.
"""

from __future__ import annotations

import argparse
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.bench_engine import mixed
from benchmarks.harness import table
from engines.base import TensorBatch, TextModel
from engines.load import load_remote, load_text_model
from engines.orders import Command, Outcome, Status
from engines.remote import command

TICK = os.sysconf("SC_CLK_TCK")
BATCHES = {"hashed": (40, 1000), "stub": (40, 1000), "text-affect": (1, 64)}
"""Messages a round and rows of each."""


class Round(NamedTuple):
    """Rows a second of wall time, and of CPU time of what scores."""

    wall: float
    cpu: float


class Child:
    """`affect engine serve` in a process of its own."""

    def __init__(self, folder: str, engine: str, bind: str = "", *words: str) -> None:
        self.control = f"ipc://{folder}/control"
        arguments = ["--engine", engine, "--bind", bind or f"ipc://{folder}/engine", "--control", self.control, *words]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "stream.cli", "engine", "serve", *arguments], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().split(" at ")[-1].strip()

    def cpu_s(self) -> float:
        """CPU seconds of the server so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def status(self) -> Status:
        """How it does."""
        outcome = msgspec.json.decode(command(self.control, msgspec.json.encode(Command("status")), 60), type=Outcome)
        assert outcome.status is not None, outcome.error
        return outcome.status


@contextmanager
def serving(engine: str, bind: str = "", *words: str) -> Iterator[Child]:
    """A server, stopped at the end."""
    with tempfile.TemporaryDirectory() as folder:
        child = Child(folder, engine, bind, *words)
        try:
            yield child
        finally:
            child.process.terminate()
            child.process.communicate(timeout=60)


def in_process(model: TextModel, batch: TensorBatch, messages: int) -> Round:
    """One caller, the model beside it."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(messages):
        model.engine.infer(batch)
    rows = messages * batch.rows
    return Round(rows / (time.perf_counter() - wall), rows / (time.process_time() - cpu))


def served(clients: list[TextModel], child: Child, batch: TensorBatch, messages: int) -> Round:
    """Several callers, each with one request open."""
    before = child.cpu_s()
    wall = time.perf_counter()

    def ask(client: TextModel) -> None:
        for _ in range(messages // len(clients)):
            client.engine.infer(batch)

    with ThreadPoolExecutor(len(clients)) as pool:
        for done in [pool.submit(ask, client) for client in clients]:
            done.result()
    rows = messages // len(clients) * len(clients) * batch.rows
    return Round(rows / (time.perf_counter() - wall), rows / max(1 / TICK, child.cpu_s() - before))


def throughput(engine: str, rounds: int, callers: int) -> list[object]:
    """One line: both ways, and their ratio."""
    messages, rows = BATCHES.get(engine, (4, 64))
    messages *= callers
    local = load_text_model(engine)
    batch = local.featurize(mixed(rows))
    with serving(engine) as child:
        clients = [load_remote(child.address) for _ in range(callers)]
        want, got = local.engine.infer(batch).logits, clients[0].engine.infer(batch).logits
        assert all(got[task].tobytes() == logits.tobytes() for task, logits in want.items())
        pairs = [
            (in_process(local, batch, messages), served(clients, child, batch, messages)) for _ in range(rounds + 1)
        ][1:]
        for client in clients:
            client.engine.close()
    here, there = zip(*pairs, strict=True)
    return [
        engine,
        rows,
        f"{statistics.median(r.wall for r in here):,.0f}",
        f"{statistics.median(r.wall for r in there):,.0f}",
        f"{statistics.median(b.wall / a.wall for a, b in pairs):.2f}",
        f"{statistics.median(r.cpu for r in here):,.0f}",
        f"{statistics.median(r.cpu for r in there):,.0f}",
        f"{statistics.median(b.cpu / a.cpu for a, b in pairs):.2f}",
    ]


def by_part(pid: int) -> dict[str, float]:
    """CPU seconds so far of a process, by what its threads do: the main one talks, ZeroMQ's copies, the rest scores."""
    spent: dict[str, float] = {"talks": 0.0, "copies": 0.0, "scores": 0.0}
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread may end meanwhile
            words, fields = stat.read_text().rpartition(")")[::2]
            part = "copies" if "ZMQbg" in words else "talks" if stat.parent.name == str(pid) else "scores"
            spent[part] += sum(map(int, fields.split()[11:13])) / TICK
    return spent


def where(engine: str, messages: int = 500) -> list[list[object]]:
    """Lines: CPU milliseconds a message, from texts to logits, in process and served."""
    messages, rows = (messages, BATCHES[engine][1]) if engine in ("hashed", "stub") else (12, 16)
    local = load_text_model(engine)
    texts = mixed(rows)
    batch = local.featurize(texts)

    def cost(work: Callable[[], object], times: int) -> float:
        start = time.process_time()
        for _ in range(times):
            work()
        return 1000 * (time.process_time() - start) / times

    makes = f"{cost(lambda: local.featurize(texts), max(3, messages // 25)):.2f}"
    here = f"{cost(lambda: local.engine.infer(batch), messages):.2f}"
    with serving(engine) as child:
        client = load_remote(child.address)
        client.engine.infer(batch)
        before, ours = by_part(child.process.pid), by_part(os.getpid())
        for _ in range(messages):
            client.engine.infer(batch)
        after, ours_after = by_part(child.process.pid), by_part(os.getpid())
        client.engine.close()
    server = [f"{1000 * (after[part] - before[part]) / messages:.2f}" for part in ("scores", "talks", "copies")]
    caller = [f"{1000 * (ours_after[part] - ours[part]) / messages:.2f}" for part in ("talks", "copies")]
    return [
        [engine, rows, "in process", makes, here, "", "", "", ""],
        [engine, rows, "served", makes, *server, *caller],
    ]


def idle(engine: str, calls: int = 400) -> list[object]:
    """One line: one row a call, nothing else going on; milliseconds."""
    local = load_text_model(engine)
    batch = local.featurize(mixed(1))
    with serving(engine) as child:
        client = load_remote(child.address)
        found = []
        for model in (local, client):
            spent = []
            for _ in range(calls):
                start = time.perf_counter()
                model.engine.infer(batch)
                spent.append(1000 * (time.perf_counter() - start))
            found += [f"{np.percentile(spent, p):.2f}" for p in (50, 99)]
        client.engine.close()
    return [engine, *found]


def crowd(connections: int) -> list[list[object]]:
    """A client that is served, before, while and after so many connections are opened to the same door."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, connections + 512), hard))
    lines: list[list[object]] = []
    with serving("stub", "tcp://127.0.0.1:*") as child:
        client = load_remote(child.address)
        batch = client.featurize(mixed(100))
        want = client.engine.infer(batch).logits["sentiment3"].tobytes()

        def measure(when: str) -> None:
            spent, right = [], 0
            for _ in range(200):
                start = time.perf_counter()
                right += client.engine.infer(batch).logits["sentiment3"].tobytes() == want
                spent.append(1000 * (time.perf_counter() - start))
            status = child.status()
            p50, p99 = np.percentile(spent, (50, 99))
            turned = status.counts.get("turned_away", 0)
            lines.append([when, f"{right} of 200", f"{p50:.2f}", f"{p99:.2f}", status.connections, turned])

        measure("before")
        host, port = child.address.removeprefix("tcp://").split(":")
        opened: list[socket.socket] = []
        over = threading.Event()

        def press() -> None:
            while not over.is_set() and len(opened) < connections:
                one = socket.socket()
                one.setblocking(False)
                one.connect_ex((host, int(port)))
                opened.append(one)

        pressing = threading.Thread(target=press)
        pressing.start()
        measure("while they come")
        pressing.join(60)
        over.set()
        measure(f"{len(opened):,} opened")
        while child.status().connections > 8:
            time.sleep(0.2)
        measure("cut off for silence")
        for one in opened:
            one.close()
        client.engine.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return lines


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", default="hashed,text-affect", help="models (default hashed,text-affect)")
    parser.add_argument("--rounds", type=int, default=7, help="pairs of rounds (default 7)")
    parser.add_argument("--clients", type=int, default=2, help="callers with a request open each (default 2)")
    parser.add_argument("--connections", type=int, default=10_000, help="in the crowd (default 10000; 0 = none)")
    options = parser.parse_args()
    names = options.engines.split(",")
    columns = ["engine", "rows a message", "wall here", "wall served", "ratio", "cpu here", "cpu served", "ratio"]
    table(
        f"rows a second, ipc, {options.clients} callers",
        columns,
        [throughput(n, options.rounds, options.clients) for n in names],
    )
    columns = ["engine", "rows a message", "where", "makes tensors", "scores", "server talks", "copies"]
    columns += ["caller talks", "copies"]
    table("CPU ms a message, one caller", columns, [line for n in names for line in where(n)])
    table("one row, idle, ms", ["engine", "here p50", "p99", "served p50", "p99"], [idle(n) for n in names])
    if options.connections:
        columns = ["when", "answers right", "p50 ms", "p99 ms", "connections", "turned away"]
        table("a served client beside a crowd of connections that say nothing", columns, crowd(options.connections))
    return 0


if __name__ == "__main__":
    sys.exit(main())
