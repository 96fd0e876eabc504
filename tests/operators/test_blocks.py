"""Integer tables against plain dictionaries: sums, differences, merges."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from operators.blocks import (
    CellTable,
    difference,
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
