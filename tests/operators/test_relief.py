"""The switch of a cascade, and the share of posts answered fast on its way into the window."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from toys import batch_of

from engines.base import EngineSpec, HeadSpec, ScoreBatch, TensorBatch, TextModel
from engines.stub import featurize
from operators.cell_messages import block_message, read_message
from operators.cells import BEFORE_FAST, FAST, PaneBlock, Progress
from operators.clock import BEGINNING, Lateness
from operators.domain import Derived, Domain, Sums
from operators.errors import ConfigInvalid
from operators.frames import SignalFrame
from operators.panes import PaneStore
from operators.records import MICRO
from operators.relief import Relief
from operators.rolling import Rolling
from operators.text import Score
from operators.window import WindowSpec

LATENESS = Lateness(0, 60_000, 60_000)


def _derive(sums: Sums) -> Derived:
    return Derived.stack([sums.share(0, 1)])


TOY = Domain("toy", (), ("s", "s_square"), ("toy.s",), lambda b: np.zeros((len(b), 2), np.int64), _derive, (0,))


class Parity:
    """Answers every second row fast."""

    spec = EngineSpec("parity", "0", "none", (HeadSpec("emtract7", "single", ("a", "b"), probability=True),))

    def infer(self, batch: TensorBatch) -> ScoreBatch:
        fast = batch.tensors["thousandths"].astype(np.int64) % 2 == 0
        return ScoreBatch({"emtract7": np.full((batch.rows, 2), 0.5)}, 0.0, fast=fast)

    def close(self) -> None: ...


def test_it_turns_on_above_and_off_below_the_half_and_tells_each_change_once() -> None:
    told: list[bool] = []
    relief = Relief(1_000, told.append)
    assert [relief.observe(n) for n in (0, 1_000, 1_001, 900, 500, 499, 900, 1_000, 5_000, 5_000)] == [
        False, False, True, True, True, False, False, False, True, True,
    ]  # fmt: skip
    assert told == [True, False, True]
    assert relief.changes == 3
    with pytest.raises(ConfigInvalid, match="cascade"):
        Relief(0, told.append)


def block_of(fast: list[bool], inverse: list[int]) -> PaneBlock:
    n = len(fast)
    batch = replace(
        batch_of(["t"] * n, authors=range(1, n + 1), links=[(k, "x") for k in range(n)]),
        fast=np.array(fast, np.bool_),
        inverse=np.array(inverse, np.int64),
    )
    store = PaneStore(0, TOY, LATENESS)
    store.fold(batch, np.zeros((n, 2), np.int64), np.full(n, BEGINNING, np.int64))
    (block,) = store.drain(n - 1)
    return block


def frame_of(block: PaneBlock) -> SignalFrame:
    rolling = Rolling(TOY, (WindowSpec(60_000, 60_000),), LATENESS)
    rolling.ingest(block)
    rolling.mark(Progress(0, 1, 1, 1, 0, 0, 0, 0, closed=True))
    (frame,) = list(rolling.emit())
    return frame


def test_the_share_is_of_the_posts_that_were_scored() -> None:
    block = block_of([True, False, False, False, False], [MICRO, MICRO, MICRO, MICRO, 0])
    frame = frame_of(block)
    assert frame.fast is not None
    assert frame.fast.tolist() == [0.25]
    assert frame_of(block_of([False] * 3, [])).fast is None


def test_cells_written_before_there_was_a_cascade_are_still_read() -> None:
    block = block_of([False] * 3, [])
    message = block_message("lane", block, TOY)
    older = np.delete(block.values, FAST, axis=1)
    columns = BEFORE_FAST + TOY.columns
    got = read_message(msgspec.structs.replace(message, columns=columns, values=older.astype("<i8").tobytes()), TOY)
    assert isinstance(got, PaneBlock)
    assert got.values.tolist() == block.values.tolist()


def test_a_remembered_text_is_as_fast_as_it_was() -> None:
    texts = [f"t{k}" for k in range(40)]
    score = Score(TextModel(featurize, Parity()), ("emtract7",))
    first = asyncio.run(score.process(batch_of(texts))).batch
    again = asyncio.run(score.process(batch_of(texts[::-1]))).batch
    assert score.scored == 40
    assert 0 < first.fast.sum() < 40
    assert again.fast[::-1].tolist() == first.fast.tolist()
    assert score.fast == 2 * int(first.fast.sum())
