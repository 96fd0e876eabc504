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
from operators.domain import Derived, Domain, Sums
from operators.errors import Rejected
from operators.gate import Gate
from operators.panes import PaneStore
from operators.registry import FileRegistry

REGISTRY = FileRegistry()
CODEC = Codec(REGISTRY, Gate(REGISTRY))


def _nothing(sums: Sums) -> Derived:
    return Derived.stack([])


TOY = Domain("toy", (), ("score",), (), lambda b: np.zeros((len(b), 1), np.int64), _nothing)


def block() -> PaneBlock:
    store = PaneStore(2, TOY, Lateness(0, 10_000, 10_000))
    names = ["all:*", "place:Zürich", "ticker:BRK.B"]
    batch = batch_of(
        ["a", "b", "c"], times=[1, 2, 3], authors=[2**64 - 1, 0, 5], links=[(k, n) for k in range(3) for n in names]
    )
    batch = replace(batch, text_keys=np.array([3, 2**64 - 9, 3], np.uint64))
    store.fold(batch, np.array([[2**40], [-5], [0]], np.int64), np.array([BEGINNING, 10_000, 2**62], np.int64))
    return store.drain(2)[0]


def test_a_block_comes_back_as_it_was() -> None:
    sent = block()
    got = read_message(CODEC.decode_panes(CODEC.encode(block_message("lane", sent, TOY))), TOY)
    assert isinstance(got, PaneBlock)
    assert (got.partition, got.stamp, got.pane_start, got.names) == (2, 2, 0, sent.names)
    assert got.values.tolist() == sent.values.tolist()
    assert [a.tolist() for a in got.voices] == [a.tolist() for a in sent.voices]
    assert [a.tolist() for a in got.texts] == [a.tolist() for a in sent.texts]
    assert len(got.texts.ids) == 6
    assert (got.late_rows.tolist(), got.late_marks.tolist()) == (sent.late_rows.tolist(), sent.late_marks.tolist())
    assert len(got.late_rows) == 6
    assert got.voices.hashes.max() == 2**64 - 1


@pytest.mark.parametrize("watermark", [BEGINNING, 0, 1_790_000_000_000])
@pytest.mark.parametrize(("idle", "closed"), [(False, False), (True, False), (False, True)])
def test_progress_comes_back_as_it_was(watermark: int, idle: bool, closed: bool) -> None:
    sent = Progress(3, 5, 100, 60, 20, 15, 5, watermark, idle, closed)
    assert read_message(CODEC.decode_panes(CODEC.encode(progress_message("lane", sent))), TOY) == sent


@pytest.mark.parametrize(
    "damage",
    [
        {"values": b"1234567"},
        {"values": b""},
        {"author_rows": b"\x63\0\0\0" * 6},
        {"author_hashes": b""},
        {"author_sums": b""},
        {"author_sums": b"\0" * 7},
        {"text_rows": b"\x63\0\0\0" * 6},
        {"text_hashes": b""},
        {"text_counts": b"\0" * 4},
        {"late_rows": b"\xff\xff\xff\xff" * 6},
        {"late_marks": b"\0" * 8},
        {"entities": ()},
        {"columns": ("n",)},
    ],
)
def test_buffers_that_do_not_fit_are_rejected(damage: dict[str, object]) -> None:
    message = msgspec.structs.replace(block_message("lane", block(), TOY), **damage)
    with pytest.raises(Rejected, match="bad_cells"):
        read_message(message, TOY)


def test_counts_beyond_the_wire_are_capped_and_never_wrap() -> None:
    sent = block()
    sums = sent.voices.sums.copy()
    sums[:, 0] = 2**40
    huge = replace(sent, voices=sent.voices._replace(sums=sums))
    got = read_message(block_message("lane", huge, TOY), TOY)
    assert isinstance(got, PaneBlock)
    assert got.voices.sums[:, 0].tolist() == [2**31 - 1] * len(sums)


def test_authors_of_entities_with_one_post_are_not_sent_and_come_back() -> None:
    store = PaneStore(0, TOY, Lateness(0, 10_000, 10_000))
    links = [(0, "x"), (1, "y"), (2, "y"), (0, "all:*"), (1, "all:*"), (2, "all:*")]
    batch = batch_of(["a", "b", "c"], times=[1, 2, 3], authors=[4, 5, 5], links=links)
    store.fold(batch, np.array([[7], [8], [9]], np.int64), np.full(3, BEGINNING, np.int64))
    (sent,) = store.drain(2)
    message = block_message("lane", sent, TOY)
    assert len(message.author_rows) // 4 == 4
    assert len(message.author_sums) // 16 == 3
    got = read_message(message, TOY)
    assert isinstance(got, PaneBlock)
    assert got.voices.sums.tolist() == sent.voices.sums.tolist()
