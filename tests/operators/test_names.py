"""Names and ids: first sight gives the order, the cap holds, the overflow has a name."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from operators.names import OVERFLOW, Names


@given(st.lists(st.lists(st.sampled_from("abcdefg"), max_size=8), max_size=8))
def test_ids_are_dense_in_order_of_first_sight_and_lead_back(batches: list[list[str]]) -> None:
    names = Names()
    seen: list[str] = []
    for batch in batches:
        ids = names.ids(batch)
        seen += [name for name in dict.fromkeys(batch) if name not in seen]
        assert ids.tolist() == [seen.index(name) for name in batch]
        assert names.get(ids) == batch
    assert len(names) == len(seen)


def test_beyond_the_cap_names_share_one() -> None:
    names = Names(cap=3)
    ids = names.ids(["a", "b", "c", "d", "e", "a"])
    assert names.get(ids) == ["a", "b", "c", OVERFLOW, OVERFLOW, "a"]
    assert len(names) == 4
    assert names.ids(["f", "g"]).tolist() == [3, 3]
    assert len(names) == 4


def test_find() -> None:
    names = Names()
    names.ids(["a", "b"])
    assert (names.find("b"), names.find("c")) == (1, -1)
