"""From pane messages to rows: statuses, nulls with their reason, other lanes, and no repetition after a restart."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest

from operators.cell_messages import block_message, progress_message
from operators.cells import PaneBlock, Progress
from operators.clock import BEGINNING, Lateness
from operators.domain import Derived, Domain, Sums
from operators.records import MICRO, SignalRow
from operators.voices import no_voices
from operators.window import WindowSpec
from stream import windowing
from stream.base import Record
from stream.topics import PANES, SIGNALS
from stream.topology import build_codec
from stream.windowing import WindowParts, WindowStage

LATENESS = Lateness(disorder_ms=0, allowed_ms=60_000, pane_ms=10_000)
CODEC = build_codec()


def _derive(sums: Sums) -> Derived:
    mean = sums.mean(0)
    unknown = np.where(sums.columns[:, 0] > 0, mean, np.nan)
    whole = np.where(sums.whole, mean, np.nan)
    return Derived.stack([(mean, mean - 0.1, mean + 0.1), (unknown,) * 3, (whole,) * 3])


TOY = Domain(
    "toy",
    (),
    ("score",),
    ("toy.mean", "toy.ratio", "toy.without_place"),
    lambda b: np.zeros((len(b), 1), np.int64),
    _derive,
)
PARTS = WindowParts(
    group="w", domain=TOY, codec=CODEC, lateness=LATENESS, windows=(WindowSpec(60_000, 60_000),), minimum=3.0,
    model="m@1", ontology="o1", lane="mine",
)  # fmt: skip


def block(pane: int, n: int, stamp: int, total: int = 0, marks: tuple[int, ...] = ()) -> PaneBlock:
    """`n` posts of unknown authors about `x`, and so about `all:*`."""
    names = ["x", "all:*"]
    return PaneBlock(
        0, stamp, pane, names, np.array([[n, n, n, n * MICRO, n * MICRO, 0, total]] * 2, np.int64), no_voices(3),
        no_voices(1),
        np.array([0, 1] * len(marks), np.int32), np.repeat(np.array(marks, np.int64), 2),
    )  # fmt: skip


class Sent:
    """The pane topic as the scoring half writes it."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def put(self, item: PaneBlock | Progress, lane: str = "mine") -> None:
        key = f"{lane}/0/{'progress' if isinstance(item, Progress) else item.pane_start}".encode()
        message = progress_message(lane, item) if isinstance(item, Progress) else block_message(lane, item, TOY)
        self.records.append(Record(len(self.records), key, CODEC.encode(message), 0))

    def mark(self, watermark: int, consumed: int = 1, closed: bool = False) -> None:
        self.put(Progress(0, 1, consumed, consumed, 0, 0, 0, watermark, closed=closed))


def rows_after(sent: Sent, stage: WindowStage, provisional: bool = True) -> dict[tuple[str, str, int], SignalRow]:
    stage.ingest(sent.records[stage.offset :])
    return {(r.signal, r.entity, r.window_end): r for rows, _ in stage.units(provisional, 77) for r in rows}


def test_provisional_final_revised() -> None:
    sent, stage = Sent(), WindowStage(PARTS, sealed_only=False)
    sent.put(block(0, 4, stamp=3, total=2_000_000))
    sent.mark(45_000, 4)
    first = rows_after(sent, stage)[("toy.mean", "x", 60_000)]
    assert (first.status, first.revision, first.watermark, first.n) == ("provisional", 0, 45_000, 4)
    assert (first.value, first.lo, first.hi) == pytest.approx((0.5, 0.4, 0.6))
    sent.mark(60_000, 5)
    final = rows_after(sent, stage)[("toy.mean", "x", 60_000)]
    assert (final.status, final.revision, final.watermark) == ("final", 0, 60_000)
    sent.put(block(0, 5, stamp=5, total=3_000_000, marks=(60_000,)))
    sent.mark(61_000, 6)
    revised = rows_after(sent, stage)[("toy.mean", "x", 60_000)]
    assert (revised.status, revised.revision, revised.n, revised.value) == ("revised", 1, 5, pytest.approx(0.6))
    assert first.row_id == final.row_id == revised.row_id == "toy.mean|x|0|60000"
    assert rows_after(sent, stage) == {}


def test_below_the_minimum_there_is_a_row_whose_value_is_null_with_the_reason() -> None:
    sent, stage = Sent(), WindowStage(PARTS, sealed_only=False)
    sent.put(block(0, 2, stamp=1, total=1_000_000))
    sent.mark(60_000, 2)
    row = rows_after(sent, stage)[("toy.mean", "x", 60_000)]
    assert (row.value, row.lo, row.hi, row.n, row.n_eff, row.authors, row.buzz) == (None, None, None, 2, 2.0, 2, 2.0)
    assert row.reasons == ("n_eff 2 below the minimum 3",)
    assert math.isfinite(row.n_eff)


def test_undefined_is_null_with_the_reason_and_whole_stream_signals_have_no_other_rows() -> None:
    sent, stage = Sent(), WindowStage(PARTS, sealed_only=False)
    sent.put(block(0, 4, stamp=3, total=0))
    sent.mark(60_000, 4)
    rows = rows_after(sent, stage)
    ratio = rows[("toy.ratio", "x", 60_000)]
    assert (ratio.value, ratio.reasons) == (None, ("no mass to compare",))
    assert ("toy.without_place", "x", 60_000) not in rows
    assert rows[("toy.without_place", "all:*", 60_000)].value == 0.0
    assert len(rows) == 5


def test_before_any_watermark_a_row_says_its_window_start() -> None:
    sent, stage = Sent(), WindowStage(PARTS, sealed_only=False)
    sent.put(block(60_000, 4, stamp=3))
    sent.put(Progress(0, 2, 4, 4, 0, 0, 0, 70_000))
    assert rows_after(sent, stage) == {}  # the second partition has not been heard of: nothing is known of time
    assert stage.rolling.watermark_ms == BEGINNING


def test_other_lanes_and_keyless_records_pass_by() -> None:
    sent, stage = Sent(), WindowStage(PARTS, sealed_only=False)
    sent.put(block(0, 9, stamp=8), lane="mine2")
    sent.put(block(0, 9, stamp=8), lane="other")
    sent.records.append(Record(len(sent.records), None, b"junk", 0))
    sent.put(block(0, 4, stamp=3))
    sent.mark(60_000, 4)
    assert {r.n for r in rows_after(sent, stage).values()} == {4}
    assert stage.offset == len(sent.records)


def test_a_restart_says_nothing_twice_and_forgets_nothing() -> None:
    """Rows of one life, cut at every point, equal rows of a life rebuilt there, from there on."""
    sent = Sent()
    for k in range(12):
        sent.put(block(k * 10_000, 4, stamp=4 * k + 3, total=k * 100_000))
        sent.mark(k * 10_000 + 5_000, 4 * k + 4)
    sent.put(block(10_000, 5, stamp=60, marks=(115_000,)))
    sent.mark(121_000, 61, closed=True)
    for cut in range(0, len(sent.records) + 1):
        lived, rebuilt = WindowStage(PARTS, sealed_only=True), WindowStage(PARTS, sealed_only=True)
        lived.ingest(sent.records[:cut])
        list(lived.units(False, 77))
        rebuilt.ingest(sent.records[:cut])
        rebuilt.skip()
        after = [rows_after(sent, stage, provisional=False) for stage in (lived, rebuilt)]
        assert after[0] == after[1]
        assert lived.done
        assert rebuilt.done


def test_the_commit_holds_rows_under_their_ids_and_the_position() -> None:
    sent, stage = Sent(), WindowStage(PARTS, sealed_only=False)
    sent.put(block(0, 4, stamp=3))
    sent.mark(60_000, 4)
    stage.ingest(sent.records)
    ((rows, unit),) = stage.units(True, now_ms=77, generation=5)
    assert (unit.group, unit.generation, unit.offsets) == ("w", 5, {(PANES, 0): 2})
    assert [(o.topic, o.key, o.timestamp_ms) for o in unit.outputs] == [(SIGNALS, r.row_id.encode(), 77) for r in rows]
    assert [CODEC.decode_signal(o.value) for o in unit.outputs] == rows
    assert stage.rows_emitted == len(rows)
    assert msgspec.json.decode(msgspec.json.encode(rows[0]), type=SignalRow) == rows[0]


@pytest.mark.parametrize("most", [1, 2, 5, 6])
def test_many_rows_leave_in_several_commits_and_only_the_last_moves_the_position(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent, whole = Sent(), WindowStage(PARTS, sealed_only=False)
    sent.put(block(0, 4, stamp=3))
    sent.mark(60_000, 4)
    want = list(rows_after(sent, whole).values())
    monkeypatch.setattr(windowing, "MOST_ROWS", most)
    stage = WindowStage(PARTS, sealed_only=False)
    stage.ingest(sent.records)
    units = list(stage.units(True, 77, 5))
    assert [row for rows, _ in units for row in rows] == want
    assert [len(rows) for rows, _ in units] == [most] * ((len(want) - 1) // most) + [(len(want) - 1) % most + 1]
    assert [dict(unit.offsets) for _, unit in units] == [{}] * (len(units) - 1) + [{(PANES, 0): 2}]
    assert all(len(unit.outputs) == len(rows) and unit.generation == 5 for rows, unit in units)
    assert stage.rows_emitted == len(want)
