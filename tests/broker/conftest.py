"""Brokers that a test may kill, stop and restart; and names of their own on the shared one."""

from __future__ import annotations

import signal
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest


@pytest.fixture(scope="package")
def _mortal(new_cluster: Callable[..., AbstractContextManager[Any]]) -> Iterator[Any]:
    with new_cluster() as cluster:
        yield cluster


@pytest.fixture
def mortal(_mortal: Any) -> Any:
    """One broker that may be killed; up again where the test before left it down."""
    node = _mortal.nodes[0]
    node.signal(signal.SIGCONT)
    if node.process.poll() is not None:
        node.start()
    node.wait(30.0)
    return _mortal


@pytest.fixture(scope="package")
def guarded(new_cluster: Callable[..., AbstractContextManager[Any]]) -> Iterator[Any]:
    """One broker with SASL_SSL, SCRAM-SHA-512 and access lists."""
    with new_cluster(sasl=True) as cluster:
        yield cluster


@pytest.fixture
def prefix() -> str:
    """Before every topic and group of a test: a fresh corner of a shared broker."""
    return f"b{uuid.uuid4().hex[:12]}."
