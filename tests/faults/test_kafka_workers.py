"""Real `affect` processes on a real Kafka: workers and brokers die, stop and come back, and no number changes."""

from __future__ import annotations

import asyncio
import random
import re
import signal
import time
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kafka_engine import Engine, Flow, Process, Result, Rows, differences, in_memory
from rough_file import START_MS, Rough, write_rough

from engines.base import EngineSpec, ScoreBatch
from operators.arrivals import Arrival
from operators.codec import Codec
from operators.gate import frame
from operators.records import Post
from operators.text import Score
from stream.base import Output, Record
from stream.config import INPUT_TOPICS
from stream.connect import open_log
from stream.ingest import IngestPlan, prepare
from stream.runner import Runner
from stream.system_clock import SystemClock
from stream.worker import ScoreWorker

pytestmark = [pytest.mark.faults, pytest.mark.broker, pytest.mark.timeout(600)]
PARTITIONS = 5
SEED = 20_261_124


def posts_of(
    path: Path, domain: str = "market", partitions: int = PARTITIONS, rank_s: float | None = None
) -> list[Output]:
    """The lines of a file as `affect replay` would put them on the topic."""
    rank_ms = None if rank_s is None else rank_s * 1000
    plan = IngestPlan(path, INPUT_TOPICS[domain], partitions, rank_ms, b"key", SystemClock().now_ms())
    with path.open("rb") as lines:
        return [output for _, output in prepare(iter(lines), plan, 0, 0)]


class Case:
    """Rough posts (27 % out of order, 2 % twice, 1 % broken) and the rows they must make."""

    def __init__(self, folder: Path, posts: int) -> None:
        self.rough: Rough = write_rough(folder / "posts.jsonl", posts)
        self.outputs = posts_of(self.rough.path)
        self.want: Rows = in_memory("market", PARTITIONS, self.outputs)
        assert len(self.want) > 500

    def check(self, result: Result) -> None:
        """Every row equal, every post accounted for, the dead letters exactly the broken lines."""
        rough, sums = self.rough, result.sums
        assert differences(result.rows, self.want) == []
        assert sums.conserved
        assert (sums.consumed, sums.late, sums.rejected) == (rough.lines, 0, rough.broken)
        assert (sums.applied, sums.duplicate) == (rough.posts, rough.repeats)
        assert result.late == 0
        assert len(result.dead) == rough.broken
        assert result.status["provisional"] < len(result.rows) / 2


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(tmp_path_factory.mktemp("rough"), 6_000)


def run(test: Coroutine[None, None, None]) -> None:
    asyncio.run(test)


def test_30_kills_of_workers_change_no_number(broker: Any, case: Case, tmp_path: Path) -> None:
    """Three workers, two of them static members. Each kill comes at a random moment after some progress."""
    rng = random.Random(SEED)
    kills = 30

    async def scene() -> None:
        async with Engine(broker.bootstrap, tmp_path, "market", PARTITIONS) as engine:
            await engine.ensure()
            statics = ["one", "two", ""]
            workers = [engine.worker(f"w{k}", name) for k, name in enumerate(statics)]
            part = len(case.outputs) // (kills + 1)
            for turn in range(kills):
                at = await engine.consumed()
                await engine.append(case.outputs[turn * part : (turn + 1) * part])
                await engine.has_consumed(at + rng.randrange(1, part))
                await asyncio.sleep(rng.choice((0.0, rng.uniform(0.0, 0.05), rng.uniform(0.0, 0.5))))
                k = rng.randrange(3)
                workers[k].kill()
                workers[k] = engine.worker(f"w{k}", statics[k])
            await engine.append(case.outputs[kills * part :])
            case.check(await engine.result())
            assert sum(process.process.returncode == -signal.SIGKILL for process in engine.processes) == kills

    run(scene())


def test_workers_that_come_and_go_while_posts_flow_change_no_number(broker: Any, case: Case, tmp_path: Path) -> None:
    """One worker, then three, then one other: partitions are handed over four times."""

    async def scene() -> None:
        async with Engine(broker.bootstrap, tmp_path, "market", PARTITIONS) as engine:
            await engine.ensure()
            flow = Flow(engine, case.outputs, 500)
            first = engine.worker("a")
            await engine.has_consumed(flow.to(0.2) // 2)
            second, third = engine.worker("b"), engine.worker("c")
            flow.to(0.4)
            await said("partitions [", second, third)
            await engine.has_consumed(flow.to(0.6) - 300)
            flow.to(0.8)
            await asyncio.to_thread(first.stop)
            await engine.has_consumed(flow.to(0.9) - 300)
            await asyncio.to_thread(second.stop)
            await flow.end()
            case.check(await engine.result())
            await asyncio.to_thread(third.stop)
            for worker in (first, second, third):  # each knows how all of them stand, whoever has the windows
                assert told(worker)["in"] == sum(told(worker).values()) - told(worker)["in"]
                assert told(worker)["applied"] > 0
            assert told(third)["in flight"] == 0

    run(scene())


def told(process: Process) -> dict[str, int]:
    """The conservation sum a process ends with."""
    line = process.words().splitlines()[-1]
    found = re.findall(r"(\d+) (?:posts )?(in flight|in|applied|duplicate|late|rejected)\b", line)
    return {word: int(count) for count, word in found}


async def said(words: str, *processes: Process) -> None:
    """Wait until each of them has said `words`."""
    deadline = time.monotonic() + 60
    while not all(words in process.words() for process in processes):
        assert time.monotonic() < deadline, [process.words()[-2000:] for process in processes]
        await asyncio.sleep(0.1)


def test_a_zombie_is_fenced_and_changes_no_number(broker: Any, case: Case, tmp_path: Path) -> None:
    """A worker stopped past its session; another takes over; it wakes up, is fenced, and later finishes the work."""

    async def scene() -> None:
        async with Engine(broker.bootstrap, tmp_path, "market", PARTITIONS) as engine:
            await engine.ensure()
            flow = Flow(engine, case.outputs, 1_000)
            zombie = engine.worker("zombie")
            await engine.has_consumed(flow.to(0.2) // 2)
            other = engine.worker("other")
            flow.to(0.3)
            await said("partitions [", other)
            await engine.has_consumed(flow.to(0.5) - 500)
            zombie.send(signal.SIGSTOP)
            await engine.has_consumed(flow.to(0.7))  # by the other alone: the broker has given up on the zombie
            zombie.send(signal.SIGCONT)
            await flow.end()
            case.check(await engine.result())
            assert zombie.lives
            other.kill()
            await engine.append(case.outputs[:1])  # seen before: shows that the zombie is a worker again
            await engine.has_consumed(len(case.outputs) + 1)

    run(scene())


def test_a_broker_that_is_down_at_start_and_killed_twice_changes_no_number(
    broker: Any, case: Case, tmp_path: Path
) -> None:
    """Nothing ends; each worker says once that the broker is away and once that it is back, each time."""

    async def scene() -> None:
        node = broker.nodes[0]
        async with Engine(broker.bootstrap, tmp_path, "market", PARTITIONS) as engine:
            await engine.ensure()
            await asyncio.to_thread(node.kill)
            workers = [engine.worker("a"), engine.worker("b")]
            await said("retrying", *workers)
            await restart(node)
            await said("works again", *workers)
            flow = Flow(engine, case.outputs, 500)
            for share in (0.2, 0.5):
                await engine.has_consumed(flow.to(share) // 2)
                await asyncio.to_thread(node.kill)
                await asyncio.sleep(1.0)
                await restart(node)
            await flow.end()
            case.check(await engine.result())
            assert all(worker.lives for worker in workers)

    run(scene())


async def restart(node: Any) -> None:
    node.start()
    await asyncio.to_thread(node.wait, 60.0)


def test_leaders_killed_in_a_cluster_of_three_change_no_number(new_cluster: Any, case: Case, tmp_path: Path) -> None:
    """Replication 3, two in-sync replicas asked for; the leader of the first partition dies twice, posts flow on."""

    async def scene(cluster: Any) -> None:
        async with Engine(cluster.bootstrap, tmp_path, "market", PARTITIONS, session_s=4) as engine:
            await engine.ensure()
            workers = [engine.worker("a"), engine.worker("b")]
            flow = Flow(engine, case.outputs, 500)
            for share in (0.3, 0.6):
                await engine.has_consumed(flow.to(share) // 2)
                leader = cluster.nodes[await engine.log._wire.leader(f"{engine.prefix}{engine.config.topic}", 0) - 1]
                await asyncio.to_thread(leader.kill)
                await engine.has_consumed(flow.to(share + 0.1))  # two of three go on
                await restart(leader)
            await flow.end()
            case.check(await engine.result())
            assert all(worker.lives for worker in workers)

    with new_cluster(brokers=3) as cluster:
        run(scene(cluster))


class Slow:
    """A model that takes `seconds` a batch, in whatever thread it is called."""

    elsewhere = False

    def __init__(self, score: Score, seconds: float) -> None:
        self._model, self._seconds = score._model, seconds
        self.calls = 0
        score._model = self

    @property
    def spec(self) -> EngineSpec:
        return self._model.spec

    def logits(self, texts: Sequence[str]) -> ScoreBatch:
        self.calls += 1
        time.sleep(self._seconds)
        return replace(self._model.logits(texts), run_s=self._seconds)


def test_a_model_slower_than_the_session_stays_in_the_group(broker: Any, case: Case, tmp_path: Path) -> None:
    """Batches of 3 s, a session of 1 s: one assignment, no rebalance, every post counted."""

    async def scene() -> None:
        async with Engine(broker.bootstrap, tmp_path, "market", 1, session_s=1) as engine:
            await engine.ensure()
            posts = [output._replace(partition=0) for output in case.outputs[:250]]
            await engine.append(posts)
            log = open_log(engine.url)
            slow = Slow(engine.topology.score, 3.0)
            runner = Runner(engine.topology, log, SystemClock(), until_end=False)
            running = asyncio.create_task(runner.run())
            given = counting(runner.workers[0])
            await engine.has_consumed(len(posts))
            runner.stop()
            await running
            await log.close()
            assert slow.calls >= 3
            assert given == [(0,)]
            assert (await engine.progress())[0].consumed == len(posts)

    run(scene())


def counting(worker: ScoreWorker) -> list[tuple[int, ...]]:
    """The assignments a worker is told of from now on."""
    given: list[tuple[int, ...]] = []
    assigned = worker.assigned

    async def noted(partitions: Sequence[int], generation: int) -> None:
        given.append(tuple(partitions))
        await assigned(partitions, generation)

    worker.assigned = noted  # type: ignore[method-assign]
    return given


def poison(rng: random.Random, codec: Codec, good: list[bytes]) -> list[tuple[bytes, str]]:
    """Messages that no reader may trip over, each with the reason it is to be refused for."""
    head = frame(1) + b"\x02a\x02b\0\0\0"
    bombs = [
        (head + b"\x02" + b"\x80\x80\x80\x80\x80\x40" + bytes(8), "bad_block_count"),
        (head + b"\x02" + b"\xff" * 9 + b"\x01" + bytes(8), "bad_block_count"),
        (frame(1) + b"\x02a" + b"\x80\x80\x80\x80\x80\x80\x01" + b"b", "truncated"),
        (b'{"a":' * 5_000 + b"1" + b"}" * 5_000, "too_deep"),
        (b'{"id":"a","text":"' + rng.randbytes(150_000).hex().encode() + b'"}', "too_large"),
        (b'{"id":"a","text":"' + b"x" * 900_000 + b'"}', "too_large"),
        (frame(987_654) + good[0][5:], "unknown_schema"),
        (b"", "empty"),
        (b"not a post", "bad_magic"),
        (b'{"id":"a","text":"b","created_at":' + b"9" * 5_000 + b"}", "wrong_type"),
        (b'{"id":"a","text":"b","created_at":-5}', "bad_timestamp"),
        (b'{"id":"","text":"b"}', "bad_id"),
        (b'{"id":"a"}', "missing_field"),
        (b'{"id":"a","text":"b","created_at":NaN}', "bad_json"),
        (head + bytes(6), "trailing_bytes"),
    ]
    found = [rng.choice(bombs[6:]) for _ in range(60)] + bombs * 2
    while len(found) < 200:
        raw = bytearray(rng.choice(good))
        for _ in range(rng.choice((1, 2, 4))):
            raw[rng.randrange(len(raw))] = rng.randrange(256)
        del raw[rng.randrange(len(raw) // 2, 2 * len(raw)) :]
        _, dead = codec.decode_posts("t", 0, [Record(0, None, bytes(raw), START_MS)], Arrival(b"k"))
        if dead:
            found.append((bytes(raw), dead[0].reason))
    return found


def test_a_poison_stream_runs_to_its_end_and_only_the_poison_is_dead(broker: Any, case: Case, tmp_path: Path) -> None:
    """5 % of the messages malformed, too large, of an unknown schema, or bombs; two workers; every reason is right."""
    rng = random.Random(SEED)
    good = [output for output in case.outputs if output.value.endswith(b"}")][:4_000]
    want = in_memory("market", PARTITIONS, good)

    async def scene() -> None:
        async with Engine(broker.bootstrap, tmp_path, "market", PARTITIONS) as engine:
            await engine.ensure()
            codec = engine.topology.parts.codec
            rich = codec.encode_posts([Post(id=f"p{k}", text=f"$AAPL up {k}", tickers=("AAPL",)) for k in range(5)])
            bad = poison(rng, codec, rich + [output.value for output in good[:20]])
            mixed: list[tuple[Output, str | None]] = [(output, None) for output in good]
            for raw, reason in bad:
                at = rng.randrange(len(mixed) + 1)
                stamp = mixed[max(0, at - 1)][0].timestamp_ms
                mixed.insert(at, (Output(engine.config.topic, rng.randrange(PARTITIONS), b"?", raw, stamp), reason))
            expected, ends = {}, [0] * PARTITIONS
            for output, reason in mixed:
                if reason is not None:
                    expected[output.partition, ends[output.partition]] = reason
                ends[output.partition] += 1
            workers = [engine.worker("a"), engine.worker("b")]
            await engine.append([output for output, _ in mixed])
            result = await engine.result()
            found = {(d.partition, d.offset): d.reason for d in result.dead}
            assert {
                at: (found.get(at), expected.get(at))
                for at in found.keys() | expected.keys()
                if found.get(at) != expected.get(at)
            } == {}
            assert differences(result.rows, want) == []
            assert result.sums.conserved
            assert result.sums.rejected == len(bad) >= len(mixed) * 0.045
            assert all(worker.lives for worker in workers)

    run(scene())
