"""Panes: what a block holds, stamps after a restart, late marks, expiry."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from toys import batch_of

from operators.clock import BEGINNING, Lateness
from operators.domain import Derived, Domain, Sums
from operators.panes import PaneStore, weights

LATENESS = Lateness(disorder_ms=5_000, allowed_ms=20_000, pane_ms=10_000)
M = 1_000_000


def _nothing(sums: Sums) -> Derived:
    return Derived.stack([])


def _domain(*columns: str) -> Domain:
    return Domain("toy", (), columns, (), lambda b: np.zeros((len(b), len(columns)), np.int64), _nothing)


ONE, TWO = _domain("one"), _domain("one", "two")
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
    store = PaneStore(3, TWO, LATENESS)
    fold(store)
    first, second = store.drain(stamp=3)
    assert (first.partition, first.stamp, first.pane_start, second.pane_start) == (3, 3, 0, 10_000)
    assert dict(zip(first.names, first.values.tolist(), strict=True)) == {
        "x": [2, 0, 2, 2 * M, 0, 0, 50, 5],
        "all:*": [3, 1, 3, 3 * M, M, 0, 70, 7],
    }
    one = [1, 0, 1, M, 0, 0, 30, 3]
    assert dict(zip(second.names, second.values.tolist(), strict=True)) == {"x": one, "all:*": one}
    known = zip(*(part.tolist() for part in first.voices), strict=True)
    assert [(first.names[row], author, said) for row, author, said in known] == [
        ("x", 7, [2, 2 * M, 50, 5]),
        ("all:*", 7, [2, 2 * M, 50, 5]),
    ]
    assert len(first.late_rows) == 0


def test_only_changed_panes_are_drained_and_blocks_are_cumulative() -> None:
    store = PaneStore(0, TWO, LATENESS)
    fold(store)
    store.drain(3)
    assert store.drain(4) == []
    more = batch_of(["e"], times=[5_000], links=[(0, "all:*")], first=4)
    store.fold(more, np.array([[1, 1]], np.int64), NO_MARK[:1])
    (block,) = store.drain(4)
    assert (block.pane_start, block.stamp) == (0, 4)
    assert dict(zip(block.names, block.values.tolist(), strict=True))["all:*"] == [4, 2, 4, 4 * M, 2 * M, 0, 71, 8]


def test_after_a_restart_offsets_up_to_the_stamp_change_nothing() -> None:
    store = PaneStore(0, TWO, LATENESS)
    fold(store)
    again = PaneStore(0, TWO, LATENESS)
    for block in store.drain(3):
        again.restore(block)
    fold(again)
    assert again.drain(3) == []
    fold(again, first=2)  # offsets 2 and 3 were counted, 4 and 5 (times 10 000 and 2 000) were not
    held = {b.pane_start: dict(zip(b.names, b.values.tolist(), strict=True)) for b in again.drain(5)}
    assert held[0]["all:*"] == [4, 1, 4, 4 * M, M, 0, 110, 11]
    assert held[10_000]["all:*"] == [2, 0, 2, 2 * M, 0, 0, 60, 6]


def test_an_older_block_never_replaces_a_newer_one() -> None:
    store = PaneStore(0, TWO, LATENESS)
    fold(store)
    (old, _) = store.drain(3)
    fold(store, first=4)
    (new, _) = store.drain(7)
    for order in ((old, new), (new, old)):
        again = PaneStore(0, TWO, LATENESS)
        for block in order:
            again.restore(block)
        one = batch_of(["z"], times=[0], links=[(0, "all:*")], first=8)
        again.fold(one, np.zeros((1, 2), np.int64), NO_MARK[:1])
        (block,) = again.drain(8)
        assert dict(zip(block.names, block.values.tolist(), strict=True))["all:*"][0] == 7


def test_posts_that_met_a_watermark_past_their_pane_leave_their_marks() -> None:
    store = PaneStore(0, ONE, LATENESS)
    batch = batch_of(["a", "b"], times=[3_000, 4_000], links=[(0, "all:*"), (1, "x"), (1, "all:*")])
    store.fold(batch, np.zeros((2, 1), np.int64), np.array([9_999, 10_000], np.int64))
    (block,) = store.drain(1)
    late = [(block.names[r], m) for r, m in zip(block.late_rows.tolist(), block.late_marks.tolist(), strict=True)]
    assert late == [("x", 10_000), ("all:*", 10_000)]


def test_panes_go_when_no_post_can_change_them_and_not_while_unsent() -> None:
    store = PaneStore(0, TWO, LATENESS)
    fold(store)
    store.expire(10**9)
    assert len(store) == 2
    store.drain(3)
    store.expire(29_999)
    assert len(store) == 2
    store.expire(30_000)  # the pane [0, 10 000) ended 20 000 before this
    assert len(store) == 1


def test_posts_without_links_count_nowhere() -> None:
    store = PaneStore(0, ONE, LATENESS)
    store.fold(batch_of(["a"]), np.zeros((1, 1), np.int64), NO_MARK[:1])
    assert store.drain(0) == []


def test_texts_are_counted_by_their_key_and_a_repost_weighs_as_any_post() -> None:
    batch = batch_of(["a", "b", "c", "d"], authors=[1, 2, 3, 0], links=[(k, "all:*") for k in range(4)])
    batch = replace(batch, reposts=np.array([False, True, False, True]), text_keys=np.array([9, 9, 5, 9], np.uint64))
    assert weights(batch).tolist() == [M] * 4
    store = PaneStore(0, ONE, LATENESS)
    store.fold(batch, np.full((4, 1), 400_000, np.int64), NO_MARK)
    (block,) = store.drain(3)
    assert block.texts.hashes.tolist() == [5, 9]
    assert block.texts.sums.tolist() == [[1], [3]]
    again = PaneStore(0, ONE, LATENESS)
    again.restore(block)
    again.fold(replace(batch, offsets=batch.offsets + 4), np.zeros((4, 1), np.int64), NO_MARK)
    assert again.drain(7)[0].texts.sums.tolist() == [[2], [6]]


def test_a_post_that_was_sampled_stands_for_those_that_were_not() -> None:
    batch = batch_of(["a", "b", "c"], authors=[1, 2, 0], links=[(k, "all:*") for k in range(3)])
    batch = replace(batch, inverse=np.array([4 * M, 0, 4 * M]))
    store = PaneStore(0, ONE, LATENESS)
    store.fold(batch, np.array([[250_000], [0], [500_000]], np.int64), NO_MARK[:3])
    (block,) = store.drain(2)
    assert block.values.tolist() == [[3, 1, 2, 8 * M, 16 * M, 0, 3 * M]]
