"""Posts by JSON and Avro: read alike, refused with a reason, and every record ends in one place."""

from __future__ import annotations

import ast

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.arrivals import Arrival, author_hasher, epoch_ms
from operators.errors import ConfigInvalid, Rejected
from operators.reasons import REASONS
from operators.records import Post
from operators.registry import BUILT_IN
from tests.operators.decoding import ARRIVAL, CODEC, NOW, Raw, decode, from_json, reason_of


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
