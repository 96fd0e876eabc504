"""Places in texts: found with evidence, never invented."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.gazetteer import find


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Water needed in Houma now", ["Houma"]),
        ("Houma, LA has no power", ["Houma"]),
        ("Houston is under water", ["Houston"]),
        ("#NewOrleans and #Houston flooded", ["New Orleans", "Houston"]),
        ("HELP WE ARE STUCK IN NEW ORLEANS", ["New Orleans"]),
        ("Lake Charles is gone. Send help to Lafayette!", ["Lake Charles", "Lafayette"]),
        ("earthquake in Haiti, near Port-au-Prince", ["Haiti", "Port-au-Prince"]),
        ("fires across California and the UK", ["California", "United Kingdom"]),
        ("no power in Washington, D.C. tonight", ["Washington, D.C."]),
        ("we moved to New York from New York City", ["New York", "New York City"]),
        ("stuck in Reading", ["Reading"]),
        ("greetings from Nice", ["Nice"]),
        ("flooding in Mobile, Alabama", ["Mobile", "Alabama"]),
    ],
)
def test_found(text: str, expected: list[str]) -> None:
    assert list(find(text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "Reading a book is Nice",
        "Mobile phones are dead",
        "Hope is all we have, God help us",
        "In March the Best of Us will say goodbye",
        "Hurricane Florence and Hurricane Harvey are names",
        "president Lincoln was here",
        "help, no water, no food",
        "in houma they need water",
        "Of course. Police say. Most people. University open.",
        "Slidell needs water",
        "in Jackson Pollock paintings",
        "",
    ],
)
def test_not_invented(text: str) -> None:
    assert list(find(text)) == []


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=120))
def test_any_text_passes(text: str) -> None:
    assert all(isinstance(name, str) and name for name in find(text))


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz ,.!", max_size=120))
def test_lower_case_text_names_no_place(text: str) -> None:
    assert list(find(text)) == []
