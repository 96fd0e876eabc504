"""Published rows for the tests: a log with versions of windows in the order they came out, and what should be found."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, TypeVar

from operators.records import SignalRow
from stream.archive_base import PublishedRow, RowQuery, published
from stream.base import CommitUnit, Log, Output, TopicSpec
from stream.connect import open_log
from stream.topics import SIGNALS
from stream.topology import build_codec

T = TypeVar("T")
CODEC = build_codec()
MINUTE = 60_000


def row(end: int = MINUTE, **given: Any) -> SignalRow:
    fields: dict[str, Any] = {
        "signal": "market.joy", "domain": "market", "entity": "ticker:AAPL", "window_start": end - MINUTE,
        "window_end": end, "value": 0.25, "lo": 0.2, "hi": 0.3, "n": 40, "n_eff": 38.5, "authors": 30, "buzz": 40.0,
        "status": "final", "revision": 0, "watermark": end, "model": "m@1", "ontology": "o1",
    }  # fmt: skip
    return SignalRow(**{**fields, **given})


async def filled(rows: Sequence[tuple[SignalRow, int]], log: Log | None = None) -> Log:
    """A log with `rows` published at the given times, in this order."""
    held = open_log("memory://") if log is None else log
    await held.ensure([TopicSpec(SIGNALS)])
    outputs = [Output(SIGNALS, 0, r.row_id.encode(), CODEC.encode(r), at) for r, at in rows]
    await held.commit(CommitUnit("test", outputs=outputs))
    return held


async def gathered(batches: AsyncIterator[list[T]]) -> list[T]:
    return [one async for batch in batches for one in batch]


def run(work: Any) -> Any:
    async def bounded() -> Any:
        async with asyncio.timeout(60):
            return await work

    return asyncio.run(bounded())


def by_hand(rows: Sequence[tuple[SignalRow, int]], query: RowQuery) -> list[PublishedRow]:
    """What `newest` should give: of each window wanted the newest published by then, by window end and id."""
    best: dict[str, PublishedRow] = {}
    for one, at in rows:
        if (query.known_at_ms is not None and at > query.known_at_ms) or not query.wants(one):
            continue
        known = best.get(one.row_id)
        if known is None or _age(one) >= _age(known):
            best[one.row_id] = published(one, at)
    return sorted(best.values(), key=lambda r: (r.window_end, r.row_id))


def _age(one: SignalRow) -> tuple[int, int, bool, int]:
    return one.revision, one.n, one.status != "provisional", one.watermark
