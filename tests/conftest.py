"""What tests of all folders share: the labelled data, or a word that it is not here; and one real Apache Kafka for the
whole session: AFFECT_KAFKA=host:port, or started here (Java 17 and Maven)."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

SCRIPT = Path(__file__).parent.parent / "deploy" / "kafka" / "broker.py"
# No test fails because the machine was slow.
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")
NewCluster = Callable[..., AbstractContextManager[Any]]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test marked `data` is skipped where there is none; in CI that is a failure."""
    if item.get_closest_marker("data") is None or Path(os.environ.get("AFFECT_DATA") or "nowhere").is_dir():
        return
    said = "AFFECT_DATA names no folder: the labelled data is not here"
    if os.environ.get("CI") == "true":
        pytest.fail(said)
    pytest.skip(said)


@pytest.fixture(scope="session")
def new_cluster() -> NewCluster:
    """Starts a cluster of deploy/kafka/broker.py, stops it at the end. Skips without Java; in CI that is a failure."""

    @contextmanager
    def start(**options: Any) -> Iterator[Any]:
        name = "affect_kafka_broker"  # it lies in no package
        if name not in sys.modules:
            spec = importlib.util.spec_from_file_location(name, SCRIPT)
            assert spec is not None
            assert spec.loader is not None
            sys.modules[name] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(sys.modules[name])
        broker = sys.modules[name]
        try:
            cluster = broker.Cluster(**options)
        except broker.BrokerError as error:
            if os.environ.get("CI") == "true":
                pytest.fail(f"no Kafka: {error}")
            pytest.skip(f"no Kafka: {error}")
        try:
            yield cluster.start()
        finally:
            cluster.close()

    return start


@pytest.fixture(scope="session")
def kafka_bootstrap(new_cluster: NewCluster) -> Iterator[str]:
    """host:port of a broker that every test may use and none may stop."""
    given = os.environ.get("AFFECT_KAFKA")
    if given:
        yield given.removeprefix("kafka://")
        return
    with new_cluster() as cluster:
        yield cluster.bootstrap
