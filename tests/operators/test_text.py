"""Scoring: every text once, the same answer whatever the batch, the cache and the threads."""

from __future__ import annotations

import asyncio
import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import batch_of

from engines.base import ScoreBatch, TensorBatch, TextModel
from engines.load import load_text_model
from engines.stub import StubEngine, featurize
from operators.errors import ConfigInvalid
from operators.text import Score

TASKS = ("emtract7", "bullbear3")


class Watched(StubEngine):
    """The stub, noting how many rows it was given at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[int] = []

    def infer(self, batch: TensorBatch) -> ScoreBatch:
        self.calls.append(batch.rows)
        return super().infer(batch)


def watched() -> tuple[Watched, TextModel]:
    engine = Watched()
    return engine, TextModel(featurize, engine)


def scored(operator: Score, texts: list[str]) -> dict[str, list[list[int]]]:
    batch = asyncio.run(operator.process(batch_of(texts))).batch
    return {task: table.tolist() for task, table in batch.scores.items()}


@given(st.lists(st.text("ab ", max_size=3), max_size=30), st.integers(0, 5))
def test_with_any_cache_the_scores_are_the_models_own(texts: list[str], cache: int) -> None:
    _, model = watched()
    got = scored(Score(model, TASKS, cache=cache), texts)
    for task in TASKS:
        labels = model.spec.head(task).labels
        logits = model.logits(texts).logits[task] if texts else np.zeros((0, len(labels)))
        assert got[task] == np.rint(logits * 1e6).astype(int).tolist()


def test_a_text_is_scored_once_and_remembered() -> None:
    engine, model = watched()
    operator = Score(model, TASKS)
    scored(operator, ["a", "b", "a", "a"])
    scored(operator, ["b", "c"])
    assert engine.calls == [2, 1]
    assert (operator.scored, operator.reused) == (3, 3)


def test_the_cache_is_bounded_and_forgets_the_oldest() -> None:
    engine, model = watched()
    operator = Score(model, TASKS, cache=2)
    scored(operator, ["a", "b", "c"])
    assert len(operator._cache) == 2
    scored(operator, ["b", "c"])
    assert engine.calls == [3]
    scored(operator, ["a"])
    assert engine.calls == [3, 1]


def test_without_a_cache_every_text_is_scored() -> None:
    engine, model = watched()
    scored(Score(model, TASKS, cache=0), ["a", "a", "a"])
    assert engine.calls == [3]


def test_batches_at_once_do_not_mix() -> None:
    _, model = watched()
    operator = Score(model, TASKS)
    parts = [[f"{k}-{j}" for j in range(20)] for k in range(8)]

    async def all_at_once() -> list[list[list[int]]]:
        emits = await asyncio.gather(*(operator.process(batch_of(part)) for part in parts))
        return [emit.batch.scores["emtract7"].tolist() for emit in emits]

    assert asyncio.run(all_at_once()) == [scored(Score(model, TASKS), part)["emtract7"] for part in parts]


class Waiting(Watched):
    """Waits for the event loop within a batch: on a thread of its own that ends, on the loop it never would."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.loop = loop

    def infer(self, batch: TensorBatch) -> ScoreBatch:
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self.loop).result(timeout=5)
        return super().infer(batch)


def test_the_event_loop_goes_on_while_the_model_works() -> None:
    async def scene() -> list[int]:
        engine = Waiting(asyncio.get_running_loop())
        await Score(TextModel(featurize, engine), TASKS).process(batch_of([f"t{k}" for k in range(50)]))
        return engine.calls

    assert asyncio.run(scene()) == [50]


def test_a_head_the_engine_lacks_is_refused_at_once() -> None:
    _, model = watched()
    with pytest.raises(ConfigInvalid, match="lacks one of the heads"):
        Score(model, ("emtract7", "nothing"))


def test_the_shipped_model_gives_a_text_the_same_score_alone_and_in_company() -> None:
    model = load_text_model("hashed")
    texts = [f"selling everything, this is a crash {k}" for k in range(40)]
    together = scored(Score(model, TASKS), texts)
    for k in (0, 17, 39):
        alone = scored(Score(model, TASKS), [texts[k]])
        assert all(alone[task][0] == together[task][k] for task in TASKS)


class Shy(Watched):
    """Abstains from texts that begin with `?`, as often as they are asked."""

    def infer(self, batch: TensorBatch) -> ScoreBatch:
        raw = super().infer(batch)
        shy = {k: "refused" for k, s in enumerate(batch.tensors["thousandths"]) if s == SHY}
        return ScoreBatch(raw.logits, raw.run_s, shy)


SHY = zlib.crc32(b"?") % 1000


@pytest.mark.parametrize("cache", [0, 10])
def test_a_post_the_engine_abstains_from_weighs_nothing_is_counted_and_not_remembered(cache: int) -> None:
    engine = Shy()
    operator = Score(TextModel(featurize, engine), TASKS, cache=cache)
    batch = asyncio.run(operator.process(batch_of(["a", "?", "b", "?"]))).batch
    assert batch.inverse.tolist() == [1_000_000, 0, 1_000_000, 0]
    assert len(batch) == 4
    assert all(not table[[1, 3]].any() and (table >= 0).all() for table in batch.scores.values())
    assert operator.abstained["refused"] == (1 if cache else 2)
    shed = replace(batch_of(["?", "a", "c"]), inverse=np.array([5_000_000, 0, 5_000_000]))
    again = asyncio.run(operator.process(shed)).batch
    assert again.inverse.tolist() == [0, 0, 5_000_000]
    assert engine.calls[-1] == 2
    assert asyncio.run(operator.process(batch_of(["a", "b"]))).batch.inverse.tolist() == []
