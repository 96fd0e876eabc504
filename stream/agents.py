"""For agents of your own on the signal topic: see docs/faust-agent.md."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

import faust
from faust.serializers.codecs import Codec as FaustCodec
from faust.types import Message

from operators.codec import Codec
from operators.records import SignalRow
from stream.errors import UsageError
from stream.signals_app import SESSION_S, connection
from stream.signals_serve import open_kafka
from stream.topics import PLANE, SIGNALS
from stream.topology import build_codec

log_ = logging.getLogger("affect.signals")


def agent_app(name: str, log: str) -> tuple[Any, Any]:
    """A Faust app of the name `name`, and the signal topic of `log` (kafka://HOST:PORT) as a channel of `SignalRow`s.

    Args:
        name: of the consumer group; every name gets every row.

    Returns:
        (`faust.App`, topic). Decorate an async function with `app.agent(topic)`; run with `faust -A MODULE worker`. A
        message that is no row is left out.

    Raises:
        UsageError: the address is no Kafka log, or the name is the signal plane's own.
    """
    if not name or name == PLANE:
        raise UsageError(f"agent_app: expected a name of its own, got {name!r}")
    cluster = open_kafka(log)
    app = faust.App(
        cluster.prefix + name,
        **connection(cluster.access),
        Topic=_Lenient,
        datadir=str(Path(tempfile.gettempdir()) / f"faust-{cluster.prefix}{name}"),
        broker_session_timeout=SESSION_S,
        broker_heartbeat_interval=SESSION_S / 5,
        topic_partitions=1,
    )
    codec = _SignalRows(build_codec())
    return app, app.topic(cluster.prefix + SIGNALS, key_type=bytes, key_serializer="raw", value_serializer=codec)


class _SignalRows(FaustCodec):
    """Bytes of the signal topic to `SignalRow`s, for the agents of users."""

    def __init__(self, codec: Codec) -> None:
        super().__init__()
        self._codec = codec

    def _loads(self, s: bytes) -> SignalRow:
        return self._codec.decode_signal(s)


class _Lenient(faust.Topic):
    """A topic whose unreadable messages are passed over with a line; Faust would raise them in the agent."""

    async def on_value_decode_error(self, exc: Exception, message: Message) -> None:
        log_.warning("%s[%d] offset %d is no signal row: %s", message.topic, message.partition, message.offset, exc)
