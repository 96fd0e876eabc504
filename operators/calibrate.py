"""Where logits become what flows: calibrated probabilities as whole millionths, and the labels they decide."""

from __future__ import annotations

from collections.abc import Sequence

from engines.base import EngineSpec, HeadSpec, ScoreBatch
from engines.probability import decided, millionths
from operators.errors import ConfigInvalid
from operators.records import I32


class Calibrate:
    """Turns one batch of logits into integers. Stateless: a row's integers depend on its logits alone, bit for bit.

    Example:
        >>> import numpy as np
        >>> head = HeadSpec("mood", "single", ("up", "down"))
        >>> spec = EngineSpec("toy", "1", "numpy", (head,))
        >>> micro = Calibrate().calibrate(spec, ScoreBatch({"mood": np.array([[0.0, 0.0]])}, 0.0))
        >>> micro["mood"].tolist(), Calibrate().decide(head, micro["mood"])
        ([[500000, 500000]], [['up']])
    """

    def calibrate(self, spec: EngineSpec, scores: ScoreBatch, tasks: Sequence[str] | None = None) -> dict[str, I32]:
        """Probabilities of each wanted task, int32 [rows, labels] in 0..MICRO, rounded half to even.

        `softmax(logits / temperature)` for a `single` head, `sigmoid(logits / temperature)` for a `multi` one; logits
        that are probabilities already are only rounded. Rows of a `single` head sum to MICRO up to rounding. Rows the
        engine abstained from are -1 throughout: no probability at all.

        Args:
            tasks: heads wanted; None = all of `spec`.

        Raises:
            ConfigInvalid: `spec` has no such head; the message lists what it has.
            ShapeMismatch: the logits do not fit the head, or the head is a regression.
        """
        wanted = [h.task for h in spec.heads] if tasks is None else list(tasks)
        micro = {task: millionths(self._head(spec, task), scores.logits[task]) for task in wanted}
        for table in micro.values() if scores.abstained else ():
            table[list(scores.abstained)] = -1
        return micro

    def decide(self, head: HeadSpec, micro: I32) -> list[list[str]]:
        """The labels of each row, in the head's order: the most probable one (`single`), or all at their threshold."""
        chosen = decided(head, micro)
        return [[name for name, holds in zip(head.labels, row, strict=True) if holds] for row in chosen.tolist()]

    def _head(self, spec: EngineSpec, task: str) -> HeadSpec:
        head = spec.head(task)
        if head is None:
            known = ", ".join(h.task for h in spec.heads)
            raise ConfigInvalid(f"engine {spec.model_id!r} has no head {task!r}; it has: {known}")
        return head
