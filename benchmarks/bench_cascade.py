"""The cascade by its fast share: the headline metric and texts per core-second, on dev rows that chose no limit.

    AFFECT_DATA=... python benchmarks/bench_cascade.py [--rows 300] [--task sentiment3]

`hashed-bag` before `text-affect`, head by head and for the heads a domain asks together: `sure as` the surest 20 %,
40 % ... of each head's rows, then with the limits that ship. Fast is a text where all heads asked are sure. Seconds
are the CPU's of this process, one thread, both models' featurising included.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.harness import table
from engines.artefacts import ZOO
from engines.base import TextModel
from engines.cascade import NEVER, Cascade, HeadLimit, Limits, read_limits
from engines.choice import BETTER, FAST
from engines.load import load_text_model
from engines.tasks import task_spec
from engines.training.cascade import Judged, dev_rows, judge, limits_at

SHARES = (0.2, 0.4, 0.6, 0.8, 1.0)
SPEED_TEXTS = 100
"""Texts that a speed is measured on."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=300, help="dev rows a head (default: 300)")
    parser.add_argument("--task", help="one head (default: all the cascade has)")
    options = parser.parse_args()
    root = os.environ.get("AFFECT_DATA")
    if not root:
        print("AFFECT_DATA is not set: no labelled data here")
        return 0
    fast, slow = load_text_model(FAST), load_text_model(BETTER)
    shipped = read_limits(ZOO)
    first = max(one.rows for chosen in shipped.sets for one in chosen)
    wanted = [c for c in shipped.sets if options.task is None or options.task in {one.task for one in c}]
    parts: dict[str, Judged] = {}
    texts: dict[str, list[str]] = {}
    for task in dict.fromkeys(one.task for chosen in wanted for one in chosen):
        rows = dev_rows(Path(root) / "text", task_spec(task), first, options.rows)
        if rows.texts:
            parts[task], texts[task] = judge(rows, task_spec(task), fast, slow), rows.texts
        else:
            print(f"{task}: no dev rows beyond those that chose the limits")
    for chosen in wanted:
        tasks = [one.task for one in chosen if one.task in parts]
        _together(fast, slow, shipped, tasks, parts, texts)
    return 0


def _together(
    fast: TextModel,
    slow: TextModel,
    shipped: Limits,
    tasks: list[str],
    parts: dict[str, Judged],
    texts: dict[str, list[str]],
) -> None:
    """The tables of heads that are asked together."""
    every = [("0%", dict.fromkeys(tasks, NEVER))]
    every += [(f"{share:.0%}", limits_at(parts, tasks, share)) for share in SHARES]
    every.append(("shipped", shipped.sure(tasks)))
    for task in tasks:
        one, lines = parts[task], []
        base = one.value(one.slow)
        for name, limits in every:
            got = one.value(one.mixed(limits))
            share = one.sure_of_all(limits).mean()
            figures = (f"{share:.0%}", f"{got:.3f}", f"{100 * (got - base):+.1f}")
            lines.append((name, *figures, f"{_speed(fast, slow, shipped, limits, texts[task]):,.0f}"))
        columns = ("sure as", "fast share", one.spec.metrics[0], "points", "texts/core-s")
        asked = "" if len(tasks) == 1 else f", asked with {', '.join(t for t in tasks if t != task)}"
        table(f"{task}{asked}: {len(one.truth)} dev rows", columns, lines)


def _speed(fast: TextModel, slow: TextModel, shipped: Limits, limits: dict[str, float], texts: list[str]) -> float:
    """Texts a CPU-second of a cascade with these limits."""
    heads = tuple(HeadLimit(task, "", sure, 0.0, 0.0, 0.0, 0.0, 0) for task, sure in limits.items())
    engine = Cascade(fast, slow, msgspec.structs.replace(shipped, sets=(heads,)), tuple(limits))
    start = time.process_time()
    TextModel(engine.featurize, engine).logits(texts[:SPEED_TEXTS])
    return len(texts[:SPEED_TEXTS]) / (time.process_time() - start)


if __name__ == "__main__":
    sys.exit(main())
