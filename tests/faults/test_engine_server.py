"""Workers whose model is in an engine server that is killed, hung, slow or changed: no post is lost or counted twice.

On a real Kafka with real `affect` processes; and, for what only one process can show, on `memory://`.
"""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from kafka_engine import Engine, Flow, Process, differences, in_memory, settings, stripped, toml
from rough_file import Rough, write_rough
from test_kafka_workers import posts_of, said

from engines.base import ScoreBatch, TensorBatch, TextModel
from engines.load import load_text_model
from engines.orders import Command, Outcome, Status
from engines.remote import command
from engines.serve_front import Doors
from engines.shelf import Shelf
from engines.stub import StubEngine
from operators.records import SignalRow
from stream.base import CommitUnit, Output, TopicSpec
from stream.config import Config
from stream.memory import MemoryLog
from stream.runner import Runner
from stream.sqlite_log import SqliteLog
from stream.system_clock import SystemClock
from stream.topology import build
from tests.engines.serving import ANYWHERE, serving, until, zoo_of_two

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]
PARTITIONS = 3


class ServerProcess:
    """`affect engine serve` as a process of its own, always at the same two addresses."""

    def __init__(self, folder: Path, engine: str, *words: str) -> None:
        self.address = f"ipc://{folder}/engine"
        self.control = f"ipc://{folder}/control"
        self._said = folder / "server.log"
        self._words = ["engine", "serve", "--engine", engine, "--bind", self.address, "--control", self.control, *words]
        self.start()

    def start(self) -> None:
        with self._said.open("ab") as out:
            self.process = subprocess.Popen([sys.executable, "-m", "stream.cli", *self._words], stdout=out, stderr=out)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def send(self, number: int) -> None:
        assert self.process.poll() is None, self._said.read_text()
        self.process.send_signal(number)

    def status(self) -> Status:
        outcome = command(self.control, msgspec.json.encode(Command("status")), 60.0)
        status = msgspec.json.decode(outcome, type=Outcome).status
        assert status is not None
        return status

    def end(self) -> None:
        """SIGTERM; it must end well."""
        self.send(signal.SIGTERM)
        assert self.process.wait(60) == 0, self._said.read_text()


@pytest.fixture(scope="module")
def rough(tmp_path_factory: pytest.TempPathFactory) -> Rough:
    return write_rough(tmp_path_factory.mktemp("rough") / "posts.jsonl", 3_000)


def assignments(process: Process) -> int:
    """How often the group has given this member partitions to score."""
    return len(re.findall(r"affect\.posts\.finance\.v1.*partitions \[", process.words()))


@pytest.mark.broker
def test_a_server_killed_hung_and_away_at_start_moves_no_partition_and_changes_no_number(
    broker: Any, rough: Rough, tmp_path: Path
) -> None:
    """Sessions of 3 s. The server is away at start, then hung (SIGSTOP) and killed for longer than a session while
    posts flow. Two workers hold, say so once each time, keep their partitions, and end with the oracle's rows."""
    outputs = posts_of(rough.path, partitions=PARTITIONS)
    want = in_memory("market", PARTITIONS, outputs)

    async def scene() -> None:
        async with Engine(broker.bootstrap, tmp_path, "market", PARTITIONS) as engine:
            engine._tree["engine"] = {"name": "remote", "address": f"ipc://{tmp_path}/engine"}
            await engine.ensure()
            workers = [engine.worker("a"), engine.worker("b")]
            await said("nobody answers", *workers)
            server = ServerProcess(tmp_path, "stub")
            try:
                await said("partitions [", *workers)
                flow = Flow(engine, outputs, 1_000)
                await engine.has_consumed(flow.to(0.2) // 2)
                given = [assignments(worker) for worker in workers]
                for share, stop, go in (
                    (0.5, lambda: server.send(signal.SIGSTOP), lambda: server.send(signal.SIGCONT)),
                    (0.8, server.kill, server.start),
                ):
                    await engine.has_consumed(flow.to(share - 0.1) - 400)
                    stop()
                    flow.to(share)
                    held = [len(re.findall("score .*retrying", worker.words())) for worker in workers]
                    await until_held(workers, held)
                    await asyncio.sleep(4.0)  # longer than a session: only heartbeats keep a partition
                    go()
                await flow.end()
                result = await engine.result()
                assert differences(result.rows, want) == []
                assert result.sums.conserved
                assert (result.sums.consumed, result.sums.applied) == (rough.lines, rough.posts)
                assert [assignments(worker) for worker in workers] == given
                assert all(worker.lives for worker in workers)
                for worker in workers:  # one line when it starts, one when it is over
                    assert 2 <= warned(worker, "retrying") == warned(worker, "works again")
                assert server.status().counts["answered"] > 0  # the one started after the kill
            finally:
                await asyncio.to_thread(server.end)

    asyncio.run(scene())


async def until_held(workers: Sequence[Process], before: Sequence[int]) -> None:
    """Until some worker has said once more that it holds."""
    async with asyncio.timeout(60):
        while True:
            now = [len(re.findall("score .*retrying", worker.words())) for worker in workers]
            if any(count > known for count, known in zip(now, before, strict=True)):
                return
            await asyncio.sleep(0.05)


def warned(worker: Process, words: str) -> int:
    """Lines of state changes that everybody sees (not only with --verbose)."""
    return len(re.findall(rf"WARNING affect\.worker: (?:score|load engine) .*{words}", worker.words()))


class Heavy(StubEngine):
    """The stub; while it is heavy, a batch takes `seconds`."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0
        self._waiting = threading.Event()

    def infer(self, batch: TensorBatch) -> ScoreBatch:
        self._waiting.wait(self.seconds)
        return super().infer(batch)


@pytest.mark.broker
def test_a_server_slower_than_the_session_moves_no_partition(broker: Any, rough: Rough, tmp_path: Path) -> None:
    """Batches of 2.5 s against a session of 2 s and a deadline of 1 s: late answers are dropped, asked again, and
    when it is quick again every post is counted once."""
    heavy = Heavy()
    plain = load_text_model("stub")
    outputs = [output._replace(partition=0) for output in posts_of(rough.path, partitions=1)[:600]]
    want = in_memory("market", 1, outputs)

    async def scene(address: str) -> None:
        async with Engine(broker.bootstrap, tmp_path, "market", 1, session_s=2) as engine:
            engine._tree["engine"] = {"name": "remote", "address": address, "deadline": "1s"}
            await engine.ensure()
            worker = engine.worker("a")
            await engine.append(outputs[:200])
            await engine.has_consumed(200)
            heavy.seconds = 2.5
            await engine.append(outputs[200:])
            await said("gave no answer within", worker)
            await asyncio.sleep(4.0)  # two sessions
            heavy.seconds = 0.0
            result = await engine.result()
            assert differences(result.rows, want) == []
            assert result.sums.conserved
            assert assignments(worker) == 1

    with serving(
        Shelf(lambda _: TextModel(plain.featurize, heavy, recipe=plain.recipe), "stub"),
        doors=Doors(f"ipc://{tmp_path}/slow", ANYWHERE),
    ) as server:
        asyncio.run(scene(server.address))


def rows_of(outputs: Sequence[Output], model: TextModel | None, address: str = "") -> list[SignalRow]:
    """The rows of the posts on `memory://`, scored by `model` or by the server at `address`."""

    async def run() -> list[SignalRow]:
        log, rows = MemoryLog(), list[SignalRow]()
        tree = settings("market", PARTITIONS, "memory://", "stub", 50)
        if address:
            tree["engine"] = {"name": "remote", "address": address}
        config = msgspec.convert(tree, Config).check()
        await log.ensure([TopicSpec(config.topic, PARTITIONS)])
        await log.commit(CommitUnit("test", outputs=list(outputs)))
        topology = build(config, PARTITIONS, replay=True, model=model)
        runner = Runner(topology, log, SystemClock(), until_end=True, on_rows=rows.extend)
        await runner.run()
        status = await runner.status()
        assert status.conserved
        topology.model.engine.close()
        return rows

    return [stripped(row) for row in asyncio.run(run())]


def test_every_row_names_the_versions_that_scored_its_posts(rough: Rough, tmp_path: Path) -> None:
    """The model is changed while a replay runs. Each post is in its windows once; a row that names one version is the
    very row of a run with that version alone; those that name two hold posts of both."""
    one, two = zoo_of_two(tmp_path)
    outputs = posts_of(rough.path, partitions=PARTITIONS)
    names = {one: "one", two: "two"}
    pure = {i: {r.row_id: r for r in rows_of(outputs, load_text_model(n, tmp_path))} for i, n in names.items()}
    begun, loaded = threading.Event(), threading.Event()

    def load(name: str) -> TextModel:
        model = load_text_model(name, tmp_path)
        watched = TextModel(model.featurize, Watched(model, begun, loaded), recipe=model.recipe)
        if name == "two":
            loaded.set()
        return watched

    with serving(Shelf(load, "one")) as server:

        def swap() -> None:
            assert begun.wait(60)
            outcome = command(server.control, msgspec.json.encode(Command("swap", "two")), 60.0)
            assert msgspec.json.decode(outcome, type=Outcome).error == ""

        beside = threading.Thread(target=swap)
        beside.start()
        mixed = rows_of(outputs, None, server.address)
        beside.join(60)
    seen = Counter(row.model for row in mixed)
    assert set(seen) == {one, two, ",".join(sorted((one, two)))}
    assert {row.row_id for row in mixed} == set(pure[one]) == set(pure[two])
    for row in mixed:
        assert row.n == pure[one][row.row_id].n
        if row.model in pure:
            assert row == pure[row.model][row.row_id]
    both = [r for r in mixed if r.model not in pure]
    assert any(r not in (pure[one][r.row_id], pure[two][r.row_id]) for r in both if r.value is not None)


def test_readyz_says_why_it_waits_and_a_worker_that_holds_can_be_stopped(rough: Rough, tmp_path: Path) -> None:
    """Away at start: 503 with the reason; there: 200; gone again: 503; SIGTERM while it holds: ends well."""
    tree = settings("market", 1, f"sqlite:///{tmp_path}/log.db")
    address = f"ipc://{tmp_path}/engine"
    tree |= {"engine": {"name": "remote", "address": address}, "web": {"port": 0}}
    config = tmp_path / "run.toml"
    config.write_text(toml(tree))
    words = [sys.executable, "-m", "stream.cli", "run", "-c", str(config)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as worker:
        try:
            assert worker.stdout is not None
            url = worker.stdout.readline().split()[-1] + "readyz"
            until(lambda: "nobody answers" in asked(url, 503))
            with serving(doors=Doors(address, ANYWHERE)):
                until(lambda: asked(url, 200) != "")
            log = SqliteLog(tmp_path / "log.db")
            posts = [output._replace(partition=0) for output in posts_of(rough.path, partitions=1)[:100]]
            asyncio.run(log.commit(CommitUnit("sender", outputs=posts)))
            asyncio.run(log.close())
            until(lambda: address in asked(url, 503))
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(60) == 0
            assert "Traceback" not in worker.communicate()[1]
        finally:
            worker.kill()


def asked(url: str, wanted: int) -> str:
    """What `url` says, "" where the status is not the wanted one."""
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            code, body = answer.status, answer.read()
    except urllib.error.HTTPError as problem:
        with problem:
            code, body = problem.code, problem.read()
    return str(body.decode()) if code == wanted else ""


class Watched:
    """A model that tells when it is asked for the 20th time, and at the 25th waits until there is another one."""

    def __init__(self, model: TextModel, begun: threading.Event, loaded: threading.Event) -> None:
        self.spec = model.spec
        self._model, self._begun, self._loaded, self._asked = model, begun, loaded, 0

    def infer(self, batch: TensorBatch) -> ScoreBatch:
        self._asked += 1
        if self._asked == 20:
            self._begun.set()
        if self._asked == 25:
            assert self._loaded.wait(60)
        return self._model.engine.infer(batch)

    def close(self) -> None:
        self._model.engine.close()
