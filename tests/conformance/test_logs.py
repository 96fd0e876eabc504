"""What every log promises (stream.base.Log), run over every log. Only the protocol is used here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from stream.base import CommitUnit, Log, Output, Record, TopicSpec
from stream.errors import LogError, UnknownTopic

NewLog = Callable[[], Log]
T0 = 1_700_000_000_000


def on(new_log: NewLog, test: Callable[[Log], Awaitable[None]], *topics: TopicSpec) -> None:
    """Run `test` on a fresh log that has `topics` (default: `t` with two partitions)."""

    async def body() -> None:
        log = new_log()
        try:
            await log.ensure(topics or (TopicSpec("t", 2),))
            await test(log)
        finally:
            await log.close()

    asyncio.run(body())


def posts(texts: list[str], partition: int = 0, topic: str = "t") -> list[Output]:
    return [Output(topic, partition, None, text.encode(), T0 + k) for k, text in enumerate(texts)]


async def append(log: Log, outputs: list[Output]) -> None:
    await log.commit(CommitUnit("writer", outputs=outputs))


async def texts(log: Log, partition: int = 0, offset: int = 0, limit: int = 100_000, topic: str = "t") -> list[str]:
    return [r.value.decode() for r in await log.read(topic, partition, offset, limit)]


def test_records_come_back_in_order_as_they_were_given(new_log: NewLog) -> None:
    async def test(log: Log) -> None:
        await append(
            log, [Output("t", 0, b"k", b"v", 5), Output("t", 0, None, b"", -7), Output("t", 0, b"", b"\0", T0)]
        )
        assert await log.read("t", 0, 0, 10) == [
            Record(0, b"k", b"v", 5),
            Record(1, None, b"", -7),
            Record(2, b"", b"\0", T0),
        ]

    on(new_log, test)


def test_offsets_are_contiguous_over_commits(new_log: NewLog) -> None:
    async def test(log: Log) -> None:
        for k in range(5):
            await append(log, posts([f"{k}.{j}" for j in range(k + 1)]))
        read = await log.read("t", 0, 0, 100)
        assert [r.offset for r in read] == list(range(15))
        assert [r.value.decode() for r in read] == [f"{k}.{j}" for k in range(5) for j in range(k + 1)]
        assert await log.span("t") == [(0, 15), (0, 0)]

    on(new_log, test)


def test_partitions_and_topics_are_independent(new_log: NewLog) -> None:
    async def test(log: Log) -> None:
        mixed = [Output(("t", "u")[k % 2], k // 2 % 2, None, str(k).encode(), T0) for k in range(12)]
        await append(log, mixed)
        assert await texts(log, 0) == ["0", "4", "8"]
        assert await texts(log, 1) == ["2", "6", "10"]
        assert await texts(log, 0, topic="u") == ["1", "5", "9"]
        assert await texts(log, 1, topic="u") == ["3", "7", "11"]
        assert await log.span("u") == [(0, 3), (0, 3)]

    on(new_log, test, TopicSpec("t", 2), TopicSpec("u", 2))


def test_reading_starts_anywhere_and_stops_at_the_limit(new_log: NewLog) -> None:
    async def test(log: Log) -> None:
        everything = [str(k) for k in range(37)]
        for begin in range(0, 37, 5):
            await append(log, posts(everything[begin : begin + 5]))
        for offset in range(40):
            for limit in (1, 2, 5, 7, 100):
                assert await texts(log, 0, offset, limit) == everything[offset : offset + limit]
        assert await texts(log, 0, -3, 2) == everything[:2]

    on(new_log, test)


def test_a_read_at_the_end_waits_no_longer_than_told(new_log: NewLog) -> None:
    async def test(log: Log) -> None:
        begin = time.monotonic()
        assert await log.read("t", 0, 0, 10) == []
        assert await log.read("t", 0, 0, 10, max_wait_s=0.15) == []
        assert 0.14 <= time.monotonic() - begin < 2

    on(new_log, test)


def test_a_waiting_read_wakes_at_a_commit(new_log: NewLog) -> None:
    async def test(log: Log) -> None:
        readers = [asyncio.create_task(log.read("t", p, 0, 10, max_wait_s=30)) for p in (0, 1)]
        await asyncio.sleep(0.05)
        begin = time.monotonic()
        await append(log, posts(["a"], partition=1))
        assert [r.value for r in await readers[1]] == [b"a"]
        assert time.monotonic() - begin < 5
        assert not readers[0].done()
        await append(log, posts(["b"], partition=0))
        assert [r.value for r in await readers[0]] == [b"b"]

    on(new_log, test)


def test_a_cancelled_waiting_read_leaves_the_log_usable(new_log: NewLog) -> None:
    async def test(log: Log) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(log.read("t", 0, 0, 10, max_wait_s=30), 0.05)
        await append(log, posts(["a"]))
        assert await texts(log) == ["a"]

    on(new_log, test)


def test_offsets_are_kept_by_group_topic_and_partition(new_log: NewLog) -> None:
    async def test(log: Log) -> None:
        await log.commit(CommitUnit("g", {("t", 1): 7, ("u", 0): 3}))
        await log.commit(CommitUnit("h", {("t", 0): 2}))
        assert await log.committed("g", "t") == [0, 7]
        assert await log.committed("g", "u") == [3]
        assert await log.committed("h", "t") == [2, 0]
        assert await log.committed("nobody", "t") == [0, 0]
        await log.commit(CommitUnit("g", {("t", 1): 4}))
        assert await log.committed("g", "t") == [0, 4]

    on(new_log, test, TopicSpec("t", 2), TopicSpec("u", 1))


def test_state_is_upserted_deleted_and_restored_by_prefix(new_log: NewLog) -> None:
    async def test(log: Log) -> None:
        first: dict[str, bytes | None] = {"a/1": b"1", "a/2": b"2", "a": b"", "b/1": b"3", "a/é\U0010ffff": b"4"}
        await log.commit(CommitUnit("g", state=first))
        assert await log.restore("g", "") == first
        assert await log.restore("g", "a/") == {"a/1": b"1", "a/2": b"2", "a/é\U0010ffff": b"4"}
        assert await log.restore("g", "a/é") == {"a/é\U0010ffff": b"4"}
        assert await log.restore("g", "A") == {}
        assert await log.restore("h", "") == {}
        await log.commit(CommitUnit("g", state={"a/1": b"new", "a/2": None, "never there": None}))
        assert await log.restore("g", "a/") == {"a/1": b"new", "a/é\U0010ffff": b"4"}
        await log.commit(CommitUnit("h", state={"a/1": b"other"}))
        assert await log.restore("g", "a/1") == {"a/1": b"new"}

    on(new_log, test)


@pytest.mark.parametrize("bad", ["output topic", "output partition", "offset topic", "offset partition"])
def test_a_unit_that_names_something_unknown_changes_nothing(new_log: NewLog, bad: str) -> None:
    async def test(log: Log) -> None:
        await log.commit(CommitUnit("g", {("t", 0): 1}, {"k": b"old"}, posts(["a"])))
        offsets = {("t", 0): 9}
        outputs = posts(["b", "c"]) + posts(["d"], partition=1)
        if bad == "output topic":
            outputs.append(Output("nope", 0, None, b"x", T0))
        elif bad == "output partition":
            outputs.append(Output("t", 2, None, b"x", T0))
        else:
            offsets[("nope", 0) if bad == "offset topic" else ("t", -1)] = 1
        with pytest.raises(UnknownTopic, match="t"):
            await log.commit(CommitUnit("g", offsets, {"k": b"new", "l": b"1"}, outputs))
        assert await log.committed("g", "t") == [1, 0]
        assert await log.restore("g", "") == {"k": b"old"}
        assert await log.span("t") == [(0, 1), (0, 0)]
        await append(log, posts(["e"]))
        assert await texts(log) == ["a", "e"]

    on(new_log, test)


def test_an_empty_unit_is_fine(new_log: NewLog) -> None:
    async def test(log: Log) -> None:
        await log.commit(CommitUnit("g"))
        assert await log.span("t") == [(0, 0), (0, 0)]

    on(new_log, test)


def test_ensure_creates_is_idempotent_and_lists(new_log: NewLog) -> None:
    async def test(log: Log) -> None:
        wanted = [TopicSpec("b", 3, retention_ms=10**13), TopicSpec("a.b-c_1", 1, compact=True)]
        await log.ensure(wanted)
        await append(log, posts(["x"], topic="b"))
        await log.ensure(wanted)
        assert await log.topics() == [wanted[1], wanted[0], TopicSpec("t", 2)]
        assert await texts(log, topic="b") == ["x"]
        await log.ensure([TopicSpec("b", 3, retention_ms=-1)])
        assert TopicSpec("b", 3) in await log.topics()

    on(new_log, test)


def test_ensure_refuses_another_partition_count_and_changes_nothing(new_log: NewLog) -> None:
    async def test(log: Log) -> None:
        with pytest.raises(LogError, match=r"'t' has 2 partitions, asked for 3"):
            await log.ensure([TopicSpec("fresh"), TopicSpec("t", 3)])
        assert await log.topics() == [TopicSpec("t", 2)]

    on(new_log, test)


@pytest.mark.parametrize("spec", [TopicSpec("a b"), TopicSpec(""), TopicSpec("x" * 250), TopicSpec("a", 0)])
def test_ensure_refuses_what_kafka_would(new_log: NewLog, spec: TopicSpec) -> None:
    async def test(log: Log) -> None:
        with pytest.raises(LogError, match="expected"):
            await log.ensure([spec])

    on(new_log, test)


def test_unknown_topics_and_partitions_are_named(new_log: NewLog) -> None:
    async def test(log: Log) -> None:
        for call in (log.read("x", 0, 0, 1), log.span("x"), log.committed("g", "x")):
            with pytest.raises(UnknownTopic, match=r"no topic 'x'.*\bt\b"):
                await call
        with pytest.raises(UnknownTopic, match=r"'t' has no partition 2"):
            await log.read("t", 2, 0, 1)

    on(new_log, test)


def test_large_values_and_large_commits(new_log: NewLog) -> None:
    async def test(log: Log) -> None:
        big = bytes(range(256)) * 4096
        await append(log, [Output("t", 0, big[:1000], big, T0), *posts(["small"]), Output("t", 0, None, big * 3, T0)])
        read = await log.read("t", 0, 0, 10)
        assert [len(r.value) for r in read] == [1 << 20, 5, 3 << 20]
        assert (read[0].value, read[2].value) == (big, big * 3)
        await log.commit(CommitUnit("g", state={"s": big}))
        assert await log.restore("g", "s") == {"s": big}
        many = [str(k) for k in range(5000)]
        await append(log, posts(many, partition=1))
        assert await texts(log, 1) == many
        assert await texts(log, 1, 1020, 10) == many[1020:1030]

    on(new_log, test)


def test_many_topics(new_log: NewLog) -> None:
    async def test(log: Log) -> None:
        await append(log, [Output(f"m{k}", k % 3, None, str(k).encode(), T0) for k in range(200)])
        for k in range(200):
            assert await texts(log, k % 3, topic=f"m{k}") == [str(k)]

    on(new_log, test, *(TopicSpec(f"m{k}", 3) for k in range(200)))


def test_concurrent_commits_are_all_kept_whole(new_log: NewLog) -> None:
    async def test(log: Log) -> None:
        await asyncio.gather(*(append(log, posts([f"{k}.{j}" for j in range(10)])) for k in range(20)))
        read = await texts(log)
        assert len(read) == 200
        writers = [read[k].split(".")[0] for k in range(0, 200, 10)]
        assert sorted(writers, key=int) == [str(k) for k in range(20)]
        assert read == [f"{w}.{j}" for w in writers for j in range(10)]

    on(new_log, test)


def test_a_closed_log_raises_on_every_use(new_log: NewLog) -> None:
    async def body() -> None:
        log = new_log()
        await log.ensure([TopicSpec("t")])
        waiting = asyncio.create_task(log.read("t", 0, 0, 1, max_wait_s=30))
        await asyncio.sleep(0.05)
        await log.close()
        await log.close()
        with pytest.raises(LogError, match="closed"):
            await asyncio.wait_for(waiting, 5)
        uses = (log.ensure([]), log.topics(), log.read("t", 0, 0, 1), log.span("t"), log.committed("g", "t"))
        for use in (*uses, log.restore("g", ""), log.commit(CommitUnit("g"))):
            with pytest.raises(LogError, match="closed"):
                await use

    asyncio.run(body())
