"""Schemas that change in mid stream: resolved where Avro says so, dead letters where not."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path

import fastavro
import msgspec
import pytest

from operators.errors import ConfigInvalid
from operators.gate import frame
from operators.records import Post
from operators.registry import BUILT_IN, FileRegistry
from tests.operators.decoding import CODEC, SIGNAL, decode, make_codec


def write(definition: dict[str, object], schema_id: int, value: dict[str, object]) -> bytes:
    out = BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(definition, {}), value)
    return frame(schema_id) + out.getvalue()


def post_definition() -> dict[str, list[dict[str, object]]]:
    found: dict[str, list[dict[str, object]]] = json.loads((BUILT_IN / "post.avsc").read_text())
    return found


def test_a_field_added_midstream_with_a_default_just_works(tmp_path: Path) -> None:
    codec, writer = make_codec(tmp_path), FileRegistry(tmp_path)
    definition = post_definition()
    definition["fields"].insert(0, {"name": "reach", "type": "long", "default": 0})
    schema_id = writer.register("affect.posts.social.v1-value", json.dumps(definition))
    old = CODEC.encode(Post(id="old", text="x", author="ann"))
    new = write(definition, schema_id, {"reach": 5, "id": "new", "text": "y", "author": "ann"})
    batch, dead = decode(old, new, old, codec=codec)
    assert dead == []
    assert batch.ids == ["old", "new", "old"]
    assert len(set(batch.authors.tolist())) == 1


def test_a_writer_that_drops_and_promotes_fields_is_resolved(tmp_path: Path) -> None:
    codec, writer = make_codec(tmp_path), FileRegistry(tmp_path)
    definition = post_definition()
    definition["fields"] = [
        {"name": "id", "type": "string"},
        {"name": "text", "type": "bytes"},
        {"name": "created_at", "type": {"type": "long", "logicalType": "timestamp-millis"}, "default": 0},
    ]
    schema_id = writer.register("legacy-value", json.dumps(definition))
    raw = frame(schema_id) + b"\x02a\x06abc" + b"\xd0\x0f"
    batch, dead = decode(raw, raw[:-2] + b"\x01", codec=codec)
    assert (batch.ids, batch.texts, batch.times_ms.tolist()) == (["a"], ["abc"], [1000])
    assert batch.tickers == [None]
    assert [d.reason for d in dead] == ["bad_timestamp"]


def test_bytes_read_as_text_must_be_text(tmp_path: Path) -> None:
    codec, writer = make_codec(tmp_path), FileRegistry(tmp_path)
    definition = post_definition()
    definition["fields"] = [{"name": "id", "type": "string"}, {"name": "text", "type": "bytes"}]
    schema_id = writer.register("legacy-value", json.dumps(definition))
    _, dead = decode(frame(schema_id) + b"\x02a\x04\xff\xfe", codec=codec)
    assert [d.reason for d in dead] == ["undecodable"]


def test_a_field_added_without_a_default_is_refused_and_dead_lettered(tmp_path: Path) -> None:
    codec, writer = make_codec(tmp_path), FileRegistry(tmp_path)
    definition = post_definition()
    definition["fields"].append({"name": "reach", "type": "long"})
    with pytest.raises(ConfigInvalid, match="default"):
        writer.register("affect.posts.social.v1-value", json.dumps(definition))
    _, dead = decode(write(definition, 1000, {"id": "a", "text": "b", "reach": 1}), codec=codec)
    assert [d.reason for d in dead] == ["unknown_schema"]


def test_a_schema_without_our_required_field_is_dead_lettered(tmp_path: Path) -> None:
    codec, writer = make_codec(tmp_path), FileRegistry(tmp_path)
    definition = post_definition()
    definition["fields"] = [{"name": "text", "type": "string"}]
    schema_id = writer.register("other-value", json.dumps(definition))
    _, dead = decode(write(definition, schema_id, {"text": "b"}), codec=codec)
    assert [d.reason for d in dead] == ["incompatible_schema"]


def test_a_signal_of_a_newer_writer_with_a_new_status_reads_as_provisional(tmp_path: Path) -> None:
    codec, writer = make_codec(tmp_path), FileRegistry(tmp_path)
    definition = json.loads((BUILT_IN / "signal.avsc").read_text())
    definition["fields"][12]["type"]["symbols"].append("withdrawn")
    schema_id = writer.register("affect.signals.v1-value", json.dumps(definition))
    value = msgspec.to_builtins(msgspec.structs.replace(SIGNAL, reasons=()))
    raw = write(definition, schema_id, {**value, "status": "withdrawn"})
    assert codec.decode_signal(raw).status == "provisional"
