"""A codec with the built-in schemas, and posts as JSON and Avro for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from operators.arrivals import Arrival
from operators.codec import Codec
from operators.gate import Gate
from operators.records import DeadLetter, PostBatch, SignalRow
from operators.registry import FileRegistry

NOW = 1_717_171_717_000
ARRIVAL = Arrival(b"a test key")

SIGNAL = SignalRow(
    signal="market.valence",
    domain="market",
    entity="ticker:AAPL",
    window_start=NOW,
    window_end=NOW + 60_000,
    value=0.25,
    lo=-0.1,
    hi=0.5,
    n=12,
    n_eff=9.5,
    authors=11,
    buzz=1.5,
    status="revised",
    revision=2,
    watermark=NOW + 60_000,
    model="hashed@12345678",
    ontology="parrott-1",
    reasons=("few authors",),
)


class Raw(NamedTuple):
    offset: int
    key: bytes | None
    value: bytes
    timestamp_ms: int


def make_codec(directory: Path | None = None) -> Codec:
    registry = FileRegistry(directory)
    return Codec(registry, Gate(registry))


CODEC = make_codec()


def decode(*values: bytes, codec: Codec = CODEC, arrival: Arrival = ARRIVAL) -> tuple[PostBatch, list[DeadLetter]]:
    records = [Raw(100 + k, None, value, NOW) for k, value in enumerate(values)]
    return codec.decode_posts("posts", 3, records, arrival)


def from_json(**fields: object) -> bytes:
    return json.dumps({"id": "a", "text": "hello", **fields}).encode()


def reason_of(raw: bytes) -> str | None:
    batch, dead = decode(raw)
    assert len(batch) + len(dead) == 1
    return dead[0].reason if dead else None
