"""Words that rose: what came up is found, what three people did not say is not shown, and nobody can be told by it."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
from toys import batch_of

from operators.records import PostBatch
from operators.rising import LEAST, rising, words_of


def said(texts: list[str], authors: list[int]) -> PostBatch:
    keys = np.array([hash(text) % 2**63 for text in texts], np.uint64)
    return replace(batch_of(texts, authors=authors), text_keys=keys)


def crowd(word: str, often: int, n: int = 200, seed: int = 1) -> PostBatch:
    """`n` people with six usual words each; the first `often` say `word` too."""
    rng = random.Random(seed)
    usual = [f"word{chr(97 + k)}" for k in range(20)]
    texts = [f"{' '.join(rng.choices(usual, k=6))} {word if k < often else ''}" for k in range(n)]
    return said(texts, list(range(1, n + 1)))


def test_what_came_up_is_found_and_first() -> None:
    for word in ("flood", "😱", "🇺🇸", "👩‍🚀", "#sandy", "$gme", "can't", "naïve"):
        found = rising([crowd("calm", 5)], [crowd(word, 40, seed=2)])
        assert [(one.word, one.now, one.before) for one in found][:1] == [(word, 40, 0)], word


def test_where_nothing_rose_next_to_nothing_is_shown() -> None:
    shown = sum(len(rising([crowd("", 0, seed=k)], [crowd("", 0, seed=100 + k)])) for k in range(20))
    assert shown <= 40  # of 20 words x 20 pairs; one in twenty by chance


def test_fewer_than_three_people_are_never_shown_however_often_they_say_it() -> None:
    before = crowd("", 0)
    loud = said(["bombastic news today"] * 60, [7] * 30 + [8] * 30)
    assert not {"bombastic"} & {one.word for one in rising([before], [loud, crowd("", 0, seed=3)])}
    copies = said(["bombastic news today"] * 60, [0] * 60)
    assert not {"bombastic"} & {one.word for one in rising([before], [copies, crowd("", 0, seed=3)])}
    three = said([f"bombastic news {k}" for k in range(LEAST)], [7, 8, 9])
    assert "bombastic" in {one.word for one in rising([before], [three, crowd("", 0, n=20, seed=3)])}


def test_handles_links_mail_and_numbers_are_no_words() -> None:
    text = "Ask @Jane_Doe or jane@doe.org, +1 (555) 123-4567, see https://x.co/janes-page?u=jane www.jane.com NOW! 2024"
    assert words_of(text) == {"ask", "see"}


def test_nothing_to_compare_with_is_nothing() -> None:
    assert rising([], [crowd("flood", 40)]) == []
    assert rising([crowd("flood", 40)], []) == []
