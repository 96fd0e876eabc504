"""Roll-ups: the formulas by plain arithmetic; the same for any order, repeats, cuts and restarts."""

from __future__ import annotations

import math
import random
from fractions import Fraction
from importlib.resources import files

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.entities import find_tickers
from operators.errors import ConfigInvalid
from operators.interval import Z95
from operators.records import SignalRow
from operators.rollup import MARKET, Rollup, parse_sectors, shipped_sectors

M = 60_000
GROUPS = {"ticker:A": "sector:x", "ticker:B": "sector:x", "ticker:C": "sector:y"}


def row(
    entity: str, n: int, value: float | None, n_eff: float | None = None, end: int = 1, **other: object
) -> SignalRow:
    given_: dict[str, object] = {
        "signal": "market.fear", "domain": "market", "entity": entity, "window_start": (end - 1) * M,
        "window_end": end * M, "value": value, "lo": None if value is None else value - 0.1,
        "hi": None if value is None else value + 0.2, "n": n,
        "n_eff": float(n) if n_eff is None else n_eff, "authors": n, "buzz": float(n), "status": "final", "revision": 0,
        "watermark": end * M, "model": "m@1", "ontology": "o",
    }  # fmt: skip
    return msgspec.convert({**given_, **other}, SignalRow)


def one(rows: list[SignalRow], entity: str, rollup: Rollup | None = None) -> SignalRow:
    rollup = Rollup(GROUPS) if rollup is None else rollup
    for r in rows:
        rollup.feed(r)
    (found,) = [r for r in rollup.take() if r.entity == entity]
    return found


def test_weighted_mean_and_effective_n_by_rational_arithmetic() -> None:
    got = one([row("ticker:A", 30, 0.5, 12.0), row("ticker:B", 10, 0.25, 8.0)], "sector:x")
    n = Fraction(40)
    assert got.value == float((30 * Fraction(1, 2) + 10 * Fraction(1, 4)) / n)
    assert got.n_eff == pytest.approx(float(n * n / (Fraction(900, 12) + Fraction(100, 8))), rel=1e-15)
    assert (got.n, got.authors, got.buzz) == (40, 40, 40.0)
    assert got.lo == pytest.approx(0.4375 - math.sqrt(3**2 + 1**2) / 40)
    assert got.hi == pytest.approx(0.4375 + math.sqrt(6**2 + 2**2) / 40)
    assert (got.status, got.reasons) == ("final", ())


def test_effective_n_is_kishs_over_the_authors_of_all_members() -> None:
    """n^2 / sum (posts of an author)^2, over authors of both members: what one window of all posts would say."""
    posts = {"ticker:A": [5, 1, 1], "ticker:B": [2, 2]}
    rows = [row(e, sum(p), 0.5, sum(p) ** 2 / sum(k * k for k in p)) for e, p in posts.items()]
    everyone = [k for p in posts.values() for k in p]
    assert one(rows, "sector:x").n_eff == pytest.approx(sum(everyone) ** 2 / sum(k * k for k in everyone))


def test_one_member_alone_is_the_group() -> None:
    got, member = one([row("ticker:C", 7, 0.3, 4.0)], "sector:y"), row("ticker:C", 7, 0.3, 4.0)
    assert (got.value, got.n, got.n_eff) == (member.value, member.n, pytest.approx(member.n_eff))
    assert (got.lo, got.hi) == (pytest.approx(member.lo), pytest.approx(member.hi))


def test_members_without_a_value_are_named_and_weigh_nothing() -> None:
    got = one([row("ticker:A", 30, 0.5), row("ticker:B", 2, None)], "sector:x")
    assert (got.value, got.n, got.reasons) == (0.5, 30, ("1 of 2 members have no value",))
    got = one([row("ticker:A", 1, None), row("ticker:B", 2, None)], "sector:x")
    assert (got.value, got.lo, got.hi, got.n) == (None, None, None, 3)


def test_buzz_is_of_all_posts_together() -> None:
    rows = [row(e, n, math.log1p(n), signal="market.buzz") for e, n in (("ticker:A", 30), ("ticker:B", 70))]
    got = one(rows, "sector:x")
    assert got.value == math.log1p(100)
    assert (got.lo, got.hi) == (math.log1p(100 - Z95 * 10), math.log1p(100 + Z95 * 10))


def test_the_market_has_everyone_and_others_are_nobodys() -> None:
    rollup = Rollup(GROUPS)
    rows = [row("ticker:A", 1, 0.0), row("ticker:C", 3, 1.0), row("all:*", 99, 1.0), row("ticker:Z", 99, 1.0)]
    assert one(rows, MARKET, rollup).value == 0.75
    assert {r.entity for r in rollup.newest()} == {MARKET, "sector:x", "sector:y"}


def test_a_group_is_final_when_its_members_are_and_newer_as_they_get_newer() -> None:
    rollup = Rollup(GROUPS)
    seen = []
    for part in (
        row("ticker:A", 3, 0.1, status="provisional", watermark=30_000),
        row("ticker:B", 4, 0.2),
        row("ticker:A", 5, 0.1),
        row("ticker:A", 6, 0.1, status="revised", revision=1),
    ):
        seen.append(one([part], "sector:x", rollup))
        assert not rollup.feed(part)
    assert [r.status for r in seen] == ["provisional", "provisional", "final", "revised"]
    assert [r.watermark for r in seen] == [30_000, 30_000, M, M]
    order = [(r.revision, r.n) for r in seen]
    assert order == sorted(set(order))


ROWS = st.lists(
    st.builds(
        row,
        st.sampled_from([*GROUPS, "all:*"]),
        st.integers(1, 9),
        st.sampled_from([None, 0.1, 0.7]),
        end=st.integers(1, 5),
        revision=st.integers(0, 2),
    ),
    max_size=40,
)


def newest(rows: list[SignalRow]) -> dict[str, SignalRow]:
    """Of each row id the last one said of those with the highest (revision, n)."""
    out: dict[str, SignalRow] = {}
    for r in rows:
        if r.row_id not in out or (r.revision, r.n) >= (out[r.row_id].revision, out[r.row_id].n):
            out[r.row_id] = r
    return out


@given(ROWS, st.lists(st.integers(0, 40), max_size=5), st.booleans())
@settings(deadline=None)
def test_cuts_restarts_and_repeats_change_nothing(rows: list[SignalRow], cuts: list[int], twice: bool) -> None:
    versions: dict[tuple[str, int, int, int], SignalRow] = {}
    for r in rows:  # one content a version, as the engine writes
        versions.setdefault((r.entity, r.window_end, r.revision, r.n), r)
    rows = [versions[r.entity, r.window_end, r.revision, r.n] for r in rows]
    whole = Rollup(GROUPS)
    for r in rows:
        whole.feed(r)
    table: dict[str, bytes] = {}
    said: list[SignalRow] = []
    at = 0
    for cut in [*sorted(cuts), len(rows)]:
        rollup = Rollup(GROUPS)
        rollup.restore(table)
        for r in rows[max(0, at - 3 * twice) : cut]:
            rollup.feed(r)
        said += rollup.take()
        for key, raw in rollup.snapshot().items():
            table.pop(key, None)
            if raw is not None:
                table[key] = raw
        at = max(at, cut)
    rollup = Rollup(GROUPS)
    rollup.restore(table)
    assert rollup.newest() == whole.newest()
    last = {r.row_id: r for r in said}
    assert last == {r.row_id: r for r in whole.take()}


@given(ROWS, st.integers())
@settings(deadline=None)
def test_order_changes_nothing(rows: list[SignalRow], seed: int) -> None:
    rows = list({(r.entity, r.window_end, r.revision, r.n): r for r in rows}.values())
    shuffled = rows[:]
    random.Random(seed).shuffle(shuffled)
    found = []
    for order in (rows, shuffled):
        rollup = Rollup(GROUPS)
        for r in order:
            rollup.feed(r)
        found.append(sorted(rollup.take(), key=lambda r: r.row_id))
    assert found[0] == found[1]


def test_windows_beyond_the_bound_are_said_before_they_go_and_older_ones_counted() -> None:
    rollup = Rollup(GROUPS, most_windows=2)
    for end in (1, 2, 3):
        rollup.feed(row("ticker:C", 5, 0.1, end=end))
    assert sorted(r.window_end for r in rollup.take() if r.entity == MARKET) == [M, 2 * M, 3 * M]
    assert not rollup.feed(row("ticker:A", 5, 0.1, end=1))
    assert (rollup.too_old, len(rollup)) == (1, 2)
    assert [k for k, v in rollup.snapshot().items() if v is None] == [f"market.fear|0|{M}"]


def test_another_map_of_sectors_takes_effect_on_what_is_held() -> None:
    rollup = Rollup(GROUPS)
    rollup.feed(row("ticker:A", 5, 0.1))
    rollup.feed(row("ticker:B", 5, 0.3))
    other = Rollup({"ticker:A": "sector:new"})
    other.restore({k: v for k, v in rollup.snapshot().items() if v is not None})
    assert {(r.entity, r.n) for r in other.newest()} == {("sector:new", 5), (MARKET, 5)}


def test_every_ticker_the_linker_knows_has_a_sector() -> None:
    sectors = shipped_sectors()
    table = files("operators").joinpath("ontology", "tickers.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert {f"ticker:{line.split(',')[0]}" for line in table} == set(sectors)
    assert sectors[f"ticker:{find_tickers('Nvidia is up')[0]}"] == "sector:technology"
    assert len(set(sectors.values())) == 11


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("a,b\n1,2", "expected the columns ticker,sector"),
        ("ticker,sector\nAAPL,Big Tech", "row 1: expected TICKER"),
        ("ticker,sector\nAAPL", "row 1: expected TICKER"),
        ("ticker,sector\nAAPL,x\naapl,y", "row 2: AAPL is there twice"),
        ("ticker,sector\n", "at least one row"),
        ("", "expected the columns"),
    ],
)
def test_a_wrong_map_is_refused_by_name_and_row(text: str, match: str) -> None:
    with pytest.raises(ConfigInvalid, match=rf"s\.csv: .*{match}"):
        parse_sectors(text, "s.csv")


def test_comments_and_case_in_a_map() -> None:
    assert parse_sectors("# mine\nticker,sector\n\n aapl , Tech\n") == {"ticker:AAPL": "sector:tech"}
