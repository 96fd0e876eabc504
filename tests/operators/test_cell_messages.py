"""Blocks and progress survive the wire, and a damaged message is refused by name."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from toys import batch_of

from operators.cell_messages import block_message, progress_message, read_message
from operators.cells import PaneBlock, Progress
from operators.clock import BEGINNING, Lateness
from operators.codec import Codec
from operators.errors import Rejected
from operators.gate import Gate
from operators.panes import PaneStore
from operators.registry import FileRegistry

REGISTRY = FileRegistry()
CODEC = Codec(REGISTRY, Gate(REGISTRY))


def block() -> PaneBlock:
    store = PaneStore(2, 1, Lateness(0, 10_000, 10_000))
    names = ["all:*", "place:Zürich", "ticker:BRK.B"]
    batch = batch_of(
        ["a", "b", "c"], times=[1, 2, 3], authors=[2**64 - 1, 0, 5], links=[(k, n) for k in range(3) for n in names]
    )
    store.fold(batch, np.array([[2**40], [-5], [0]], np.int64), np.array([BEGINNING, 10_000, 2**62], np.int64))
    return store.drain(2)[0]


def test_a_block_comes_back_as_it_was() -> None:
    sent = block()
    got = read_message(CODEC.decode_panes(CODEC.encode(block_message("lane", sent, ("score",)))))
    assert isinstance(got, PaneBlock)
    assert (got.partition, got.stamp, got.pane_start, got.names) == (2, 2, 0, sent.names)
    assert got.values.tolist() == sent.values.tolist()
    assert [a.tolist() for a in got.authors] == [a.tolist() for a in sent.authors]
    assert (got.late_rows.tolist(), got.late_marks.tolist()) == (sent.late_rows.tolist(), sent.late_marks.tolist())
    assert len(got.late_rows) == 6
    assert got.authors[1].max() == 2**64 - 1


@pytest.mark.parametrize("watermark", [BEGINNING, 0, 1_790_000_000_000])
@pytest.mark.parametrize(("idle", "closed"), [(False, False), (True, False), (False, True)])
def test_progress_comes_back_as_it_was(watermark: int, idle: bool, closed: bool) -> None:
    sent = Progress(3, 5, 100, 60, 20, 15, 5, watermark, idle, closed)
    assert read_message(CODEC.decode_panes(CODEC.encode(progress_message("lane", sent)))) == sent


@pytest.mark.parametrize(
    "damage",
    [
        {"values": b"1234567"},
        {"values": b""},
        {"author_rows": b"\x63\0\0\0" * 6},
        {"author_hashes": b""},
        {"late_rows": b"\xff\xff\xff\xff" * 6},
        {"late_marks": b"\0" * 8},
        {"entities": ()},
        {"columns": ("n",)},
    ],
)
def test_buffers_that_do_not_fit_are_rejected(damage: dict[str, object]) -> None:
    message = msgspec.structs.replace(block_message("lane", block(), ("score",)), **damage)
    with pytest.raises(Rejected, match="bad_cells"):
        read_message(message)


def test_counts_beyond_the_wire_are_capped_and_never_wrap() -> None:
    sent = block()
    rows, hashes, _ = sent.authors
    huge = replace(sent, authors=(rows, hashes, np.full(len(rows), 2**40, np.int64)))
    got = read_message(block_message("lane", huge, ("score",)))
    assert isinstance(got, PaneBlock)
    assert got.authors[2].tolist() == [2**31 - 1] * len(rows)
