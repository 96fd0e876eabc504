"""Batches of posts for the tests of operators, short to write."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from operators.records import PostBatch


def batch_of(
    texts: Sequence[str],
    *,
    times: Sequence[int] | None = None,
    authors: Sequence[int] | None = None,
    links: Sequence[tuple[int, str]] = (),
    scores: dict[str, list[list[int]]] | None = None,
    first: int = 0,
    partition: int = 0,
) -> PostBatch:
    """Posts with these texts at offsets `first`, `first` + 1 ...; links are (row, entity), rows rising."""
    n = len(texts)
    return PostBatch(
        partition=partition,
        offsets=np.arange(first, first + n, dtype=np.int64),
        ids=[f"i{first + k}" for k in range(n)],
        texts=list(texts),
        times_ms=np.array(times if times is not None else [0] * n, np.int64),
        authors=np.array(authors if authors is not None else [0] * n, np.uint64),
        langs=[""] * n,
        tickers=[None] * n,
        places=[None] * n,
        events=[None] * n,
        reposts=np.zeros(n, np.bool_),
        near=np.zeros(n, np.bool_),
        link_rows=np.array([row for row, _ in links], np.int32),
        link_names=[name for _, name in links],
        scores={task: np.array(rows, np.int32) for task, rows in (scores or {}).items()},
    )
