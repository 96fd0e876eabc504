"""Pieces of a camera: framing, limits, gaps, the rate, and a sender's clock that is off."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.errors import Rejected
from stream.capture import LATEST, PICTURE, PICTURE_MAX, SOUND, SOUND_MAX, Passage, Piece, message_of, piece_of

NOW = 1_700_000_000_000
numbers = st.integers(0, 2**32 - 1)


@given(st.sampled_from([PICTURE, SOUND]), numbers, st.integers(0, 2**64 - 1), st.binary(min_size=1, max_size=50))
def test_a_piece_comes_back_as_it_was(kind: int, number: int, sent: int, body: bytes) -> None:
    piece = Piece(kind, number, sent, body)
    assert piece_of(message_of(piece)) == piece


@given(st.binary(max_size=40))
def test_whatever_comes_is_a_piece_or_is_rejected(message: bytes) -> None:
    whole = len(message) > 13 and message[0] in (PICTURE, SOUND)
    if whole:
        assert piece_of(message).kind == message[0]
    else:
        with pytest.raises(Rejected, match="not_a_piece"):
            piece_of(message)


@pytest.mark.parametrize(("kind", "most"), [(PICTURE, PICTURE_MAX), (SOUND, SOUND_MAX)])
def test_a_body_has_its_most(kind: int, most: int) -> None:
    assert len(piece_of(message_of(Piece(kind, 1, 1, bytes(most)))).body) == most
    with pytest.raises(Rejected, match="at most"):
        piece_of(message_of(Piece(kind, 1, 1, bytes(most + 1))))


def at(passage: Passage, number: int, sent: int, now: int) -> int | None:
    return passage.take(Piece(PICTURE, number, sent, b"x"), now)


def test_gaps_are_counted_and_old_numbers_dropped() -> None:
    passage = Passage(PICTURE)
    for k, number in enumerate((1, 2, 5, 5, 4, 6, 9)):
        at(passage, number, NOW + 200 * k, NOW + 200 * k)
    assert (passage.taken, passage.missing, passage.repeated) == (5, 4, 2)


@pytest.mark.parametrize("off", [0, 3_600_000, -3_600_000])
def test_a_clock_that_is_off_is_put_right_by_the_fastest_piece(off: int) -> None:
    passage = Passage(PICTURE)
    delays = [80, 20, 300, 45, 20, 500] * 20
    for k, delay in enumerate(delays):
        captured = NOW + 200 * k
        found = at(passage, k + 1, captured + off, captured + delay)
        assert found is not None
        if k >= 2:
            assert found - captured == min(20, delay)
    assert passage.skew_ms == 20 - off
    assert len(passage._delays) == LATEST


def test_who_hurries_is_slowed_down() -> None:
    passage = Passage(PICTURE)
    taken = sum(at(passage, k + 1, NOW + k, NOW + k) is not None for k in range(1_000))
    assert taken == passage.taken
    assert 20 <= taken <= 31
    assert passage.taken + passage.hurried == 1_000
    assert at(passage, 2_000, NOW + 5_000, NOW + 5_000) is not None
