"""The gate alone: every bomb is refused by name, and what it lets pass fastavro reads in full."""

from __future__ import annotations

import json
import time
from io import BytesIO

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.admission import parse_schema
from operators.errors import Rejected, SchemaUnknown
from operators.gate import HEADER, Gate, frame, json_depth
from operators.prewalk import compile_walk
from operators.schema import Json, Schema, fingerprint_of, normal_form


class OneSchema:
    """A registry that holds a single schema under id 1."""

    def __init__(self, definition: Json) -> None:
        admitted = parse_schema(json.dumps(definition))
        text = normal_form(admitted)
        self.schema = Schema(1, admitted, text, fingerprint_of(text))
        self.asked = 0

    def by_id(self, schema_id: int) -> Schema:
        self.asked += 1
        if schema_id != 1:
            raise SchemaUnknown(f"no {schema_id}")
        return self.schema

    def register(self, subject: str, schema: str) -> int:
        raise NotImplementedError

    def latest(self, subject: str) -> Schema:
        raise NotImplementedError


def record(*fields: tuple[str, Json]) -> Json:
    return {"type": "record", "name": "R", "fields": [{"name": n, "type": t} for n, t in fields]}


def reason_of(definition: Json, body: bytes) -> str | None:
    try:
        Gate(OneSchema(definition)).check(frame(1) + body)
    except Rejected as refused:
        return refused.reason
    return None


def zigzag(value: int) -> bytes:
    raw, out = (value << 1) ^ (value >> 63), bytearray()
    raw &= 2**64 - 1
    while raw > 127:
        out.append(raw & 127 | 128)
        raw >>= 7
    return bytes(out) + bytes([raw])


STRINGS: Json = {"type": "array", "items": "string"}
LONGS: Json = {"type": "array", "items": "long"}


@pytest.mark.parametrize(
    ("definition", "body", "reason"),
    [
        ("string", zigzag(3) + b"abc", None),
        ("string", zigzag(4) + b"abc", "truncated"),
        ("string", zigzag(2**40) + b"abc", "truncated"),
        ("string", zigzag(-1) + b"abc", "bad_length"),
        ("string", zigzag(2) + b"\xff\xfe", "bad_utf8"),
        ("string", zigzag(3) + b"\xed\xa0\x80", "bad_utf8"),
        ("string", zigzag(3) + b"abcd", "trailing_bytes"),
        ("bytes", zigzag(2) + b"\xff\xfe", None),
        ("bytes", zigzag(2**62), "truncated"),
        ("long", b"\xff" * 9 + b"\x01", None),
        ("long", b"\xff" * 9 + b"\x02", "bad_varint"),
        ("long", b"\xff" * 11, "bad_varint"),
        ("long", b"\xff" * 3, "truncated"),
        ("int", b"\xff\xff\xff\xff\x0f", None),
        ("int", b"\xff\xff\xff\xff\x10", "bad_varint"),
        ("int", b"\xff\xff\xff\xff\xff\x01", "bad_varint"),
        ("string", b"\xff" * 11, "bad_varint"),
        ("boolean", b"\x01", None),
        ("boolean", b"\x02", "bad_value"),
        ("double", b"\0" * 8, None),
        ("double", b"\0" * 7, "truncated"),
        ("float", b"\0" * 5, "trailing_bytes"),
        ({"type": "fixed", "name": "F", "size": 4}, b"abc", "truncated"),
        ({"type": "enum", "name": "E", "symbols": ["A", "B"]}, zigzag(1), None),
        ({"type": "enum", "name": "E", "symbols": ["A", "B"]}, zigzag(2), "bad_index"),
        ({"type": "enum", "name": "E", "symbols": ["A", "B"]}, zigzag(-1), "bad_index"),
        (["null", "string"], b"\0", None),
        (["null", "string"], b"\x02\x02a", None),
        (["null", "string"], b"\x04", "bad_index"),
        (["null", "string"], b"\x01", "bad_index"),
        (["string", "null"], b"\x02", None),
        (["string", "null"], b"\x00\x02a", None),
        (["long", "string", "double"], b"\x06", "bad_index"),
        (["long", "string", "double"], b"\x80\x80", "bad_index"),
        (STRINGS, b"\0", None),
        (STRINGS, zigzag(2) + b"\x02a\x02b\0", None),
        (STRINGS, zigzag(2) + b"\x02a\x02b", "truncated"),
        (STRINGS, zigzag(2**40) + b"\x02a\0", "bad_block_count"),
        (STRINGS, zigzag(50_000_000) + b"\0" * 100, "bad_block_count"),
        (STRINGS, zigzag(-2) + zigzag(4) + b"\x02a\x02b\0", None),
        (STRINGS, zigzag(-2) + zigzag(3) + b"\x02a\x02b\0", "bad_block_count"),
        (STRINGS, zigzag(-2) + zigzag(2**40) + b"\x02a\x02b\0", "bad_length"),
        (STRINGS, zigzag(-2) + zigzag(-4) + b"\x02a\x02b\0", "bad_length"),
        (STRINGS, zigzag(-(2**63)) + zigzag(4) + b"\x02a\x02b\0", "bad_block_count"),
        (STRINGS, b"\x80\x00" + b"\x02", "trailing_bytes"),
        (LONGS, zigzag(3) + b"\x01\x02", "bad_block_count"),
        (LONGS, zigzag(2) + b"\x01\x81", "truncated"),
        ({"type": "map", "values": "long"}, zigzag(1) + b"\x02k\x08\0", None),
        ({"type": "map", "values": "long"}, zigzag(60) + b"\x02k\x08\0", "bad_block_count"),
        (record(("a", "long"), ("b", "string")), b"\x08\x02a", None),
        (record(("a", "long"), ("b", "string")), b"\x08", "truncated"),
        (record(("a", "long"), ("b", "string")), b"", "truncated"),
    ],
)
def test_avro_bodies(definition: Json, body: bytes, reason: str | None) -> None:
    assert reason_of(definition, body) == reason


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "empty"),
        (None, "empty"),
        (b"hello", "bad_magic"),
        (b"[1]", "bad_magic"),
        (b"   ", "bad_magic"),
        (b"\xef\xbb\xbf{}", "bad_magic"),
        (b"\x01" + bytes(20), "bad_magic"),
        (b"\0", "truncated"),
        (b"\0\0\0\0\x01", "truncated"),
        (b"\0\0\0\0\x02a", "unknown_schema"),
        (b"\0\xff\xff\xff\xffa", "unknown_schema"),
        (b"{" + b" " * 262_144, "too_large"),
        (b'{"a":"\xff"}', "bad_utf8"),
        (b'{"a":' * 33 + b"1" + b"}" * 33, "too_deep"),
        (b"{" * 100_000, "too_deep"),
        (b'{"a":' + b"[" * 5000, "too_deep"),
    ],
)
def test_frames(raw: bytes | None, reason: str) -> None:
    with pytest.raises(Rejected) as caught:
        Gate(OneSchema("string")).check(raw)
    assert caught.value.reason == reason


def test_json_passes_with_brackets_in_strings() -> None:
    gate = Gate(OneSchema("string"))
    assert gate.check(b'\n {"a":' * 32 + b"1" + b"}" * 32) is None
    assert gate.check(b'{"text":"' + b"[{" * 50_000 + b'"}') is None
    assert gate.check(b'{"text":"' + b'\\"[' * 50_000 + b'","x":[[1]]}') is None


def test_json_depth_equals_a_plain_count() -> None:
    for value, depth in [({"a": [[{}]]}, 4), ({"a": '"[[{'}, 1), ({"\\": ['\\"{', [1]]}, 3)]:
        assert json_depth(json.dumps(value).encode(), 0) == depth


def test_json_scan_is_linear_on_unclosed_strings() -> None:
    hostile = b'{"' + b'\\"' * 100_000 + b"[" * 40
    began = time.perf_counter()
    assert json_depth(hostile, 32) == 1
    assert time.perf_counter() - began < 2.0


def test_a_known_id_is_looked_up_once() -> None:
    registry = OneSchema("string")
    gate = Gate(registry)
    for _ in range(5):
        gate.check(frame(1) + b"\x02a")
    assert registry.asked == 1


def test_full_message_of_smallest_items_takes_milliseconds() -> None:
    body = zigzag(262_000) + bytes(262_000) + b"\0"
    began = time.perf_counter()
    assert reason_of(STRINGS, body) is None
    assert time.perf_counter() - began < 2.0


def schemas(depth: int = 3) -> st.SearchStrategy[tuple[Json, st.SearchStrategy[object]]]:
    """Pairs of an unnamed schema and a strategy for its values."""
    leaves = st.sampled_from(
        [
            ("long", st.integers(-(2**63), 2**63 - 1)),
            ("int", st.integers(-(2**31), 2**31 - 1)),
            ("string", st.text(st.characters(exclude_categories=["Cs"]), max_size=80)),
            ("bytes", st.binary(max_size=80)),
            ("boolean", st.booleans()),
            ("double", st.floats(allow_nan=False)),
        ]
    )
    if depth == 0:
        return leaves

    def array(inner: tuple[Json, st.SearchStrategy[object]]) -> tuple[Json, st.SearchStrategy[object]]:
        return {"type": "array", "items": inner[0]}, st.lists(inner[1], max_size=5)

    def mapping(inner: tuple[Json, st.SearchStrategy[object]]) -> tuple[Json, st.SearchStrategy[object]]:
        return {"type": "map", "values": inner[0]}, st.dictionaries(st.text("ab", max_size=9), inner[1], max_size=5)

    inner = schemas(depth - 1)
    return st.one_of(leaves, inner.map(array), inner.map(mapping))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_what_fastavro_writes_is_walked_to_its_last_byte(data: st.DataObject) -> None:
    parts = data.draw(st.lists(schemas(), min_size=1, max_size=5))
    definition = record(*((f"f{k}", part[0]) for k, part in enumerate(parts)))
    value = {f"f{k}": data.draw(part[1]) for k, part in enumerate(parts)}
    out = BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(definition, {}), value)
    raw = bytes(HEADER) + out.getvalue()
    walk = compile_walk(parse_schema(json.dumps(definition)))
    assert walk(raw, HEADER, len(raw)) == len(raw)
    for cut in range(HEADER, len(raw), max(1, len(raw) // 8)):
        with pytest.raises((Rejected, IndexError, UnicodeDecodeError)):
            walk(raw[:cut], HEADER, cut)
