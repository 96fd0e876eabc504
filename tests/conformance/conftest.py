"""The logs the conformance suite runs over: one entry each, nothing else in the suite names an implementation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from stream.base import Log
from stream.memory import MemoryLog
from stream.sqlite_log import SqliteLog

NewLog = Callable[[], Log]
"""Makes a fresh, empty log at each call."""


def _memory(folder: Path) -> Iterator[NewLog]:
    yield MemoryLog


def _sqlite(folder: Path) -> Iterator[NewLog]:
    numbers = count()
    yield lambda: SqliteLog(folder / f"log{next(numbers)}.db")


LOGS = {"memory": _memory, "sqlite": _sqlite}


@pytest.fixture(params=list(LOGS))
def new_log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NewLog]:
    yield from LOGS[request.param](tmp_path)
