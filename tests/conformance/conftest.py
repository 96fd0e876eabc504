"""The logs the conformance suite runs over: one entry each, nothing else in the suite names an implementation."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from stream.base import Log
from stream.kafka import KafkaLog
from stream.kafka_wire import Access
from stream.memory import MemoryLog
from stream.sqlite_log import SqliteLog

NewLog = Callable[[], Log]
"""Makes a fresh, empty log at each call."""


def _memory(request: pytest.FixtureRequest) -> Iterator[NewLog]:
    yield MemoryLog


def _sqlite(request: pytest.FixtureRequest) -> Iterator[NewLog]:
    numbers = count()
    folder: Path = request.getfixturevalue("tmp_path")
    yield lambda: SqliteLog(folder / f"log{next(numbers)}.db")


def _kafka(request: pytest.FixtureRequest) -> Iterator[NewLog]:
    # One cluster for all: a prefix of its own makes each log a fresh, empty one.
    access = Access(request.getfixturevalue("kafka_bootstrap"))
    name, numbers = f"c{uuid.uuid4().hex[:12]}.", count()
    yield lambda: KafkaLog(access, prefix=f"{name}{next(numbers)}.")
    asyncio.run(_delete_topics(access.bootstrap, name))


async def _delete_topics(bootstrap: str, prefix: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        if left := [topic for topic in await admin.list_topics() if topic.startswith(prefix)]:
            await admin.delete_topics(left)
    finally:
        await admin.close()


LOGS = {"memory": _memory, "sqlite": _sqlite, "kafka": _kafka}


@pytest.fixture(params=[pytest.param(n, marks=pytest.mark.broker if n == "kafka" else ()) for n in LOGS])
def new_log(request: pytest.FixtureRequest) -> Iterator[NewLog]:
    yield from LOGS[request.param](request)
