"""The registry our tests run against, held to what the genuine Confluent client does with it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from server import Registry, serving

pytest.importorskip("confluent_kafka.schema_registry", reason="needs the extra: pip install 'affectstream[registry]'")

from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.serialization import MessageField, SerializationContext

from operators.registry import BUILT_IN, FileRegistry

TOPIC = "affect.signals.v1"
SUBJECT = f"{TOPIC}-value"


def point(*more: dict[str, Any]) -> str:
    fields = [{"name": "x", "type": "long"}, *more]
    return json.dumps({"type": "record", "name": "P", "fields": fields})


NEW_WITH_DEFAULT = {"name": "y", "type": "long", "default": 0}
NEW_WITHOUT = {"name": "z", "type": "long"}


@pytest.fixture
def place() -> Iterator[tuple[SchemaRegistryClient, Registry]]:
    with serving() as (url, registry):
        client = SchemaRegistryClient({"url": url, "max.retries": 0, "timeout": 5})
        yield client, registry
        client._rest_client.session.close()


def test_serializer_and_deserializer_round_trip(place: tuple[SchemaRegistryClient, Registry]) -> None:
    client, registry = place
    text = (BUILT_IN / "late_post.avsc").read_text()
    context = SerializationContext("late", MessageField.VALUE)
    given = {"topic": "t", "partition": 1, "offset": 2, "post_id": "é", "event_time_ms": 3, "late_by_ms": 4}
    raw = AvroSerializer(client, text)(given, context)
    assert raw is not None
    assert raw[:5] == b"\0" + (1).to_bytes(4, "big")
    assert registry.subjects == {"late-value": {1: 1}}
    reader = SchemaRegistryClient({"url": client._rest_client.base_urls[0]})
    try:
        assert AvroDeserializer(reader)(raw, context) == given
        assert AvroDeserializer(reader, text)(raw, context) == given
    finally:
        reader._rest_client.session.close()


def test_an_evolved_reader_reads_what_an_older_writer_wrote(place: tuple[SchemaRegistryClient, Registry]) -> None:
    client, _ = place
    context = SerializationContext("t", MessageField.VALUE)
    raw = AvroSerializer(client, point())({"x": 7}, context)
    newer = AvroSerializer(client, point(NEW_WITH_DEFAULT))({"x": 8, "y": 9}, context)
    read = AvroDeserializer(client, point(NEW_WITH_DEFAULT))
    assert read(raw, context) == {"x": 7, "y": 0}
    assert read(newer, context) == {"x": 8, "y": 9}


def test_ids_versions_and_subjects(place: tuple[SchemaRegistryClient, Registry]) -> None:
    client, _ = place
    one = client.register_schema("a-value", Schema(point(), "AVRO"))
    two = client.register_schema("a-value", Schema(point(NEW_WITH_DEFAULT), "AVRO"))
    assert [one, two] == [1, 2]
    assert client.register_schema("b-value", Schema(point(), "AVRO")) == one, "the same schema has one id everywhere"
    client.clear_caches()
    assert client.register_schema("a-value", Schema(point(), "AVRO")) == one, "nothing new"
    assert client.get_subjects() == ["a-value", "b-value"]
    assert client.get_versions("a-value") == [1, 2]
    assert client.get_version("a-value", 1).schema_id == one
    assert client.get_latest_version("a-value").schema_id == two
    assert json.loads(client.get_schema(two).schema_str or "") == json.loads(point(NEW_WITH_DEFAULT))
    assert client.lookup_schema("a-value", Schema(point(), "AVRO")).version == 1
    assert {v.subject for v in client.get_schema_versions(one)} == {"a-value", "b-value"}
    assert client.delete_subject("b-value") == [1]
    assert client.get_subjects() == ["a-value"]


@pytest.mark.parametrize(
    ("level", "schema", "fits"),
    [
        ("BACKWARD_TRANSITIVE", point(NEW_WITH_DEFAULT), True),
        ("BACKWARD_TRANSITIVE", point(NEW_WITHOUT), False),
        ("FORWARD", point(NEW_WITHOUT), True),
        ("FULL_TRANSITIVE", point(NEW_WITHOUT), False),
        ("FULL_TRANSITIVE", point(NEW_WITH_DEFAULT), True),
        ("NONE", json.dumps({"type": "record", "name": "Other", "fields": [NEW_WITHOUT]}), True),
    ],
)
def test_compatibility(place: tuple[SchemaRegistryClient, Registry], level: str, schema: str, fits: bool) -> None:
    client, _ = place
    client.register_schema("a-value", Schema(point(), "AVRO"))
    client.set_compatibility("a-value", level)
    assert client.get_compatibility("a-value") == level
    assert client.test_compatibility("a-value", Schema(schema, "AVRO")) is fits
    assert client.test_compatibility_all_versions("a-value", Schema(schema, "AVRO")) is fits
    if fits:
        assert client.register_schema("a-value", Schema(schema, "AVRO")) == 2
    else:
        with pytest.raises(SchemaRegistryError) as refused:
            client.register_schema("a-value", Schema(schema, "AVRO"))
        assert refused.value.http_status_code == 409


def test_transitive_looks_at_every_version(place: tuple[SchemaRegistryClient, Registry]) -> None:
    client, _ = place
    for schema in (point(), point({**NEW_WITHOUT, "default": 0})):
        client.register_schema("a-value", Schema(schema, "AVRO"))
    without_default = Schema(point(NEW_WITHOUT), "AVRO")
    assert client.test_compatibility("a-value", without_default, "latest") is True
    assert client.test_compatibility_all_versions("a-value", without_default) is False
    client.set_compatibility("a-value", "BACKWARD")
    assert client.register_schema("a-value", without_default) == 3


@pytest.mark.parametrize(
    ("ask", "status", "code"),
    [
        (lambda c: c.get_schema(99), 404, 40403),
        (lambda c: c.get_latest_version("none"), 404, 40401),
        (lambda c: c.lookup_schema("a-value", Schema(point(NEW_WITHOUT), "AVRO")), 404, 40403),
        (lambda c: c.get_version("a-value", 9), 404, 40402),
        (lambda c: c.register_schema("a-value", Schema("{", "AVRO")), 422, 42201),
        (lambda c: c.set_compatibility("a-value", "SIDEWAYS"), 422, 42203),
    ],
)
def test_errors_carry_the_codes_of_the_real_one(
    place: tuple[SchemaRegistryClient, Registry], ask: Any, status: int, code: int
) -> None:
    client, _ = place
    client.register_schema("a-value", Schema(point(), "AVRO"))
    with pytest.raises(SchemaRegistryError) as refused:
        ask(client)
    assert (refused.value.http_status_code, refused.value.error_code) == (status, code)


def test_our_signals_are_read_by_the_genuine_deserializer(place: tuple[SchemaRegistryClient, Registry]) -> None:
    """The frame our codec writes, under ids of a registry, as somebody else's consumer sees it."""
    from operators.codec import Codec
    from operators.gate import Gate
    from operators.records import SignalRow
    from stream.registry_client import RegistryClient
    from stream.registry_http import RegistryHttp

    client, registry = place
    for k in range(3):  # so that our ids differ from those of the files
        client.register_schema(f"other{k}-value", Schema(point({**NEW_WITHOUT, "name": f"q{k}"}), "AVRO"))
    remote = RegistryHttp(client._rest_client.base_urls[0])
    ours = RegistryClient(remote, FileRegistry())
    codec = Codec(ours, Gate(ours))
    row = SignalRow(
        signal="market.joy", domain="market", entity="ticker:AAPL", window_start=0, window_end=60_000, value=0.5,
        lo=None, hi=None, n=3, n_eff=2.5, authors=2, buzz=3.0, status="final", revision=1, watermark=60_000,
        model="stub@1", ontology="1", reasons=("few",),
    )  # fmt: skip
    raw = codec.encode(row)
    assert int.from_bytes(raw[1:5], "big") == registry.subjects[SUBJECT][1] > 4
    seen = AvroDeserializer(client)(raw, SerializationContext(TOPIC, MessageField.VALUE))
    assert isinstance(seen, dict)
    assert seen["entity"] == "ticker:AAPL"
    assert seen["value"] == 0.5
    assert seen["reasons"] == ["few"]
    assert codec.decode_signal(raw) == row
    remote.close()
