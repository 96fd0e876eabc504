"""Shares of partitions, and the patience of a group. What a log promises of groups is in tests/conformance."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.base import CommitUnit
from stream.errors import Fenced
from stream.groups import Groups, share_out


@st.composite
def ownerships(draw: st.DrawFn, largest: int = 12) -> tuple[list[list[int]], int]:
    """Members with what they own, never one partition twice; some partitions are free."""
    partitions = draw(st.integers(1, largest))
    owners = draw(st.lists(st.integers(0, 4), min_size=partitions, max_size=partitions))
    count = draw(st.integers(1, 4))
    return [[p for p, owner in enumerate(owners) if owner == k] for k in range(count)], partitions


@given(ownerships())
def test_shares_cover_every_partition_once_and_evenly(case: tuple[list[list[int]], int]) -> None:
    owned, partitions = case
    shares = share_out(owned, partitions)
    assert sorted(p for share in shares for p in share) == list(range(partitions))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert all(share == sorted(share) for share in shares)


@given(ownerships())
def test_shares_move_as_few_partitions_as_any_even_split_could(case: tuple[list[list[int]], int]) -> None:
    owned, partitions = case
    kept = sum(len(set(old) & set(new)) for old, new in zip(owned, share_out(owned, partitions), strict=True))
    least, extra = divmod(partitions, len(owned))
    quotas = [least + 1] * extra + [least] * (len(owned) - extra)
    assert kept == max(
        sum(min(len(old), q) for old, q in zip(owned, order, strict=True)) for order in permutations(quotas)
    )


def test_a_settled_share_stays() -> None:
    assert share_out([[0, 3], [1, 2, 4]], 5) == [[0, 3], [1, 2, 4]]
    assert share_out([], 5) == []


class Slow:
    """Takes for ever to let go."""

    def __init__(self) -> None:
        self.generation = 0

    async def assigned(self, partitions: Sequence[int], generation: int) -> None:
        self.generation = generation

    async def revoked(self, partitions: Sequence[int]) -> None:
        await asyncio.Event().wait()


def test_who_is_too_slow_to_let_go_is_expelled_and_the_lock_follows_the_members() -> None:
    locks: list[str] = []

    async def body() -> None:
        groups = Groups(
            hold=lambda group: locks.append(f"+{group}"),
            release=lambda group: locks.append(f"-{group}"),
            patience_s=0.05,
        )
        slow = Slow()
        await groups.join("g", "t", 4, slow)
        second = await groups.join("g", "t", 4, Slow())
        assert second.partitions == (0, 1, 2, 3)
        with pytest.raises(Fenced):
            groups.check(CommitUnit("g", {("t", 3): 1}, generation=slow.generation))
        groups.check(CommitUnit("g", {("t", 3): 1}, generation=second.generation))
        groups.check(CommitUnit("g", {("t", 3): 1}))
        assert locks == ["+g"]
        with pytest.raises(TimeoutError):
            await second.leave()
        assert locks == ["+g", "-g"]

    asyncio.run(body())
