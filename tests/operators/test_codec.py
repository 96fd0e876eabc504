"""Records to bytes and back, and the hot path: raw records in, a batch and dead letters out."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest

from operators.cells_wire import PaneCells, SourceCounts
from operators.codec import WIRE
from operators.errors import OperatorError, Rejected
from operators.frame_wire import Frame
from operators.records import Alert, DeadLetter, LatePost
from operators.registry import BUILT_IN
from operators.scores_wire import PostScores, TaskScores
from tests.operators.decoding import CODEC, NOW, SIGNAL, reason_of

CELLS = PaneCells(
    source_topic="posts",
    partition=1,
    offset=77,
    pane_start=NOW,
    bucket=2,
    watermark=NOW + 10_000,
    entities=("ticker:AAPL", "all:*"),
    columns=("n", "unknown", "joy"),
    values=np.arange(6, dtype="<i8").tobytes(),
    author_rows=np.array([0, 1], "<i4").tobytes(),
    author_hashes=np.array([1, 2**64 - 1], "<u8").tobytes(),
    author_counts=np.array([3, 4], "<i4").tobytes(),
    late_rows=np.array([1], "<i4").tobytes(),
    late_marks=np.array([NOW], "<i8").tobytes(),
    source=SourceCounts(10, 7, 1, 1, 1, idle=True, closed=False, partitions=4),
)
LATE = LatePost(topic="posts", partition=0, offset=7, post_id="ä", event_time_ms=NOW, late_by_ms=5)
DEAD = DeadLetter(topic="posts", partition=0, offset=9, reason="empty", detail="d", size_bytes=0, time_ms=NOW)
ALERT = Alert(
    rule="r", kind="change", severity="warning", row_id="x", signal="s", domain="market", entity="e",
    window_start=NOW - 60_000, window_end=NOW, value=-0.5, lo=None, hi=0.5, n=7, measure=-0.75, reference=0.25,
    status="revised", revision=2, message="m",
)  # fmt: skip
SCORES = PostScores(
    source_topic="posts",
    partition=0,
    offset=3,
    post_id="a",
    event_time_ms=NOW,
    model="hashed@12345678",
    tasks=(TaskScores("sentiment3", ("negative", "neutral", "positive"), (1, 2, 999_997)),),
)


def test_every_record_type_comes_back_equal() -> None:
    unknown = msgspec.structs.replace(SIGNAL, value=None, lo=None, hi=None, reasons=())
    for row in (SIGNAL, unknown):
        assert CODEC.decode_signal(CODEC.encode(row)) == row
    assert CODEC.decode_panes(CODEC.encode(CELLS)) == CELLS
    assert CODEC.decode_late(CODEC.encode(LATE)) == LATE
    assert CODEC.decode_dead_letter(CODEC.encode(DEAD)) == DEAD
    assert CODEC.decode_alert(CODEC.encode(ALERT)) == ALERT
    assert CODEC.decode_scores(CODEC.encode(SCORES)) == SCORES
    sound = Frame(
        room="1", seat="s", number=3, captured_ms=NOW, arrived_ms=NOW + 9, codec="pcm16", rate=16_000, body=b"ab"
    )
    for one in (sound, Frame(room="1", seat="s", number=0, captured_ms=0, arrived_ms=0, width=2, height=3)):
        assert CODEC.decode_frame(CODEC.encode(one), 2) == one
    with pytest.raises(Rejected, match="too_large"):
        CODEC.decode_frame(CODEC.encode(msgspec.structs.replace(sound, body=bytes(2_000))), 900)


def test_schema_fields_are_the_record_fields() -> None:
    for kind, (name, _) in WIRE.items():
        fields = [f["name"] for f in json.loads((BUILT_IN / f"{name}.avsc").read_text())["fields"]]
        assert tuple(fields) == kind.__struct_fields__, name


def test_pane_cells_need_only_their_head() -> None:
    cells = PaneCells("posts", 0, 1, NOW, 0, NOW, (), ("n",), b"")
    assert CODEC.decode_panes(CODEC.encode(cells)) == cells


@pytest.mark.parametrize(
    "broken",
    [
        {"values": b"1234567"},
        {"entities": ("a",)},
        {"author_rows": b"123"},
        {"author_hashes": b""},
        {"author_rows": np.array([0, 2], "<i4").tobytes()},
        {"late_rows": np.array([-1], "<i4").tobytes()},
        {"late_marks": b"1234"},
    ],
)
def test_cells_that_do_not_fit_together_are_refused(broken: dict[str, object]) -> None:
    with pytest.raises(Rejected) as caught:
        CODEC.decode_panes(CODEC.encode(msgspec.structs.replace(CELLS, **broken)))
    assert caught.value.reason == "bad_shape"


def test_cells_of_many_entities_pass_where_a_post_would_be_too_large() -> None:
    names = tuple(f"ticker:T{k}" for k in range(40_000))
    cells = PaneCells("posts", 0, 1, NOW, 0, NOW, names, ("n",), bytes(8 * len(names)))
    raw = CODEC.encode(cells)
    assert len(raw) > 262_144
    assert CODEC.decode_panes(raw) == cells
    assert reason_of(raw) == "too_large"


def test_a_record_of_another_type_is_refused() -> None:
    with pytest.raises(Rejected, match="incompatible_schema"):
        CODEC.decode_signal(CODEC.encode(LATE))
    with pytest.raises(Rejected, match="bad_magic"):
        CODEC.decode_signal(b"{}")
    assert reason_of(CODEC.encode(SIGNAL)) == "incompatible_schema"


@pytest.mark.parametrize("field", ["value", "n_eff", "buzz"])
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_refused(field: str, number: float) -> None:
    raw = CODEC.encode(msgspec.structs.replace(SIGNAL, **{field: number}))
    with pytest.raises(Rejected) as caught:
        CODEC.decode_signal(raw)
    assert caught.value.reason == "not_finite"


def test_what_no_schema_can_hold_is_said() -> None:
    with pytest.raises(OperatorError, match="LatePost"):
        CODEC.encode(msgspec.structs.replace(LATE, offset=2**70))
    with pytest.raises(OperatorError, match="expected one of"):
        CODEC.encode(SourceCounts())
