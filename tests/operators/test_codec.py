"""Records to bytes and back, and the hot path: raw records in, a batch and dead letters out."""

from __future__ import annotations

import ast
import json
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import fastavro
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.arrivals import Arrival, author_hasher, epoch_ms
from operators.cells_wire import PaneCells, SourceCounts
from operators.codec import WIRE, Codec
from operators.errors import ConfigInvalid, OperatorError, Rejected
from operators.frame_wire import Frame
from operators.gate import Gate, frame
from operators.reasons import REASONS
from operators.records import Alert, DeadLetter, LatePost, Post, PostBatch, SignalRow
from operators.registry import BUILT_IN, FileRegistry
from operators.scores_wire import PostScores, TaskScores

NOW = 1_717_171_717_000
ARRIVAL = Arrival(b"a test key")


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
CELLS = PaneCells(
    source_topic="posts",
    partition=1,
    offset=77,
    pane_start=NOW,
    bucket=2,
    watermark=NOW + 10_000,
    entities=("ticker:AAPL", "all:*"),
    columns=("n", "unknown", "joy"),
    values=np.arange(6, dtype="<i8").tobytes(),
    author_rows=np.array([0, 1], "<i4").tobytes(),
    author_hashes=np.array([1, 2**64 - 1], "<u8").tobytes(),
    author_counts=np.array([3, 4], "<i4").tobytes(),
    late_rows=np.array([1], "<i4").tobytes(),
    late_marks=np.array([NOW], "<i8").tobytes(),
    source=SourceCounts(10, 7, 1, 1, 1, idle=True, closed=False, partitions=4),
)
LATE = LatePost(topic="posts", partition=0, offset=7, post_id="ä", event_time_ms=NOW, late_by_ms=5)
DEAD = DeadLetter(topic="posts", partition=0, offset=9, reason="empty", detail="d", size_bytes=0, time_ms=NOW)
ALERT = Alert(
    rule="r", kind="change", severity="warning", row_id="x", signal="s", domain="market", entity="e",
    window_start=NOW - 60_000, window_end=NOW, value=-0.5, lo=None, hi=0.5, n=7, measure=-0.75, reference=0.25,
    status="revised", revision=2, message="m",
)  # fmt: skip
SCORES = PostScores(
    source_topic="posts",
    partition=0,
    offset=3,
    post_id="a",
    event_time_ms=NOW,
    model="hashed@12345678",
    tasks=(TaskScores("sentiment3", ("negative", "neutral", "positive"), (1, 2, 999_997)),),
)


def test_every_record_type_comes_back_equal() -> None:
    unknown = msgspec.structs.replace(SIGNAL, value=None, lo=None, hi=None, reasons=())
    for row in (SIGNAL, unknown):
        assert CODEC.decode_signal(CODEC.encode(row)) == row
    assert CODEC.decode_panes(CODEC.encode(CELLS)) == CELLS
    assert CODEC.decode_late(CODEC.encode(LATE)) == LATE
    assert CODEC.decode_dead_letter(CODEC.encode(DEAD)) == DEAD
    assert CODEC.decode_alert(CODEC.encode(ALERT)) == ALERT
    assert CODEC.decode_scores(CODEC.encode(SCORES)) == SCORES
    sound = Frame(
        room="1", seat="s", number=3, captured_ms=NOW, arrived_ms=NOW + 9, codec="pcm16", rate=16_000, body=b"ab"
    )
    for one in (sound, Frame(room="1", seat="s", number=0, captured_ms=0, arrived_ms=0, width=2, height=3)):
        assert CODEC.decode_frame(CODEC.encode(one), 2) == one
    with pytest.raises(Rejected, match="too_large"):
        CODEC.decode_frame(CODEC.encode(msgspec.structs.replace(sound, body=bytes(2_000))), 900)


def test_schema_fields_are_the_record_fields() -> None:
    for kind, (name, _) in WIRE.items():
        fields = [f["name"] for f in json.loads((BUILT_IN / f"{name}.avsc").read_text())["fields"]]
        assert tuple(fields) == kind.__struct_fields__, name


def test_pane_cells_need_only_their_head() -> None:
    cells = PaneCells("posts", 0, 1, NOW, 0, NOW, (), ("n",), b"")
    assert CODEC.decode_panes(CODEC.encode(cells)) == cells


@pytest.mark.parametrize(
    "broken",
    [
        {"values": b"1234567"},
        {"entities": ("a",)},
        {"author_rows": b"123"},
        {"author_hashes": b""},
        {"author_rows": np.array([0, 2], "<i4").tobytes()},
        {"late_rows": np.array([-1], "<i4").tobytes()},
        {"late_marks": b"1234"},
    ],
)
def test_cells_that_do_not_fit_together_are_refused(broken: dict[str, object]) -> None:
    with pytest.raises(Rejected) as caught:
        CODEC.decode_panes(CODEC.encode(msgspec.structs.replace(CELLS, **broken)))
    assert caught.value.reason == "bad_shape"


def test_cells_of_many_entities_pass_where_a_post_would_be_too_large() -> None:
    names = tuple(f"ticker:T{k}" for k in range(40_000))
    cells = PaneCells("posts", 0, 1, NOW, 0, NOW, names, ("n",), bytes(8 * len(names)))
    raw = CODEC.encode(cells)
    assert len(raw) > 262_144
    assert CODEC.decode_panes(raw) == cells
    assert reason_of(raw) == "too_large"


def test_a_record_of_another_type_is_refused() -> None:
    with pytest.raises(Rejected, match="incompatible_schema"):
        CODEC.decode_signal(CODEC.encode(LATE))
    with pytest.raises(Rejected, match="bad_magic"):
        CODEC.decode_signal(b"{}")
    assert reason_of(CODEC.encode(SIGNAL)) == "incompatible_schema"


@pytest.mark.parametrize("field", ["value", "n_eff", "buzz"])
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_refused(field: str, number: float) -> None:
    raw = CODEC.encode(msgspec.structs.replace(SIGNAL, **{field: number}))
    with pytest.raises(Rejected) as caught:
        CODEC.decode_signal(raw)
    assert caught.value.reason == "not_finite"


def test_what_no_schema_can_hold_is_said() -> None:
    with pytest.raises(OperatorError, match="LatePost"):
        CODEC.encode(msgspec.structs.replace(LATE, offset=2**70))
    with pytest.raises(OperatorError, match="expected one of"):
        CODEC.encode(SourceCounts())


def test_posts_come_back_the_same_by_avro_and_json() -> None:
    posts = [
        Post(
            id="1",
            text="Grüße 🥳 \0",
            created_at=NOW - 5,
            author="ann",
            lang="en-US",
            tickers=("$aapl", "MSFT", " aapl "),
        ),
        Post(id="2", text="x", created_at="2024-05-31", place=" Croix-des-Bouquets ", event="", tickers=()),
        Post(id="3", text="y", created_at=1.5e12, lang="und", followers=3, source="s"),
        Post(id="4", text="z"),
    ]
    by_avro, dead_avro = decode(*CODEC.encode_posts(posts))
    by_json, dead_json = decode(*(msgspec.json.encode(p) for p in posts))
    assert dead_avro == dead_json == []
    for batch in (by_avro, by_json):
        assert batch.partition == 3
        assert batch.offsets.tolist() == [100, 101, 102, 103]
        assert batch.ids == ["1", "2", "3", "4"]
        assert batch.texts == ["Grüße 🥳 \0", "x", "y", "z"]
        assert batch.times_ms.tolist() == [NOW - 5, 1_717_113_600_000, 1_500_000_000_000, NOW]
        assert batch.langs == ["en", "", "und", ""]
        assert batch.tickers == [("AAPL", "MSFT"), (), None, None]
        assert batch.places == [None, "Croix-des-Bouquets", None, None]
        assert batch.events == [None, None, None, None]
        assert batch.authors[0] != 0
        assert batch.authors[1:].tolist() == [0, 0, 0]
        assert (batch.offsets.dtype, batch.times_ms.dtype, batch.authors.dtype) == (np.int64, np.int64, np.uint64)
        assert not batch.reposts.any()
        assert not batch.near.any()
        assert len(batch.link_rows) == len(batch.link_names) == len(batch.scores) == 0
    assert by_avro.authors.tolist() == by_json.authors.tolist()


def test_nothing_in_gives_an_empty_batch() -> None:
    batch, dead = decode()
    assert len(batch) == 0
    assert dead == []
    assert batch.offsets.dtype == np.int64


@pytest.mark.parametrize(
    ("created_at", "time_ms"),
    [
        (0, 0),
        (NOW, NOW),
        (NOW + 60_000, NOW + 60_000),
        (1234.9, 1234),
        ("1970-01-01", 0),
        ("2020-01-01", 1_577_836_800_000),
        ("2020-01-01T00:00:00.123456", 1_577_836_800_123),
        ("2020-01-01T00:00:00Z", 1_577_836_800_000),
        ("2020-01-01T02:00:00+02:00", 1_577_836_800_000),
        ("2019-12-31 19:00:00-05:00", 1_577_836_800_000),
        (None, NOW),
    ],
)
def test_times_that_are_read(created_at: object, time_ms: int) -> None:
    batch, dead = decode(from_json(created_at=created_at))
    assert dead == []
    assert batch.times_ms.tolist() == [time_ms]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (from_json(created_at=-1), "bad_timestamp"),
        (from_json(created_at=-0.5), "bad_timestamp"),
        (from_json(created_at=10**18), "bad_timestamp"),
        (from_json(created_at=2**64), "bad_timestamp"),
        (from_json(created_at=1e300), "bad_timestamp"),
        (from_json(created_at="1969-12-31"), "bad_timestamp"),
        (from_json(created_at="0001-01-01T00:00:00+23:59"), "bad_timestamp"),
        (from_json(created_at="9999-12-31T23:59:59-23:59"), "bad_timestamp"),
        (from_json(created_at="yesterday"), "bad_timestamp"),
        (from_json(created_at=""), "bad_timestamp"),
        (from_json(created_at="2020-01-01T00:00:60"), "bad_timestamp"),
        (from_json(created_at="2020-01-01\x00"), "bad_timestamp"),
        (from_json(created_at="٢٠٢٠-٠١-٠١"), "bad_timestamp"),
        (from_json(created_at=NOW + 60_001), "future_timestamp"),
        (from_json(created_at="2999-01-01"), "future_timestamp"),
        (from_json(created_at=True), "wrong_type"),
        (from_json(created_at=[1]), "wrong_type"),
        (b'{"id":"a","text":"b","created_at":' + b"9" * 5000 + b"}", "wrong_type"),
        (b'{"id":"a","text":"b","created_at":1e999}', "wrong_type"),
        (b'{"id":"a","text":"b","created_at":NaN}', "bad_json"),
        (b'{"id":"a","text":"b","created_at":Infinity}', "bad_json"),
        (b'{"id":"a","text":"b","unknown":NaN}', "bad_json"),
        (b'{"id":"a"}', "missing_field"),
        (b'{"text":"a"}', "missing_field"),
        (b"{}", "missing_field"),
        (b'{"id":1,"text":"a"}', "wrong_type"),
        (b'{"id":"a","text":null}', "wrong_type"),
        (b'{"id":"a","text":"\\ud800"}', "bad_json"),
        (b'{"id":"a","text":"b\0"}', "bad_json"),
        (b'{"id":"a","text":"b"', "bad_json"),
        (b'{"id":"a","text":"b"} {}', "bad_json"),
        (b'{"id":"a","text":"\xed\xa0\x80"}', "bad_utf8"),
        (from_json(id=""), "bad_id"),
        (from_json(id="x" * 257), "too_long"),
        (from_json(text=""), "empty_text"),
        (from_json(text=" \n\t"), "empty_text"),
        (from_json(author="x" * 257), "too_long"),
        (from_json(place="x" * 257), "too_long"),
        (from_json(event="x" * 257), "too_long"),
        (from_json(tickers=["x" * 17]), "too_long"),
        (from_json(tickers=["x" * 100_000]), "too_long"),
        (from_json(tickers=["A", 1]), "wrong_type"),
        (b"", "empty"),
        (b"hello", "bad_magic"),
    ],
)
def test_posts_that_are_refused(raw: bytes, reason: str) -> None:
    assert reason_of(raw) == reason


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), -1.0, 1e308])
def test_avro_times_that_are_no_number(value: float) -> None:
    assert reason_of(CODEC.encode(Post(id="a", text="b", created_at=value))) == "bad_timestamp"


def test_lenient_forms_that_pass() -> None:
    batch, dead = decode(
        b'{"id":"a","id":"b","text":"x"}',
        b'  {"id":"c","text":"\\u0000","unknown":{"deep":[1,{}]},"followers":99999999999999999999999}',
        from_json(id="d", ticker="$tsla", tickers=None),
        from_json(id="e", ticker="$tsla", tickers=["GME"]),
        from_json(id="f", tickers=[f"T{k}" for k in range(100)] + ["", " $ "]),
        from_json(id="g", author="", place="  ", lang=""),
    )
    assert dead == []
    assert batch.ids == list("bcdefg")
    assert batch.tickers[2:4] == [("TSLA",), ("GME",)]
    assert len(batch.tickers[4] or ()) == 32
    assert (batch.authors[5], batch.places[5], batch.langs[5]) == (0, None, "")


def test_dead_letters_say_where_and_never_what() -> None:
    secret = "my private words"
    batch, dead = decode(
        from_json(), from_json(created_at=secret), from_json(id=[secret]), from_json(id="b"), b"\0\1\2\3\4"
    )
    assert batch.ids == ["a", "b"]
    assert [(d.topic, d.partition, d.offset, d.reason) for d in dead] == [
        ("posts", 3, 101, "bad_timestamp"),
        ("posts", 3, 102, "wrong_type"),
        ("posts", 3, 104, "truncated"),
    ]
    assert all(d.time_ms == NOW and d.size_bytes > 0 and secret not in d.detail for d in dead)


def test_a_time_limit_can_be_lifted_and_arrival_must_be_known() -> None:
    _, dead = decode(from_json(created_at="2999-01-01"), arrival=Arrival(b"k", future_limit_ms=None))
    assert dead == []
    batch, dead = CODEC.decode_posts("t", 0, [Raw(0, None, from_json(), -1)], ARRIVAL)
    assert (len(batch), dead[0].reason) == (0, "bad_timestamp")


def test_author_hashes_depend_on_the_key_and_are_stable() -> None:
    first, again, other = author_hasher(b"one"), author_hasher(b"one"), author_hasher(b"two")
    names = [f"user{k}" for k in range(1000)]
    assert [first(n) for n in names] == [again(n) for n in names]
    assert len({first(n) for n in names} | {other(n) for n in names}) == 2000
    assert all(0 < first(n) < 2**64 for n in names)
    with pytest.raises(ConfigInvalid, match="64"):
        author_hasher(b"x" * 65)


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(), st.integers(), st.floats(allow_nan=True), st.datetimes().map(lambda d: d.isoformat())))
def test_any_created_at_is_a_time_or_a_rejection(value: str | int | float) -> None:
    try:
        outcome: object = 0 <= epoch_ms(value) < 253_402_300_800_000
    except Rejected as refused:
        outcome = refused.reason
    assert outcome in (True, "bad_timestamp")


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.one_of(st.binary(max_size=60), st.sampled_from([from_json(), b"{}", CODEC.encode(Post(id="p", text="q"))]))
    )
)
def test_every_record_ends_in_one_place_in_order(values: list[bytes]) -> None:
    batch, dead = decode(*values)
    kept, refused = batch.offsets.tolist(), [d.offset for d in dead]
    assert sorted(kept + refused) == list(range(100, 100 + len(values)))
    assert kept == sorted(kept)
    assert refused == sorted(refused)
    assert {d.reason for d in dead} <= REASONS.keys()


def test_every_reason_used_is_documented() -> None:
    used = set()
    for path in BUILT_IN.parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Rejected":
                used |= {n.value for n in ast.walk(node.args[0]) if isinstance(n, ast.Constant) and "_" in str(n.value)}
    assert len(used) > 15
    assert {u for u in used if " " not in u} <= REASONS.keys()


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
