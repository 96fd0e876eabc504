"""Level, mix and volume add up to the change, to 1e-9, on every row of both replay streams; groups are the sources."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from oracle import Post, read_posts, times_of

from engines.load import load_text_model
from operators.cells import Progress
from operators.clock import BEGINNING, Lateness
from operators.domain import Domain, Sums
from operators.entities import Linker
from operators.explain import Groups, decompose
from operators.frames import SignalFrame
from operators.panes import PaneStore
from operators.records import PostBatch
from operators.rolling import Rolling
from operators.text import Score
from operators.window import WindowSpec
from stream.topology import build_domain

DATA = os.environ.get("AFFECT_DATA")
STREAMS = {"market": "posts_finance", "crisis": "posts_disaster"}
WINDOWS = tuple(WindowSpec(size, size) for size in (60_000, 300_000, 3_600_000))
LATENESS = Lateness(30_000, 86_400_000, 10_000)
MARK = "\x1f"

pytestmark = [
    pytest.mark.data,
    pytest.mark.timeout(300),
]


def linked(posts: list[Post], times: list[int], domain: str) -> PostBatch:
    """The posts of a stream with their entities; each of these once more with the source behind it."""
    n = len(posts)
    tickers: list[tuple[str, ...] | None] = [
        tuple(str(t) for t in post["tickers"]) if "tickers" in post else None  # type: ignore[attr-defined]
        for post in posts
    ]
    batch = PostBatch(
        partition=0, offsets=np.arange(n), ids=[str(p["id"]) for p in posts], texts=[str(p["text"]) for p in posts],
        times_ms=np.array(times, np.int64), authors=np.zeros(n, np.uint64), langs=[""] * n, tickers=tickers,
        places=[p.get("place") for p in posts], events=[p.get("event") for p in posts],  # type: ignore[misc]
        reposts=np.zeros(n, np.bool_), near=np.zeros(n, np.bool_),
    )  # fmt: skip
    found = asyncio.run(Linker(domain).process(batch)).batch
    sources = [str(posts[row]["source"]) for row in found.link_rows.tolist()]
    names = [x for name, source in zip(found.link_names, sources, strict=True) for x in (name, f"{name}{MARK}{source}")]
    return replace(found, link_rows=found.link_rows.repeat(2), link_names=names)


def frames(domain: Domain, batch: PostBatch) -> Iterator[SignalFrame]:
    panes, rolling = PaneStore(0, domain, LATENESS), Rolling(domain, WINDOWS, LATENESS)
    panes.fold(batch, domain.channels(batch), np.full(len(batch), BEGINNING, np.int64))
    for block in panes.drain(len(batch) - 1):
        rolling.ingest(block)
    rolling.mark(Progress(0, 1, len(batch), len(batch), 0, 0, 0, 0, closed=True))
    return rolling.emit(sealed_only=True)


def pick(sums: Sums, rows: list[int]) -> Sums:
    return Sums(*(getattr(sums, name)[rows] for name in ("n", "n_eff", "weight", "columns", "whole", "hhi", "copies")))


def groups(frame: SignalFrame, entities: list[str], sources: list[str]) -> Groups:
    """The entities of a frame, parted by source."""
    at = {name: k for k, name in enumerate(frame.names)}
    weight = np.zeros((len(entities), len(sources)))
    columns = np.zeros((*weight.shape, frame.sums.columns.shape[1]))
    for k, entity in enumerate(entities):
        for g, source in enumerate(sources):
            row = at.get(f"{entity}{MARK}{source}")
            if row is not None:
                weight[k, g], columns[k, g] = frame.sums.weight[row], frame.sums.columns[row]
    return Groups(pick(frame.sums, [at[entity] for entity in entities]), weight, columns)


@pytest.mark.parametrize("name", sorted(STREAMS))
def test_parts_add_up_on_every_row(name: str) -> None:
    posts = read_posts(Path(str(DATA)) / "text" / "streams" / f"{STREAMS[name]}.jsonl.gz")
    model = load_text_model("hashed")
    domain = build_domain(name, model.spec)
    batch = linked(posts, times_of(posts, 0.25), name)
    batch = asyncio.run(Score(model, domain.tasks).process(batch)).batch
    sources = sorted({str(post["source"]) for post in posts})
    known: dict[tuple[int, int], SignalFrame] = {}
    rows = moved = 0
    by_part = np.zeros(4)
    for frame in frames(domain, batch):
        size = frame.window.size_ms
        before = known.get((size, frame.end_ms - size))
        known[size, frame.end_ms] = frame
        if before is None:
            continue
        shared = sorted(name for name in {*frame.names} & {*before.names} if MARK not in name)
        if not shared:
            continue
        change, parts = decompose(domain, groups(before, shared, sources), groups(frame, shared, sources))
        first, last = (pick(f.sums, [f.names.index(e) for e in shared]) for f in (before, frame))
        np.testing.assert_array_equal(change, domain.derive(last).value - domain.derive(first).value)
        sound = np.isfinite(change)
        assert (np.abs(parts.sum(axis=-1) - change)[sound] <= 1e-9).all()
        rows += int(sound.sum())
        moved += int((np.abs(change[sound]) > 1e-6).sum())
        by_part += np.abs(parts[sound]).sum(axis=0)
    assert rows > 10_000
    assert moved > rows / 2
    level, mix, volume, past = by_part.tolist()
    assert min(level, mix, volume) > 0.01 * max(level, mix, volume)  # each has its say
    assert past == 0
