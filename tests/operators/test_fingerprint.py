"""Hashes and likeness: equal in, equal out, alone or among others."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.fingerprint import hash64, likeness, pack

texts = st.lists(st.text(max_size=80), max_size=12)


@settings(max_examples=100, deadline=None)
@given(texts)
def test_a_row_depends_on_its_own_text_alone(rows: list[str]) -> None:
    together, likes = hash64(pack(rows)), likeness(pack(rows))
    for k, row in enumerate(rows):
        alone = likeness(pack([row]))
        assert hash64(pack([row]))[0] == together[k]
        assert alone.words[0] == likes.words[k]
        assert (alone.bands[0] == likes.bands[k]).all()
        assert (alone.sketch[0] == likes.sketch[k]).all()


@settings(max_examples=200, deadline=None)
@given(texts)
def test_equal_hash_means_equal_string(rows: list[str]) -> None:
    hashes = hash64(pack(rows)).tolist()
    assert len(set(hashes)) == len(set(rows))
    assert 0 not in hashes


def test_no_collision_among_many_similar_names() -> None:
    names = [f"post-{k}" for k in range(200_000)] + [f"{k}\x00" for k in range(1_000)] + [str(k) for k in range(1_000)]
    assert len(np.unique(hash64(pack(names)))) == len(names)
    assert (hash64(pack(names), 1) != hash64(pack(names))).all()


def test_the_hash_is_the_same_in_every_process() -> None:
    """State is kept across restarts: a changed number here loses it."""
    assert hash64(pack(["post-1", ""])).tolist() == HASHES


HASHES = [2341047865678527139, 15321243935405834545]


def test_lone_surrogates_and_long_texts_pass() -> None:
    rows = ["\ud800 broken", "word " * 20_000]
    assert len(set(hash64(pack(rows)).tolist())) == 2
    assert likeness(pack(rows)).words[1] != 0


def test_words_ignore_what_a_repost_changes() -> None:
    rows = [
        "Water needed in Houma now",
        "rt @x: water NEEDED in Houma, now!",
        "water needed in houma now http://t.co/x 17",
    ]
    assert len(set(likeness(pack(rows)).words.tolist())) == 1
