"""Integer tables against plain dictionaries: sums, differences, bounded author samples, effective sizes."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.blocks import (
    NO_AUTHORS,
    AuthorTable,
    CellTable,
    Triples,
    crowd,
    difference,
    group_authors,
    group_sum,
    merged,
)

rows = st.lists(st.tuples(st.integers(0, 5), st.integers(-(2**40), 2**40), st.integers(-9, 9)), max_size=40)
Rows = list[tuple[int, int, int]]


def table(given_rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    ids = np.array([r[0] for r in given_rows], np.int32)
    return ids, np.array([r[1:] for r in given_rows], np.int64).reshape(len(given_rows), 2)


def summed(given_rows: Rows) -> dict[int, list[int]]:
    out: dict[int, list[int]] = defaultdict(lambda: [0, 0])
    for key, one, two in given_rows:
        out[key][0] += one
        out[key][1] += two
    return dict(out)


def plain(pair: tuple[np.ndarray, np.ndarray]) -> dict[int, list[int]]:
    assert pair[0].tolist() == sorted(set(pair[0].tolist()))
    return dict(zip(pair[0].tolist(), pair[1].tolist(), strict=True))


@given(rows)
def test_group_sum_adds_by_id(given_rows: Rows) -> None:
    assert plain(group_sum(*table(given_rows))) == summed(given_rows)


@given(rows, rows)
def test_difference_is_what_must_be_added_to_old_to_get_new(new: Rows, old: Rows) -> None:
    before, after = summed(old), summed(new)
    moved = plain(difference(group_sum(*table(new)), group_sum(*table(old))))
    for key in before.keys() | after.keys():
        here, there = after.get(key, [0, 0]), before.get(key, [0, 0])
        want = [a - b for a, b in zip(here, there, strict=True)]
        assert moved.get(key, [0, 0]) == want
        assert (key in moved) == any(want)


@given(st.lists(rows, max_size=6))
def test_a_table_settled_at_any_time_holds_the_sum_of_all_adds(parts: list[Rows]) -> None:
    cells = CellTable(2)
    for k, part in enumerate(parts):
        cells.add(*table(part))
        if k % 2:
            cells.settle()
    assert plain(cells.settle()) == summed([row for part in parts for row in part])


def test_a_table_settles_by_itself_before_its_parts_pile_up() -> None:
    cells = CellTable(1)
    for _ in range(200):
        cells.add(np.arange(100, dtype=np.int32), np.ones((100, 1), np.int64))
        assert cells._pending <= 2 * 100 + 4096 + 100
    ids, sums = cells.settle()
    assert len(ids) == 100
    assert sums[:, 0].tolist() == [200] * 100


@given(st.lists(rows, max_size=4))
def test_merged_tables_are_one_sum(parts: list[Rows]) -> None:
    tables = []
    for part in parts:
        cells = CellTable(2)
        cells.add(*table(part))
        tables.append(cells)
    assert plain(merged(tables, 2)) == summed([row for part in parts for row in part])


pairs = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 12)), max_size=60)


def triples(given_pairs: list[tuple[int, int]], sign: int = 1) -> Triples:
    n = len(given_pairs)
    ids, hashes = [p[0] for p in given_pairs], [p[1] for p in given_pairs]
    return np.array(ids, np.int32), np.array(hashes, np.uint64), np.full(n, sign, np.int64)


def counted(part: Triples) -> dict[tuple[int, int], int]:
    return {(i, h): n for i, h, n in zip(*(column.tolist() for column in part), strict=True)}


@given(st.lists(pairs, min_size=1, max_size=5), st.integers(1, 15))
def test_kept_authors_have_the_smallest_hashes_and_full_counts(parts: list[list[tuple[int, int]]], keep: int) -> None:
    """However the posts were cut into parts: what is kept is what one look at everything would keep."""
    held = AuthorTable(keep)
    for k, part in enumerate(parts):
        held.add(triples(part))
        if k % 2:
            held.settle()
    everything = Counter(pair for part in parts for pair in part)
    want = {}
    for entity in {pair[0] for pair in everything}:
        smallest = sorted(h for i, h in everything if i == entity)[:keep]
        want.update({(entity, h): everything[(entity, h)] for h in smallest})
    assert counted(held.settle()) == want


@given(pairs)
def test_authors_taken_back_are_gone(given_pairs: list[tuple[int, int]]) -> None:
    both = group_authors([triples(given_pairs), triples(given_pairs, -1)], 100)
    assert counted(both) == {}


def test_crowd_by_hand() -> None:
    """Entity 0: authors 3, 2, 1 posts and 4 unknown. Entity 1: unknown only. Entity 2: one author, 5 posts."""
    posts = [(0, 7)] * 3 + [(0, 8)] * 2 + [(0, 9)] + [(2, 7)] * 5 + [(9, 1)]
    authors = group_authors([triples(posts)], 100)
    ids, n = np.array([0, 1, 2], np.int32), np.array([10, 6, 5], np.int64)
    distinct, n_eff = crowd(ids, n, np.array([4, 6, 0], np.int64), authors, 100)
    assert distinct.tolist() == [3 + 4, 6, 1]
    assert n_eff.tolist() == pytest.approx([100 / (9 + 4 + 1 + 4), 6.0, 1.0])


def test_crowd_without_any_known_author() -> None:
    distinct, n_eff = crowd(np.array([3], np.int32), np.array([8], np.int64), np.array([8], np.int64), NO_AUTHORS, 4)
    assert (distinct.tolist(), n_eff.tolist()) == ([8], [8.0])


@pytest.mark.parametrize(("authors", "posts"), [(20_000, 1), (50_000, 3)])
def test_beyond_the_sample_authors_and_n_eff_are_estimated_within_ten_percent(authors: int, posts: int) -> None:
    keep = 1024
    hashes = np.random.default_rng(1).integers(1, 2**64, authors, np.uint64, endpoint=False)
    part = (np.zeros(authors, np.int32), hashes, np.full(authors, posts, np.int64))
    held = group_authors([part], keep)
    assert len(held[0]) == keep
    n = np.array([authors * posts], np.int64)
    distinct, n_eff = crowd(np.array([0], np.int32), n, np.array([0], np.int64), held, keep)
    assert distinct[0] == pytest.approx(authors, rel=0.1)
    assert n_eff[0] == pytest.approx(authors, rel=0.1)
