"""A lesson in memory: rooms, consenting seats, the open question. Plain rules; nothing here waits, reads or writes.

What leaves is a list of events (`operators/participation.py`) under a seat's random name, made when it joined. The link
from a browser to that name is the seat's key, it is held here alone, and withdrawing consent drops it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec

from operators.participation import BUTTONS, OPTIONS, answer
from operators.seat_readings import SeatReadings

CODE_LETTERS: Final = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
CODE_LENGTH: Final = 6
MOST_SEATS: Final = 200
"""Seats of a room, away ones included."""
HERE_EVERY_MS: Final = 20_000
"""A consenting seat says so often that it is there; a window of a minute has three of these."""
AWAY_MS: Final = 120_000
"""A seat without a connection counts for so long: a phone that sleeps does not change who is counted."""
BURST, PER_S = 6.0, 2.0
"""Acts of a seat at once, and per second in the long run."""
LONGEST_CHAT: Final = 280
LONGEST_TEXT: Final = 160
"""Of a question, an option, a marker."""
MOST_MARKS: Final = 200


class Event(NamedTuple):
    """One event of a seat: what goes on the input topic."""

    room: str
    seat: str
    word: str
    time_ms: int

    def message(self, number: str) -> tuple[bytes, bytes]:
        """Key and value of the post it is, under an id of its own. One partition a room: its events stay in order."""
        body = {"id": number, "text": self.word, "created_at": self.time_ms, "author": self.seat, "event": self.room}
        return self.room.encode(), msgspec.json.encode(body)


class Refused(Exception):
    """What a page asked for cannot be done; the text says why, for people."""


@dataclass(slots=True)
class Seat:
    """A consenting seat. `name`: random, for this lesson alone. `seen_ms`: when it was last connected. `readings`: what
    its camera, microphone and chat say, fused; None = it has neither camera nor microphone."""

    name: str
    room: str
    seen_ms: int
    said_ms: int
    tokens: float = BURST
    filled_ms: int = 0
    sockets: int = 0
    readings: SeatReadings | None = None


@dataclass(slots=True)
class Question:
    """What the teacher asks. `right`: position of the right option, None = there is none."""

    number: int
    text: str
    options: tuple[str, ...]
    right: int | None
    opened_ms: int
    answered: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment of the lesson the teacher named."""

    time_ms: int
    text: str


@dataclass(slots=True)
class Room:
    """One room. `code`: what students type or follow; made anew with the process or when the teacher says so."""

    name: str
    code: str
    seats: dict[str, Seat] = field(default_factory=dict)
    question: Question | None = None
    asked: int = 0
    marks: list[Mark] = field(default_factory=list)
    changes: int = 0


class Lesson:
    """The rooms of a process.

    Args:
        rooms: their names. window_ms: of the run. settle_ms: a window is sealed at the latest so long after its end.
        changed: called with (room, given, withdrawn, seats) whenever consent is given or withdrawn.

    `withdrew`: called with the name of every seat whose part is taken back, before anything else is done.
    """

    def __init__(
        self,
        rooms: tuple[str, ...],
        window_ms: int,
        settle_ms: int,
        changed: Callable[[str, int, int, int], None] | None = None,
    ) -> None:
        self.rooms = {name: Room(name, _code()) for name in rooms}
        self._window_ms = window_ms
        self._settle_ms = settle_ms
        self._changed = changed
        self.withdrew: Callable[[str], None] | None = None

    def room(self, name: str) -> Room:
        """The room of that name. Raises Refused: there is none."""
        found = self.rooms.get(name)
        if found is None:
            raise Refused("no such room; ask your teacher for the link")
        return found

    def join(self, name: str, code: str, key: str, now_ms: int) -> tuple[str, Seat, list[Event]]:
        """Consent given: a seat and the key to it. A known `key` is the seat it was, after a broken connection.

        Raises:
            Refused: no such room, another code, or the room is full.
        """
        room = self.room(name)
        if not secrets.compare_digest(code.strip().upper().encode(), room.code.encode()):
            raise Refused("that code is not (or no longer) the room's; ask your teacher for it")
        known = room.seats.get(key)
        if known is not None:
            known.seen_ms = now_ms
            return key, known, []
        if len(room.seats) >= MOST_SEATS:
            raise Refused(f"the room is full ({MOST_SEATS} seats)")
        key, seat = secrets.token_urlsafe(24), Seat(secrets.token_hex(8), name, now_ms, now_ms, filled_ms=now_ms)
        room.seats[key] = seat
        self._told(room, given=1)
        return key, seat, [Event(name, seat.name, "here", now_ms)]

    def act(self, seat: Seat, now_ms: int) -> None:
        """Take one act off what the seat may do just now. Raises Refused: it does too much."""
        seat.tokens = min(BURST, seat.tokens + max(0, now_ms - seat.filled_ms) / 1000 * PER_S)
        seat.filled_ms = now_ms
        if seat.tokens < 1:
            raise Refused("slow down a little")
        seat.tokens -= 1

    def press(self, seat: Seat, word: str, now_ms: int) -> list[Event]:
        """A button. Raises Refused: there is none of that name."""
        if word not in BUTTONS:
            raise Refused("no such button")
        if word == "lost" and seat.readings is not None:
            seat.readings.lost(now_ms)
        return [Event(seat.room, seat.name, word, now_ms)]

    def reply(self, seat: Seat, number: int, option: int, now_ms: int) -> list[Event]:
        """The answer to the open question. Raises Refused: it is closed, another, or was answered by this seat."""
        asked = self.room(seat.room).question
        if asked is None or asked.number != number:
            raise Refused("the question is closed")
        if seat.name in asked.answered:
            raise Refused("you have answered already")
        if not 0 <= option < len(asked.options):
            raise Refused("no such option")
        asked.answered.add(seat.name)
        right = None if asked.right is None else option == asked.right
        return [Event(seat.room, seat.name, answer(option, right, now_ms - asked.opened_ms), now_ms)]

    def withdraw(self, key: str, seat: Seat, now_ms: int) -> list[Event]:
        """Consent withdrawn: the key is dropped, and every window that is not sealed yet leaves the seat out."""
        room = self.room(seat.room)
        if room.seats.pop(key, None) is None:
            return []
        if self.withdrew is not None:
            self.withdrew(seat.name)
        if room.question is not None:
            room.question.answered.discard(seat.name)
        self._told(room, withdrawn=1)
        return self._gone(seat, now_ms)

    def _gone(self, seat: Seat, now_ms: int) -> list[Event]:
        begun = now_ms // self._window_ms * self._window_ms
        before = [Event(seat.room, seat.name, "gone", begun - 1)] if now_ms - begun < self._settle_ms else []
        return [*before, Event(seat.room, seat.name, "gone", now_ms)]

    def tick(self, now_ms: int) -> list[Event]:
        """Say of every consenting seat that it is there, and what its camera, microphone and chat have shown; let go of
        those that have been away for long."""
        events = []
        for name, room in self.rooms.items():
            for key, seat in list(room.seats.items()):
                if seat.sockets:
                    seat.seen_ms = now_ms
                if now_ms - seat.seen_ms > AWAY_MS:
                    del room.seats[key]
                    self._told(room, withdrawn=1)
                    continue
                if seat.readings is not None:
                    events += [Event(name, seat.name, word, at_ms) for at_ms, word in seat.readings.words(now_ms)]
                if now_ms - seat.said_ms >= HERE_EVERY_MS:
                    seat.said_ms = now_ms
                    events.append(Event(room.name, seat.name, "here", now_ms))
        return events

    def ask(self, name: str, text: str, options: list[str], right: int | None, now_ms: int) -> Question:
        """Open a question; one that is open closes. Raises Refused: it is none."""
        room = self.room(name)
        chosen = tuple(_text(option) for option in options if option.strip())
        if not 2 <= len(chosen) <= OPTIONS:
            raise Refused(f"a question needs 2 to {OPTIONS} options")
        if right is not None and not 0 <= right < len(chosen):
            raise Refused("the right option is none of the options")
        room.asked += 1
        room.question = Question(room.asked, _text(text) or "Your choice?", chosen, right, now_ms)
        room.changes += 1
        return room.question

    def close(self, name: str) -> None:
        """Close the open question, if there is one."""
        room = self.room(name)
        room.question = None
        room.changes += 1

    def mark(self, name: str, text: str, now_ms: int) -> list[Mark]:
        """Name this moment of the lesson. Returns all marks of the room, oldest first. Raises Refused: no name."""
        room = self.room(name)
        named = _text(text)
        if not named:
            raise Refused("a marker needs a word")
        room.marks = [*room.marks, Mark(now_ms, named)][-MOST_MARKS:]
        room.changes += 1
        return room.marks

    def renew(self, name: str) -> str:
        """A new code: the old one lets nobody in any more."""
        room = self.room(name)
        room.code = _code()
        room.changes += 1
        return room.code

    def _told(self, room: Room, given: int = 0, withdrawn: int = 0) -> None:
        room.changes += 1
        if self._changed is not None:
            self._changed(room.name, given, withdrawn, len(room.seats))


def _code() -> str:
    return "".join(secrets.choice(CODE_LETTERS) for _ in range(CODE_LENGTH))


def _text(text: str) -> str:
    """Printable and short."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:LONGEST_TEXT]
