"""Panes: what a block holds, stamps after a restart, late marks, expiry."""

from __future__ import annotations

import numpy as np
from toys import batch_of

from operators.clock import BEGINNING, Lateness
from operators.panes import PaneStore

LATENESS = Lateness(disorder_ms=5_000, allowed_ms=20_000, pane_ms=10_000)
NO_MARK = np.full(4, BEGINNING, np.int64)


def fold(store: PaneStore, first: int = 0) -> None:
    batch = batch_of(
        ["a", "b", "c", "d"],
        times=[1_000, 9_999, 10_000, 2_000],
        authors=[7, 0, 7, 7],
        links=[(0, "x"), (0, "all:*"), (1, "all:*"), (2, "x"), (2, "all:*"), (3, "x"), (3, "all:*")],
        first=first,
    )
    store.fold(batch, np.array([[10, 1], [20, 2], [30, 3], [40, 4]], np.int64), NO_MARK)


def test_a_block_holds_counts_sums_and_authors_by_entity() -> None:
    store = PaneStore(3, 2, LATENESS)
    fold(store)
    first, second = store.drain(stamp=3)
    assert (first.partition, first.stamp, first.pane_start, second.pane_start) == (3, 3, 0, 10_000)
    assert dict(zip(first.names, first.values.tolist(), strict=True)) == {"x": [2, 0, 50, 5], "all:*": [3, 1, 70, 7]}
    assert dict(zip(second.names, second.values.tolist(), strict=True)) == {"x": [1, 0, 30, 3], "all:*": [1, 0, 30, 3]}
    rows, hashes, counts = first.authors
    known = zip(rows.tolist(), hashes.tolist(), counts.tolist(), strict=True)
    assert [(first.names[row], author, n) for row, author, n in known] == [("x", 7, 2), ("all:*", 7, 2)]
    assert len(first.late_rows) == 0


def test_only_changed_panes_are_drained_and_blocks_are_cumulative() -> None:
    store = PaneStore(0, 2, LATENESS)
    fold(store)
    store.drain(3)
    assert store.drain(4) == []
    more = batch_of(["e"], times=[5_000], links=[(0, "all:*")], first=4)
    store.fold(more, np.array([[1, 1]], np.int64), NO_MARK[:1])
    (block,) = store.drain(4)
    assert (block.pane_start, block.stamp) == (0, 4)
    assert dict(zip(block.names, block.values.tolist(), strict=True))["all:*"] == [4, 2, 71, 8]


def test_after_a_restart_offsets_up_to_the_stamp_change_nothing() -> None:
    store = PaneStore(0, 2, LATENESS)
    fold(store)
    again = PaneStore(0, 2, LATENESS)
    for block in store.drain(3):
        again.restore(block)
    fold(again)
    assert again.drain(3) == []
    fold(again, first=2)  # offsets 2 and 3 were counted, 4 and 5 (times 10 000 and 2 000) were not
    held = {b.pane_start: dict(zip(b.names, b.values.tolist(), strict=True)) for b in again.drain(5)}
    assert held[0]["all:*"] == [4, 1, 110, 11]
    assert held[10_000]["all:*"] == [2, 0, 60, 6]


def test_an_older_block_never_replaces_a_newer_one() -> None:
    store = PaneStore(0, 2, LATENESS)
    fold(store)
    (old, _) = store.drain(3)
    fold(store, first=4)
    (new, _) = store.drain(7)
    for order in ((old, new), (new, old)):
        again = PaneStore(0, 2, LATENESS)
        for block in order:
            again.restore(block)
        one = batch_of(["z"], times=[0], links=[(0, "all:*")], first=8)
        again.fold(one, np.zeros((1, 2), np.int64), NO_MARK[:1])
        (block,) = again.drain(8)
        assert dict(zip(block.names, block.values.tolist(), strict=True))["all:*"][0] == 7


def test_posts_that_met_a_watermark_past_their_pane_leave_their_marks() -> None:
    store = PaneStore(0, 1, LATENESS)
    batch = batch_of(["a", "b"], times=[3_000, 4_000], links=[(0, "all:*"), (1, "x"), (1, "all:*")])
    store.fold(batch, np.zeros((2, 1), np.int64), np.array([9_999, 10_000], np.int64))
    (block,) = store.drain(1)
    late = [(block.names[r], m) for r, m in zip(block.late_rows.tolist(), block.late_marks.tolist(), strict=True)]
    assert late == [("x", 10_000), ("all:*", 10_000)]


def test_panes_go_when_no_post_can_change_them_and_not_while_unsent() -> None:
    store = PaneStore(0, 2, LATENESS)
    fold(store)
    store.expire(10**9)
    assert len(store) == 2
    store.drain(3)
    store.expire(29_999)
    assert len(store) == 2
    store.expire(30_000)  # the pane [0, 10 000) ended 20 000 before this
    assert len(store) == 1


def test_posts_without_links_count_nowhere() -> None:
    store = PaneStore(0, 1, LATENESS)
    store.fold(batch_of(["a"]), np.zeros((1, 1), np.int64), NO_MARK[:1])
    assert store.drain(0) == []
