"""Posts read many at a time are what they are read one at a time: the same rows, the same reasons, the same values.

One at a time goes through the gate's walker, fastavro or msgspec, and the rules of arrival post by post; many at a time
through `avro_columns`, the gate's look at a whole batch, and the rules column by column.
"""

from __future__ import annotations

import random

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.arrivals import Arrival
from operators.avro_columns import AvroPosts, readable
from operators.codec import Codec
from operators.errors import Rejected
from operators.gate import HEADER, Gate, frame
from operators.post_reader import FEW, USUAL_BYTES
from operators.records import DeadLetter, Post, PostBatch
from operators.registry import FileRegistry
from tests.operators.decoding import Raw

NOW = 1_717_171_717_000
REGISTRY = FileRegistry()
GATE = Gate(REGISTRY)
CODEC = Codec(REGISTRY, GATE)
ARRIVAL = Arrival(b"key")


def rows_of(batch: PostBatch) -> list[tuple[object, ...]]:
    columns = (batch.offsets.tolist(), batch.ids, batch.texts, batch.times_ms.tolist(), batch.authors.tolist())
    return list(zip(*columns, batch.langs, batch.tickers, batch.places, batch.events, strict=True))


def at_once(values: list[bytes]) -> tuple[list[tuple[object, ...]], list[DeadLetter]]:
    batch, dead = CODEC.decode_posts("t", 0, [Raw(k, None, v, NOW) for k, v in enumerate(values)], ARRIVAL)
    assert len(batch.reposts) == len(batch.near) == len(batch)
    return rows_of(batch), dead


def one_by_one(values: list[bytes]) -> tuple[list[tuple[object, ...]], list[DeadLetter]]:
    rows, letters = [], []
    for k, value in enumerate(values):
        batch, dead = CODEC.decode_posts("t", 0, [Raw(k, None, value, NOW)], ARRIVAL)
        rows += rows_of(batch)
        letters += dead
    return rows, letters


texts = st.one_of(st.text(max_size=40), st.text("aé💧 $", max_size=300))
short = st.one_of(st.none(), st.sampled_from(["", " x ", "en", "en-US", "und", "x" * 256, "x" * 257]), texts)
posts = st.builds(
    Post,
    id=st.one_of(texts, st.sampled_from(["p" * 256, "p" * 257])),
    text=st.one_of(texts, st.sampled_from([" ", "z" * 9000])),
    created_at=st.one_of(
        st.none(),
        st.integers(-(2**63), 2**63 - 1),
        st.integers(NOW - 10**9, NOW + 10**5),
        st.floats(allow_nan=False, allow_infinity=False),
        st.sampled_from(["2024-05-31T01:02:03+02:00", "2999-01-01", "soon", ""]),
    ),
    author=short,
    lang=short,
    tickers=st.one_of(
        st.none(), st.lists(st.one_of(st.sampled_from(["$aapl", "GME", "x" * 17]), texts), max_size=40).map(tuple)
    ),
    place=short,
    event=short,
    followers=st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
    source=short,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(posts, st.booleans()), min_size=1, max_size=3 * FEW), st.integers(0, 2**32))
def test_any_posts_come_out_the_same(sent: list[tuple[Post, bool]], seed: int) -> None:
    """Ordinary posts between the drawn ones, so that no example consists of exceptions alone."""
    plain = [Post(id=f"plain{k}", text="good day", created_at=NOW - k, tickers=("A",)) for k in range(2 * FEW)]
    mixed = [(p, avro) for p in plain for avro in (True, False)] + sent
    random.Random(seed).shuffle(mixed)
    values = [CODEC.encode(p) if avro else msgspec.json.encode(p) for p, avro in mixed]
    assert at_once(values) == one_by_one(values)


def corpus() -> list[bytes]:
    rich = Post(
        id="p-1", text="Wasser fehlt 💧 in Léogâne, $AAPL?", created_at=NOW, author="ann", lang="de",
        tickers=("AAPL", "MSFT"), place="Léogâne", event="quake", followers=300, source="ü",
    )  # fmt: skip
    several = [
        rich,
        Post(id="p-2", text="plain"),
        Post(id="p-3", text="z" * 300, created_at="2024-05-31T01:02:03+02:00", followers=-(2**63)),
        Post(id="p-4", text="float", created_at=1.7e12, tickers=()),
        Post(id="p-5", text="y" * 70, created_at=NOW, author="bob", tickers=("T1",)),
    ]
    return [CODEC.encode(p) for p in several] + [msgspec.json.encode(p) for p in several]


def mutate(rng: random.Random, raw: bytearray) -> bytes:
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(raw)) if raw else 0
        kind = rng.randrange(6)
        if kind == 0 and raw:
            raw[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and raw:
            raw[at] = rng.choice((0, 1, 2, 3, 4, 6, 0x7F, 0x80, 0x81, 0xFE, 0xFF, rng.randrange(256)))
        elif kind == 2:
            del raw[at:]
        elif kind == 3:
            raw[at:at] = rng.choice((b"\0", b"\x80" * 9, b"\xff" * 9 + b"\x01", b"\xc3", b"[[[[", b'"', b"\x81\0"))
        elif kind == 4:
            del raw[at : at + rng.randrange(1, 6)]
        else:
            raw[at:at] = raw[rng.randrange(len(raw) + 1) :][:20]
    return bytes(raw)


def test_mutated_posts_come_out_the_same() -> None:
    rng = random.Random(11)
    seeds = corpus()
    read = 0
    for _ in range(40):
        values = [
            raw if rng.random() < 0.5 else mutate(rng, bytearray(raw))
            for raw in (rng.choice(seeds) for _ in range(250))
        ]
        rows, dead = at_once(values)
        assert (rows, dead) == one_by_one(values)
        read += len(rows)
    assert 5000 < read < 9500


def test_the_columns_know_every_post_that_is_whole_and_no_other() -> None:
    """Not only sound: of whole messages of the usual kind none is left to the slow way."""
    assert readable(REGISTRY.latest("affect.posts.social.v1-value").type)
    seeds = [raw for raw in corpus() if raw[0] == 0]
    reader = AvroPosts(HEADER)
    assert reader.read(seeds * 5)[0] == [k for k in range(25) if k % 5 != 2]  # number 2 holds a number of ten bytes
    rng = random.Random(5)
    for _ in range(200):
        values = [mutate(rng, bytearray(rng.choice(seeds))) for _ in range(20)]
        values = [v if len(v) >= HEADER else seeds[0] for v in values]
        rows, sent = reader.read(values)
        assert len(rows) == len(sent.ids) == len(sent.events)
        for row in rows:
            try:
                GATE.check(frame(REGISTRY.latest("affect.posts.social.v1-value").id) + values[row][HEADER:])
            except Rejected as why:
                raise AssertionError(f"{values[row]!r} was read, but the gate refuses it") from why


def test_the_longest_usual_and_the_unusual_long_post_are_read() -> None:
    edge = [Post(id=f"n{k}", text="t" * n) for k, n in enumerate((62, 63, 64, 8191, 8192, USUAL_BYTES * 3, 200_000))]
    values = [CODEC.encode(p) for p in edge] * FEW + [msgspec.json.encode(p) for p in edge] * FEW
    rows, dead = at_once(values)
    assert dead == []
    assert [r[1] for r in rows] == [p.id for p in edge] * (2 * FEW)
    assert (rows, dead) == one_by_one(values)


def test_a_number_of_ten_bytes_does_not_lend_its_last_to_the_next_field() -> None:
    head = frame(REGISTRY.latest("affect.posts.social.v1-value").id) + b"\x02a\x02b\x02" + b"\x80" * 9 + b"\0"
    whole, short = head + bytes(7), head + bytes(6)
    assert AvroPosts(HEADER).read([whole, short])[0] == []
    assert at_once([whole, short] * FEW) == one_by_one([whole, short] * FEW)


def test_schemas_of_another_shape_are_not_for_the_columns() -> None:
    assert not readable(REGISTRY.latest("affect.late.v1-value").type)
