"""What a seat does in a lesson, as words on the input topic and as whole numbers in a pane.

An event is a post: `event` names the room, `author` the seat (a random name made for one lesson), `text` is one of the
words below. Nothing a student typed is among them: chat is scored where it arrives and only the scores go on.

    here                        the seat takes part: sent for every consenting seat, whatever it does
    lost, fast, slow            the buttons "I am lost", "too fast", "too slow"
    hand                        a raised hand
    answer OPTION RIGHT MS      the answer to a question: option 0..3; 1 right, 0 wrong, - no right one; time taken, ms
    chat VALENCE CONFUSION      scores of a chat line, millionths: -10^6..10^6 and 0..10^6
    face FRAMES SEEN VALENCE    where the policy gate lets cameras in: pictures looked at, those in which a face could
                                be read, mean valence over these, millionths
    voice VALENCE               where it lets microphones in: mean valence of what was said
    gone                        consent withdrawn: the windows this falls into leave the seat out
"""

from __future__ import annotations

import re
from typing import Final

import numpy as np

from operators.records import I64, MICRO

OPTIONS: Final = 4
SLOWEST_MS: Final = 60_000
"""An answer that takes longer counts as taking so long."""

COLUMNS: Final = (
    "acts", "lost", "fast", "slow", "hand", "answers", "option_a", "option_b", "option_c", "option_d",
    "judged", "right", "pace", "chats", "valence", "confusion", "gone",
    "frames", "seen", "looks", "expression", "sounds", "tone",
)  # fmt: skip
"""Counts, and sums of `pace` (share of the slowest time that was left), `valence` and `confusion`; all millionths."""
AT: Final = {name: k for k, name in enumerate(COLUMNS)}

BUTTONS: Final = ("lost", "fast", "slow", "hand")
_ANSWER = re.compile(r"answer ([0-3]) ([01-]) (\d{1,9})")
_FACE = re.compile(r"face (\d{1,4}) (\d{1,4}) (-?\d{1,7})")
_VOICE = re.compile(r"voice (-?\d{1,7})")
_CHAT = re.compile(r"chat (-?\d{1,7}) (\d{1,7})")


def answer(option: int, right: bool | None, taken_ms: int) -> str:
    """The word for an answer."""
    return f"answer {option} {'-' if right is None else int(right)} {max(0, taken_ms)}"


def chat(valence: int, confusion: int) -> str:
    """The word for a chat line scored so, millionths."""
    return f"chat {valence} {confusion}"


def face(frames: int, seen: int, valence: int) -> str:
    """The word for what a camera saw in a while."""
    return f"face {frames} {seen} {valence}"


def voice(valence: int) -> str:
    """The word for what a microphone heard in a while."""
    return f"voice {valence}"


def columns(texts: list[str]) -> I64:
    """What each event adds, int64 [n, columns]; a word that is none of ours adds nothing but presence."""
    out = np.zeros((len(texts), len(COLUMNS)), np.int64)
    for row, text in enumerate(texts):
        if text == "here":
            continue
        if text in BUTTONS:
            out[row, [AT["acts"], AT[text]]] = MICRO
        elif text == "gone":
            out[row, AT["gone"]] = MICRO
        elif (found := _ANSWER.fullmatch(text)) is not None:
            _put_answer(out[row], int(found[1]), found[2], int(found[3]))
        elif (found := _CHAT.fullmatch(text)) is not None:
            out[row, [AT["acts"], AT["chats"]]] = MICRO
            out[row, AT["valence"]] = _bounded(int(found[1]))
            out[row, AT["confusion"]] = min(MICRO, int(found[2]))
        elif (found := _FACE.fullmatch(text)) is not None:
            _put_face(out[row], *map(int, found.groups()))
        elif (found := _VOICE.fullmatch(text)) is not None:
            out[row, AT["sounds"]] = MICRO
            out[row, AT["tone"]] = _bounded(int(found[1]))
    return out


def _put_face(row: I64, frames: int, seen: int, valence: int) -> None:
    row[AT["frames"]] = frames * MICRO
    row[AT["seen"]] = min(seen, frames) * MICRO
    if seen and frames:
        row[AT["looks"]] = MICRO
        row[AT["expression"]] = _bounded(valence)


def _bounded(valence: int) -> int:
    return max(-MICRO, min(MICRO, valence))


def _put_answer(row: I64, option: int, right: str, taken_ms: int) -> None:
    row[[AT["acts"], AT["answers"], AT["option_a"] + option]] = MICRO
    row[AT["pace"]] = MICRO - MICRO * min(taken_ms, SLOWEST_MS) // SLOWEST_MS
    if right != "-":
        row[AT["judged"]] = MICRO
        row[AT["right"]] = MICRO * int(right)
