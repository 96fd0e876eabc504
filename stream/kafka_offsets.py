"""Committed offsets of a Kafka group, and whether a member still is one.

A group of ours on one topic is a Kafka group of its own, named GROUP/TOPIC: Kafka lets nobody but the members commit
to a group that has members, and gives a rebalance of one topic to the members of all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from aiokafka.protocol.commit import OffsetCommitRequest, OffsetFetchRequest
from aiokafka.protocol.group import HeartbeatRequest

from stream.errors import Fenced, LogError
from stream.kafka_wire import Wire, expect

NOT_COORDINATOR = (14, 15, 16)
ILLEGAL_GENERATION, UNKNOWN_MEMBER, REBALANCING, FENCED_INSTANCE = 22, 25, 27, 82
OUT = (ILLEGAL_GENERATION, UNKNOWN_MEMBER, FENCED_INSTANCE)


class Standing(NamedTuple):
    """A membership as the broker knows it: it fences by these two."""

    generation: int
    member: str


NOBODY = Standing(-1, "")
"""Commits outside of any membership."""


class Offsets:
    """Reads and writes offsets. `kafka_group` is the name on the broker."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def committed(self, kafka_group: str, topic: str, partitions: int) -> list[int]:
        """Next offset per partition, 0 where nothing was committed."""

        async def act() -> list[int]:
            request = OffsetFetchRequest(kafka_group, [(topic, list(range(partitions)))])
            answer = await self._wire.ask_coordinator(kafka_group, request)
            self._expect(kafka_group, getattr(answer, "error_code", 0))
            found = [0] * partitions
            for _, lanes in answer.topics:
                for partition, offset, _, code in lanes:
                    self._expect(kafka_group, code)
                    found[partition] = max(0, offset)
            return found

        return await self._wire.steady(act, f"offsets of group {kafka_group}")

    async def commit(self, kafka_group: str, topic: str, offsets: Mapping[int, int], standing: Standing) -> None:
        """Store offsets.

        Raises:
            Fenced: the membership is over.
        """

        async def act() -> int:
            lanes = [(topic, [(p, offset, "") for p, offset in sorted(offsets.items())])]
            request = OffsetCommitRequest(kafka_group, standing.generation, standing.member, -1, lanes)
            answer = await self._wire.ask_coordinator(kafka_group, request)
            for _, found in answer.topics:
                for _, code in found:
                    if code in OUT or (code == REBALANCING and standing != NOBODY):
                        return int(code)
                    self._expect(kafka_group, code)
            return 0

        code = await self._wire.steady(act, f"commit to group {kafka_group}")
        if code and standing == NOBODY:
            raise LogError(
                f"{self._wire.where}: group {kafka_group!r} has live members, and only they may commit to it: stop "
                f"them, or use another group"
            )
        if code:
            raise _fenced(kafka_group, code)

    async def check(self, kafka_group: str, standing: Standing) -> None:
        """Ask the broker whether the membership still holds, before anything is written in its name.

        Raises:
            Fenced: it does not.
        """

        async def act() -> int:
            request = HeartbeatRequest(kafka_group, standing.generation, standing.member)
            code = (await self._wire.ask_coordinator(kafka_group, request)).error_code
            if code in OUT:
                return int(code)
            if code != REBALANCING:  # a member until it joins anew: it may still hand over
                self._expect(kafka_group, code)
            return 0

        if code := await self._wire.steady(act, f"group {kafka_group}"):
            raise _fenced(kafka_group, code)

    def _expect(self, kafka_group: str, code: int) -> None:
        if code in NOT_COORDINATOR:
            self._wire.forget(kafka_group)
        expect(code, f"group {kafka_group!r}")


def _fenced(kafka_group: str, code: int) -> Fenced:
    why = {ILLEGAL_GENERATION: "it was rebalanced since", UNKNOWN_MEMBER: "it no longer knows this member"}
    return Fenced(
        f"group {kafka_group!r}: the broker refuses the commit ({why.get(code, 'it is being rebalanced')} [{code}]); "
        f"drop the partitions and their state, then join again"
    )
