"""Buckets: every row once, in the least length that holds it; padding that hides nothing and shows nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.buckets import LENGTHS, Bucket, Buckets, fill
from engines.errors import ShapeMismatch


@given(st.lists(st.integers(1, 128), max_size=300), st.sampled_from([None, 1, 8, 32, 128]))
def test_every_row_runs_once_in_the_least_length_that_holds_it(lengths: list[int], steady: int | None) -> None:
    buckets = Buckets(steady=steady)
    seen: list[int] = []
    for bucket, chosen in buckets.split(np.array(lengths, np.int64)):
        assert bucket in buckets.all()
        assert 1 <= len(chosen) <= bucket.rows
        seen += chosen.tolist()
        assert {next(n for n in LENGTHS if n >= lengths[k]) for k in chosen.tolist()} == {bucket.length}
        if steady is None:
            assert not any(len(chosen) <= rows < bucket.rows for rows in buckets.rows)
    assert sorted(seen) == list(range(len(lengths)))


@given(st.lists(st.lists(st.integers(1, 99), min_size=1, max_size=8), min_size=1, max_size=6), st.data())
def test_padding_shows_the_tokens_and_nothing_else(rows: list[list[int]], data: st.DataObject) -> None:
    chosen = np.array(data.draw(st.permutations(range(len(rows)))), np.int64)
    ids = np.array([i for r in rows for i in r], np.int64)
    offsets = np.cumsum([0, *(len(r) for r in rows)])
    padded, mask = np.full((7, 8), -1, np.int64), np.full((7, 8), np.nan, np.float32)
    fill(ids, offsets, chosen, padded, mask)
    for at, row in enumerate(chosen.tolist()):
        n = len(rows[row])
        assert padded[at].tolist() == rows[row] + [0] * (8 - n)
        assert mask[at].tolist() == [1.0] * n + [0.0] * (8 - n)
    for at in range(len(rows), 7):
        assert padded[at].sum() == 0
        assert mask[at].tolist() == [1.0] + [0.0] * 7


def test_shapes_are_the_profiles_in_order_and_capped_by_the_model() -> None:
    assert len(Buckets(steady=None).all()) == 20
    assert [str(b) for b in Buckets().all()] == ["32x16", "32x32", "32x48", "32x64", "32x128"]
    assert Buckets().capped(64).lengths == (16, 32, 48, 64)
    assert Buckets().capped(50).lengths == (16, 32, 48, 50)
    assert Buckets().capped(999).lengths == LENGTHS
    assert Bucket(8, 64) in Buckets(steady=None).all()


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ShapeMismatch, match="129 tokens, the longest bucket 128"):
        list(Buckets().split(np.array([3, 129], np.int64)))
    for wrong in ({"lengths": (32, 16)}, {"rows": ()}, {"rows": (0, 8)}, {"steady": 5}):
        with pytest.raises(ValueError, match="expected"):
            Buckets(**wrong)  # type: ignore[arg-type]
