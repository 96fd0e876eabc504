"""Drives real `affect run` processes on a real Kafka broker, and says what they left behind."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import msgspec

from operators.cell_messages import read_message
from operators.cells import Progress
from operators.records import DeadLetter, SignalRow
from stream.base import CommitUnit, Output, TopicSpec
from stream.config import Config
from stream.errors import LogError
from stream.kafka import KafkaLog
from stream.kafka_wire import Access
from stream.memory import MemoryLog
from stream.runner import Runner
from stream.system_clock import SystemClock
from stream.topics import DEAD_LETTER, LATE, PANES, SIGNALS
from stream.topology import Topology, build

T = TypeVar("T")
RowKey = tuple[str, str, int, int]
Rows = dict[RowKey, SignalRow]
PATIENCE_S = 150.0
WINDOWS = ("1m", "5m", "1h", "24h")


@dataclass(frozen=True)
class Sums:
    """What became of the posts, by the engine's own last word on each partition."""

    consumed: int
    applied: int
    duplicate: int
    late: int
    rejected: int

    @property
    def conserved(self) -> bool:
        return self.consumed == self.applied + self.duplicate + self.late + self.rejected


@dataclass
class Result:
    """What a run left on the log. `status` counts the statuses of the newest rows."""

    rows: Rows
    sums: Sums
    dead: list[DeadLetter]
    late: int
    status: Counter[str] = field(default_factory=Counter)


def settings(domain: str, partitions: int, url: str, engine: str = "stub", batch: int = 100) -> dict[str, object]:
    """Settings of a run: posts are never late, partitions are idle soon, commits are many."""
    return {
        "domain": domain,
        "log": {"url": url, "retention": "36500d"},
        "input": {"partitions": partitions, "group": "test"},
        "engine": {"name": engine},
        "time": {"lateness": "24h", "idle": "1s"},
        "run": {"batch_size": batch, "commit_interval": "1s", "language": False},
        "windows": {"sizes": list(WINDOWS)},
        "web": {"enabled": False},
    }


def toml(tree: dict[str, object]) -> str:
    """`tree` as TOML: one level of tables, strings, numbers and lists of strings."""
    plain = [f"{k} = {msgspec.json.encode(v).decode()}" for k, v in tree.items() if not isinstance(v, dict)]
    for name, table in tree.items():
        if isinstance(table, dict):
            plain += [f"[{name}]", *(f"{k} = {msgspec.json.encode(v).decode()}" for k, v in table.items())]
    return "\n".join(plain) + "\n"


def stripped(row: SignalRow) -> SignalRow:
    """A row without what depends on the moment it was published."""
    return msgspec.structs.replace(row, status="final", watermark=0)


def newest(rows: Iterable[SignalRow]) -> Rows:
    """The newest row of every window, as a reader of the signal topic keeps it."""
    found: Rows = {}
    for row in rows:
        key = (row.signal, row.entity, row.window_start, row.window_end)
        known = found.get(key)
        if known is None or (row.revision, row.n) >= (known.revision, known.n):
            found[key] = row
    return found


def in_memory(domain: str, partitions: int, outputs: Sequence[Output], engine: str = "stub") -> Rows:
    """The rows of the same records on `memory://`, in one process, undisturbed."""

    async def run() -> Rows:
        log = MemoryLog()
        config = msgspec.convert(settings(domain, partitions, "memory://", engine), Config).check()
        await log.ensure([TopicSpec(config.topic, partitions)])
        await log.commit(CommitUnit("test", outputs=list(outputs)))
        rows: list[SignalRow] = []
        runner = Runner(build(config, partitions, replay=True), log, SystemClock(), until_end=True, on_rows=rows.extend)
        await runner.run()
        return {key: stripped(row) for key, row in newest(rows).items()}

    return asyncio.run(run())


class Process:
    """One `affect run`. What it says goes to a file."""

    def __init__(self, config: Path, name: str) -> None:
        self.name = name
        self.said = config.with_name(f"{name}.log")
        with self.said.open("ab") as out:
            command = [sys.executable, "-m", "stream.cli", "--verbose", "run", "-c", str(config)]
            self.process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)

    @property
    def lives(self) -> bool:
        return self.process.poll() is None

    def words(self) -> str:
        return self.said.read_text(errors="replace")

    def send(self, number: int) -> None:
        assert self.lives, self.words()[-3000:]
        self.process.send_signal(number)

    def kill(self) -> None:
        """kill -9."""
        self.send(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """SIGTERM, as an operator does; it must end well."""
        self.send(signal.SIGTERM)
        assert self.process.wait(60) == 0, self.words()[-3000:]

    def end(self) -> None:
        """Away with it, whatever it is doing."""
        if self.lives:
            self.process.kill()
            self.process.wait()


class Engine:
    """One installation on a broker: its topics, and the processes that work on them."""

    def __init__(
        self,
        bootstrap: str,
        folder: Path,
        domain: str,
        partitions: int,
        engine: str = "stub",
        session_s: float = 3,
        batch: int = 100,
    ) -> None:
        self.prefix = f"e{uuid.uuid4().hex[:10]}."
        self.partitions = partitions
        self.folder = folder
        self.url = f"kafka://{bootstrap}?prefix={self.prefix}&patience=2&session={session_s:g}"
        self._tree = settings(domain, partitions, self.url, engine, batch)
        self.config = msgspec.convert(self._tree, Config).check()
        self.log = KafkaLog(Access(bootstrap), self.prefix, patience_s=3.0)
        self.topology: Topology = build(self.config, partitions)
        self.processes: list[Process] = []
        self.appended = 0
        self._seen = 0
        self._marks: dict[int, Progress] = {}

    async def __aenter__(self) -> Engine:
        return self

    async def __aexit__(self, *_: object) -> None:
        for process in self.processes:
            process.end()
        await self.log.close()

    def worker(self, name: str, instance: str = "") -> Process:
        """Start a process; `instance` makes it a static member."""
        path = self.folder / f"{self.prefix}{name}.toml"
        url = self.url + (f"&instance={instance}" if instance else "")
        path.write_text(toml({**self._tree, "log": {"url": url, "retention": "36500d"}}))
        process = Process(path, f"{self.prefix}{name}")
        self.processes.append(process)
        return process

    async def ensure(self) -> None:
        await self.insist(lambda: self.log.ensure(self.topology.topics))

    async def append(self, outputs: Sequence[Output]) -> None:
        """Put posts on the input topic; returns once the broker has acknowledged them all."""
        unit = CommitUnit("sender", outputs=list(outputs))
        await self.insist(lambda: self.log.commit(unit))
        self.appended += len(outputs)

    async def insist(self, act: Callable[[], Awaitable[T]], seconds: float = PATIENCE_S) -> T:
        """`act`, again while the broker is away."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                return await act()
            except LogError as error:
                if not error.retriable or time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.1)

    async def until(self, what: str, holds: Callable[[], Awaitable[bool]], seconds: float = PATIENCE_S) -> None:
        """Wait until `holds`; on failure says what the processes said last."""
        deadline = time.monotonic() + seconds
        while not await self.insist(holds):
            if time.monotonic() > deadline:
                said = "\n".join(f"--- {p.name} lives={p.lives}\n{p.words()[-2500:]}" for p in self.processes[-5:])
                raise AssertionError(f"not in {seconds:.0f} s: {what}; {await self.progress()}\n{said}")
            await asyncio.sleep(0.1)

    async def consumed(self) -> int:
        """Posts of which the workers have committed what became of them."""
        return sum(await self.insist(lambda: self.log.committed(self.topology.parts.group, self.config.topic)))

    async def has_consumed(self, count: int) -> None:
        async def enough() -> bool:
            return await self.consumed() >= count

        await self.until(f"{count} posts consumed", enough)

    async def records(self, topic: str) -> AsyncIterator[bytes]:
        """Values of a topic of one partition, from its begin to its end."""
        at, end = (await self.insist(lambda: self.log.span(topic)))[0]
        while at < end:
            found = await self.insist(lambda at=at: self.log.read(topic, 0, at, 5_000))  # type: ignore[misc]
            if not found:
                return
            at = found[-1].offset + 1
            for record in found:
                yield record.value

    async def progress(self) -> dict[int, Progress]:
        """The newest mark of every partition."""
        parts, end = self.topology.parts, (await self.insist(lambda: self.log.span(PANES)))[0][1]
        while self._seen < end:
            found = await self.insist(lambda: self.log.read(PANES, 0, self._seen, 5_000))
            if not found:
                break
            self._seen = found[-1].offset + 1
            for record in found:
                if record.key is not None and record.key.endswith(b"/progress"):
                    item = read_message(parts.codec.decode_panes(record.value), parts.domain)
                    assert isinstance(item, Progress)
                    known = self._marks.get(item.partition)
                    if known is None or known.consumed <= item.consumed:
                        self._marks[item.partition] = item
        return self._marks

    async def settled(self) -> bool:
        """Everything appended is counted, told to be idle, and in the windows."""
        if await self.consumed() < self.appended:
            return False
        marks = await self.progress()
        if len(marks) < self.partitions or not all(mark.idle for mark in marks.values()):
            return False
        done = (await self.log.committed(self.topology.windows.group, PANES))[0]
        return done == (await self.log.span(PANES))[0][1]

    async def result(self) -> Result:
        """Wait until all is worked off, and read what is there; no process has met with anything it did not expect."""
        await self.until("everything worked off", self.settled)
        for process in self.processes:
            assert "Traceback" not in process.words(), process.words()[-3000:]
        codec = self.topology.parts.codec
        rows = newest([codec.decode_signal(value) async for value in self.records(SIGNALS)])
        marks = (await self.progress()).values()
        sums = Sums(*(sum(getattr(m, word) for m in marks) for word in Sums.__dataclass_fields__))
        dead = {(d.partition, d.offset): d async for d in self._dead()}  # sent again after a crash: the same letter
        late = len({value async for value in self.records(LATE)})
        status = Counter(row.status for row in rows.values())
        return Result({key: stripped(row) for key, row in rows.items()}, sums, list(dead.values()), late, status)

    async def _dead(self) -> AsyncIterator[DeadLetter]:
        async for value in self.records(DEAD_LETTER):
            yield self.topology.parts.codec.decode_dead_letter(value)


class Flow:
    """Appends posts beside what a test does: some every tenth of a second, up to a mark that the test moves on."""

    def __init__(self, engine: Engine, outputs: Sequence[Output], per_s: float) -> None:
        self._engine, self._outputs, self._chunk = engine, outputs, max(1, int(per_s / 10))
        self._mark = 0
        self._moved = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        at = 0
        while at < len(self._outputs):
            if at >= self._mark:
                self._moved.clear()
                await self._moved.wait()
            end = min(self._mark, at + self._chunk)
            await self._engine.append(self._outputs[at:end])
            at = end
            await asyncio.sleep(0.1)

    def to(self, share: float) -> int:
        """Let the flow go on to `share` of all posts; how many that is."""
        self._mark = round(share * len(self._outputs))
        self._moved.set()
        return self._mark

    async def end(self) -> None:
        """Until everything is appended."""
        self.to(1.0)
        await self._task


def differences(rows: Rows, want: Rows) -> list[str]:
    """Where rows differ; at most ten lines, [] = nowhere."""
    out = [f"missing {key}" for key in list(want.keys() - rows.keys())[:4]]
    out += [f"unexpected {key}" for key in list(rows.keys() - want.keys())[:4]]
    out += [
        f"{key}: got {rows[key]}, expected {want[key]}" for key in want.keys() & rows.keys() if rows[key] != want[key]
    ]
    return out[:10]
