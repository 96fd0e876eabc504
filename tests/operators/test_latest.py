"""The newest rows: equal to a sort by version, whatever the order, the repeats and the cuts."""

from __future__ import annotations

import random

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.latest import Latest, identity, version
from operators.records import SignalRow, Status

M = 60_000


def row(entity: str = "ticker:A", end: int = 1, revision: int = 0, n: int = 5, status: Status = "final") -> SignalRow:
    return SignalRow(
        signal="market.joy", domain="market", entity=entity, window_start=(end - 1) * M, window_end=end * M,
        value=n / 100, lo=None, hi=0.5, n=n, n_eff=n * 0.5, authors=n, buzz=float(n), status=status, revision=revision,
        watermark=end * M - (status == "provisional"), model="stub@1", ontology="1",
    )  # fmt: skip


ROWS = st.lists(
    st.builds(
        row,
        st.sampled_from(["ticker:A", "ticker:B", "all:*"]),
        st.integers(1, 4),
        st.integers(0, 2),
        st.integers(1, 4),
        st.sampled_from(["provisional", "final", "revised"]),
    )
)


@given(ROWS, st.integers())
@settings(deadline=None)
def test_equals_the_largest_version_in_any_order_with_repeats(rows: list[SignalRow], seed: int) -> None:
    latest, again = Latest(), rows + rows[: len(rows) // 2]
    random.Random(seed).shuffle(again)
    for one in again:
        latest.feed(one)
    for found in latest.rows():
        rivals = [r for r in rows if identity(r) == identity(found)]
        assert version(found) == max(map(version, rivals))
    assert {identity(r) for r in latest.rows()} == {identity(r) for r in rows}


def test_an_older_version_never_overwrites_a_newer_one() -> None:
    rising = [
        row(end=1, n=3, status="provisional"),
        row(end=1, n=4, status="provisional"),
        row(end=1, n=4),
        row(end=1, n=5, revision=1, status="revised"),
        row(end=2, n=1, status="provisional"),
    ]
    latest = Latest()
    for k, newer in enumerate(rising):
        assert latest.feed(newer)
        for older in rising[: k + 1]:
            assert not latest.feed(older)
        assert list(latest.rows()) == [newer]


@given(ROWS, st.lists(st.integers(0, 60), max_size=4))
@settings(deadline=None)
def test_what_changed_adds_up_to_the_table_across_restarts(rows: list[SignalRow], cuts: list[int]) -> None:
    table: dict[str, SignalRow | None] = {}
    at = 0
    for cut in [*sorted(cuts), len(rows)]:
        latest = Latest()
        for held in table.values():
            assert held is not None
            latest.feed(held)
        latest.changed()
        for one in rows[max(0, at - 3) : cut]:  # some are read twice
            latest.feed(one)
        table |= latest.changed()
        at = max(at, cut)
    whole = Latest()
    for one in rows:
        whole.feed(one)
    assert {k: v for k, v in table.items() if v is not None} == {identity(r): r for r in whole.rows()}


def test_beyond_the_bound_the_oldest_go_and_are_said_to() -> None:
    latest = Latest(most=10)
    for k in range(11):
        latest.feed(row(f"ticker:{k}", end=k + 1))
    assert len(latest) == 10
    assert latest.forgotten == 1
    assert [key for key, held in latest.changed().items() if held is None] == ["market.joy|ticker:0|60000"]


def test_filters() -> None:
    latest = Latest()
    for name in ("ticker:A", "ticker:B", "all:*"):
        latest.feed(row(name))
    latest.feed(msgspec.structs.replace(row("ticker:A"), signal="market.fear"))
    latest.feed(msgspec.structs.replace(row("ticker:A", end=10), window_start=0))
    assert [r.entity for r in latest.rows(entity="ticker:*", size_ms=M, signal="market.joy")] == [
        "ticker:A",
        "ticker:B",
    ]
    assert [r.entity for r in latest.rows(entity="all:*")] == ["all:*"]
    assert [r.signal for r in latest.rows(signal="market.f*")] == ["market.fear"]
    assert len(list(latest.rows(size_ms=10 * M))) == 1
