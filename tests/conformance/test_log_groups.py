"""What every log promises about consumer groups, run over every log. Only the protocol is used here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from stream.base import CommitUnit, Log, Member, TopicSpec
from stream.errors import Fenced, LogError, UnknownTopic

NewLog = Callable[[], Log]
PARTITIONS = 5


class Worker:
    """A listener that counts: it owns partitions from `assigned` to the end of `revoked`, and commits as it lets go."""

    def __init__(self, log: Log, name: str, diary: list[tuple[str, str, int]]) -> None:
        self.log = log
        self.name = name
        self.diary = diary
        self.owns: dict[int, int] = {}
        self.generation = 0
        self.member: Member | None = None

    async def assigned(self, partitions: Sequence[int], generation: int) -> None:
        self.generation = generation
        starts = await self.log.committed("g", "t")
        for p in partitions:
            assert p not in self.owns
            self.owns[p] = starts[p]
            self.diary.append(("assigned", self.name, p))

    async def revoked(self, partitions: Sequence[int]) -> None:
        await asyncio.sleep(0.01)  # the others must not be told before this one is done
        await self.work(partitions)
        for p in partitions:
            del self.owns[p]
            self.diary.append(("revoked", self.name, p))

    async def work(self, partitions: Sequence[int]) -> None:
        """Count one record on each partition and commit it."""
        for p in partitions:
            self.owns[p] += 1
        await self.log.commit(CommitUnit("g", {("t", p): self.owns[p] for p in partitions}, generation=self.generation))

    async def join(self) -> Worker:
        self.member = await self.log.join("g", "t", self)
        return self

    async def leave(self) -> None:
        assert self.member is not None
        await self.member.leave()


def with_log(new_log: NewLog, test: Callable[[Log], Awaitable[None]]) -> None:
    async def body() -> None:
        log = new_log()
        try:
            await log.ensure([TopicSpec("t", PARTITIONS), TopicSpec("u", 3)])
            await test(log)
        finally:
            await log.close()

    asyncio.run(body())


def shares(*workers: Worker) -> list[int]:
    """How many partitions each owns; checks that together they own every one once, and that members say the same."""
    for worker in workers:
        assert worker.member is not None
        assert worker.member.partitions == tuple(sorted(worker.owns))
    assert sorted(p for w in workers for p in w.owns) == list(range(PARTITIONS))
    return sorted(len(w.owns) for w in workers)


def owners(diary: list[tuple[str, str, int]]) -> None:
    """The diary never shows a partition with two owners."""
    held: dict[int, str] = {}
    for what, name, p in diary:
        if what == "assigned":
            assert p not in held, f"{name} got {p} while {held[p]} had it"
            held[p] = name
        else:
            assert held.pop(p) == name


def test_from_one_to_three_and_back_each_partition_has_one_owner(new_log: NewLog) -> None:
    async def test(log: Log) -> None:
        diary: list[tuple[str, str, int]] = []
        a, b, c = (Worker(log, name, diary) for name in "abc")
        await a.join()
        assert shares(a) == [5]
        kept = len(diary)
        await b.join()
        assert shares(a, b) == [2, 3]
        assert len(diary) - kept == 4  # two partitions moved, the other three were not touched
        await c.join()
        assert shares(a, b, c) == [1, 2, 2]
        await a.leave()
        assert a.owns == {}
        assert shares(b, c) == [2, 3]
        await a.leave()  # again: nothing happens
        await b.leave()
        assert shares(c) == [5]
        owners(diary)
        moves = sum(what == "revoked" for what, _, _ in diary)
        assert sum(await log.committed("g", "t")) == moves  # each hand-over carried the count on

    with_log(new_log, test)


def test_every_change_raises_the_generation_of_all_members(new_log: NewLog) -> None:
    async def test(log: Log) -> None:
        diary: list[tuple[str, str, int]] = []
        a, b = Worker(log, "a", diary), Worker(log, "b", diary)
        await a.join()
        assert a.member is not None
        first = a.member.generation
        assert first == a.generation >= 1
        await b.join()
        assert b.member is not None
        assert a.member.generation == b.member.generation == b.generation > first
        await b.leave()
        assert a.member.generation > b.member.generation

    with_log(new_log, test)


def test_work_on_a_partition_that_moved_is_fenced_and_on_one_that_stayed_is_not(new_log: NewLog) -> None:
    async def test(log: Log) -> None:
        diary: list[tuple[str, str, int]] = []
        a, b = Worker(log, "a", diary), Worker(log, "b", diary)
        await a.join()
        old = a.generation
        await b.join()
        kept, moved = min(a.owns), min(b.owns)
        await log.commit(CommitUnit("g", {("t", kept): 40}, {"k": b"1"}, generation=old))
        for offsets in ({("t", moved): 99}, {("t", kept): 99, ("t", moved): 99}):
            with pytest.raises(Fenced, match="changed owner"):
                await log.commit(CommitUnit("g", offsets, {"k": b"zombie"}, generation=old))
        await log.commit(CommitUnit("g", {("t", moved): 50}, generation=b.generation))
        done = await log.committed("g", "t")
        assert (done[kept], done[moved]) == (40, 50)
        assert await log.restore("g", "") == {"k": b"1"}

    with_log(new_log, test)


def test_who_left_is_fenced_even_when_nobody_took_over(new_log: NewLog) -> None:
    async def test(log: Log) -> None:
        a = await Worker(log, "a", []).join()
        await a.leave()
        with pytest.raises(Fenced):
            await log.commit(CommitUnit("g", {("t", 0): 9}, generation=a.generation))
        b = await Worker(log, "b", []).join()
        with pytest.raises(Fenced):
            await log.commit(CommitUnit("g", {("t", 0): 9}, generation=a.generation))
        await b.work([0])
        with pytest.raises(Fenced):
            await log.commit(CommitUnit("stranger", {("t", 0): 9}, generation=b.generation))
        with pytest.raises(Fenced):
            await log.commit(CommitUnit("g", {("t", 0): 9}, generation=b.generation + 1))
        assert await log.committed("g", "t") == [2, 1, 1, 1, 1]

    with_log(new_log, test)


def test_a_commit_on_its_way_lands_before_the_next_owner_starts(new_log: NewLog) -> None:
    class Careless(Worker):
        """Lets go without waiting for its last writes: each is either seen by the next owner, or fenced."""

        async def revoked(self, partitions: Sequence[int]) -> None:
            big = {f"s{k}": bytes(100_000) for k in range(10)}
            for p in partitions:
                unit = CommitUnit("g", {("t", p): self.owns.pop(p) + 1}, big, generation=self.generation)
                zombies.append(asyncio.create_task(self.log.commit(unit)))
            await asyncio.sleep(0)

    zombies: list[asyncio.Task[None]] = []

    async def test(log: Log) -> None:
        for _ in range(5):
            a = await Careless(log, "a", []).join()
            b = await Careless(log, "b", []).join()
            starts = dict(b.owns)
            results = await asyncio.gather(*zombies, return_exceptions=True)
            done = await log.committed("g", "t")
            assert starts == {p: done[p] for p in starts}
            assert all(r is None or isinstance(r, Fenced) for r in results)
            await a.leave()
            await b.leave()
            await asyncio.gather(*zombies, return_exceptions=True)
            zombies.clear()

    with_log(new_log, test)


def test_more_members_than_partitions(new_log: NewLog) -> None:
    async def test(log: Log) -> None:
        workers = [await Worker(log, str(k), []).join() for k in range(PARTITIONS + 2)]
        assert shares(*workers) == [0, 0, 1, 1, 1, 1, 1]
        busy = next(w for w in workers if w.owns)
        await busy.leave()
        workers.remove(busy)
        assert shares(*workers) == [0, 1, 1, 1, 1, 1]

    with_log(new_log, test)


def test_members_that_come_and_go_at_once_settle(new_log: NewLog) -> None:
    async def test(log: Log) -> None:
        diary: list[tuple[str, str, int]] = []
        first = [Worker(log, f"a{k}", diary) for k in range(4)]
        await asyncio.gather(*(w.join() for w in first))
        assert shares(*first) == [1, 1, 1, 2]
        second = [Worker(log, f"b{k}", diary) for k in range(3)]
        await asyncio.gather(*(w.leave() for w in first), *(w.join() for w in second))
        assert shares(*second) == [1, 2, 2]
        owners(diary)

    with_log(new_log, test)


def test_a_member_that_cannot_let_go_is_expelled(new_log: NewLog, caplog: pytest.LogCaptureFixture) -> None:
    class Stuck(Worker):
        async def revoked(self, partitions: Sequence[int]) -> None:
            raise RuntimeError("cannot drain")

    async def test(log: Log) -> None:
        stuck = await Stuck(log, "stuck", []).join()
        b = await Worker(log, "b", []).join()
        assert shares(b) == [5]
        assert stuck.member is not None
        assert stuck.member.partitions == ()
        for p in range(PARTITIONS):  # also those it would have kept
            with pytest.raises(Fenced):
                await log.commit(CommitUnit("g", {("t", p): 9}, generation=stuck.generation))
        await stuck.leave()  # out already: nothing happens
        assert shares(b) == [5]

    with_log(new_log, test)
    assert "expelled" in caplog.text
    assert "cannot drain" in caplog.text


def test_a_leaver_that_cannot_let_go_hears_its_own_error(new_log: NewLog) -> None:
    class Stuck(Worker):
        async def revoked(self, partitions: Sequence[int]) -> None:
            raise RuntimeError("cannot drain")

    async def test(log: Log) -> None:
        b = await Worker(log, "b", []).join()
        stuck = await Stuck(log, "stuck", []).join()
        with pytest.raises(RuntimeError, match="cannot drain"):
            await stuck.leave()
        assert shares(b) == [5]

    with_log(new_log, test)


def test_a_newcomer_that_cannot_start_is_no_member(new_log: NewLog) -> None:
    class Broken(Worker):
        async def assigned(self, partitions: Sequence[int], generation: int) -> None:
            raise RuntimeError("cannot restore")

    async def test(log: Log) -> None:
        a = await Worker(log, "a", []).join()
        with pytest.raises(RuntimeError, match="cannot restore"):
            await Broken(log, "broken", []).join()
        assert shares(a) == [5]
        await a.work([0, 4])

    with_log(new_log, test)


def test_leaving_from_within_revoked_is_refused_instead_of_hanging(new_log: NewLog) -> None:
    class Eager(Worker):
        async def revoked(self, partitions: Sequence[int]) -> None:
            await self.leave()

    async def test(log: Log) -> None:
        eager = await Eager(log, "eager", []).join()
        with pytest.raises(LogError, match="would wait for itself"):
            await asyncio.wait_for(eager.leave(), 5)

    with_log(new_log, test)


def test_a_cancelled_join_leaves_no_trace(new_log: NewLog) -> None:
    async def test(log: Log) -> None:
        a = await Worker(log, "a", []).join()
        joining = asyncio.create_task(Worker(log, "b", []).join())
        await asyncio.sleep(0.005)
        joining.cancel()
        with pytest.raises(asyncio.CancelledError):
            await joining
        assert shares(a) == [5]

    with_log(new_log, test)


def test_groups_and_topics_do_not_mix(new_log: NewLog) -> None:
    async def test(log: Log) -> None:
        a = await Worker(log, "a", []).join()

        class Counting:
            seen: list[int] = []  # noqa: RUF012

            async def assigned(self, partitions: Sequence[int], generation: int) -> None:
                self.seen.extend(partitions)

            async def revoked(self, partitions: Sequence[int]) -> None:
                return None

        other, same = await log.join("h", "t", Counting()), await log.join("g", "u", Counting())
        assert other.partitions == (0, 1, 2, 3, 4)
        assert same.partitions == (0, 1, 2)
        assert shares(a) == [5]
        await a.work([2])  # under its first generation: nothing it owns has moved
        await log.commit(CommitUnit("h", {("t", 2): 7}, generation=other.generation))
        assert (await log.committed("g", "t"))[2] == 1
        await other.leave()
        await same.leave()
        assert shares(a) == [5]

    with_log(new_log, test)


def test_joining_an_unknown_topic_is_refused(new_log: NewLog) -> None:
    async def test(log: Log) -> None:
        with pytest.raises(UnknownTopic, match="nope"):
            await log.join("g", "nope", Worker(log, "a", []))

    with_log(new_log, test)


def test_members_of_a_closed_log_may_still_leave(new_log: NewLog) -> None:
    async def test(log: Log) -> None:
        a = await Worker(log, "a", []).join()
        await log.close()
        await a.leave()
        with pytest.raises(LogError):
            await log.join("g", "t", a)

    with_log(new_log, test)
