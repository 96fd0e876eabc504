"""The order of training rows: the seed and the pool's number alone decide it, and no row comes twice too soon."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from engines.training.mixture import BATCH, POOL, Batch, Mixture, Part

SIZES = (1000, 300, 70)
SHARES = (0.7, 0.25, 0.05)
FIRST = (1, 2001, 3001)  # token that opens the rows of each part: row k of part p opens with FIRST[p] + k


def parts() -> list[Part]:
    random = np.random.default_rng(0)
    made = []
    for column, (size, share, first) in enumerate(zip(SIZES, SHARES, FIRST, strict=True)):
        lengths = random.integers(2, 60, size)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        ids = np.full(offsets[-1], 9000, np.int32)
        ids[offsets[:-1]] = first + np.arange(size)
        made.append(Part(ids, offsets, np.full((size, 1), column, np.float32), column, share))
    return made


def opened(batches: list[Batch]) -> list[int]:
    return [int(k) for b in batches for k in b.ids[:, 0]]


def test_a_pool_is_a_function_of_seed_and_number() -> None:
    one, other = Mixture(parts(), 3, 5), Mixture(parts(), 3, 5)
    for k in range(6):
        one.pool(k)
    for a, b in zip(one.pool(6), other.pool(6), strict=True):
        assert a.ids.tobytes() == b.ids.tobytes()
        assert a.truth.tobytes() == b.truth.tobytes()
    assert opened(other.pool(6)) != opened(Mixture(parts(), 3, 6).pool(6))


def test_shares_hold_and_rows_come_evenly() -> None:
    mixture = Mixture(parts(), 3, 1)
    seen = Counter(k for number in range(10) for k in opened(mixture.pool(number)))
    assert sum(seen.values()) == pytest.approx(10 * POOL, abs=3)
    for first, size, share in zip(FIRST, SIZES, SHARES, strict=True):
        counts = [seen[first + k] for k in range(size)]
        assert sum(counts) == pytest.approx(10 * POOL * share, abs=1)
        assert max(counts) - min(counts) <= 1


def test_batches_are_right_and_hardly_padded() -> None:
    kept = parts()
    batches = Mixture(kept, 3, 2).pool(0)
    assert max(len(b.ids) for b in batches) == BATCH
    padding = sum(float((1 - b.mask).sum()) for b in batches) / sum(b.mask.size for b in batches)
    assert padding < 0.1
    for b in batches:
        for ids, mask, truth in zip(b.ids, b.mask, b.truth, strict=True):
            part = sum(int(ids[0]) >= first for first in FIRST) - 1
            row = int(ids[0]) - FIRST[part]
            length = int(kept[part].offsets[row + 1] - kept[part].offsets[row])
            assert mask.tolist() == [1.0] * length + [0.0] * (len(ids) - length)
            assert (ids[length:] == 0).all()
            assert truth[part] == part
            assert np.isnan(np.delete(truth, part)).all()


def test_shares_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(ValueError, match="shares"):
        Mixture(parts()[:2], 3, 0)
