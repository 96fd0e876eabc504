"""What a person could be found by goes; what the text says stays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.masking import mask


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("hi @bob_99, see https://x.example/a?b=c", "hi @user, see http"),
        ("www.example.org now", "http now"),
        ("write to jane.doe+x@mail.example.com please", "write to <mail> please"),
        ("call +49 (170) 123-45 67 or 555.123.4567!", "call <phone> or <phone>!"),
        ("ring 0170 1234567", "ring <phone>"),
        ("$AAPL at 182.50, up 3.5 %", "$AAPL at 182.50, up 3.5 %"),
        ("volume 1,234,567 shares", "volume 1,234,567 shares"),
        ("made $12 345 678 today", "made $12 345 678 today"),
        ("2024 was 10-12 better", "2024 was 10-12 better"),
        ("line one\n\tline two  ", "line one line two"),
        ("a@@b @ c", "a@@b @ c"),
    ],
)
def test_examples(text: str, shown: str) -> None:
    assert mask(text) == shown


def test_a_cut_is_shown_and_the_limit_holds() -> None:
    assert mask("x" * 300) == "x" * 279 + "…"
    assert mask("x" * 280) == "x" * 280
    assert mask("abcdef", limit=4) == "abc…"


@given(st.text(max_size=400), st.integers(1, 300))
def test_never_longer_than_the_limit_and_on_one_line(text: str, limit: int) -> None:
    shown = mask(text, limit)
    assert len(shown) <= limit
    assert "\n" not in shown


@given(st.from_regex(r"[a-z]{1,10}", fullmatch=True), st.text("abc ", max_size=50))
def test_a_handle_never_shows(name: str, around: str) -> None:
    assert f"@{name}" not in mask(f"{around} @{name} {around}").replace("@user", "")


@pytest.mark.timeout(5)
def test_hostile_texts_take_no_time() -> None:
    for text in ("1 " * 50_000, "a." * 50_000, "@" * 100_000, "1-" * 50_000 + "x", "a@" + "b." * 50_000, " " * 100_000):
        mask(text)
