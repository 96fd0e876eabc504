"""One real Apache Kafka for the whole session: AFFECT_KAFKA=host:port, or started here (Java 17 and Maven)."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parent.parent / "deploy" / "kafka" / "broker.py"


def load_broker() -> ModuleType:
    """`deploy/kafka/broker.py` as a module; it lies in no package."""
    if "affect_kafka_broker" not in sys.modules:
        spec = importlib.util.spec_from_file_location("affect_kafka_broker", SCRIPT)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["affect_kafka_broker"] = module
        spec.loader.exec_module(module)
    return sys.modules["affect_kafka_broker"]


def no_broker(reason: str) -> None:
    """Skip with the reason; in CI nothing may be skipped for want of a broker."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"no Kafka: {reason}")
    pytest.skip(f"no Kafka: {reason}")


@pytest.fixture(scope="session")
def kafka_bootstrap() -> Iterator[str]:
    """host:port of a broker that every test may use and none may stop."""
    given = os.environ.get("AFFECT_KAFKA")
    if given:
        yield given.removeprefix("kafka://")
        return
    broker = load_broker()
    try:
        cluster = broker.Cluster()
    except broker.BrokerError as error:
        no_broker(f"set AFFECT_KAFKA=host:port, or: {error}")
    try:
        cluster.start()
        yield cluster.bootstrap
    finally:
        cluster.close()
