"""The hashed bag's features: cleaning as documented, hashes that never depend on the neighbours."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines import features
from engines.features import MAX_CHARS, clean, featurize

BITS = 16
texts = st.lists(st.text(max_size=40), max_size=8)
tricky = st.lists(
    st.text(alphabet="aAbΣσİ'’.,019$@#&;:/\\nu \t\n\0\ud800\u200d\ufe0f\ue000😀🏽é日", max_size=30),
    min_size=1,
    max_size=8,
)


def rows(batch: list[str]) -> list[list[int]]:
    tensors = featurize(batch, BITS).tensors
    offsets = tensors["offsets"].tolist()
    buckets = tensors["buckets"].tolist()
    return [buckets[a:b] for a, b in pairwise(offsets)]


def bag(text: str) -> list[int]:
    return sorted(rows([text])[0])


@given(st.one_of(texts, tricky))
@settings(max_examples=150, deadline=None)
def test_a_rows_features_depend_on_its_text_alone(batch: list[str]) -> None:
    assert rows(batch) == [rows([text])[0] for text in batch]


def test_where_the_batch_is_cut_into_runs_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = [f"post number {k} about $TSLA, sooooo good!!! 😀" * (k % 4) for k in range(60)]
    whole = rows(batch)
    for step in (1, 50, 333):
        monkeypatch.setattr(features, "_STEP_CHARS", step)
        assert rows(batch) == whole


def test_hashes_agree_with_a_plain_python_count() -> None:
    """Every feature computed the slow way: token, pair and n-gram hashes from their own characters only."""
    mask = (1 << 64) - 1

    def mixed(x: int) -> int:
        x &= mask
        x = ((x ^ x >> 30) * 0xBF58476D1CE4E5B9) & mask
        x = ((x ^ x >> 27) * 0x94D049BB133111EB) & mask
        return (x ^ x >> 31) >> (64 - BITS)

    def poly(s: str) -> int:
        return sum((ord(c) + 1) * pow(0x9E3779B97F4A7C15, k, 1 << 64) for k, c in enumerate(s)) & mask

    def salt(k: int) -> int:
        return k * 0xA24BAED4963EE407 & mask

    tokens = ["don't", "stop", "!!!", "0", "km"]
    expected = [mixed(poly(t) + salt(1)) for t in tokens]
    expected += [mixed(poly(a) * 0xD6E8FEB86659FD93 + poly(b) + salt(2)) for a, b in pairwise(tokens)]
    for k, n in enumerate((3, 4, 5), 3):
        expected += [
            mixed(poly(p[i : i + n]) + salt(k)) for t in tokens for p in [f" {t} "] for i in range(len(p) - n + 1)
        ]
    assert bag("Don’t STOP!!!!! 12,000.5 km") == sorted(expected)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Tom &amp; Jerry", "tom & jerry"),
        ("one\\ntwo", "one two"),
        ("it\\u2019s", "it's"),
        ("see https://a.example/x?y=1 now", "see www.b.example now"),
        ("see http now", "see https://a.example now"),
        ("hi @Alice", "hi @bob_2"),
        ("buy $TSLA", "buy $BRK.B"),
        ("in 2012", "in 1,999.50"),
        ("sooooooo", "soooo"),
        ("ok 👍🏽", "ok 👍"),
        ("ok ❤️", "ok ❤"),
        ("a\0b", "a b"),
    ],
)
def test_cleaning_makes_these_the_same(one: str, other: str) -> None:
    assert bag(one) == bag(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("good", "bad"),
        ("a b", "b a"),
        ("so", "sooo"),
        ("hi @bob", "hi bob"),
        ("$tsla", "tsla"),
        ("😀", "😢"),
        (":)", ":("),
    ],
)
def test_cleaning_keeps_these_apart(one: str, other: str) -> None:
    assert bag(one) != bag(other)


def test_texts_without_a_token_have_no_features_and_long_ones_are_cut() -> None:
    assert rows(["", "  \n", "\u200d"]) == [[], [], []]
    assert rows([]) == []
    assert bag("ab " * MAX_CHARS) == bag(("ab " * MAX_CHARS)[:MAX_CHARS])
    assert "\ue000" in clean(["http://x.example"])


def test_buckets_are_in_range_and_spread() -> None:
    words = ["".join(chr(97 + k * f % 26) for f in (1, 3, 7, 11, 19)) + chr(0x4E00 + k) for k in range(2000)]
    buckets = featurize(words, BITS).tensors["buckets"]
    assert buckets.dtype == np.int32
    assert buckets.min() >= 0
    assert buckets.max() < 1 << BITS
    assert len(np.unique(buckets)) > 5000
    assert np.bincount(buckets >> 12, minlength=16).min() > len(buckets) / 32
