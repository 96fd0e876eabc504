"""Where edge boxes come in: cameras and microphones over ZeroMQ, from known keys, on the path of the capture page.

A message of a box is one frame: JSON (`Ask`) or a piece (`stream/capture.py`); answers are JSON (`Told`). Nothing is
taken before a seat was asked for; what is taken is scored where it arrives and thrown away (`stream/capture_desk.py`).
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from engines.errors import EngineError
from engines.serve_front import Doors, Front, Heard
from operators.classroom import FLOOR
from operators.errors import Rejected
from stream.capture import LARGEST, Ask, Told, piece_of
from stream.capture_desk import CaptureDesk, Seats, Watch, glance
from stream.errors import UsageError
from stream.lesson import Refused

log_ = logging.getLogger("affect.capture")

MOST_BOXES: Final = 256
MOST_OF_A_KEY: Final = FLOOR - 1
"""Seats of one key: fewer than the k-seat rule ever tells of, so that nobody fills a room alone."""
JOIN_EVERY_MS: Final = 1_000
"""A key gets a new seat so often: each is an entry of the audit log."""
SILENT_MS: Final = 10_000
"""A box that sends nothing for so long is let go; its seat counts for as long as that of a page that has left."""
MOST_REFUSED: Final = 20
"""Messages of a box that are none before it is let go."""
ANSWERS: Final = 4_096
HEAR_S: Final = 0.2
LOOK_S: Final = 0.05


class Name(NamedTuple):
    """Who a seat belongs to: the key its box came in with, and what the box calls it. Kept in memory alone."""

    user: str
    room: str
    seat: str


@dataclass(slots=True)
class Box:
    """A box that has its seat. `key`: to the seat, held here for it."""

    who: bytes
    name: Name
    key: str
    watch: Watch
    heard_ms: int
    refused: int = 0
    task: asyncio.Task[None] | None = None


class EdgeDoor:
    """Listens at `bind` for boxes whose keys are in `keys` (as `affect engine keys` makes them).

    `counts`: garbage (messages that were none), unseated (pieces of boxes without a seat), and those of `Front`, such
    as strangers (connections without a known key).

    Raises:
        UsageError: it cannot listen there, or there are no keys.
    """

    def __init__(self, seats: Seats, desk: CaptureDesk, bind: str, keys: Path) -> None:
        try:
            self._front = Front(Doors(bind, keys=keys, max_connections=MOST_BOXES, largest=LARGEST))
        except EngineError as error:
            raise UsageError(f"capture.bind, capture.keys: {error}") from error
        self._seats = seats
        self._desk = desk
        self.counts: Counter[str] = self._front.counts
        self.address = self._front.address
        # The sockets belong to this one thread from here on.
        self._pool = ThreadPoolExecutor(1, "capture-door")
        self._boxes: dict[bytes, Box] = {}
        self._keys: dict[Name, str] = {}
        self._joined: dict[str, int] = {}
        self._answers: deque[tuple[bytes, bytes]] = deque(maxlen=ANSWERS)
        self._task: asyncio.Task[None] | None = None
        self._stopping = False

    async def start(self) -> None:
        """Begin to take what comes."""
        self._task = asyncio.create_task(self._serve(), name="capture-door")

    async def stop(self) -> None:
        """Let every box go and stop listening. Idempotent."""
        if self._stopping:
            return
        self._stopping = True
        self._front.wake()
        try:
            if self._task is not None:
                await self._task
        finally:
            for box in list(self._boxes.values()):
                self._let_go(box)
            await asyncio.get_running_loop().run_in_executor(self._pool, self._front.close)
            self._pool.shutdown()
            if self.counts["strangers"] or self.counts["garbage"]:
                log_.warning(
                    "capture door: %d strangers, %d messages that were none",
                    self.counts["strangers"],
                    self.counts["garbage"],
                )

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while not self._stopping:
                answers = [self._answers.popleft() for _ in range(len(self._answers))]
                for heard in await loop.run_in_executor(self._pool, self._turn, answers):
                    self._take(heard)
                self._let_silent_go()
        except Exception:  # the lesson goes on without edge boxes
            log_.exception("the capture door is closed: it failed")

    def _turn(self, answers: Sequence[tuple[bytes, bytes]]) -> list[Heard]:
        for who, answer in answers:
            self._front.send(who, [answer])
        return self._front.hear(HEAR_S)

    def _tell(self, who: bytes, told: Told) -> None:
        self._answers.append((who, msgspec.json.encode(told)))
        self._front.wake()

    def _take(self, heard: Heard) -> None:
        """Take in one message."""
        now, message = self._seats.clock.now_ms(), bytes(heard.frames[0])
        box = self._boxes.get(heard.who)
        if len(heard.frames) != 1:
            self._garbage(heard.who, box)
        elif message[:1] == b"{":
            self._asked(heard, box, message, now)
        elif box is None:
            self.counts["unseated"] += 1
            self._tell(heard.who, Told("join"))
        elif box.key not in self._seats.lesson.room(box.name.room).seats:
            self._let_go(box, Told("withdrawn"))
        else:
            self._piece(box, message, now)

    def _piece(self, box: Box, message: bytes, now_ms: int) -> None:
        box.heard_ms = now_ms
        try:
            self._desk.take(box.watch, piece_of(message), now_ms)
        except Rejected:
            self._garbage(box.who, box)

    def _garbage(self, who: bytes, box: Box | None) -> None:
        self.counts["garbage"] += 1
        if box is not None:
            box.refused += 1
            if box.refused >= MOST_REFUSED:
                self._let_go(box, Told("refused", "too much that is neither a picture nor a sound"))

    def _asked(self, heard: Heard, box: Box | None, message: bytes, now_ms: int) -> None:
        try:
            ask = msgspec.json.decode(message, type=Ask)
        except msgspec.MsgspecError:
            self._garbage(heard.who, box)
            return
        name = Name(heard.user, ask.room, ask.seat)
        try:
            if ask.do == "withdraw":
                self._withdraw(name, now_ms)
                self._tell(heard.who, Told("withdrawn"))
            else:
                self._join(heard.who, name, now_ms)
        except Refused as why:
            self._tell(heard.who, Told("refused", str(why)))

    def _join(self, who: bytes, name: Name, now_ms: int) -> None:
        """Give a box its seat: the one it had, where its consent still holds. The key stands for the room's code.

        Raises:
            Refused: no such room, it is full, or the key has its seats.
        """
        lesson = self._seats.lesson
        room = lesson.room(name.room)
        if not self._seats.ready:
            self._tell(who, Told("wait", "the engine is starting"))
            return
        self._keys = {n: key for n, key in self._keys.items() if key in lesson.room(n.room).seats}
        known = self._keys.get(name, "")
        if not known:
            if sum(held.user == name.user for held in self._keys) >= MOST_OF_A_KEY:
                raise Refused(f"this box has {MOST_OF_A_KEY} seats already; a key has no more")
            if now_ms - self._joined.get(name.user, now_ms - JOIN_EVERY_MS) < JOIN_EVERY_MS:
                self._tell(who, Told("wait", "one new seat a second"))
                return
            self._joined[name.user] = now_ms
        for old in [box for box in self._boxes.values() if box.name == name or box.who == who]:
            self._let_go(old, None if old.who == who else Told("refused", "another box took this seat over"))
        key, seat, events = lesson.join(room.name, room.code, known, now_ms)
        self._keys[name] = key
        self._seats.send(events)
        seat.sockets += 1
        box = Box(who, name, key, self._desk.watch(seat, now_ms), now_ms)
        self._boxes[who] = box
        box.task = asyncio.create_task(self._look(box))
        self._tell(who, Told("seat", modalities=self._desk.modalities, kept=self._desk.kept))

    def _withdraw(self, name: Name, now_ms: int) -> None:
        """Take a seat's part back, whichever of the key's boxes asks. Raises Refused: too much waits for the log."""
        lesson, key = self._seats.lesson, self._keys.pop(name, "")
        seat = lesson.room(name.room).seats.get(key)
        for box in [box for box in self._boxes.values() if box.name == name]:
            self._let_go(box, Told("withdrawn"))
        if seat is not None:
            self._seats.send(lesson.withdraw(key, seat, now_ms))

    async def _look(self, box: Box) -> None:
        """Listen and look, again and again, and tell the box what became of its pieces."""
        while True:
            counts = await glance(self._desk, self._seats, box.watch)
            if counts is not None:
                self._tell(box.who, Told("counts", counts=counts))
            await asyncio.sleep(LOOK_S)

    def _let_silent_go(self) -> None:
        now = self._seats.clock.now_ms()
        for box in list(self._boxes.values()):
            task = box.task
            if task is not None and task.done():  # it never ends by itself: what looks or listens has failed
                error = None if task.cancelled() else task.exception()
                log_.error("a camera of room %s was let go: %s", box.name.room, error)
                self._let_go(box, Told("refused", "the engine failed at what was sent"))
            elif now - box.heard_ms > SILENT_MS:
                self._let_go(box)

    def _let_go(self, box: Box, told: Told | None = None) -> None:
        if self._boxes.get(box.who) is box:
            del self._boxes[box.who]
            box.watch.seat.sockets -= 1
            box.watch.waiting = None
            box.watch.unheard.clear()
            if box.task is not None:
                box.task.cancel()
            if told is not None:
                self._tell(box.who, told)
