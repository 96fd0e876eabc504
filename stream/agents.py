"""For agents of your own on the signal topic: see docs/faust-agent.md. Imports Faust."""

from __future__ import annotations

from typing import Any

from stream.signals_app import agent_app as _agent_app
from stream.signals_serve import open_kafka
from stream.topology import build_codec


def agent_app(name: str, log: str) -> tuple[Any, Any]:
    """A Faust app of the name `name`, and the signal topic of `log` (kafka://HOST:PORT) as a channel of `SignalRow`s.

    Returns:
        (`faust.App`, topic). Decorate an async function with `app.agent(topic)`; run with `faust -A MODULE worker`.

    Raises:
        UsageError: the address is no Kafka log, or the name is the signal plane's own.
    """
    return _agent_app(name, open_kafka(log), build_codec())
