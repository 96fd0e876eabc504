"""Rolling windows, step by step: watermark over partitions, statuses, revisions, late posts, memory."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from toys import batch_of

from operators.cells import PaneBlock, Progress
from operators.clock import BEGINNING, Lateness
from operators.domain import Derived, Domain, Sums
from operators.frames import SignalFrame
from operators.panes import PaneStore
from operators.rolling import FOREVER, Rolling
from operators.window import WindowSpec

LATENESS = Lateness(disorder_ms=0, allowed_ms=30_000, pane_ms=10_000)
MINUTE = WindowSpec(60_000, 60_000)


def _derive(sums: Sums) -> Derived:
    mean = sums.mean(0)
    return Derived.stack([(mean, mean, mean)])


DOMAIN = Domain("toy", (), ("score",), ("toy.mean",), lambda b: np.zeros((len(b), 1), np.int64), _derive)


class Lane:
    """One source partition that sends a block and its progress for every few posts."""

    def __init__(self, partition: int, partitions: int) -> None:
        self.partition, self.partitions = partition, partitions
        self.store = PaneStore(partition, DOMAIN, LATENESS)
        self.newest = BEGINNING
        self.offset = 0

    def posts(self, *times: int) -> list[PaneBlock]:
        batch = batch_of(
            ["t"] * len(times), times=times, links=[(k, "all:*") for k in range(len(times))], first=self.offset
        )
        marks = []
        for at in times:
            marks.append(self.newest)
            self.newest = max(self.newest, at)
        self.store.fold(batch, np.full((len(times), 1), 500_000, np.int64), np.array(marks, np.int64))
        self.offset += len(times)
        return self.store.drain(self.offset - 1)

    def progress(self, *, idle: bool = False, closed: bool = False) -> Progress:
        return Progress(
            self.partition, self.partitions, self.offset, self.offset, 0, 0, 0, self.newest, idle=idle, closed=closed
        )

    def send(self, rolling: Rolling, *times: int, idle: bool = False, closed: bool = False) -> None:
        if times:
            for block in self.posts(*times):
                rolling.ingest(block)
        rolling.mark(self.progress(idle=idle, closed=closed))


def rolling_of(*windows: WindowSpec) -> Rolling:
    return Rolling(DOMAIN, windows or (MINUTE,), LATENESS)


def told(frames: Iterable[SignalFrame]) -> list[tuple[int, int, int, bool]]:
    """(end, n, revision, closed) of `all:*` in each frame."""
    return [(f.end_ms, int(f.n[0]), int(f.revision[0]), f.closed) for f in frames]


def test_the_watermark_is_the_least_of_all_partitions_and_waits_for_all_of_them() -> None:
    rolling, one, two = rolling_of(), Lane(0, 2), Lane(1, 2)
    one.send(rolling, 50_000)
    assert rolling.watermark_ms == BEGINNING
    two.send(rolling, 20_000)
    assert rolling.watermark_ms == 20_000
    one.send(rolling, 90_000)
    assert rolling.watermark_ms == 20_000
    two.send(rolling, 70_000)
    assert rolling.watermark_ms == 70_000


def test_it_never_goes_back() -> None:
    rolling, one, two = rolling_of(), Lane(0, 2), Lane(1, 2)
    one.send(rolling, 90_000)
    two.send(rolling, 5_000, idle=True)
    assert rolling.watermark_ms == 90_000
    two.send(rolling, 6_000)  # awake again, far behind
    assert rolling.watermark_ms == 90_000


def test_an_idle_partition_does_not_hold_the_others_and_all_idle_stand_at_the_newest_post() -> None:
    rolling, one, two = rolling_of(), Lane(0, 2), Lane(1, 2)
    two.send(rolling, 10_000)
    one.send(rolling, 80_000)
    assert rolling.watermark_ms == 10_000
    two.send(rolling, idle=True)
    assert rolling.watermark_ms == 80_000
    one.send(rolling, 85_000, idle=True)
    assert rolling.watermark_ms == 85_000


def test_a_closed_partition_does_not_hold_and_all_closed_end_time() -> None:
    rolling, one, two = rolling_of(), Lane(0, 2), Lane(1, 2)
    one.send(rolling, 10_000, closed=True)
    two.send(rolling, 70_000)
    assert rolling.watermark_ms == 70_000
    two.send(rolling, closed=True)
    assert rolling.watermark_ms == FOREVER


def test_an_older_mark_changes_nothing() -> None:
    rolling, one = rolling_of(), Lane(0, 1)
    one.send(rolling, 10_000)
    old = one.progress()
    one.send(rolling, 50_000)
    rolling.mark(old)
    assert rolling.watermark_ms == 50_000
    assert rolling.progress[0].consumed == 2


def test_provisional_then_final_then_revised_once_per_late_post() -> None:
    rolling, lane = rolling_of(), Lane(0, 1)
    lane.send(rolling, 1_000, 2_000)
    assert told(rolling.emit()) == [(60_000, 2, 0, False)]
    assert told(rolling.emit()) == []
    lane.send(rolling, 3_000)
    assert told(rolling.emit()) == [(60_000, 3, 0, False)]
    lane.send(rolling, 61_000)
    assert told(rolling.emit()) == [(60_000, 3, 0, True), (120_000, 1, 0, False)]
    lane.send(rolling, 30_000)
    assert told(rolling.emit()) == [(60_000, 4, 1, True)]
    lane.send(rolling, 31_000, 32_000)
    assert told(rolling.emit()) == [(60_000, 6, 3, True)]


def test_between_windows_only_what_moved_is_told_again() -> None:
    """An event update: a post about one entity brings a provisional row of it and of the whole, and no other."""
    rolling, store = rolling_of(), PaneStore(0, DOMAIN, LATENESS)
    for first, links in (
        (0, [(0, "ticker:A"), (0, "all:*"), (1, "ticker:B"), (1, "all:*")]),
        (2, [(0, "ticker:B"), (0, "all:*")]),
    ):
        count = 1 + links[-1][0]
        batch = batch_of(["t"] * count, times=[1_000 + first + k for k in range(count)], links=links, first=first)
        store.fold(batch, np.full((count, 1), 500_000, np.int64), np.full(count, BEGINNING, np.int64))
        for block in store.drain(first + count - 1):
            rolling.ingest(block)
        rolling.mark(Progress(0, 1, first + count, first + count, 0, 0, 0, 2_000))
        frames = list(rolling.emit())
        assert [frame.closed for frame in frames] == [False]
        told_of = dict(zip(frames[0].names, frames[0].n.tolist(), strict=True))
        assert told_of == ({"all:*": 3, "ticker:B": 2} if first else {"all:*": 2, "ticker:A": 1, "ticker:B": 1})


def test_sealed_only_says_each_window_once_with_its_revisions() -> None:
    rolling, lane = rolling_of(), Lane(0, 1)
    lane.send(rolling, 1_000, 61_000, 30_000)
    assert told(rolling.emit(sealed_only=True)) == []
    lane.send(rolling, 99_999)
    assert told(rolling.emit(sealed_only=True)) == []
    lane.send(rolling, 100_000)  # 60 000 + 30 000 allowed + 10 000 of pane
    assert told(rolling.emit(sealed_only=True)) == [(60_000, 2, 1, True)]
    lane.send(rolling, closed=True)
    assert [f[:2] for f in told(rolling.emit(sealed_only=True))] == [(120_000, 3)]


def test_a_late_post_for_a_window_nobody_had_seen_makes_it() -> None:
    rolling, lane = rolling_of(), Lane(0, 1)
    lane.send(rolling, 185_000)
    told(rolling.emit())
    lane.send(rolling, 170_000)
    assert told(rolling.emit()) == [(180_000, 1, 1, True)]


def test_a_block_sent_twice_counts_once() -> None:
    rolling, lane = rolling_of(), Lane(0, 1)
    for block in lane.posts(1_000, 2_000):
        rolling.ingest(block)
        rolling.ingest(block)
    rolling.mark(lane.progress(closed=True))
    assert told(rolling.emit()) == [(60_000, 2, 0, True)]


def test_a_window_of_several_hops_adds_its_slots() -> None:
    rolling, lane = rolling_of(WindowSpec(180_000, 60_000)), Lane(0, 1)
    lane.send(rolling, 1_000, 61_000, 121_000, closed=True)
    assert [(end, n) for end, n, _, _ in told(rolling.emit())] == [
        (60_000, 1),
        (120_000, 2),
        (180_000, 3),
        (240_000, 2),
        (300_000, 1),
    ]


def test_posts_of_a_partition_that_was_idle_too_long_are_counted_late_once_each() -> None:
    """On time 3 posts; back after the pane was let go, 2 and 1 more for the same pane."""
    rolling, slow, fast = rolling_of(), Lane(0, 2), Lane(1, 2)
    slow.send(rolling, 1_000, 2_000, 3_000, idle=True)
    fast.send(rolling, 500_000)
    told(rolling.emit())
    before = rolling.late_posts
    slow.send(rolling, 4_000, 5_000)
    assert rolling.late_posts - before == 2
    told(rolling.emit())
    slow.send(rolling, 6_000)
    assert rolling.late_posts - before == 3
    assert before == 0
    assert all(end > 60_000 for end, *_ in told(rolling.emit()))


def test_what_no_post_can_change_is_let_go() -> None:
    rolling, lane = rolling_of(MINUTE, WindowSpec(300_000, 60_000)), Lane(0, 1)
    sizes = []
    for minute in range(60):
        lane.send(rolling, *range(minute * 60_000, minute * 60_000 + 60_000, 10_000))
        told(rolling.emit())
        sizes.append(rolling.memory())
    assert max(size["panes"] for size in sizes) <= 12
    assert max(size["slots"] for size in sizes) <= 9
    assert rolling._late == {}


def test_watermark_in_a_frame_never_passes_the_window() -> None:
    rolling, lane = rolling_of(), Lane(0, 1)
    lane.send(rolling, 1_000, 40_000)
    (open_frame,) = list(rolling.emit())
    assert open_frame.watermark_ms == 40_000
    lane.send(rolling, 500_000)
    assert next(rolling.emit()).watermark_ms == 60_000
