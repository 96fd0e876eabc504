"""The encoder's tokeniser: what cleaning does, and that every text becomes a row that fits."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.errors import ManifestInvalid
from engines.wordpieces import MAX_CHARS, REPEAT, WordPieces, clean
from tests.engines.tiny import VOCABULARY

PIECES = WordPieces(VOCABULARY, 12)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("see https://t.co/abc and www.x.org now", "see http and http now"),
        ("@ann_1 hi", "@user hi"),
        ("fish &amp; chips &lt;3", "fish & chips <3"),
        (r"two\nlines \"quoted\"", 'two lines "quoted"'),
        ("so 😀😀", "so :grinning face: :grinning face:"),
        ("wave 👋🏽", "wave :waving hand sign:"),
        ("a" * 50, "a" * REPEAT),
        ("  much \t space \n", "much space"),
        ("\ud800 alone", "? alone"),
        ("x" + "\u200b" + "y", "xy"),
        ("é stays", "é stays"),
    ],
)
def test_cleaning(text: str, wanted: str) -> None:
    assert clean(text) == wanted


def rows(texts: list[str], pieces: WordPieces = PIECES) -> list[list[int]]:
    batch = pieces.featurize(texts)
    assert batch.rows == len(texts)
    cuts = batch.tensors["offsets"].tolist()
    return [batch.tensors["ids"][a:b].tolist() for a, b in pairwise(cuts)]


def test_pieces_are_the_longest_that_fit() -> None:
    assert rows(["Water FOODS xyz"]) == [
        [VOCABULARY.index(p) for p in ("[CLS]", "water", "food", "##s", "[UNK]", "[SEP]")]
    ]


@given(st.lists(st.text(max_size=40), max_size=8))
def test_every_text_becomes_a_row_that_fits_whatever_its_neighbours(texts: list[str]) -> None:
    found = rows(texts)
    for row in found:
        assert (row[0], row[-1]) == (2, 3)
        assert 2 <= len(row) <= 12
        assert all(0 <= k < len(VOCABULARY) for k in row)
    assert found == [rows([t])[0] for t in texts]


def test_a_huge_text_is_cut() -> None:
    assert len(clean("ab " * 10_000)) <= MAX_CHARS
    assert len(rows(["a " * 10_000])[0]) == 12
    assert PIECES.featurize([]).tensors["offsets"].tolist() == [0]
    assert PIECES.featurize(["a"]).tensors["ids"].dtype == np.int32


@pytest.mark.parametrize("vocabulary", [["[UNK]", "[CLS]"], [*VOCABULARY, "the"], []])
def test_vocabularies_that_cannot_work_are_refused(vocabulary: list[str]) -> None:
    with pytest.raises(ManifestInvalid, match="vocabulary"):
        WordPieces(vocabulary, 12)
    with pytest.raises(ManifestInvalid, match="tokens"):
        WordPieces(VOCABULARY, 2)
