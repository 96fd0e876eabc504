"""A real Apache Kafka for a benchmark: AFFECT_KAFKA=host:port, or one started by deploy/kafka; and child processes."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

ROOT = Path(__file__).parent.parent


@contextlib.contextmanager
def broker() -> Iterator[str]:
    """host:port of a broker for the time of the block."""
    given = os.environ.get("AFFECT_KAFKA")
    if given:
        yield given.removeprefix("kafka://")
        return
    spec = importlib.util.spec_from_file_location("affect_kafka_broker", ROOT / "deploy" / "kafka" / "broker.py")
    assert spec is not None
    assert spec.loader is not None
    script = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    try:
        cluster = script.Cluster()
    except script.BrokerError as error:
        raise SystemExit(f"no Kafka: {error}") from None
    try:
        cluster.start()
        yield cluster.bootstrap
    finally:
        cluster.close()


def child(script: str, *arguments: object, core: int | None = None) -> dict[str, Any]:
    """Run a benchmark file as a process of its own, on one core where `core` is given; what it printed as JSON."""
    return collect(spawn(script, *arguments, core=core))


def spawn(script: str, *arguments: object, core: int | None = None) -> subprocess.Popen[bytes]:
    """Start a benchmark file as a process of its own."""
    pin: Sequence[str] = () if core is None else ("taskset", "-c", str(core))
    command = [*pin, sys.executable, script, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)


def collect(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """The last line that `process` printed, as JSON."""
    out, _ = process.communicate()
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, process.args))}: ended with {process.returncode}")  # type: ignore[arg-type]
    return msgspec.json.decode(out.splitlines()[-1], type=dict[str, Any])
