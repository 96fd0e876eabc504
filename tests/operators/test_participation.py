"""Words of a seat become whole numbers; a word that is none of ours is presence and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from operators.participation import AT, COLUMNS, SLOWEST_MS, STEPS, answer, chat, columns, face, mix, voice
from operators.records import MICRO


def read(word: str) -> dict[str, int]:
    row = columns([word])[0].tolist()
    return {name: value for name, value in zip(COLUMNS, row, strict=True) if value}


LOOKED = {
    "frames": 10 * MICRO, "seen": 4 * MICRO, "looks": MICRO, "expression": -300_000,
    "frames_0": 10 * MICRO, "seen_0": 4 * MICRO,
}  # fmt: skip


@pytest.mark.parametrize(
    ("word", "want"),
    [
        ("here", {}),
        ("lost", {"acts": MICRO, "lost": MICRO, "confused": MICRO}),
        ("gone", {"gone": MICRO}),
        (answer(2, None, 15_000), {"acts": MICRO, "answers": MICRO, "option_c": MICRO, "pace": 750_000}),
        (
            answer(0, True, 90_000),
            {"acts": MICRO, "answers": MICRO, "option_a": MICRO, "judged": MICRO, "right": MICRO},
        ),
        (answer(3, False, 0), {"acts": MICRO, "answers": MICRO, "option_d": MICRO, "judged": MICRO, "pace": MICRO}),
        (chat(-250_000, 10), {"acts": MICRO, "chats": MICRO, "valence": -250_000, "confusion": 10}),
        (
            "chat 9999999 9999999",
            {"acts": MICRO, "chats": MICRO, "valence": MICRO, "confusion": MICRO, "confused": MICRO},
        ),
        ("face 10 4 -300000", LOOKED),
        (face(10, 4, -300_000, 5, 3, 1), {**LOOKED, "away": 5 * MICRO, "eyes": 3 * MICRO, "shut": MICRO}),
        (face(10, 0, 5), {"frames": 10 * MICRO, "frames_0": 10 * MICRO}),
        (face(10, 4, -300_000, 9, 12, 11), {**LOOKED, "away": 6 * MICRO, "eyes": 10 * MICRO, "shut": 10 * MICRO}),
        (
            mix((25, 20_000_000, -3_000_000, 5, 1_000_000, 1, 20, 24), 24, 12_500_000, True, False),
            {
                "moments": 25 * MICRO, "sure": 20_000_000, "feeling": -3_000_000, "clashes": 5 * MICRO,
                "clash": 1_000_000, "no_picture": MICRO, "no_sound": 20 * MICRO, "no_text": 24 * MICRO,
                "looked": 24 * MICRO, "task": 12_500_000, "ended": MICRO,
            },
        ),
        (
            mix((2, 9_000_000, -9_000_000, 1, 9_000_000, 9, 0, 0), 1, 9_000_000, False, True),
            {
                "moments": 2 * MICRO, "sure": 2 * MICRO, "feeling": -2 * MICRO, "clashes": MICRO, "clash": MICRO,
                "no_picture": 2 * MICRO, "looked": MICRO, "task": MICRO,
            },
        ),
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


def test_pictures_are_counted_again_by_the_part_of_the_window_they_fall_into() -> None:
    rows = columns([face(10, 4, 0)] * STEPS, range(STEPS))
    for name, count in (("frames", 10), ("seen", 4)):
        parts = rows[:, [AT[f"{name}_{k}"] for k in range(STEPS)]]
        assert np.array_equal(parts, np.eye(STEPS, dtype=np.int64) * count * MICRO)
        assert (rows[:, AT[name]] == count * MICRO).all()
