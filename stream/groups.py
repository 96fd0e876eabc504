"""Consumer groups inside one process: who owns which partition, told cooperatively, fenced by generations.

A change (join, leave, expulsion) goes in one fixed order, one change of a group at a time:

1. the new shares are worked out, moving as few partitions as possible;
2. owners that lose partitions are told `revoked`: they drain and commit, still under their old, valid generation;
3. ownership moves at once, the generation rises, and older work on the moved partitions is fenced;
4. writes already on their way are waited for (`barrier`), so that the new owner reads what the old one committed last;
5. owners that gain partitions are told `assigned`.

A member that raises or takes too long in 2 or 5 is expelled: it owns nothing any more and its commits are fenced.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field

from stream.base import CommitUnit, Listener
from stream.errors import Fenced, LogError

_log = logging.getLogger(__name__)
_told: contextvars.ContextVar[object] = contextvars.ContextVar("affect_group_member_told", default=None)


def share_out(owned: Sequence[Sequence[int]], partitions: int | Sequence[int]) -> list[list[int]]:
    """Share `partitions` evenly (counts differ by at most one) among members that own `owned`, moving as few as can be.

    Args:
        partitions: how many there are, or which ones (a cluster may have given others to another process).

    Returns:
        per member, in the order of `owned`, its partitions in rising order.
    """
    if not owned:
        return []
    pool = range(partitions) if isinstance(partitions, int) else sorted(partitions)
    owned = [[p for p in own if p in pool] for own in owned]
    least, extra = divmod(len(pool), len(owned))
    # The members that own most keep one more: that is what makes the moves fewest.
    by_size = sorted(range(len(owned)), key=lambda k: -len(owned[k]))
    quota = dict.fromkeys(range(len(owned)), least) | dict.fromkeys(by_size[:extra], least + 1)
    shares = [sorted(own)[: quota[k]] for k, own in enumerate(owned)]
    kept = {p for share in shares for p in share}
    free = [p for p in pool if p not in kept]
    for k, share in enumerate(shares):
        missing = quota[k] - len(share)
        shares[k], free = sorted(share + free[:missing]), free[missing:]
    return shares


class GroupMember:
    """One member of a group; see `stream.base.Member`. Made by `Groups.join`."""

    def __init__(self, groups: Groups, group: str, topic: str, listener: Listener) -> None:
        self.group = group
        self.topic = topic
        self.listener = listener
        self.owned: tuple[int, ...] = ()
        self.last_generation = 0
        self._groups = groups

    @property
    def generation(self) -> int:
        """The group's generation this member last lived through; frozen once it is out."""
        return self.last_generation

    @property
    def partitions(self) -> tuple[int, ...]:
        return self.owned

    async def leave(self) -> None:
        await self._groups.leave(self)


@dataclass
class _Group:
    """One group: `fences[topic, partition]` is the first generation whose work on that partition is accepted."""

    partitions: dict[str, Sequence[int]] = field(default_factory=dict)
    members: list[GroupMember] = field(default_factory=list)
    generation: int = 0
    fences: dict[tuple[str, int], int] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def take(self, member: GroupMember, partitions: Sequence[int]) -> None:
        """`member` owns `partitions` no longer; work it did on them is refused from here on."""
        member.owned = tuple(p for p in member.owned if p not in partitions)
        self.fences.update({(member.topic, p): self.generation + 1 for p in partitions})

    def remove(self, member: GroupMember) -> None:
        self.take(member, member.owned)
        if member in self.members:  # a log closed meanwhile has forgotten its members
            self.members.remove(member)


async def _no_barrier() -> None:
    return None


def _no_lock(group: str) -> None:
    return None


class Groups:
    """All groups of one log. One event loop owns it; only `check` may be called from another thread.

    Args:
        barrier: returns once every commit that passed `check` before the call has landed or failed.
        hold: called with the group's name before its first member enters; raises LogUnavailable where another process
            runs the group.
        release: called after its last member is out.
        patience_s: how long `revoked` and `assigned` may take before the member is expelled.
    """

    def __init__(
        self,
        barrier: Callable[[], Awaitable[None]] = _no_barrier,
        hold: Callable[[str], None] = _no_lock,
        release: Callable[[str], None] = _no_lock,
        patience_s: float = 60.0,
    ) -> None:
        self._groups: dict[str, _Group] = {}
        self._barrier = barrier
        self._hold = hold
        self._release = release
        self._patience_s = patience_s

    def check(self, unit: CommitUnit) -> None:
        """Refuse work whose owner has changed since. Cheap; call it within the write itself.

        Raises:
            Fenced: the unit was made under a generation older than the last change of owner of one of its partitions,
                or the group has no member here.
        """
        if unit.generation is None:
            return
        group = self._groups.get(unit.group)
        if group is None or not group.members or unit.generation > group.generation:
            raise Fenced(
                f"group {unit.group!r}: generation {unit.generation} belongs to no live member of this log; drop the "
                f"partitions and their state, then join again"
            )
        for (topic, partition), offset in unit.offsets.items():
            since = group.fences.get((topic, partition), 0)
            if unit.generation < since:
                raise Fenced(
                    f"group {unit.group!r}: topic {topic!r} partition {partition} changed owner at generation {since}, "
                    f"this commit (offset {offset}) was made under {unit.generation}; drop the partition and its state"
                )

    async def join(self, group: str, topic: str, partitions: int | None, listener: Listener) -> GroupMember:
        """Enter `group` on `topic`, which has `partitions`. Returns once every member was told of its change.

        Args:
            partitions: None where `resize` says which ones are ours to share out.

        Raises:
            LogUnavailable: another process runs the group.
            Exception: whatever the listener's own `assigned` raised; it is no member then.
        """
        member = GroupMember(self, group, topic, listener)
        entering = asyncio.create_task(self._enter(member, partitions))
        try:
            await asyncio.shield(entering)
        except asyncio.CancelledError:
            # A change is never left half-way: finish it, then take the newcomer out again.
            await asyncio.wait((entering,))
            if not entering.cancelled() and entering.exception() is None:
                await self.leave(member)
            raise
        return member

    async def resize(self, group: str, topic: str, partitions: Sequence[int]) -> None:
        """Share out `partitions` of `topic` from now on; returns once every member was told of its change."""
        state = self._groups.setdefault(group, _Group())
        async with state.lock:
            state.partitions[topic] = sorted(partitions)
            if self.count(group, topic):
                await self._settle(state, topic)
                self._release_if_empty(group, state)

    def count(self, group: str, topic: str) -> int:
        """How many live members `group` has on `topic`."""
        state = self._groups.get(group)
        return 0 if state is None else sum(m.topic == topic for m in state.members)

    async def leave(self, member: GroupMember) -> None:
        """Take `member` out; nothing happens if it is out already. Raises what its own `revoked` raised."""
        if _told.get() is member:
            raise LogError(
                f"group {member.group!r}: leave() from within assigned() or revoked() would wait for itself; "
                f"raise there instead, the member is then expelled"
            )
        await asyncio.shield(asyncio.create_task(self._exit(member)))

    def close(self) -> None:
        """Forget every group without telling anybody: the log is closed, nothing could be committed any more."""
        for name, group in self._groups.items():
            if group.members:
                for member in list(group.members):
                    group.remove(member)
                self._release(name)
        self._groups.clear()

    async def _enter(self, member: GroupMember, partitions: int | None) -> None:
        group = self._groups.setdefault(member.group, _Group())
        async with group.lock:
            if not group.members:
                self._hold(member.group)
            if partitions is not None:
                group.partitions[member.topic] = range(partitions)
            group.members.append(member)
            failed = await self._settle(group, member.topic)
            self._release_if_empty(member.group, group)
        if member in failed:
            raise failed[member]

    async def _exit(self, member: GroupMember) -> None:
        group = self._groups.get(member.group)
        if group is None:
            return
        async with group.lock:
            if member not in group.members:
                return
            failed = await self._settle(group, member.topic, leaving=member)
            self._release_if_empty(member.group, group)
        if member in failed:
            raise failed[member]

    def _release_if_empty(self, name: str, group: _Group) -> None:
        if not group.members:
            self._release(name)

    async def _settle(
        self, group: _Group, topic: str, leaving: GroupMember | None = None
    ) -> dict[GroupMember, BaseException]:
        """Share the topic out among who is there, again until nobody fails; returns who was expelled, and why."""
        expelled: dict[GroupMember, BaseException] = {}
        while True:
            staying = [m for m in group.members if m.topic == topic and m is not leaving]
            shares = share_out([m.owned for m in staying], group.partitions.get(topic, ()))
            lost = {m: [p for p in m.owned if p not in new] for m, new in zip(staying, shares, strict=True)}
            if leaving is not None:
                lost[leaving] = list(leaving.owned)
            failed = await self._tell({m: m.listener.revoked(tuple(ps)) for m, ps in lost.items() if ps})
            for member, partitions in lost.items():
                group.take(member, partitions)
            if leaving is not None:
                group.remove(leaving)
            if self._expel(group, failed, expelled, leaving):
                leaving = None
                continue
            leaving = None
            if await self._hand_over(group, staying, shares, expelled):
                return expelled

    async def _hand_over(
        self,
        group: _Group,
        staying: Sequence[GroupMember],
        shares: Sequence[list[int]],
        expelled: dict[GroupMember, BaseException],
    ) -> bool:
        """Steps 3 to 5; False when somebody failed and the shares have to be worked out again."""
        group.generation += 1
        for member in group.members:
            member.last_generation = group.generation
        gained = {m: [p for p in new if p not in m.owned] for m, new in zip(staying, shares, strict=True)}
        for member, new in zip(staying, shares, strict=True):
            member.owned = tuple(new)
        await self._barrier()
        generation = group.generation
        failed = await self._tell({m: m.listener.assigned(tuple(ps), generation) for m, ps in gained.items() if ps})
        return not self._expel(group, failed, expelled, None)

    async def _tell(
        self, calls: Mapping[GroupMember, Coroutine[object, object, None]]
    ) -> dict[GroupMember, BaseException]:
        """Make all calls at once; the members whose call raised or took too long, and why."""

        async def one(member: GroupMember, call: Coroutine[object, object, None]) -> None:
            _told.set(member)
            await asyncio.wait_for(call, self._patience_s)

        results = await asyncio.gather(*(one(m, c) for m, c in calls.items()), return_exceptions=True)
        return {m: r for m, r in zip(calls, results, strict=True) if r is not None}

    def _expel(
        self,
        group: _Group,
        failed: Mapping[GroupMember, BaseException],
        expelled: dict[GroupMember, BaseException],
        leaving: GroupMember | None,
    ) -> bool:
        """Take out who failed. True when a member that was to stay went (the shares are stale then)."""
        for member, error in failed.items():
            expelled[member] = error
            _log.error(
                "group %r: a member on topic %r failed to hand over or take partitions and is expelled (%s: %s)",
                member.group,
                member.topic,
                type(error).__name__,
                error,
            )
            if member is not leaving:
                group.remove(member)
        return any(m is not leaving for m in failed)
