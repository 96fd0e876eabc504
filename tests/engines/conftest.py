"""What tests of several files here are given."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from chat_server import ChatServer, chat_server

from tests.engines.endpoints import CANARY


@pytest.fixture
def no_key_in_any_log(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever a test does, at the lowest level of every logger."""
    caplog.set_level(logging.DEBUG)
    yield
    assert CANARY not in "".join(record.getMessage() for record in caplog.get_records("call"))


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with chat_server() as one:
        yield one
