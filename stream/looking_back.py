"""Reads posts back from the input topic: a bounded look at its end, as far as two windows need it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from operators.base import Operator
from operators.clock import EventClock
from operators.dedupe import Dedupe
from operators.records import PostBatch
from operators.reread import about
from stream.base import Log
from stream.scoring import Parts

CHUNK = 2_000
STEP = 500
"""Records decoded at once, when looking for the begin and when going forward: others have the loop in between."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Posts about `entity` with a time in [start_ms, end_ms). `most`: records read at most, of all partitions."""

    entity: str
    start_ms: int
    end_ms: int
    most: int


@dataclass(frozen=True, slots=True)
class LookedBack:
    """The posts found, one batch a partition, linked and scored; what may be missing, in words (empty = nothing)."""

    posts: tuple[PostBatch, ...]
    missing: tuple[str, ...]


async def look_back(log: Log, parts: Parts, wanted: Wanted, chain: Sequence[Operator], score: Operator) -> LookedBack:
    """The posts `wanted`, as the windows took them in: without rejected, late and duplicate ones.

    Looks backwards, chunk by chunk, for one whose posts are all too old to matter, and from there forward to the end.

    Args:
        chain: operators of the run up to the linking one. score: the one that scores.
    """
    posts: list[PostBatch] = []
    missing: list[str] = []
    oldest = wanted.start_ms - parts.lateness.disorder_ms - parts.lateness.allowed_ms
    spans = await log.span(parts.topic)
    left = wanted.most
    for partition, (begin, end) in enumerate(spans):
        start, why = await _start(log, parts, partition, (begin, end), oldest, left // (len(spans) - partition))
        left -= end - start
        if why and why not in missing:
            missing.append(why)
        found = await _forward(log, parts, partition, (start, end), wanted, chain)
        posts += [await _scored(batch, score) for batch in found]
    by_partition: dict[int, list[PostBatch]] = {}
    for batch in posts:
        by_partition.setdefault(batch.partition, []).append(batch)
    return LookedBack(tuple(_joined(found) for found in by_partition.values()), tuple(missing))


async def _start(
    log: Log, parts: Parts, partition: int, span: tuple[int, int], oldest_ms: int, most: int
) -> tuple[int, str]:
    """Offset to begin at, and why that may be too late ("" = it is not)."""
    begin, end = span
    at = end
    while at > begin:
        if end - at >= most:
            return at, f"only the newest {most} records of a partition were read"
        first = max(begin, at - CHUNK, end - most)
        newest = -1
        offset = first
        while offset < at:
            records = await log.read(parts.topic, partition, offset, min(CHUNK, at - offset))
            records = [record for record in records if record.offset < at]
            if not records:
                break
            offset = records[-1].offset + 1
            batch, _ = parts.codec.decode_posts(parts.topic, partition, records, parts.arrival)
            newest = max(newest, int(batch.times_ms.max()) if len(batch) else -1)
            await asyncio.sleep(0)
        if 0 <= newest < oldest_ms:
            return first, ""
        at = first
    return begin, "older records are no longer held" if begin else ""


async def _forward(
    log: Log,
    parts: Parts,
    partition: int,
    span: tuple[int, int],
    wanted: Wanted,
    chain: Sequence[Operator],
) -> list[PostBatch]:
    """The posts wanted of a stretch of a partition, linked, in offset order."""
    clock = EventClock(parts.lateness)
    dedupe = Dedupe(horizon_ms=parts.dedupe_ms, near=parts.near_duplicates)
    kept: list[PostBatch] = []
    at, end = span
    while at < end:
        records = await log.read(parts.topic, partition, at, min(STEP, end - at))
        records = [record for record in records if record.offset < end]
        if not records:
            break
        at = records[-1].offset + 1
        batch, _ = parts.codec.decode_posts(parts.topic, partition, records, parts.arrival)
        _, in_time = clock.advance(batch.times_ms)
        batch = (await dedupe.process(batch.take(in_time))).batch
        inside = (batch.times_ms >= wanted.start_ms) & (batch.times_ms < wanted.end_ms)
        await asyncio.sleep(0)
        if not inside.any():
            continue
        batch = replace(batch.take(inside), text_keys=batch.text_keys[inside])
        for operator in chain:
            batch = (await operator.process(batch)).batch
        batch = about(batch, wanted.entity, wanted.start_ms, wanted.end_ms)
        if len(batch):
            kept.append(batch)
    return kept


def _joined(parts: Sequence[PostBatch]) -> PostBatch:
    """Scored batches of one partition, in offset order, as one."""
    first = parts[0]
    if len(parts) == 1:
        return first
    counts = np.cumsum([0, *(len(p) for p in parts)])[:-1].tolist()
    return PostBatch(
        partition=first.partition,
        offsets=np.concatenate([p.offsets for p in parts]),
        ids=[x for p in parts for x in p.ids],
        texts=[x for p in parts for x in p.texts],
        times_ms=np.concatenate([p.times_ms for p in parts]),
        authors=np.concatenate([p.authors for p in parts]),
        langs=[x for p in parts for x in p.langs],
        tickers=[x for p in parts for x in p.tickers],
        places=[x for p in parts for x in p.places],
        events=[x for p in parts for x in p.events],
        reposts=np.concatenate([p.reposts for p in parts]),
        near=np.concatenate([p.near for p in parts]),
        text_keys=np.concatenate([p.text_keys for p in parts]),
        link_rows=np.concatenate([p.link_rows + c for p, c in zip(parts, counts, strict=True)]).astype(np.int32),
        link_names=[x for p in parts for x in p.link_names],
        sources=[x for p in parts for x in p.sources or [None] * len(p)],
        scores={task: np.concatenate([p.scores[task] for p in parts]) for task in first.scores},
    )


async def _scored(batch: PostBatch, score: Operator) -> PostBatch:
    return (await score.process(batch)).batch
