"""One broker for the tests of this folder, which they may kill."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="package")
def _broker(new_cluster: Any) -> Iterator[Any]:
    with new_cluster() as cluster:
        yield cluster


@pytest.fixture
def broker(_broker: Any) -> Any:
    """One broker for all of these tests; up again where the test before left it down."""
    node = _broker.nodes[0]
    if node.process.poll() is not None:
        node.start()
    node.wait(30.0)
    return _broker
