"""Panes and rolling windows against a brute-force count, for any order of arrival, cut, partition and repetition."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.cells import PaneBlock, Progress
from operators.clock import EventClock, Lateness
from operators.domain import Derived, Domain, Sums
from operators.frames import SignalFrame
from operators.panes import PaneStore
from operators.records import MICRO, PostBatch
from operators.rolling import Rolling
from operators.window import WindowSpec

LATENESS = Lateness(disorder_ms=30_000, allowed_ms=120_000, pane_ms=10_000)
WINDOWS = (WindowSpec(60_000, 60_000), WindowSpec(300_000, 60_000))
Key = tuple[int, int, str]


def _derive(sums: Sums) -> Derived:
    mean = sums.mean(0)
    return Derived.stack([(mean, mean, mean)])


DOMAIN = Domain("toy", (), ("score",), ("toy.mean",), lambda b: np.zeros((len(b), 1), np.int64), _derive)

posts = st.lists(
    st.tuples(
        st.integers(0, 900_000),  # event time
        st.sampled_from(["a", "b", "c"]),  # entity
        st.integers(0, 3),  # author, 0 unknown
        st.integers(0, MICRO),  # score
        st.integers(0, 2),  # partition
    ),
    min_size=1,
    max_size=60,
)


def batch_of(partition: int, first: int, rows: list[tuple[int, str, int, int, int]]) -> tuple[PostBatch, np.ndarray]:
    n = len(rows)
    names = [name for row in rows for name in (row[1], "all:*")]
    batch = PostBatch(
        partition=partition,
        offsets=np.arange(first, first + n, dtype=np.int64),
        ids=[str(k) for k in range(n)],
        texts=[""] * n,
        times_ms=np.array([r[0] for r in rows], np.int64),
        authors=np.array([r[2] for r in rows], np.uint64),
        langs=[""] * n,
        tickers=[None] * n,
        places=[None] * n,
        events=[None] * n,
        reposts=np.zeros(n, np.bool_),
        near=np.zeros(n, np.bool_),
        link_rows=np.repeat(np.arange(n, dtype=np.int32), 2),
        link_names=names,
    )
    return batch, np.array([[r[3]] for r in rows], np.int64)


def run_partition(
    partition: int, partitions: int, rows: list[tuple[int, str, int, int, int]], cut: int
) -> tuple[list[PaneBlock | Progress], list[tuple[int, str, int, int, int]]]:
    """What one source partition sends, and the posts it kept."""
    clock, store = EventClock(LATENESS), PaneStore(partition, DOMAIN, LATENESS)
    sent: list[PaneBlock | Progress] = []
    kept: list[tuple[int, str, int, int, int]] = []

    def progress(end: int, closed: bool) -> Progress:
        return Progress(partition, partitions, end, len(kept), 0, end - len(kept), 0, clock.watermark_ms, False, closed)

    for start in range(0, len(rows), cut):
        part = rows[start : start + cut]
        batch, channels = batch_of(partition, start, part)
        marks, keep = clock.advance(batch.times_ms)
        live = [row for row, k in zip(part, keep, strict=True) if k]
        kept += live
        if live:
            batch, channels = batch_of(partition, start, live)
            store.fold(batch, channels, marks[keep])
        sent += store.drain(start + len(part) - 1)
        sent.append(progress(start + len(part), False))
        store.expire(clock.watermark_ms)
    sent.append(progress(len(rows), True))
    return sent, kept


def capped_mean(members: list[tuple[int, str, int, int, int]], hop: int) -> float:
    """Mean score with one voice an author, fading beyond four posts; single posts of a slot count in full."""
    posts = Counter(m[2] for m in members)
    in_slot = Counter((m[2], m[0] // hop) for m in members)
    total = weight = 0.0
    for m in members:
        said = posts[m[2]]
        many = m[2] and in_slot[(m[2], m[0] // hop)] > 1
        share = min(1, 4 / said) ** 4 / said if many else 1.0
        total, weight = total + share * m[3], weight + share
    return total / weight / MICRO


def expected(kept: list[tuple[int, str, int, int, int]]) -> dict[Key, tuple[int, float, int]]:
    """n, capped mean and distinct authors per (size, window end, entity), counted the slow way."""
    cells: dict[Key, list[tuple[int, str, int, int, int]]] = defaultdict(list)
    for row in kept:
        for window in WINDOWS:
            first = row[0] // window.hop_ms * window.hop_ms + window.hop_ms
            for end in range(first, first + window.size_ms, window.hop_ms):
                for entity in (row[1], "all:*"):
                    cells[(window.size_ms, end, entity)].append(row)
    out = {}
    for key, members in cells.items():
        known = {m[2] for m in members if m[2]}
        authors = len(known) + sum(1 for m in members if not m[2])
        out[key] = (len(members), capped_mean(members, 60_000), authors)
    return out


def newest(frames: list[SignalFrame]) -> dict[Key, tuple[int, float, int]]:
    out: dict[Key, tuple[int, float, int]] = {}
    for frame in frames:
        for k, name in enumerate(frame.names):
            key = (frame.window.size_ms, frame.end_ms, name)
            if key not in out or out[key][0] <= int(frame.n[k]):
                out[key] = (int(frame.n[k]), float(frame.derived.value[k, 0]), int(frame.authors[k]))
    return out


@settings(max_examples=120, deadline=None)
@given(
    posts,
    st.integers(1, 20),
    st.randoms(use_true_random=False),
    st.booleans(),
)
def test_rows_equal_a_batch_count(rows: list[tuple[int, str, int, int, int]], cut: int, random, sealed: bool) -> None:
    """Any cut into batches, any interleaving of partitions, every message sent twice: the same rows as a count."""
    lanes, kept = [], []
    for partition in range(3):
        sent, live = run_partition(partition, 3, [r for r in rows if r[4] == partition], cut)
        lanes.append(sent)
        kept += live
    rolling = Rolling(DOMAIN, WINDOWS, LATENESS)
    frames: list[SignalFrame] = []
    while any(lanes):
        lane = random.choice([lane for lane in lanes if lane])
        message = lane.pop(0)
        for _ in range(random.choice([1, 1, 2])):
            if isinstance(message, Progress):
                rolling.mark(message)
                frames += rolling.emit(provisional=not sealed, sealed_only=sealed)
            else:
                rolling.ingest(message)
    assert rolling.late_posts == 0
    want = expected(kept)
    got = newest(frames)
    assert set(got) == set(want)
    for key, (n, value, authors) in want.items():
        assert got[key][0] == n
        assert got[key][1] == pytest.approx(value, abs=2e-6)  # hushed sums are rounded to millionths
        assert got[key][2] == authors


@settings(max_examples=60, deadline=None)
@given(posts, st.integers(1, 20), st.integers(1, 20))
def test_blocks_do_not_depend_on_the_cut(rows: list[tuple[int, str, int, int, int]], one: int, other: int) -> None:
    """The last block of every pane is the same however the partition was cut into batches."""

    def last(cut: int) -> dict[int, tuple[dict[str, list[int]], list[int]]]:
        sent, _ = run_partition(0, 1, rows, cut)
        blocks = [m for m in sent if isinstance(m, PaneBlock)]
        return {
            b.pane_start: (dict(zip(b.names, b.values.tolist(), strict=True)), b.late_marks.tolist()) for b in blocks
        }

    assert last(one) == last(other)


@settings(max_examples=60, deadline=None)
@given(posts, st.integers(1, 15), st.integers(0, 60))
def test_a_restart_from_blocks_changes_nothing(
    rows: list[tuple[int, str, int, int, int]], cut: int, crash: int
) -> None:
    """Blocks newer than the committed offset (a crash between send and commit) are not counted twice."""
    clock, store = EventClock(LATENESS), PaneStore(0, DOMAIN, LATENESS)
    batch, _ = batch_of(0, 0, rows)
    marks, keep = clock.advance(batch.times_ms)
    crash = min(crash, len(rows))
    live = [k for k in range(len(rows)) if keep[k]]

    def fold(into: PaneStore, wanted: list[int]) -> None:
        for k in wanted:
            one, values = batch_of(0, k, [rows[k]])
            into.fold(one, values, marks[k : k + 1])

    fold(store, live)
    whole = {b.pane_start: dict(zip(b.names, b.values.tolist(), strict=True)) for b in store.drain(len(rows) - 1)}
    first = PaneStore(0, DOMAIN, LATENESS)
    fold(first, [k for k in live if k < crash])
    blocks = first.drain(crash - 1)
    again = PaneStore(0, DOMAIN, LATENESS)
    for block in blocks:
        again.restore(block)
    fold(again, [k for k in live if k >= crash // 2])
    fold_ends = {b.pane_start: dict(zip(b.names, b.values.tolist(), strict=True)) for b in blocks}
    fold_ends.update(
        {b.pane_start: dict(zip(b.names, b.values.tolist(), strict=True)) for b in again.drain(len(rows) - 1)}
    )
    assert fold_ends.keys() == whole.keys()
    for pane, cells in whole.items():
        assert fold_ends[pane] == cells
