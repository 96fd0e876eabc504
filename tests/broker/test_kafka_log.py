"""`kafka://` where it differs from a file: brokers that die, times and sizes, transactions, a whole replay."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from stream.base import CommitUnit, Output, TopicSpec
from stream.cli import main
from stream.errors import LogError, LogUnavailable
from stream.kafka import KafkaLog
from stream.kafka_wire import Access
from tests.broker.logs import T0, in_the_end, make, posts, run, values

pytestmark = pytest.mark.broker


# A broker that dies


def test_commits_go_on_after_kill_9_and_nothing_is_lost_doubled_or_swapped(mortal: Any, prefix: str) -> None:
    async def test() -> None:
        log = KafkaLog(Access(mortal.bootstrap), prefix, patience_s=1.0)
        await log.ensure([TopicSpec("t", 2)])
        unavailable = 0

        async def write(partition: int) -> None:
            nonlocal unavailable
            for k in range(300):
                unit = CommitUnit(
                    "g", {("t", partition): k + 1}, {f"at/{partition}": str(k).encode()}, posts([str(k)], partition)
                )
                while True:
                    try:
                        await log.commit(unit)
                        break
                    except LogUnavailable:
                        unavailable += 1
                await asyncio.sleep(0.005)

        writing = asyncio.gather(write(0), write(1))
        for _ in range(2):
            await asyncio.sleep(0.5)
            await asyncio.to_thread(mortal.nodes[0].kill)
            await asyncio.sleep(1.5)
            mortal.nodes[0].start()
            await asyncio.to_thread(mortal.nodes[0].wait, 30.0)
        await writing
        expected = [str(k) for k in range(300)]
        assert await in_the_end(lambda: values(log, 0)) == expected
        assert await values(log, 1) == expected
        assert await log.committed("g", "t") == [300, 300]
        assert await log.restore("g", "") == {"at/0": b"299", "at/1": b"299"}
        assert unavailable > 0, "the broker was never away"
        await log.close()

    run(test)


def test_a_reader_sees_every_record_over_a_kill_and_never_an_end_that_is_none(mortal: Any, prefix: str) -> None:
    async def test() -> None:
        log = KafkaLog(Access(mortal.bootstrap), prefix, patience_s=1.0)
        await log.ensure([TopicSpec("t", 1)])
        chance = random.Random(1)  # so that it does not compress: several fetches long
        texts = [f"{k}-{chance.randbytes(500).hex()}" for k in range(6_000)]
        await log.commit(CommitUnit("w", outputs=posts(texts)))
        seen: list[str] = []
        away = 0
        killed = False
        while len(seen) < len(texts):
            try:
                records = await log.read("t", 0, len(seen), 100)
            except LogUnavailable:
                away += 1
                if away == 1:
                    mortal.nodes[0].start()
                continue
            assert records, f"an end at {len(seen)} of {len(texts)}"
            seen += [r.value.decode() for r in records]
            if len(seen) >= 1_000 and not killed:
                killed = True
                await asyncio.to_thread(mortal.nodes[0].kill)
        assert away > 0
        assert seen == texts
        await log.close()

    run(test)


def test_every_call_says_unavailable_while_the_broker_is_down_and_works_again_by_itself(
    mortal: Any, prefix: str
) -> None:
    async def test() -> None:
        log = KafkaLog(Access(mortal.bootstrap), prefix, patience_s=0.3)
        late = KafkaLog(Access(mortal.bootstrap), prefix, patience_s=0.3)
        await log.ensure([TopicSpec("t", 1)])
        await log.commit(CommitUnit("g", {("t", 0): 1}, {"k": b"v"}, posts(["a"])))
        mortal.nodes[0].kill()
        try:
            unit = CommitUnit("g", {("t", 0): 2}, {"k": b"w"}, posts(["b"]))
            for one in (log, late):
                for call in (
                    lambda one=one: one.ensure([TopicSpec("t", 1)]),
                    lambda one=one: one.topics(),
                    lambda one=one: one.read("t", 0, 0, 10),
                    lambda one=one: one.span("t"),
                    lambda one=one: one.committed("g", "t"),
                    lambda one=one: one.restore("g", ""),
                    lambda one=one: one.commit(unit),
                ):  # fmt: skip
                    with pytest.raises(LogUnavailable):
                        await asyncio.wait_for(call(), 20)
        finally:
            mortal.nodes[0].start()
            await asyncio.to_thread(mortal.nodes[0].wait, 30.0)
        await in_the_end(lambda: log.commit(unit))
        assert await in_the_end(lambda: values(log)) == ["a", "b"]
        assert await in_the_end(lambda: late.restore("g", "")) == {"k": b"w"}
        await log.close()
        await late.close()

    run(test)


def test_a_stopped_broker_is_waited_for_and_a_commit_in_doubt_lands_once(mortal: Any, prefix: str) -> None:
    async def test() -> None:
        log = KafkaLog(Access(mortal.bootstrap), prefix, patience_s=1.0)
        await log.ensure([TopicSpec("t", 1)])
        await log.commit(CommitUnit("w", outputs=posts(["a"])))
        unit = CommitUnit("w", outputs=posts(["b"]))
        mortal.nodes[0].suspend()
        try:
            with pytest.raises(LogUnavailable):
                await log.commit(unit)
        finally:
            mortal.nodes[0].signal(signal.SIGCONT)
        await in_the_end(lambda: log.commit(unit))
        await in_the_end(lambda: log.commit(CommitUnit("w", outputs=posts(["c"]))))
        assert await values(log) == ["a", "b", "c"]
        await log.close()

    run(test)


def test_no_acknowledged_record_is_lost_when_leaders_of_a_cluster_die(new_cluster: Any, prefix: str) -> None:
    async def test(cluster: Any) -> None:
        log = KafkaLog(Access(cluster.bootstrap), prefix, patience_s=3.0)
        await in_the_end(lambda: log.ensure([TopicSpec("t", 3)]))
        stop = asyncio.Event()
        acknowledged = [0, 0, 0]

        async def write(partition: int) -> None:
            while not stop.is_set():
                k = acknowledged[partition]
                outputs = posts([str(k)], partition)
                unit = CommitUnit("g", {("t", partition): k + 1}, {f"at/{partition}": str(k).encode()}, outputs)
                await in_the_end(lambda unit=unit: log.commit(unit))  # type: ignore[misc]
                acknowledged[partition] = k + 1

        writing = asyncio.gather(*(write(p) for p in range(3)))
        for _ in range(2):
            await asyncio.sleep(1.0)
            leader = cluster.nodes[await log._wire.leader(f"{prefix}t", 0) - 1]
            before = min(acknowledged)
            await asyncio.to_thread(leader.kill)
            deadline = time.monotonic() + 40
            while min(acknowledged) < before + 10:  # two of three go on
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)
            leader.start()
            await asyncio.to_thread(leader.wait, 60.0)
            await asyncio.sleep(5.0)  # in sync again
        stop.set()
        await writing
        fresh = KafkaLog(Access(cluster.bootstrap), prefix)
        for p in range(3):
            assert await values(fresh, p) == [str(k) for k in range(acknowledged[p])]
        assert await fresh.committed("g", "t") == acknowledged
        assert await fresh.restore("g", "") == {f"at/{p}": str(n - 1).encode() for p, n in enumerate(acknowledged)}
        await log.close()
        await fresh.close()

    with new_cluster(brokers=3) as cluster:
        run(lambda: test(cluster))


def test_old_and_odd_event_times_stay_and_what_a_broker_would_refuse_is_refused_here(
    kafka_bootstrap: str, prefix: str
) -> None:
    async def test() -> None:
        await make(kafka_bootstrap, f"{prefix}narrow", 1, {"max.message.bytes": "20000", "cleanup.policy": "compact"})
        log = KafkaLog(Access(kafka_bootstrap), prefix)
        await log.ensure([TopicSpec("old", 1), TopicSpec("short", 1, retention_ms=3_600_000)])
        stamps = [0, 978_307_200_000, 4_102_444_800_000, 253_402_300_799_000]
        units = [Output(topic, 0, b"k", b"v", stamp) for topic in ("old", "short") for stamp in stamps]
        await log.commit(CommitUnit("w", outputs=units))
        await asyncio.sleep(5)  # the broker looks for what has expired every 2 s
        assert [r.timestamp_ms for r in await log.read("old", 0, 0, 10)] == stamps
        assert len(await log.read("short", 0, 0, 10)) == 4  # by arrival, whatever the stamp says

        noise = random.Random(1).randbytes(30_000)
        now = int(time.time() * 1000)
        for bad, said in (
            (Output("narrow", 0, b"k", noise, now), "max.message.bytes"),
            (Output("narrow", 0, None, b"v", now), "every record needs a key"),
            (Output("narrow", 0, b"k", b"v", now + 86_400_000), r"message.timestamp.after.max.ms"),
        ):
            with pytest.raises(LogError, match=said) as caught:
                await log.commit(CommitUnit("w", outputs=[bad]))
            assert not caught.value.retriable
            await log.commit(CommitUnit("w", outputs=[Output("narrow", 0, b"k", b"fine", now)]))  # nothing is poisoned
        half = [Output("narrow", 0, b"%d" % k, noise[k : k + 9_000], now) for k in range(10)]
        await log.commit(CommitUnit("w", outputs=half))  # goes as several batches
        assert [r.value for r in await log.read("narrow", 0, 0, 100)] == [b"fine"] * 3 + [o.value for o in half]
        await log.close()

    run(test)


def test_records_of_an_aborted_transaction_are_not_read(kafka_bootstrap: str, prefix: str) -> None:
    from aiokafka import AIOKafkaProducer

    async def test() -> None:
        log = KafkaLog(Access(kafka_bootstrap), prefix)
        try:
            await log.ensure([TopicSpec("t", 1)])
            producer = AIOKafkaProducer(bootstrap_servers=kafka_bootstrap, transactional_id=prefix)
            await producer.start()
            try:
                for k, good in enumerate((True, False, False, True)):
                    await producer.begin_transaction()
                    await producer.send_and_wait(f"{prefix}t", str(k).encode(), partition=0)
                    await (producer.commit_transaction() if good else producer.abort_transaction())
                    await log.commit(CommitUnit("w", outputs=posts([f"mine {k}"])))
            finally:
                await producer.stop()
            # The coordinator answers before its marker is in the partition, and what follows is read only behind it.
            found, deadline = await values(log), time.monotonic() + 40
            while "mine 3" not in found and time.monotonic() < deadline:
                await asyncio.sleep(0.1)
                found = await values(log)
            assert found == ["0", "mine 0", "mine 1", "mine 2", "3", "mine 3"]
            assert await log.read("t", 0, (await log.span("t"))[0][1], 10) == []
        finally:
            await log.close()

    run(test)


# The whole engine


def test_a_replay_on_kafka_is_the_replay_in_memory(kafka_bootstrap: str, prefix: str, tmp_path: Path) -> None:
    chance = random.Random(3)
    file = tmp_path / "posts.jsonl"
    with file.open("w") as out:
        at = T0
        for k in range(2_000):
            at += chance.randrange(900)
            text = chance.choice(["$AAPL to the moon", "sell $TSLA now", "I love $MSFT", "panic in $AAPL and $TSLA"])
            post = {
                "id": f"p{k}",
                "text": f"{text} {k}",
                "created_at": at - chance.randrange(20_000),
                "author": f"a{k % 97}",
            }
            out.write(json.dumps(post) + "\n")

    def replay(log: str, workers: int) -> bytes:
        rows = tmp_path / "rows.jsonl"
        command = ["replay", str(file), "--domain", "market", "--engine", "stub", "--out", str(rows), "--log", log]
        assert main([*command, "--workers", str(workers)]) == 0
        return rows.read_bytes()

    expected = replay("memory://", 1)
    assert expected.count(b"\n") > 500
    for workers in (1, 3):
        assert replay(f"kafka://{kafka_bootstrap}?prefix={prefix}{workers}.", workers) == expected
