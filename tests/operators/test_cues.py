"""Cues: whole words, any case, handles and hashtags; and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.cues import OFFERS, RESPONDERS, RUMOURS, Cues


@pytest.mark.parametrize(
    ("text", "hit"),
    [
        ("Where is FEMA?", True),
        ("FEMA\u2019s trucks", True),
        ("@RedCross thank you", True),
        ("thanks, Red  Cross!", True),
        ("#NationalGuard is here", True),
        ("PG&E cut the power", True),
        ("the cross is red", False),
        ("femalé singers", False),
        ("policed", False),
        ("", False),
    ],
)
def test_responders(text: str, hit: bool) -> None:
    assert Cues(RESPONDERS).found([text]).tolist() == [hit]


@pytest.mark.parametrize(
    ("phrases", "yes", "no"),
    [
        (OFFERS, "we can deliver food in Houma", "please deliver food"),
        (OFFERS, "a spare room, just call", "no room for us"),
        (RUMOURS, "Is it true that the levee broke?", "it is true, the levee broke"),
        (RUMOURS, "this is a HOAX", "coax them out"),
    ],
)
def test_phrases(phrases: str, yes: str, no: str) -> None:
    assert Cues(phrases).found([yes, no]).tolist() == [True, False]


@given(st.lists(st.text(max_size=60), max_size=8), st.integers(0, 200))
def test_a_phrase_is_found_wherever_it_stands(texts: list[str], at: int) -> None:
    cues = Cues("is it true|hoax")
    found = cues.found(texts).tolist()
    for text, hit in zip(texts, found, strict=True):
        cut = at % (len(text) + 1)
        assert cues.found([f"{text[:cut]} Is it TRUE {text[cut:]}"])[0]
        assert cues.found([text])[0] == hit
