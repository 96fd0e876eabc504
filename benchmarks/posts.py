"""The stream the pipeline benchmarks read: posts about tickers, 27 % up to 20 s out of order, 2 % sent twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np

from operators.codec import Codec
from operators.gate import Gate
from operators.records import Post
from operators.registry import FileRegistry
from stream.base import CommitUnit, Output, TopicSpec, partition_of
from stream.connect import open_log

TOPIC = "affect.posts.finance.v1"
BEGIN_MS = 1_700_000_040_000
WINDOW_MS = 60_000
DISORDERED, MOST_LATE_MS, REPEATED = 0.27, 20_000, 0.02
TICKERS, AUTHORS = 100, 5_000
CHUNK = 10_000

_WORDS = (
    "the a this market stock price earnings call guidance beat miss today tomorrow looks very strong weak buying "
    "selling holding long short squeeze rally dip crash bullish bearish we they think expect never always again chart "
    "volume support resistance breakout options expiry fed rates inflation report analyst target upgrade downgrade "
    "great terrible happy scared angry surprised calm"
).split()

Counts = Counter[tuple[str, int]]
"""(ticker, window start in ms) -> posts."""


@dataclass(slots=True)
class Stream:
    """Messages in the order they arrive, and what one-minute windows over them must hold."""

    outputs: list[Output]
    distinct: int
    expected: Counts = field(default_factory=Counter)


def make(count: int, form: str, partitions: int, minutes: int = 10, seed: int = 1, begin_ms: int = BEGIN_MS) -> Stream:
    """`count` messages spread evenly over `minutes` of event time; `form`: json or avro.

    80 % of the posts name one ticker, 14 % two, 6 % three: 1.26 on average. Arrival time is the record's timestamp; a
    post out of order happened up to 20 s before it arrived.
    """
    rng = np.random.default_rng(seed)
    arrived = np.sort(rng.integers(0, minutes * 60_000, count)) + begin_ms
    late = np.where(rng.random(count) < DISORDERED, rng.integers(0, MOST_LATE_MS, count), 0)
    times = (arrived - late).tolist()
    many = rng.choice([1, 2, 3], count, p=[0.80, 0.14, 0.06]).tolist()
    named = rng.integers(0, TICKERS, (count, 3)).tolist()
    authors = rng.integers(0, AUTHORS, count).tolist()
    words = rng.integers(0, len(_WORDS), (count, 16)).tolist()
    again = (rng.random(count) < REPEATED).tolist()
    back = rng.integers(1, 500, count).tolist()
    encode = _encoder(form)
    sent: list[tuple[bytes, bytes]] = []
    stream = Stream([], 0)
    for k in range(count):
        if again[k] and k >= back[k]:
            sent.append(sent[k - back[k]])
        else:
            tickers = tuple(dict.fromkeys(f"T{n:03d}" for n in named[k][: many[k]]))
            post = Post(
                id=f"post-{seed}-{k:07d}",
                text=" ".join([f"${t}" for t in tickers] + [_WORDS[w] for w in words[k]]),
                created_at=times[k],
                author=f"user{authors[k]}",
                lang="en",
                tickers=tickers,
            )
            sent.append((post.id.encode(), encode(post)))
            stream.distinct += 1
            start = times[k] // WINDOW_MS * WINDOW_MS
            stream.expected.update((t, start) for t in tickers)
        key, value = sent[k]
        stream.outputs.append(Output(TOPIC, partition_of(key, partitions), key, value, int(arrived[k])))
    return stream


def _encoder(form: str) -> Callable[[Post], bytes]:
    if form == "json":
        encoder = msgspec.json.Encoder()
        return lambda post: encoder.encode({k: v for k, v in msgspec.structs.asdict(post).items() if v is not None})
    registry = FileRegistry()
    return Codec(registry, Gate(registry)).encode


def send(url: str, outputs: Sequence[Output], partitions: int) -> None:
    """Make the input topic of the log at `url` and append `outputs` to it."""

    async def run() -> None:
        log = open_log(url)
        try:
            await log.ensure([TopicSpec(TOPIC, partitions)])
            for k in range(0, len(outputs), CHUNK):
                await log.commit(CommitUnit("bench-send", outputs=outputs[k : k + CHUNK]))
        finally:
            await log.close()

    asyncio.run(run())
