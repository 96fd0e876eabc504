"""A made-up lesson with a known truth: what the seats of a room press, answer and say, minute by minute.

Everything follows from the seed. A hard part a third of the way in loses many seats; a poll and a quiz are asked; one
seat comes late, one withdraws its consent. Events arrive a little out of order.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final, NamedTuple

from operators.participation import answer, chat
from operators.records import MICRO
from stream.scenario import MINUTE_MS, Scenario, TruthRow

NAME: Final = "classroom"
SEATS: Final = 24
POLL_AT, QUIZ_AT, LATE_AT, GONE_AT = 0.25, 0.7, 0.1, 0.8
"""When the poll and the quiz are asked, one seat more comes, one seat goes: parts of the lesson."""


class Mood(NamedTuple):
    """Chances of a seat in one minute: pressing lost, too fast, too slow; raising a hand; saying something."""

    lost: float
    fast: float
    slow: float
    hand: float
    chat: float


def mood(u: float) -> Mood:
    """What was planted at `u` in [0, 1] of the lesson."""
    if 0.35 <= u < 0.55:
        return Mood(lost=0.6, fast=0.5, slow=0.0, hand=0.25, chat=0.3)
    if u >= 0.85:
        return Mood(lost=0.05, fast=0.0, slow=0.3, hand=0.05, chat=0.05)
    return Mood(lost=0.08, fast=0.05, slow=0.05, hand=0.15, chat=0.15)


def lesson(seed: int, minutes: int, start_ms: int, room: str = "1", seats: int = SEATS) -> Scenario:
    """One lesson. The same arguments give the same events; `truth` has the planted chances of every minute."""
    dice = random.Random(f"{NAME}/{seed}")
    start_ms = start_ms // MINUTE_MS * MINUTE_MS
    names = [f"{dice.getrandbits(64):016x}" for _ in range(seats)]
    events: list[tuple[int, int, dict[str, object]]] = []
    truth: list[TruthRow] = []
    for minute in range(minutes):
        u, begin = (minute + 0.5) / minutes, start_ms + minute * MINUTE_MS
        there = [name for k, name in enumerate(names) if not (k == 0 and u < LATE_AT) and not (k == 1 and u > GONE_AT)]
        said = [(at, name, word) for name in there for at, word in _seat(dice, begin, u, minutes)]
        if u - 1 / minutes <= GONE_AT < u:
            said.append((begin, names[1], "gone"))
        for at, name, word in said:
            event: dict[str, object] = {
                "id": f"{NAME}-{seed}-{dice.getrandbits(48):012x}",
                "text": word,
                "created_at": at,
                "author": name,
                "event": room,
            }
            events.append((at + dice.randrange(2_000), len(events), event))
        planted = {**mood(u)._asdict(), "pace": mood(u).fast - mood(u).slow, "right": 0.75}
        for channel, chance in planted.items():
            count = sum(word == channel for _, _, word in said)
            truth.append(TruthRow(f"room:{room}", begin, channel, chance, count, len(there)))
    return Scenario(NAME, "classroom", [event for _, _, event in sorted(events, key=lambda e: e[:2])], truth)


def _seat(dice: random.Random, begin: int, u: float, minutes: int) -> Iterator[tuple[int, str]]:
    """What one seat does in a minute: always `here`, the rest by chance."""
    chances = mood(u)
    yield begin + 1_000 + dice.randrange(4_000), "here"
    yield begin + 31_000 + dice.randrange(4_000), "here"
    for word in ("lost", "fast", "slow", "hand"):
        if dice.random() < getattr(chances, word):
            yield begin + dice.randrange(MINUTE_MS), word
    if dice.random() < chances.chat:
        hard = 0.35 <= u < 0.55
        valence = dice.gauss(-0.3 if hard else 0.2, 0.2)
        confusion = max(0.0, dice.gauss(0.5 if hard else 0.05, 0.1))
        yield (
            begin + dice.randrange(MINUTE_MS),
            chat(round(max(-1.0, min(1.0, valence)) * MICRO), round(min(1.0, confusion) * MICRO)),
        )
    for at, right in ((POLL_AT, None), (QUIZ_AT, dice.random() < 0.75)):
        if u - 1 / minutes <= at < u and dice.random() < 0.9:
            taken = 3_000 + dice.randrange(25_000)
            option = 1 if right else dice.randrange(4)
            yield begin + 10_000 + taken, answer(option, right, taken)


def lessons(seed: int, start_ms: int, minutes: int = 40) -> Iterator[dict[str, object]]:
    """Events in order of arrival, one lesson after another, for ever."""
    while True:
        yield from lesson(seed, minutes, start_ms).posts
        seed, start_ms = seed + 1, start_ms + minutes * MINUTE_MS
