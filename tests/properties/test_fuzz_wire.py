"""20 000 mutated messages and the known bombs: nothing crashes, each is decoded or dead-lettered, the counts add up."""

from __future__ import annotations

import json
import random
import resource
import time
from collections import Counter
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import fastavro
import msgspec
import pytest

from operators.arrivals import Arrival
from operators.cells_wire import PaneCells, SourceCounts
from operators.codec import Codec
from operators.errors import ConfigInvalid, Rejected
from operators.gate import HEADER, Gate, frame
from operators.reasons import REASONS
from operators.records import Post, SignalRow
from operators.registry import BUILT_IN, FileRegistry
from tests.operators.decoding import Raw

NOW = 1_717_171_717_000
HOSTILE = (
    b"\xff",
    b"\0",
    b"\x80" * 9,
    b"\xfe\xff\xff\xff\x0f",
    b'"',
    b"{",
    b"[[[[",
    b"\\u0000",
    b"\\ud800",
    b"NaN",
    b"1e999",
    b"9" * 400,
)


@pytest.fixture(scope="module")
def codec() -> Codec:
    registry = FileRegistry()
    return Codec(registry, Gate(registry))


def seeds(codec: Codec) -> list[bytes]:
    rich = Post(
        id="p-1",
        text="Wasser fehlt 💧 in Léogâne, $AAPL?",
        created_at=NOW,
        author="ann",
        lang="de",
        tickers=("AAPL", "MSFT"),
        place="Léogâne",
        event="quake",
        followers=300,
        source="x",
    )
    posts = [
        rich,
        Post(id="p-2", text="plain"),
        Post(id="p-3", text="z" * 300, created_at="2024-05-31T01:02:03+02:00"),
        Post(id="p-4", text="float", created_at=1.7e12, tickers=()),
    ]
    return codec.encode_posts(posts) + [msgspec.json.encode(p) for p in posts]


def mutate(rng: random.Random, corpus: list[bytes]) -> bytes:
    raw = bytearray(rng.choice(corpus))
    for _ in range(rng.choice((1, 1, 1, 2, 4, 8))):
        at = rng.randrange(len(raw)) if raw else 0
        kind = rng.randrange(7)
        if kind == 0 and raw:
            raw[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and raw:
            raw[at] = rng.randrange(256)
        elif kind == 2:
            del raw[at:]
        elif kind == 3:
            other = rng.choice(corpus)
            raw[at:] = other[rng.randrange(len(other)) :]
        elif kind == 4:
            raw[at:at] = rng.choice(HOSTILE)
        elif kind == 5:
            del raw[at : at + rng.randrange(1, 6)]
        else:
            raw[at:at] = raw[rng.randrange(len(raw) + 1) :][:20]
    return bytes(raw)


def test_20_000_mutated_posts_are_each_decoded_or_dead_lettered(codec: Codec) -> None:
    rng = random.Random(20_240_531)
    corpus = seeds(codec)
    arrival = Arrival(b"fuzz")
    reasons: Counter[str] = Counter()
    decoded = 0
    for start in range(0, 20_000, 500):
        records = [Raw(start + k, None, mutate(rng, corpus), NOW) for k in range(500)]
        batch, dead = codec.decode_posts("posts", 0, records, arrival)
        landed = sorted([*batch.offsets.tolist(), *(d.offset for d in dead)])
        assert landed == [r.offset for r in records]
        assert all(isinstance(t, str) and t.encode() for t in batch.texts)
        reasons.update(d.reason for d in dead)
        decoded += len(batch)
    assert decoded + sum(reasons.values()) == 20_000
    assert reasons.keys() <= REASONS.keys()
    assert decoded > 1000
    assert len(reasons) >= 12
    assert reasons["undecodable"] == 0


def test_mutated_avro_the_gate_passes_is_what_fastavro_reads(codec: Codec) -> None:
    """The walker and the decoder agree on where a record ends: no byte is left over, none is missing."""
    rng = random.Random(7)
    registry = FileRegistry()
    gate = Gate(registry)
    schema = fastavro.parse_schema(json.loads(registry.by_id(1).text), {})
    corpus = seeds(codec)[:4]
    passed = 0
    for _ in range(4000):
        raw = mutate(rng, corpus)
        try:
            writer = gate.check(raw)
        except Rejected:
            continue
        if writer is not None and writer.id == 1:
            body = BytesIO(raw)
            body.seek(HEADER)
            fastavro.schemaless_reader(body, schema, None)
            assert body.tell() == len(raw)
            passed += 1
    assert passed > 200


def test_2_000_mutated_rows_of_our_own_topics_raise_only_rejected(codec: Codec) -> None:
    row = SignalRow(
        signal="market.valence",
        domain="market",
        entity="ticker:AAPL",
        window_start=0,
        window_end=60_000,
        value=0.5,
        lo=0.1,
        hi=0.9,
        n=3,
        n_eff=2.5,
        authors=3,
        buzz=0.0,
        status="final",
        revision=0,
        watermark=60_000,
        model="m@1",
        ontology="o",
        reasons=("a", "b"),
    )
    cells = PaneCells(
        "t", 0, 5, 0, 0, 10, ("a", "b"), ("n",), bytes(16), bytes(4), bytes(8), bytes(4), source=SourceCounts(6)
    )
    rng = random.Random(3)
    read: Counter[bool] = Counter()
    corpus = [codec.encode(row), codec.encode(cells)]
    decoders: list[Callable[[bytes], object]] = [codec.decode_signal, codec.decode_panes]
    for _ in range(2000):
        raw = mutate(rng, corpus)
        for decode in decoders:
            try:
                decode(raw)
                read[True] += 1
            except Rejected as refused:
                read[False] += 1
                if refused.reason not in REASONS:
                    raise
    assert sum(read.values()) == 4000
    assert read[True] > 50


def recursive() -> bytes:
    return b"\x02" * 5000 + b"\0"


def test_a_recursive_schema_never_reaches_the_decoder(tmp_path: Path, codec: Codec) -> None:
    """5 KB that end the process with SIGSEGV in fastavro 1.13: refused at registration, dead-lettered on sight."""
    registry = FileRegistry(tmp_path)
    text = json.dumps({"type": "record", "name": "Post", "fields": [{"name": "next", "type": ["null", "Post"]}]})
    with pytest.raises(ConfigInvalid, match="contains itself"):
        registry.register("affect.posts.social.v1-value", text)
    digest = "0" * 64
    (tmp_path / "evil.avsc").write_text(text)
    index = {"schemas": {"1000": {"file": "evil.avsc", "sha256": digest}}, "subjects": {}}
    (tmp_path / "index.json").write_text(json.dumps(index))
    live = Codec(FileRegistry(), Gate(registry))
    batch, dead = live.decode_posts("t", 0, [Raw(0, None, frame(1000) + recursive(), NOW)], Arrival(b"k"))
    assert (len(batch), [d.reason for d in dead]) == (0, ["unknown_schema"])


def test_bombs_cost_no_time_and_no_memory(codec: Codec) -> None:
    head = frame(1) + b"\x02a\x02b\0\0\0"
    huge = b"\x80\x80\x80\x80\x80\x80\x01"
    bombs = {
        "array of 2^40": head + b"\x02" + b"\x80\x80\x80\x80\x80\x40" + b"\0" * 8,
        "array of 50 million": head + b"\x02" + b"\x80\xe1\xeb\x17" + b"\0" * 64,
        "array of -2^63": head + b"\x02" + b"\xff" * 9 + b"\x01" + b"\0" * 8,
        "text of 2^41 bytes": frame(1) + b"\x02a" + huge + b"b",
        "deep objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        "deep arrays": b'{"a":' + b"[" * 200_000,
        "5000 digits": b'{"id":"a","text":"b","created_at":' + b"9" * 5000 + b"}",
        "a mebibyte": b'{"id":"a","text":"' + b"x" * 2**20 + b'"}',
        "escaped quotes without end": b'{"a":"' + b'\\"' * 130_000,
        "brackets in an open string": b'{"a":"' + b"[" * 250_000,
    }
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, raw in bombs.items():
        began = time.perf_counter()
        batch, dead = codec.decode_posts("t", 0, [Raw(0, None, raw, NOW)], Arrival(b"k"))
        assert (len(batch), len(dead)) == (0, 1), name
        assert time.perf_counter() - began < 2.0, name
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 * 1024


def test_the_fullest_message_let_pass_stays_small(codec: Codec) -> None:
    n = 262_000
    count = bytearray()
    left = n << 1
    while left > 127:
        count.append(left & 127 | 128)
        left >>= 7
    count.append(left)
    raw = frame(1) + b"\x02a\x02b\0\0\0\x02" + bytes(count) + bytes(n) + b"\0" + b"\0" * 4
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    batch, dead = codec.decode_posts("t", 0, [Raw(0, None, raw, NOW)], Arrival(b"k"))
    assert dead == []
    assert batch.tickers == [()]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 * 1024


def test_built_in_schemas_cover_every_wire_file() -> None:
    index = json.loads((BUILT_IN / "index.json").read_text())
    assert {e["file"] for e in index["schemas"].values()} == {p.name for p in BUILT_IN.glob("*.avsc")}
