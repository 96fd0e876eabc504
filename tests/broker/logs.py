"""What the tests of `kafka://` share: posts, values, a loop with a limit, and patience."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from stream.base import Output
from stream.errors import LogUnavailable
from stream.kafka import KafkaLog

T0 = 1_700_000_000_000


def posts(texts: Sequence[str], partition: int = 0, topic: str = "t") -> list[Output]:
    return [Output(topic, partition, text.encode(), text.encode(), T0 + k) for k, text in enumerate(texts)]


async def values(log: KafkaLog, partition: int = 0, topic: str = "t") -> list[str]:
    return [r.value.decode() for r in await log.read(topic, partition, 0, 1_000_000)]


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 120))  # type: ignore[arg-type]


async def in_the_end(act: Callable[[], Awaitable[Any]], seconds: float = 40.0) -> Any:
    """`act` until it is no longer LogUnavailable."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return await act()
        except LogUnavailable:
            assert time.monotonic() < deadline, "the log did not come back"


async def make(bootstrap: str, name: str, partitions: int, configs: dict[str, str]) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        answer = await admin.create_topics([NewTopic(name, partitions, 1, topic_configs=configs)])
        assert [error[1] for error in answer.topic_errors] == [0], answer
    finally:
        await admin.close()
