"""Where text records meet tensors: every distinct text of a batch is scored once, known texts not at all."""

from __future__ import annotations

import asyncio
import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from engines.base import TextModel
from operators.base import Emit
from operators.calibrate import Calibrate
from operators.errors import ConfigInvalid
from operators.records import I32, MICRO, PostBatch

INLINE_S = 0.001
"""Work of so many seconds is done on the spot: handing it to a thread costs about as much."""


class Score:
    """Operator that fills `PostBatch.scores` with calibrated probabilities in millionths.

    A text seen before (a repost) takes the score it had: scores depend on the text alone, so this changes no value.
    Inference runs in a worker thread, but for what takes less than a blink: the event loop goes on moving bytes, and
    heartbeats go out, however slow the model is. An engine of another process is always waited for in a thread.

    A post the engine abstained from weighs nothing (`PostBatch.inverse` 0, as one that was shed) and is counted in
    `abstained` by reason; it is not remembered.

    Raises nothing of its own; an engine's errors pass through, and then nothing has changed: `process` may be called
    again with the same batch.

    Args:
        model: the loaded model; used by one thread at a time.
        tasks: heads wanted.
        cache: distinct texts remembered; 0 = none (a model cheaper than a look-up).
        beside: another operator on the same model: the two take turns.

    `on_run(seconds, texts)`, where set, is told of every batch of the model, in the thread that ran it.
    """

    def __init__(
        self, model: TextModel, tasks: Sequence[str], cache: int = 20_000, beside: Score | None = None
    ) -> None:
        heads = [model.spec.head(task) for task in tasks]
        if any(head is None for head in heads):
            raise ConfigInvalid(f"engine {model.spec.model_id!r} lacks one of the heads {list(tasks)}")
        self._model = model
        self._tasks = tuple(tasks)
        self._widths = [len(head.labels) for head in heads if head is not None]
        self._calibrate = Calibrate()
        self._cache: OrderedDict[str, I32] = OrderedDict()
        self._cached_by = ""
        self._cap = cache
        self._lock: asyncio.Lock = asyncio.Lock() if beside is None else beside._lock
        self._text_s = math.inf
        self.scored = 0
        self.reused = 0
        self.fast = 0
        self.run_s = 0.0
        self.on_run: Callable[[float, int], None] | None = None
        self.abstained: Counter[str] = Counter()

    async def process(self, batch: PostBatch) -> Emit:
        """Score `batch`, but for posts that were shed; never drops a post."""
        chosen = np.flatnonzero(batch.inverse > 0) if len(batch.inverse) else None
        texts = batch.texts if chosen is None else [batch.texts[k] for k in chosen.tolist()]
        table, models = np.zeros((0, sum(self._widths) + 1), np.int32), {self._model.spec.model_id}
        if len(texts) and self._cap == 0:
            table, model = await self._run(texts)
            models = {model}
        elif len(texts):
            table, models = await self._with_cache(texts)
        if chosen is not None:
            whole = np.zeros((len(batch), table.shape[1]), np.int32)
            whole[chosen] = table
            table = whole
        if table.min(initial=0) < 0:
            absent = table[:, 0] < 0
            table = np.where(absent[:, None], np.int32(0), table)
            weights = batch.inverse if len(batch.inverse) else np.full(len(batch), MICRO, np.int64)
            batch = replace(batch, inverse=np.where(absent, np.int64(0), weights))
        *parts, fast = np.split(table, np.cumsum(self._widths), axis=1)
        quick = fast[:, 0].astype(np.bool_)
        self.fast += int(quick.sum())
        scores = dict(zip(self._tasks, parts, strict=True))
        return Emit(
            replace(batch, scores=scores, models=tuple(sorted(models)), fast=quick if quick.any() else quick[:0])
        )

    async def _with_cache(self, texts: list[str]) -> tuple[I32, set[str]]:
        """Scores, and the models they are of: what is remembered is of one model, and forgotten with it."""
        fresh = [text for text in dict.fromkeys(texts) if text not in self._cache]
        known = {text: self._cache[text] for text in texts if text in self._cache}
        models = {self._cached_by} if known else set()
        if fresh:
            rows, model = await self._run(fresh)
            models.add(model)
            if model != self._cached_by:
                self._cache.clear()
                self._cached_by = model
            known.update(zip(fresh, rows, strict=True))
            self._cache.update((text, row) for text, row in zip(fresh, rows, strict=True) if row[0] >= 0)
            while len(self._cache) > self._cap:
                self._cache.popitem(last=False)
        self.reused += len(texts) - len(fresh)
        return np.stack([known[text] for text in texts]), models

    async def _run(self, texts: list[str]) -> tuple[I32, str]:
        await self._lock.acquire()
        if not self._model.elsewhere and len(texts) * self._text_s <= INLINE_S:
            try:
                return self._infer(texts)
            finally:
                self._lock.release()
        working = asyncio.ensure_future(asyncio.to_thread(self._infer, texts))
        # Whoever waits may be cancelled; the thread goes on, and the model is taken until it is done.
        working.add_done_callback(self._over)
        return await asyncio.shield(working)

    def _over(self, working: asyncio.Future[tuple[I32, str]]) -> None:
        self._lock.release()
        if not working.cancelled():
            working.exception()  # raised where it was waited for; nobody else need hear of it

    def _infer(self, texts: list[str]) -> tuple[I32, str]:
        """Scores, in the last column 1 for a text that a cascade answered fast, and the `name@version` of the model: a
        served one may have become another."""
        raw = self._model.logits(texts)
        self._text_s = raw.run_s / len(texts)
        self.scored += len(texts)
        self.run_s += raw.run_s
        if self.on_run is not None:
            self.on_run(raw.run_s, len(texts))
        self.abstained.update(raw.abstained.values())
        micro = self._calibrate.calibrate(self._model.spec, raw, self._tasks)
        fast = np.zeros(len(texts), np.int32) if raw.fast is None else raw.fast.astype(np.int32)
        return np.concatenate([*(micro[t] for t in self._tasks), fast[:, None]], axis=1), self._model.spec.model_id
