"""Shedding: the valve, who is chosen, and signals that stay unbiased while their intervals widen."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from toys import batch_of

from engines.load import load_text_model
from operators.cells import Progress
from operators.clock import BEGINNING, Lateness
from operators.domain import Derived, Domain, Sums
from operators.errors import ConfigInvalid
from operators.frames import SignalFrame
from operators.panes import PaneStore
from operators.records import MICRO, PostBatch
from operators.rolling import Rolling
from operators.shed import Shed
from operators.text import Score
from operators.window import WindowSpec

LATENESS = Lateness(0, 60_000, 60_000)


def _derive(sums: Sums) -> Derived:
    return Derived.stack([sums.share(0, 1)])


TOY = Domain("toy", (), ("s", "s_square"), ("toy.s",), lambda b: np.zeros((len(b), 2), np.int64), _derive, (0,))


def at(share: float) -> Shed:
    shed = Shed(100)
    shed.share = share
    return shed


def choose(shed: Shed, batch: PostBatch) -> PostBatch:
    return asyncio.run(shed.process(batch)).batch


def frame_of(batch: PostBatch, scores: np.ndarray) -> SignalFrame:
    """The window the posts make; posts that were shed have no score."""
    said = np.rint(scores * MICRO).astype(np.int64)
    if len(batch.inverse):
        said = np.where(batch.inverse > 0, said, 0)
    store = PaneStore(0, TOY, LATENESS)
    store.fold(batch, TOY.contributions(said[:, None]), np.full(len(batch), BEGINNING, np.int64))
    rolling = Rolling(TOY, (WindowSpec(60_000, 60_000),), LATENESS)
    for block in store.drain(len(batch) - 1):
        rolling.ingest(block)
    rolling.mark(Progress(0, 1, len(batch), len(batch), 0, 0, 0, 0, closed=True))
    (frame,) = list(rolling.emit())
    return frame


def test_the_valve_closes_while_too_many_wait_and_opens_again() -> None:
    shed = Shed(above=1_000, floor=0.1)
    assert shed.observe(1_000) == 1.0
    falling = [shed.observe(5_000) for _ in range(12)]
    assert falling == sorted(falling, reverse=True)
    assert falling[-1] == 0.1
    assert shed.observe(700) == 0.1  # between the marks it stays
    rising = [shed.observe(100) for _ in range(12)]
    assert rising[-1] == 1.0


def test_at_full_share_nothing_is_touched() -> None:
    batch = batch_of(["a", "b"])
    assert choose(at(1.0), batch) is batch


def test_the_choice_hangs_on_the_id_alone_and_weighs_the_inverse() -> None:
    ids = [f"p{k}" for k in range(5_000)]
    whole = choose(at(0.25), replace(batch_of(["t"] * 5_000), ids=ids))
    assert set(whole.inverse.tolist()) == {0, 4 * MICRO}
    assert (whole.inverse > 0).mean() == pytest.approx(0.25, abs=0.02)
    part = choose(at(0.25), replace(batch_of(["t"] * 100), ids=ids[1_000:1_100]))
    assert part.inverse.tolist() == whole.inverse[1_000:1_100].tolist()


def test_only_chosen_texts_reach_the_model() -> None:
    model = load_text_model("stub")
    score = Score(model, ("emtract7",), cache=0)
    batch = replace(batch_of(["one", "two", "three"]), inverse=np.array([0, 2 * MICRO, 0], np.int64))
    whole = asyncio.run(score.process(batch_of(["one", "two", "three"]))).batch.scores["emtract7"]
    got = asyncio.run(score.process(batch)).batch.scores["emtract7"]
    assert score.scored == 3 + 1
    assert got[1].tolist() == whole[1].tolist()
    assert not got[[0, 2]].any()
    nothing = asyncio.run(score.process(replace(batch, inverse=np.zeros(3, np.int64)))).batch
    assert not nothing.scores["emtract7"].any()


def test_over_200_seeds_signals_stay_unbiased_and_intervals_widen_as_they_should() -> None:
    """1000 posts of 600 authors, a fifth of them scored: mean error, coverage of the full run's value, width."""
    random = np.random.default_rng(3)
    n = 1_000
    scores = random.beta(0.6, 1.4, n)
    authors = random.integers(1, 2**63, 600, dtype=np.uint64)[random.integers(0, 600, n)]
    plain = replace(batch_of(["t"] * n, authors=authors.tolist(), links=[(k, "x") for k in range(n)]),
                    times_ms=np.zeros(n, np.int64))  # fmt: skip
    full = frame_of(plain, scores)
    want, full_width = full.derived.value[0, 0], full.derived.hi[0, 0] - full.derived.lo[0, 0]
    errors, widths, held = [], [], 0
    for seed in range(200):
        batch = choose(at(0.2), replace(plain, ids=[f"{seed}/{k}" for k in range(n)]))
        frame = frame_of(batch, scores)
        value, lo, hi = (x[0, 0] for x in (frame.derived.value, frame.derived.lo, frame.derived.hi))
        errors.append(value - want)
        widths.append(hi - lo)
        held += bool(lo <= want <= hi)
        assert (frame.n[0], frame.authors[0]) == (full.n[0], full.authors[0])
        assert frame.sampled[0] == pytest.approx(0.2, abs=0.05)
    assert abs(np.mean(errors)) < 3 * np.std(errors) / np.sqrt(200)
    assert np.std(errors) > 0
    assert held / 200 > 0.93
    voices = len(set(authors.tolist())) / 170  # so many fewer authors are heard
    assert np.mean(widths) == pytest.approx(full_width * np.sqrt(voices), rel=0.15)


@pytest.mark.parametrize(("above", "floor"), [(0, 0.1), (10, 0.0), (10, 1.5)])
def test_settings_out_of_range_are_refused(above: int, floor: float) -> None:
    with pytest.raises(ConfigInvalid, match="shedding"):
        Shed(above, floor)
