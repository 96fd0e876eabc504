"""Signal rows as a faulty run would publish them, and what a sink should have kept of them."""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, ParamSpec

from operators.records import SignalRow, Status
from stream.base import CommitUnit, Log, Output
from stream.results import FinalRows
from stream.sink_base import Published
from stream.topics import SIGNALS, engine_topics
from stream.topology import build_codec

P = ParamSpec("P")
CODEC = build_codec()


def looped(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """A test that is a coroutine, on a loop of its own."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


async def until(true: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for it; TimeoutError if it does not come."""
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.02)


def row(entity: str = "ticker:A", end: int = 60_000, revision: int = 0, n: int = 5, **other: Any) -> SignalRow:
    status: Status = "revised" if revision else "final"
    given = {
        "signal": "market.joy", "domain": "market", "value": n / 100, "lo": None, "hi": 0.5, "n_eff": n * 0.5,
        "authors": n, "buzz": float(n), "status": status, "watermark": end, "model": "stub@1", "ontology": "1",
        "reasons": ("a", "b"),
    }  # fmt: skip
    return SignalRow(
        entity=entity, window_start=end - 60_000, window_end=end, revision=revision, n=n, **{**given, **other}
    )


def many(count: int, seed: int = 3) -> list[SignalRow]:
    """Rows with revisions and provisional ones, stale ones after newer ones, as a faulty run would publish them."""
    rng = random.Random(seed)
    out = []
    for _ in range(count):
        revision, closed = rng.choice((0, 0, 0, 1, 2)), rng.random() < 0.5
        end = 60_000 * rng.randrange(1, 40)
        n = 10 * revision + (5 if closed else rng.randrange(1, 6))
        status = "provisional" if not closed and not revision else "revised" if revision else "final"
        mark = end - 10 * (6 - n) if status == "provisional" else end
        out.append(row(f"ticker:T{rng.randrange(50)}", end, revision, n, status=status, watermark=mark))
    return out


def published(rows: Iterable[SignalRow], at: int = 1_000) -> list[Published]:
    return [Published(r, at + k) for k, r in enumerate(rows)]


def as_final(rows: Sequence[SignalRow]) -> list[bytes]:
    final = FinalRows()
    final.add(rows)
    return list(final.lines())


def newest(rows: Sequence[SignalRow]) -> list[bytes]:
    """What `affect replay` would leave of `rows`: closed ones, the newest of each."""
    return as_final(sorted(rows, key=lambda r: (r.revision, r.n, r.status != "provisional", r.watermark)))


async def publish(log: Log, rows: Sequence[SignalRow], at: int = 1_000) -> None:
    await log.ensure(engine_topics("affect.posts.finance.v1", 1, -1))
    outputs = [Output(SIGNALS, 0, r.row_id.encode(), CODEC.encode(r), at + k) for k, r in enumerate(rows)]
    for k in range(0, len(outputs), 5_000):
        await log.commit(CommitUnit("test", outputs=outputs[k : k + 5_000]))
