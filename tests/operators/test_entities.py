"""Linking: what is given stays, what is found is really there, and nothing is invented."""

from __future__ import annotations

import asyncio
import csv
import re
import time
from importlib.resources import files

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.entities import MAX_ENTITIES, Linker, find_tags, find_tickers
from operators.errors import ConfigInvalid
from operators.records import PostBatch


def batch_of(
    texts: list[str],
    tickers: list[tuple[str, ...] | None] | None = None,
    places: list[str | None] | None = None,
    events: list[str | None] | None = None,
    sources: list[str | None] | None = None,
) -> PostBatch:
    n = len(texts)
    no = np.zeros(n, np.bool_)
    return PostBatch(
        partition=0,
        offsets=np.arange(n, dtype=np.int64),
        ids=[str(k) for k in range(n)],
        texts=texts,
        times_ms=np.zeros(n, np.int64),
        authors=np.zeros(n, np.uint64),
        langs=[""] * n,
        tickers=tickers or [None] * n,
        places=places or [None] * n,
        events=events or [None] * n,
        reposts=no,
        near=no,
        sources=sources or [],
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Long $aapl, short $TSLA.", ["AAPL", "TSLA"]),
        ("$BRK.B over $BRK.A", ["BRK.B", "BRK.A"]),
        ("$AAPL$TSLA", ["AAPL"]),
        ("doge is $DOGE.X", ["DOGE.X"]),
        ("it costs $100, $5k or $1.50", []),
        ("write to a$AAPL or $TOOLONG", []),
        ("nvidia to the moon", ["NVDA"]),
        ("Tesla's recall hurts Goldman Sachs", ["TSLA", "GS"]),
        ("AT&T and Johnson & Johnson", ["T", "JNJ"]),
        ("McDonald's beats Macy's", ["MCD", "M"]),
        ("Apple shares jump", ["AAPL"]),
        ("I think Apple will beat on earnings", ["AAPL"]),
        ("I ate an apple pie", []),
        ("Apple pie is the stock answer", []),
        ("we ate Apple pie", []),
        ("on target for the quarter, buy", []),
        ("my Target price is 300, bullish", []),
        ("Visa application rejected", []),
        ("long Visa into the quarter", ["V"]),
        ("mind the gap between shares", []),
        ("the meta of this game, I buy", []),
        ("", []),
    ],
)
def test_tickers(text: str, expected: list[str]) -> None:
    assert find_tickers(text) == expected


def test_the_company_table_is_sound() -> None:
    text = files("operators").joinpath("ontology", "tickers.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    names = [row["name"].lower() for row in rows]
    assert len(set(names)) == len(names)
    assert len({row["ticker"] for row in rows}) >= 150
    assert all(re.fullmatch(r"[A-Z]{1,5}(\.[A-Z])?", row["ticker"]) for row in rows)
    guarded = {row["name"] for row in rows if row["guarded"] == "yes"}
    assert {"Apple", "Target", "Gap", "Visa", "Square", "Meta", "Shell"} <= guarded


def test_every_plain_company_is_found_by_its_name() -> None:
    text = files("operators").joinpath("ontology", "tickers.csv").read_text(encoding="utf-8")
    for row in csv.DictReader(text.splitlines()):
        if row["guarded"] == "no":
            assert row["ticker"] in find_tickers(f"what about {row['name']} now"), row["name"]
        else:
            assert row["ticker"] in find_tickers(f"I would buy {row['name']} stock"), row["name"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Waiting for #AuroraOne and #auroraone #Keynote2024!", ["auroraone", "keynote2024"]),
        ("we are #1 and #2", []),
        ("#a #b #c #d #e #f #g", ["a", "b", "c", "d", "e"]),
        ("&#39; is an apostrophe, a##b none", []),
        ("#武汉加油", ["武汉加油"]),
    ],
)
def test_tags(text: str, expected: list[str]) -> None:
    assert find_tags(text) == expected


def test_what_is_given_is_taken_as_it_is() -> None:
    text = "Nvidia in Houston #tag"
    assert Linker("market").entities(text, ("aapl", "X Y"), None, None) == ["ticker:aapl", "ticker:X Y", "all:*"]
    assert Linker("market").entities(text, (), None, None) == ["all:*"]
    assert Linker("crisis").entities(text, None, "Port-au-Prince", None) == ["place:Port-au-Prince", "all:*"]
    assert Linker("social").entities(text, None, None, "My Launch") == ["topic:My Launch", "all:*"]


def test_each_domain_links_its_own() -> None:
    text = "Nvidia in Houston #tag"
    assert Linker("market").entities(text, None, "Paris", "e") == ["ticker:NVDA", "all:*"]
    assert Linker("crisis").entities(text, ("AAPL",), None, "e") == ["place:Houston", "all:*"]
    assert Linker("social").entities(text, ("AAPL",), "Paris", None) == ["topic:tag", "all:*"]


def test_links_stand_in_row_order_with_all_last() -> None:
    batch = batch_of(["$A $B $A", "nothing", "Tesla"], [None, None, ("AAPL", "AAPL", "MSFT")])
    linked = asyncio.run(Linker("market").process(batch)).batch
    assert linked.link_rows.tolist() == [0, 0, 0, 1, 2, 2, 2]
    assert linked.link_rows.dtype == np.int32
    names = ["ticker:A", "ticker:B", "all:*", "all:*", "ticker:AAPL", "ticker:MSFT", "all:*"]
    assert linked.link_names == names
    assert Linker("market").run(batch_of([])).link_rows.tolist() == []


name_st = st.text(alphabet=st.one_of(st.characters(), st.sampled_from("|\x00\n\t \x7f")), max_size=90)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(st.none(), name_st), max_size=8))
def test_names_are_clean_and_runs_agree(places: list[str | None]) -> None:
    linker = Linker("crisis")
    batch = batch_of(["no place here"] * len(places), places=places)
    linked = linker.run(batch)
    assert linker.run(batch).link_names == linked.link_names
    for row in range(len(places)):
        own = [n for r, n in zip(linked.link_rows.tolist(), linked.link_names, strict=True) if r == row]
        assert own == linker.entities("no place here", None, places[row], None)
        assert own[-1] == "all:*"
        for name in own[:-1]:
            bare = name.removeprefix("place:")
            assert 0 < len(bare) <= 64
            assert bare == " ".join(bare.split())
            assert not re.search(r"[|\x00-\x1f\x7f]", bare)


def test_caps_are_counted() -> None:
    linker = Linker("market")
    many = tuple(f"T{k}" for k in range(40))
    for _ in range(2):
        linked = linker.run(batch_of(["x"], [many]))
        assert len(linked.link_names) == MAX_ENTITIES + 1
    assert linker.capped == 16


def test_unknown_domain_is_refused() -> None:
    with pytest.raises(ConfigInvalid, match="classroom"):
        Linker("weather")


def test_given_tickers_are_cheap() -> None:
    """Target 1 us a post; the bound leaves room for a busy machine."""
    batch = batch_of(["t"] * 5_000, [("AAPL",) if k % 2 else ("TSLA", "MSFT") for k in range(5_000)])
    linker, best = Linker("market"), float("inf")
    for _ in range(8):
        begin = time.perf_counter()
        linker.run(batch)
        best = min(best, time.perf_counter() - begin)
    assert best / 5_000 < 5e-6


def test_a_post_counts_once_in_each_sector_of_its_tickers() -> None:
    sectors = {
        "ticker:AAPL": "sector:technology",
        "ticker:NVDA": "sector:technology",
        "ticker:JPM": "sector:financials",
    }
    linker = Linker("market", sectors)
    told = linker.entities("", ("AAPL", "JPM", "NVDA", "XYZ"), None, None)
    assert told == [
        "ticker:AAPL", "ticker:JPM", "ticker:NVDA", "ticker:XYZ", "sector:technology", "sector:financials", "all:*",
    ]  # fmt: skip
    assert linker.entities("long $NVDA", None, None, None) == ["ticker:NVDA", "sector:technology", "all:*"]
    assert linker.entities("nothing", None, None, None) == ["all:*"]
    assert linker.entities("", ("AAPL", "JPM", "NVDA", "XYZ"), None, None) == told  # remembered as it was
    many = (*(f"T{k}" for k in range(MAX_ENTITIES)), "AAPL")
    assert "sector:technology" not in linker.entities("", many, None, None)  # what was cut off brings no sector
    assert linker.capped == 1


def test_communities_stand_behind_the_posts_own_entities() -> None:
    posts = (["#a #b", "c", "#d", "#e"], None, None, None)
    batch = batch_of(*posts, sources=["r/stocks", None, " |\n", "r/ stocks|x"])
    linked = Linker("social", communities=True).run(batch)
    pairs = list(zip(linked.link_rows.tolist(), linked.link_names, strict=True))
    assert pairs == [
        (0, "topic:a"), (0, "topic:b"), (0, "all:*"), (0, "source:r/stocks"), (1, "all:*"), (2, "topic:d"),
        (2, "all:*"), (3, "topic:e"), (3, "all:*"), (3, "source:r/ stocks x"),
    ]  # fmt: skip
    plain = Linker("social").run(batch).link_names
    assert [name for _, name in pairs if not name.startswith("source:")] == plain
    assert Linker("social", communities=True).run(batch_of(*posts)).link_names == plain
    long = batch_of(["x"], sources=["s" * 1_000_000])
    assert Linker("social", communities=True).run(long).link_names == ["all:*", "source:" + "s" * 64]


def test_a_room_is_the_given_one_and_nothing_is_looked_for_in_words() -> None:
    assert Linker("classroom").entities("lost #maths $AAPL", None, None, "7B") == ["room:7B", "all:*"]
    assert Linker("classroom").entities("lost #maths", ("AAPL",), "Houston", None) == ["all:*"]
