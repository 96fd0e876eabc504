"""This process as a member of a Kafka group: which partitions of a topic the cluster has given to it.

One membership a group and topic, however many workers of this process share its partitions (`stream.groups`). Kafka
takes all partitions away at every rebalance: each is drained, committed, and given out anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Awaitable, Callable, Iterable, Sequence

import aiokafka.errors as kafka_errors
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.structs import TopicPartition

from stream.errors import LogError, LogUnavailable
from stream.kafka_offsets import Standing
from stream.kafka_wire import Wire

log_ = logging.getLogger("affect.kafka")

Told = Callable[[Sequence[int]], Awaitable[None]]

REBALANCE_MS = 60_000
"""How long members may take to hand over before the broker goes on without them."""

CLOSE_S = 5.0


class Membership(ConsumerRebalanceListener):  # type: ignore[misc]
    """A place in a Kafka group, held from `start` to `stop`.

    Args:
        told: given the partitions that are ours from now on: none at the begin of a rebalance, some at its end. Must
            drain and commit what it loses before it returns.
        instance: static member id (two live processes must never share one), None = a dynamic member.
        session_ms: how long the broker waits for a silent process.
    """

    def __init__(
        self, wire: Wire, kafka_group: str, topic: str, told: Told, instance: str | None, session_ms: int
    ) -> None:
        self.kafka_group = kafka_group
        self.topic = topic
        self._wire = wire
        self._told = told
        self._instance = instance
        self._session_ms = session_ms
        self._client: AIOKafkaClient | None = None
        self._coordinator: GroupCoordinator | None = None
        self._standing: Standing | None = None
        self._settled = asyncio.Event()
        self._telling: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()

    @property
    def standing(self) -> Standing | None:
        """What the broker knows us by since the last rebalance; None before the first."""
        return self._standing

    async def start(self) -> None:
        """Enter the group; returns once partitions (or none) were given to us. Nothing happens if we are in."""
        async with self._lock:
            if self._coordinator is None:
                await self._enter()
            try:
                await self._first_share()
            except BaseException:
                await self._stop()
                raise

    async def stop(self) -> None:
        """Leave; the broker gives the partitions to the others. The caller has drained them."""
        async with self._lock:
            await self._stop()

    def check(self) -> None:
        """Raise what has gone wrong in the background for good (an access list entry that is gone)."""
        if self._coordinator is None:
            return
        try:
            self._coordinator.check_errors()
        except kafka_errors.KafkaError as error:
            if not error.retriable:
                raise LogError(
                    f"{self._wire.where}: group {self.kafka_group!r}: {type(error).__name__}: {error}; see the access "
                    f"list (ACL) of user {self._wire.access.user!r} for this group"
                ) from error

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Called by aiokafka at the begin of a rebalance; we are a member until this returns."""
        self._settled.clear()
        if self._telling is not None:
            await asyncio.wait((self._telling,))
        await self._told(())

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Called by aiokafka at the end of a rebalance."""
        assert self._coordinator is not None
        self._standing = Standing(self._coordinator.generation, self._coordinator.member_id)
        partitions = sorted(tp.partition for tp in assigned)
        log_.info("group %s: partitions %s are ours", self.kafka_group, partitions)
        self._settled.set()
        # Not awaited: aiokafka sends no heartbeat before this returns, and restoring may take longer than a session.
        self._telling = asyncio.create_task(self._tell(partitions), name=f"share-{self.kafka_group}")

    async def _tell(self, partitions: Sequence[int]) -> None:
        try:
            await self._told(partitions)
        except LogError as error:
            log_.error("group %s: partitions %s could not be taken: %s", self.kafka_group, partitions, error)

    async def _enter(self) -> None:
        async def connect() -> AIOKafkaClient:
            client = self._wire.new_client()
            try:
                await client.bootstrap()
                client.set_topics([self.topic])
                await client.force_metadata_update()
            except BaseException:
                await client.close()
                raise
            return client

        self._client = await self._wire.steady(connect, f"join group {self.kafka_group}")
        subscription = SubscriptionState()
        subscription.register_fetch_waiters(set())  # its fetcher would; nothing is fetched here
        subscription.subscribe({self.topic}, listener=self)
        self._settled.clear()
        self._coordinator = GroupCoordinator(
            self._client,
            subscription,
            group_id=self.kafka_group,
            group_instance_id=self._instance,
            session_timeout_ms=self._session_ms,
            heartbeat_interval_ms=max(100, self._session_ms // 10),
            rebalance_timeout_ms=REBALANCE_MS,
            # Nothing is polled through this membership: a slow step must not look like a dead process.
            max_poll_interval_ms=math.inf,
            enable_auto_commit=False,
            assignors=(RangePartitionAssignor,),
        )

    async def _first_share(self) -> None:
        deadline = asyncio.get_running_loop().time() + REBALANCE_MS / 1000 + self._wire.patience_s
        while not self._settled.is_set():
            self._wire.check_open()
            self.check()
            if asyncio.get_running_loop().time() > deadline:
                raise LogUnavailable(f"{self._wire.where}: group {self.kafka_group!r} gave no partitions in time")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._settled.wait(), 0.2)

    async def _stop(self) -> None:
        coordinator, self._coordinator = self._coordinator, None
        client, self._client = self._client, None
        self._standing = None
        telling, self._telling = self._telling, None
        if telling is not None:
            telling.cancel()
            await asyncio.wait((telling,))
        if coordinator is not None:
            try:
                await asyncio.wait_for(coordinator.close(), CLOSE_S)
            except (TimeoutError, kafka_errors.KafkaError):
                log_.warning("group %s: could not leave in order; the broker will notice", self.kafka_group)
        if client is not None:
            await client.close()
