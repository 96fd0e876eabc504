"""How fast an engine is: texts per CPU-second by length, and the share of what this machine's matrix products reach.

CPU-seconds are those of the whole process, so figures are per core whatever else runs beside (though a busy neighbour
still costs cache and memory).
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from engines.base import TextModel

BUCKETS: Final = (16, 32, 48, 64)
"""Tokens of a row, `[CLS]` and `[SEP]` included: the length buckets of the GPU profiles."""
_SIZE = 768
"""Rows and columns of the product that measures the limit: large enough to reach it, 7 MB in all."""
WORDS: Final = (
    "we need water and food here the market falls again buy the dip so happy today not good at all please help my "
    "family stuck in flood power is out love this launch best update ever terrible now great earnings"
).split()
"""Each is one word piece of the encoders' vocabulary: so many words are so many tokens, and the two at the ends."""


class Speed(msgspec.Struct, frozen=True):
    """One measurement. `tokens`: mean of a row as the engine got it (0: it has no tokens).

    `share` of the matrix limit: operations of the products a second / `Limit.flops`; None where they are not known.
    """

    engine: str
    bucket: int
    tokens: float
    texts_per_s: float
    share: float | None


def texts(count: int, words: int, seed: int = 1) -> list[str]:
    """Texts of so many words of a fixed vocabulary."""
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS, words)) for _ in range(count)]


def cpu_seconds(act: Callable[[], object], repeat: int = 3) -> float:
    """Median process CPU-seconds of `repeat` runs, after one that is not counted."""
    act()
    spent = []
    for _ in range(repeat):
        start = time.process_time()
        act()
        spent.append(time.process_time() - start)
    return max(statistics.median(spent), 1e-9)


def matrix_limit() -> float:
    """Float32 operations per CPU-second of a large matrix product in numpy: the best of seven runs."""
    random = np.random.default_rng(0)
    a, b = (random.normal(size=(_SIZE, _SIZE)).astype(np.float32) for _ in range(2))
    best = min(cpu_seconds(lambda: a @ b, 1) for _ in range(7))
    return 2.0 * _SIZE**3 / best


def measure(
    model: TextModel, bucket: int, count: int, limit: float, operations: Callable[[int], float] | None
) -> Speed:
    """Texts of `bucket` tokens through featuriser and engine.

    Args:
        operations: operations of the products for one row of so many tokens; None = not known.
    """
    rows = texts(count, bucket - 2)
    offsets = model.featurize(rows).tensors.get("offsets")
    tokens = 0.0 if offsets is None else float(np.diff(offsets).mean())
    rate = count / cpu_seconds(lambda: model.logits(rows))
    share = None if operations is None else operations(round(tokens)) * rate / limit
    return Speed(model.spec.model_id, bucket, tokens, rate, share)


def machine(versions: Sequence[str]) -> str:
    """Processor, system and versions on one line."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text(encoding="utf-8", errors="replace").splitlines()
        name = next((x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")), name)
    return ", ".join([name, f"Python {platform.python_version()}", *versions])
