"""The pages of a lesson: one for students (consent first, then buttons), one for the teacher (the room, never a seat).

    /join        student page            /join/ws    its WebSocket: opened only once consent was given
    /teach       teacher page            /teach/ws   its WebSocket: room code, seats in bands, question, marks

The student page needs no token: it has the room's code. What a room shows it shows through `/api`, veiled.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from functools import partial
from typing import Final, Protocol

import msgspec
from aiohttp import WSCloseCode, WSMsgType, web

from operators.base import Clock
from operators.veil import BAND
from stream.assets import load_assets
from stream.lesson import LONGEST_CHAT, Event, Lesson, Mark, Refused, Room, Seat
from stream.web_ask import Handler, Route, asset_answer, error_answer

PARTS: Final = ("join.js", "lesson.css", "style.css", "theme.js", "dom.js", "icon.svg")
"""What the student page is made of: served without a token."""
LARGEST: Final = 2_048
"""Bytes of a message."""
MOST_PAGES: Final = 1_024
"""Student pages at once."""
PATIENCE_S: Final = 10.0
"""A page that does not join within this is let go."""
WRONG_CODE_S: Final = 0.5
LOOK_S: Final = 0.5


class Desk(Protocol):
    """What carries the lesson."""

    lesson: Lesson
    clock: Clock

    @property
    def ready(self) -> bool: ...

    @property
    def k(self) -> int: ...

    @property
    def watched(self) -> bool: ...

    @property
    def kept(self) -> str: ...

    def send(self, events: Sequence[Event]) -> None: ...

    async def say(self, seat: Seat, text: str) -> list[Event]: ...

    async def keep_marks(self, room: str, marks: Sequence[Mark]) -> None: ...

    def note(self, act: str, room: str) -> None: ...


class _Asked(msgspec.Struct):
    """A message of either page; fields that are not of its kind are left out."""

    do: str
    room: str = ""
    code: str = ""
    key: str = ""
    text: str = ""
    number: int = 0
    option: int = 0
    options: list[str] = []
    right: int | None = None


class LessonRoutes:
    """Routes over a desk."""

    def __init__(self, desk: Desk, heartbeat_s: float = 10.0) -> None:
        self._desk = desk
        self._heartbeat_s = heartbeat_s
        self._assets = load_assets()
        self._open: set[web.WebSocketResponse] = set()

    def routes(self) -> list[Route]:
        """The routes, each with its description."""
        return [
            Route("/join", self._page("join.html"), "The student page.", media=("text/html",), open=True),
            Route("/join/ws", self._student, "What a seat does.", media=("application/json",), open=True),
            Route("/teach", self._page("teach.html"), "The teacher page.", media=("text/html",)),
            Route("/teach/ws", self._teacher, "The room as its teacher runs it.", media=("application/json",)),
            *(
                Route(
                    f"/join/{name}", self._page(name), "A file of the student page.", media=("text/plain",), open=True
                )
                for name in PARTS
            ),
        ]

    async def close(self) -> None:
        """Say goodbye to every page."""
        for ws in list(self._open):
            await ws.close(code=WSCloseCode.GOING_AWAY)

    def _page(self, name: str) -> Handler:
        return partial(asset_answer, self._assets[name])

    async def _prepared(self, request: web.Request) -> web.WebSocketResponse | None:
        ws = web.WebSocketResponse(heartbeat=self._heartbeat_s, max_msg_size=LARGEST, compress=False, timeout=2.0)
        if not ws.can_prepare(request).ok:
            return None
        await ws.prepare(request)
        self._open.add(ws)
        return ws

    async def _student(self, request: web.Request) -> web.StreamResponse:
        if len(self._open) >= MOST_PAGES:
            return error_answer(503, f"{MOST_PAGES} pages are open; try again later")
        ws = await self._prepared(request)
        if ws is None:
            return error_answer(426, "/join/ws: expected a WebSocket handshake", {"Upgrade": "websocket"})
        try:
            await self._seated(ws)
        except (ConnectionError, TimeoutError):
            pass  # the page left, or never said who it is
        finally:
            self._open.discard(ws)
            await ws.close()
        return ws

    async def _seated(self, ws: web.WebSocketResponse) -> None:
        """Join, then act until the page leaves or withdraws."""
        async with asyncio.timeout(PATIENCE_S):
            first = await _receive(ws)
        if first is None or first.do != "join":
            return
        lesson, clock = self._desk.lesson, self._desk.clock
        try:
            if not self._desk.ready:
                raise Refused("the engine is starting; try again in a moment")
            key, seat, events = lesson.join(first.room, first.code, first.key, clock.now_ms())
            self._desk.send(events)
        except Refused as why:
            await asyncio.sleep(WRONG_CODE_S)  # guessing codes is slow
            await ws.send_bytes(msgspec.json.encode({"type": "refused", "why": str(why)}))
            return
        seat.sockets += 1
        telling = asyncio.create_task(self._tell(ws, lesson.room(seat.room), {"type": "seat", "key": key}))
        try:
            while (asked := await _receive(ws)) is not None:
                if asked.do == "withdraw":
                    self._desk.send(lesson.withdraw(key, seat, clock.now_ms()))
                    await ws.send_bytes(msgspec.json.encode({"type": "withdrawn"}))
                    return
                if key not in lesson.room(seat.room).seats:
                    return  # withdrawn on another page of this seat
                await self._acted(ws, seat, asked)
        finally:
            seat.sockets -= 1
            telling.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                await telling

    async def _acted(self, ws: web.WebSocketResponse, seat: Seat, asked: _Asked) -> None:
        lesson, now = self._desk.lesson, self._desk.clock.now_ms()
        try:
            lesson.act(seat, now)
            if asked.do == "answer":
                events = lesson.reply(seat, asked.number, asked.option, now)
            elif asked.do == "chat":
                text = asked.text.strip()
                if not 0 < len(text) <= LONGEST_CHAT:
                    raise Refused(f"a message has 1 to {LONGEST_CHAT} characters")
                events = await self._desk.say(seat, text)
            else:
                events = lesson.press(seat, asked.do, now)
            self._desk.send(events)
            answer = {"type": "took", "do": asked.do}
        except Refused as why:
            answer = {"type": "not", "do": asked.do, "why": str(why)}
        await ws.send_bytes(msgspec.json.encode(answer))

    async def _tell(self, ws: web.WebSocketResponse, room: Room, first: dict[str, object]) -> None:
        """Tell a student page of its seat, and of questions as they open and close."""
        await ws.send_bytes(msgspec.json.encode(first))
        shown = -1
        while True:
            number = 0 if room.question is None else room.question.number
            if number != shown:
                shown = number
                await ws.send_bytes(msgspec.json.encode({"type": "question", "question": _shown(room)}))
            await asyncio.sleep(LOOK_S)

    async def _teacher(self, request: web.Request) -> web.StreamResponse:
        ws = await self._prepared(request)
        if ws is None:
            return error_answer(426, "/teach/ws: expected a WebSocket handshake", {"Upgrade": "websocket"})
        lesson = self._desk.lesson
        name = request.query.get("room") or next(iter(lesson.rooms))
        telling: asyncio.Task[None] | None = None
        try:
            telling = asyncio.create_task(self._show(ws, lesson.room(name)))
            while (asked := await _receive(ws)) is not None:
                await self._taught(ws, name, asked)
        except Refused as why:
            await ws.send_bytes(msgspec.json.encode({"type": "refused", "why": str(why)}))
        except ConnectionError:
            pass  # the page left
        finally:
            if telling is not None:
                telling.cancel()
                with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                    await telling
            self._open.discard(ws)
            await ws.close()
        return ws

    async def _taught(self, ws: web.WebSocketResponse, name: str, asked: _Asked) -> None:
        lesson, now = self._desk.lesson, self._desk.clock.now_ms()
        try:
            if asked.do == "ask":
                lesson.ask(name, asked.text, asked.options, asked.right, now)
            elif asked.do == "close":
                lesson.close(name)
            elif asked.do == "mark":
                await self._desk.keep_marks(name, lesson.mark(name, asked.text, now))
            elif asked.do == "renew":
                lesson.renew(name)
            else:
                raise Refused("no such act")
            self._desk.note(asked.do, name)
        except Refused as why:
            await ws.send_bytes(msgspec.json.encode({"type": "not", "do": asked.do, "why": str(why)}))

    async def _show(self, ws: web.WebSocketResponse, room: Room) -> None:
        """Show the room to its teacher whenever something of it changes that may be shown."""
        before: bytes = b""
        while True:
            now = msgspec.json.encode(self._room(room))
            if now != before:
                before = now
                await ws.send_bytes(now)
            await asyncio.sleep(LOOK_S)

    def _room(self, room: Room) -> dict[str, object]:
        asked = room.question
        return {
            "type": "room",
            "room": room.name,
            "rooms": list(self._desk.lesson.rooms),
            "code": room.code,
            "ready": self._desk.ready,
            "k": self._desk.k,
            "watched": self._desk.watched,
            "kept": self._desk.kept,
            "seats": len(room.seats) // BAND * BAND,
            "question": _shown(room),
            "right": None if asked is None else asked.right,
            "answers": 0 if asked is None else len(asked.answered) // BAND * BAND,
            "marks": [{"time_ms": mark.time_ms, "text": mark.text} for mark in room.marks],
        }


def _shown(room: Room) -> dict[str, object] | None:
    """The open question as students see it."""
    asked = room.question
    return None if asked is None else {"number": asked.number, "text": asked.text, "options": list(asked.options)}


async def _receive(ws: web.WebSocketResponse) -> _Asked | None:
    """The next message; None where the page has left or sends what is none."""
    message = await ws.receive()
    if message.type is not WSMsgType.TEXT:
        return None
    try:
        return msgspec.json.decode(message.data, type=_Asked)
    except msgspec.MsgspecError:
        await ws.close(code=WSCloseCode.UNSUPPORTED_DATA, message=b"expected one JSON object")
        return None
