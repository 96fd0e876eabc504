"""Chooses how sure the hashed bag must be to answer for `text-affect`, head by head, on dev rows.

    AFFECT_DATA=... python -m engines.training.cascade [--rows 300] [--most-loss 0.005]

Writes `engines/zoo/cascade.json`. Run it again after either model was trained anew: limits of other models are refused.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from engines.artefacts import ZOO
from engines.base import F64, Bools, HeadSpec, TextModel
from engines.cascade import FILE, NEVER, HeadLimit, Limits, certainty, restated
from engines.choice import BETTER, FAST
from engines.load import load_text_model
from engines.probability import decided, millionths, probabilities
from engines.tasks import TEXT_TASKS, TaskSpec
from engines.training.data import Rows, read_rows, split_rows
from engines.training.measure import measured

MOST_LOSS = 0.005
TOGETHER = (("emtract7", "bullbear3"), ("disaster_message", "sentiment3", "crisis_info6", "goemotions28"))
"""Heads that the domains ask for together; `tests/stream/test_cascade_runs.py` holds them against the domains."""
SHARES = tuple(k / 20 for k in range(1, 21))


def dev_rows(root: Path, spec: TaskSpec, start: int, count: int) -> Rows:
    """At most `count` labelled dev rows of a task, from the `start`-th of a fixed random order on.

    Args:
        root: folder of the text sets.
    """
    path = root / spec.data_set / "dev.jsonl.gz"
    rows = list(read_rows(path)) if path.exists() else split_rows(root / spec.data_set)[1]
    pairs = [(str(r["text"]), known) for r in rows if (known := spec.truth(r)) is not None]
    order = np.random.default_rng(0).permutation(len(pairs))[start : start + count].tolist()
    truth = np.array([pairs[k][1] for k in order], np.float32).reshape(len(order), len(spec.labels))
    return Rows([pairs[k][0] for k in order], truth)


class Judged(msgspec.Struct, frozen=True):
    """Both models on the dev rows of one task, as the better model's head states their answers.

    `truth`: float32 [rows, labels]. `sure`: head -> how sure the fast model is of it on these rows, float64 [rows].
    `fast`, `slow`: logits, float64 [rows, labels].
    """

    spec: TaskSpec
    head: HeadSpec
    truth: NDArray[np.float32]
    sure: dict[str, F64]
    fast: F64
    slow: F64

    def sure_of_all(self, limits: Mapping[str, float]) -> Bools:
        """Rows that the fast model answers: bool [rows]."""
        all_sure = np.ones(len(self.truth), np.bool_)
        for task, limit in limits.items():
            all_sure &= self.sure[task] >= limit
        return all_sure

    def mixed(self, limits: Mapping[str, float]) -> F64:
        """The cascade's logits with these limits."""
        return np.where(self.sure_of_all(limits)[:, None], self.fast, self.slow)

    def value(self, logits: F64) -> float:
        """The task's headline metric of these logits."""
        return measured(self.head, self.spec, logits, self.truth).metrics[0].value

    def expected_loss(self, logits: F64) -> float:
        """What the better model itself expects to be lost of rightness by these answers, as a share; 0 for `multi`.

        Its decision has the largest probability / threshold; the loss is how much less of that the decisions of
        `logits` have. It asks no labels, so few rows judge it: labels alone would let a lucky limit pass.
        """
        if self.head.kind != "single":
            return 0.0
        worth = probabilities(self.head, self.slow) / np.array(self.head.thresholds or (1.0,) * len(self.head.labels))
        best, got = ((worth * decided(self.head, millionths(self.head, x))).sum() for x in (self.slow, logits))
        return float(1.0 - got / best)


def judge(rows: Rows, spec: TaskSpec, fast: TextModel, slow: TextModel) -> Judged:
    """Both models on these rows of a task that both answer alike."""
    heads = {h.task: h for h in fast.spec.heads if h.kind != "regression"}
    quick, better = fast.logits(rows.texts).logits, slow.logits(rows.texts).logits[spec.task]
    theirs = slow.spec.head(spec.task)
    assert theirs is not None
    sure = {task: certainty(head, quick[task]) for task, head in heads.items()}
    return Judged(spec, theirs, rows.truth, sure, restated(heads[spec.task], quick[spec.task], theirs), better)


def limits_at(parts: Mapping[str, Judged], tasks: Sequence[str], share: float) -> dict[str, float]:
    """Head -> the certainty that so many of its own rows have, rounded down to four places."""
    ranked = {task: np.sort(parts[task].sure[task])[::-1] for task in tasks}
    at = {task: sure[max(0, round(share * len(sure)) - 1)] for task, sure in ranked.items()}
    return {task: float(np.floor(limit * 1e4) / 1e4) for task, limit in at.items()}


def choose_limits(
    parts: Mapping[str, Judged], tasks: Sequence[str], most_loss: float = MOST_LOSS
) -> tuple[HeadLimit, ...]:
    """The lowest limits at which, and at all larger ones tried, no head loses more than `most_loss` of its metric:
    neither by the labels, nor by what the better model expects.
    """
    alone = {task: parts[task].value(parts[task].slow) for task in tasks}
    best = dict.fromkeys(tasks, NEVER)
    for share in SHARES:
        limits = limits_at(parts, tasks, share)
        mixed = {task: parts[task].mixed(limits) for task in tasks}
        by_label = max(alone[task] - parts[task].value(mixed[task]) for task in tasks)
        by_model = max(alone[task] * parts[task].expected_loss(mixed[task]) for task in tasks)
        if max(by_label, by_model) > most_loss:
            break
        best = limits
    found = []
    for task in tasks:
        one = parts[task]
        figures = (float(one.sure_of_all(best).mean()), one.value(one.fast), alone[task], one.value(one.mixed(best)))
        share, fast, slow, got = (round(x, 4) for x in figures)
        found.append(HeadLimit(task, one.spec.metrics[0], best[task], share, fast, slow, got, len(one.truth)))
    return tuple(found)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=300, help="dev rows a head (default: 300)")
    parser.add_argument("--most-loss", type=float, default=MOST_LOSS, help=f"of a metric (default: {MOST_LOSS})")
    options = parser.parse_args()
    root = os.environ.get("AFFECT_DATA")
    if not root:
        print("AFFECT_DATA is not set: no labelled data here")
        return 1
    fast, slow = load_text_model(FAST), load_text_model(BETTER)
    parts = {}
    for spec in (t for t in TEXT_TASKS if t.kind != "regression"):
        parts[spec.task] = judge(dev_rows(Path(root) / "text", spec, 0, options.rows), spec, fast, slow)
        print(f"{spec.task}: {len(parts[spec.task].truth)} dev rows scored by both", flush=True)
    found = [choose_limits(parts, tasks, options.most_loss) for tasks in (*((task,) for task in parts), *TOGETHER)]
    print(f"{'head':18} {'metric':15} {'fast':>6} {'slow':>6} {'cascade':>8} {'share':>6} {'sure':>7}")
    for chosen in found:
        print("asked together:" if len(chosen) > 1 else "asked alone:")
        for one in chosen:
            print(
                f"{one.task:18} {one.metric:15} {one.fast:6.3f} {one.slow:6.3f} {one.cascade:8.3f} {one.share:6.0%}"
                f" {one.sure:7.4f}"
            )
    limits = Limits(fast.spec.model_id, slow.spec.model_id, options.most_loss, tuple(found))
    (ZOO / FILE).write_bytes(msgspec.json.format(msgspec.json.encode(limits), indent=1) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
