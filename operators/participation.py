"""What a seat does in a lesson, as words on the input topic and as whole numbers in a pane.

An event is a post: `event` names the room, `author` the seat (a random name made for one lesson), `text` is one of the
words below. Nothing a student typed is among them: chat is scored where it arrives and only the scores go on.

    here                        the seat takes part: sent for every consenting seat, whatever it does
    lost, fast, slow            the buttons "I am lost", "too fast", "too slow"
    hand                        a raised hand
    answer OPTION RIGHT MS      the answer to a question: option 0..3; 1 right, 0 wrong, - no right one; time taken, ms
    chat VALENCE CONFUSION      scores of a chat line, millionths: -10^6..10^6 and 0..10^6
    face FRAMES SEEN VALENCE AWAY EYES SHUT
                                where the policy gate lets cameras in: pictures looked at, those in which a face could
                                be read, mean valence over these (millionths), those with no face or one turned away,
                                those in which eyes were judged, and in which they were shut (the last three may lack)
    voice VALENCE               where it lets microphones in: mean valence of what was said
    mix MOMENTS SURE FEELING CLASHES CLASH NO_PICTURE NO_SOUND NO_TEXT LOOKED TASK ENDED RESOLVED
                                what these and chat say together (`operators/seat_readings.py`): moments of 200 ms, sums
                                of confidence and valence over them; moments of two modalities or more and the sum of
                                their ambivalence; moments without each modality; moments with pictures and the sum of
                                being on task over them; 1 where an episode of confusion ended, and was resolved
    gone                        consent withdrawn: the windows this falls into leave the seat out
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import numpy as np

from operators.records import I64, MICRO

OPTIONS: Final = 4
SLOWEST_MS: Final = 60_000
"""An answer that takes longer counts as taking so long."""

STEPS: Final = 12
"""Parts of a window over which the attention of seats is compared."""
CONFUSED: Final = 500_000
"""P(confusion) above which a line counts as a sign of it, millionths."""
MIX: Final = (
    "moments", "sure", "feeling", "clashes", "clash", "no_picture", "no_sound", "no_text",
    "looked", "task", "ended", "resolved",
)  # fmt: skip
_SUMS: Final = ("sure", "feeling", "clash", "task")
"""Of `mix`: what is in millionths already."""
COLUMNS: Final = (
    "acts", "lost", "fast", "slow", "hand", "answers", "option_a", "option_b", "option_c", "option_d",
    "judged", "right", "pace", "chats", "valence", "confusion", "gone",
    "frames", "seen", "looks", "expression", "sounds", "tone",
    "confused", "away", "eyes", "shut", *MIX,
    *(f"frames_{k}" for k in range(STEPS)), *(f"seen_{k}" for k in range(STEPS)),
)  # fmt: skip
"""Counts, and sums of `pace` (share of the slowest time that was left), `valence` and `confusion`; all millionths. The
last ones are `frames` and `seen` again, by the twelfth of the window they fall into."""
AT: Final = {name: k for k, name in enumerate(COLUMNS)}

BUTTONS: Final = ("lost", "fast", "slow", "hand")
_ANSWER = re.compile(r"answer ([0-3]) ([01-]) (\d{1,9})")
_FACE = re.compile(r"face (\d{1,4}) (\d{1,4}) (-?\d{1,7})(?: (\d{1,4}) (\d{1,4}) (\d{1,4}))?")
_MIX = re.compile("mix" + r" (-?\d{1,9})" * len(MIX))
_VOICE = re.compile(r"voice (-?\d{1,7})")
_CHAT = re.compile(r"chat (-?\d{1,7}) (\d{1,7})")


def answer(option: int, right: bool | None, taken_ms: int) -> str:
    """The word for an answer."""
    return f"answer {option} {'-' if right is None else int(right)} {max(0, taken_ms)}"


def chat(valence: int, confusion: int) -> str:
    """The word for a chat line scored so, millionths."""
    return f"chat {valence} {confusion}"


def face(frames: int, seen: int, valence: int, away: int = 0, eyes: int = 0, shut: int = 0) -> str:
    """The word for what a camera saw in a while."""
    return f"face {frames} {seen} {valence} {away} {eyes} {shut}"


def voice(valence: int) -> str:
    """The word for what a microphone heard in a while."""
    return f"voice {valence}"


def mix(sums: tuple[int, ...], looked: int, task: int, ended: bool, resolved: bool) -> str:
    """The word for what all modalities said together. `sums`: moments to no_text, in the order of `MIX`."""
    return " ".join(map(str, ("mix", *sums, looked, task, int(ended), int(resolved))))


def columns(texts: list[str], steps: Sequence[int] | None = None) -> I64:
    """What each event adds, int64 [n, columns]; a word that is none of ours adds nothing but presence.

    `steps`: the twelfth of its window each event falls into, 0..11; None = the first.
    """
    out = np.zeros((len(texts), len(COLUMNS)), np.int64)
    for row, text in enumerate(texts):
        if text == "here":
            continue
        if text in BUTTONS:
            out[row, [AT["acts"], AT[text]]] = MICRO
            out[row, AT["confused"]] = MICRO if text == "lost" else 0
        elif text == "gone":
            out[row, AT["gone"]] = MICRO
        elif (found := _ANSWER.fullmatch(text)) is not None:
            _put_answer(out[row], int(found[1]), found[2], int(found[3]))
        elif (found := _CHAT.fullmatch(text)) is not None:
            out[row, [AT["acts"], AT["chats"]]] = MICRO
            out[row, AT["valence"]] = _bounded(int(found[1]))
            out[row, AT["confusion"]] = min(MICRO, int(found[2]))
            out[row, AT["confused"]] = MICRO if int(found[2]) > CONFUSED else 0
        elif (found := _FACE.fullmatch(text)) is not None:
            _put_face(out[row], [int(n or 0) for n in found.groups()], 0 if steps is None else steps[row])
        elif (found := _MIX.fullmatch(text)) is not None:
            _put_mix(out[row], [int(n) for n in found.groups()])
        elif (found := _VOICE.fullmatch(text)) is not None:
            out[row, AT["sounds"]] = MICRO
            out[row, AT["tone"]] = _bounded(int(found[1]))
    return out


def _put_face(row: I64, said: list[int], step: int) -> None:
    frames, seen, valence, away, eyes, shut = said
    seen, eyes = min(seen, frames), min(eyes, frames)
    row[AT["frames"]] = row[AT["frames_0"] + step] = frames * MICRO
    row[AT["seen"]] = row[AT["seen_0"] + step] = seen * MICRO
    row[[AT["away"], AT["eyes"], AT["shut"]]] = min(away, frames - seen) * MICRO, eyes * MICRO, min(shut, eyes) * MICRO
    if seen:
        row[AT["looks"]] = MICRO
        row[AT["expression"]] = _bounded(valence)


def _put_mix(row: I64, said: list[int]) -> None:
    """Nothing a word says is more than its moments allow."""
    of = dict(zip(MIX, said, strict=True))
    moments, looked = max(0, of["moments"]), max(0, of["looked"])
    most = dict.fromkeys(MIX, moments) | {"looked": looked, "task": looked, "ended": 1, "resolved": of["ended"]}
    most["clash"] = min(moments, max(0, of["clashes"]))
    for name, value in of.items():
        unit = 1 if name in _SUMS else MICRO
        low = -most[name] * MICRO if name == "feeling" else 0
        row[AT[name]] = max(low, min(most[name] * MICRO, value * unit))


def _bounded(valence: int) -> int:
    return max(-MICRO, min(MICRO, valence))


def _put_answer(row: I64, option: int, right: str, taken_ms: int) -> None:
    row[[AT["acts"], AT["answers"], AT["option_a"] + option]] = MICRO
    row[AT["pace"]] = MICRO - MICRO * min(taken_ms, SLOWEST_MS) // SLOWEST_MS
    if right != "-":
        row[AT["judged"]] = MICRO
        row[AT["right"]] = MICRO * int(right)
