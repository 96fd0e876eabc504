"""Words of a seat become whole numbers; a word that is none of ours is presence and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from operators.participation import AT, COLUMNS, SLOWEST_MS, answer, chat, columns, face, voice
from operators.records import MICRO


def read(word: str) -> dict[str, int]:
    row = columns([word])[0].tolist()
    return {name: value for name, value in zip(COLUMNS, row, strict=True) if value}


@pytest.mark.parametrize(
    ("word", "want"),
    [
        ("here", {}),
        ("lost", {"acts": MICRO, "lost": MICRO}),
        ("gone", {"gone": MICRO}),
        (answer(2, None, 15_000), {"acts": MICRO, "answers": MICRO, "option_c": MICRO, "pace": 750_000}),
        (
            answer(0, True, 90_000),
            {"acts": MICRO, "answers": MICRO, "option_a": MICRO, "judged": MICRO, "right": MICRO},
        ),
        (answer(3, False, 0), {"acts": MICRO, "answers": MICRO, "option_d": MICRO, "judged": MICRO, "pace": MICRO}),
        (chat(-250_000, 10), {"acts": MICRO, "chats": MICRO, "valence": -250_000, "confusion": 10}),
        ("chat 9999999 9999999", {"acts": MICRO, "chats": MICRO, "valence": MICRO, "confusion": MICRO}),
        (face(10, 4, -300_000), {"frames": 10 * MICRO, "seen": 4 * MICRO, "looks": MICRO, "expression": -300_000}),
        (face(10, 0, 5), {"frames": 10 * MICRO}),
        (voice(250_000), {"sounds": MICRO, "tone": 250_000}),
        ("answer 4 1 10", {}), ("answer 1 2 10", {}), ("chat x y", {}), ("LOST", {}), ("lost ", {}),
    ],
)  # fmt: skip
def test_what_a_word_adds(word: str, want: dict[str, int]) -> None:
    assert read(word) == want


def test_a_batch_is_its_words_one_by_one() -> None:
    words = ["lost", "here", answer(1, True, SLOWEST_MS // 2), "nonsense", chat(5, 6), "hand"]
    assert np.array_equal(columns(words), np.concatenate([columns([word]) for word in words]))
    assert len(AT) == len(COLUMNS)
