"""The capture page: consent first, then a camera or a microphone, scored where it arrives.

    /capture        the page            /capture/ws     its WebSocket: opened once consent and the device were given

There only where the policy gate let faces or voices in. The first message joins the room as on `/join`; those that
follow are pieces (`stream/capture.py`), or `{"do": "withdraw"}`.
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import Final

import msgspec
from aiohttp import WSCloseCode, WSMsgType, web

from operators.errors import Rejected
from stream.assets import Asset, load_assets, made_asset
from stream.capture import LARGEST, piece_of
from stream.capture_desk import CaptureDesk, Seats, Watch, glance
from stream.lesson import Refused, Seat
from stream.web_ask import Handler, Route, asset_answer, error_answer

PARTS: Final = ("capture.js", "capture-sound.js")
PATIENCE_S: Final = 10.0
WRONG_CODE_S: Final = 0.5
LOOK_S: Final = 0.05
MOST_PAGES: Final = 256
MOST_REFUSED: Final = 20
"""Pieces of a page that are no pieces before it is let go."""


class _First(msgspec.Struct):
    do: str
    room: str = ""
    code: str = ""
    key: str = ""


class CaptureRoutes:
    """Routes over a lesson and what looks and listens."""

    def __init__(self, seats: Seats, desk: CaptureDesk, heartbeat_s: float = 10.0) -> None:
        self._seats = seats
        self._desk = desk
        self._heartbeat_s = heartbeat_s
        self._assets = load_assets()
        self._assets["capture.html"] = consent_page(self._assets["capture.html"], desk.kept)
        self._open: set[web.WebSocketResponse] = set()

    def routes(self) -> list[Route]:
        """The routes, each with its description."""
        return [
            Route("/capture", self._page("capture.html"), "The capture page.", media=("text/html",), open=True),
            Route("/capture/ws", self._socket, "Pictures and sound of a seat.", media=("application/json",), open=True),
            *(
                Route(f"/capture/{name}", self._page(name), "A file of it.", media=("text/plain",), open=True)
                for name in PARTS
            ),
        ]

    async def close(self) -> None:
        """Say goodbye to every page."""
        for ws in list(self._open):
            await ws.close(code=WSCloseCode.GOING_AWAY)

    def _page(self, name: str) -> Handler:
        return partial(asset_answer, self._assets[name])

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        if len(self._open) >= MOST_PAGES:
            return error_answer(503, f"{MOST_PAGES} cameras are open; try again later")
        ws = web.WebSocketResponse(heartbeat=self._heartbeat_s, max_msg_size=LARGEST, compress=False, timeout=2.0)
        if not ws.can_prepare(request).ok:
            return error_answer(426, "/capture/ws: expected a WebSocket handshake", {"Upgrade": "websocket"})
        await ws.prepare(request)
        self._open.add(ws)
        try:
            await self._seated(ws)
        except (ConnectionError, TimeoutError):
            pass  # the page left, or never said who it is
        finally:
            self._open.discard(ws)
            await ws.close()
        return ws

    async def _seated(self, ws: web.WebSocketResponse) -> None:
        async with asyncio.timeout(PATIENCE_S):
            first = await ws.receive()
        asked = _asked(first.data) if first.type is WSMsgType.TEXT else None
        if asked is None or asked.do != "join":
            return
        lesson, clock = self._seats.lesson, self._seats.clock
        try:
            if not self._seats.ready:
                raise Refused("the engine is starting; try again in a moment")
            key, seat, events = lesson.join(asked.room, asked.code, asked.key, clock.now_ms())
            self._seats.send(events)
        except Refused as why:
            await asyncio.sleep(WRONG_CODE_S)
            await ws.send_bytes(msgspec.json.encode({"type": "refused", "why": str(why)}))
            return
        told = {"type": "seat", "key": key, "modalities": self._desk.modalities, "kept": self._desk.kept}
        await ws.send_bytes(msgspec.json.encode(told))
        seat.sockets += 1
        watch = self._desk.watch(seat, clock.now_ms())
        looking = asyncio.create_task(self._look(ws, watch))
        try:
            await self._take(ws, watch, key, seat)
        finally:
            seat.sockets -= 1
            looking.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                await looking

    async def _take(self, ws: web.WebSocketResponse, watch: Watch, key: str, seat: Seat) -> None:
        """Take pieces until the page leaves, withdraws, or sends too much that is none."""
        lesson, clock, refused = self._seats.lesson, self._seats.clock, 0
        while refused < MOST_REFUSED and key in lesson.room(seat.room).seats:
            message = await ws.receive()
            if message.type is WSMsgType.TEXT:
                asked = _asked(message.data)
                if asked is None or asked.do != "withdraw":
                    return
                self._seats.send(lesson.withdraw(key, seat, clock.now_ms()))
                await ws.send_bytes(msgspec.json.encode({"type": "withdrawn"}))
                return
            if message.type is not WSMsgType.BINARY:
                return
            try:
                self._desk.take(watch, piece_of(message.data), clock.now_ms())
            except Rejected:
                refused += 1

    async def _look(self, ws: web.WebSocketResponse, watch: Watch) -> None:
        """Listen and look again and again, and say what became of it."""
        while True:
            counts = await glance(self._desk, self._seats, watch)
            if counts is not None:
                await ws.send_bytes(msgspec.json.encode({"type": "counts", **counts}))
            await asyncio.sleep(LOOK_S)


def consent_page(page: Asset, kept: str) -> Asset:
    """The capture page as it is true here: with what it says where frames are thrown away, or kept for `kept`."""
    other = b'class="private"' if kept else b'class="kept"'
    lines = [line for line in page.body.splitlines(keepends=True) if other not in line]
    body = b"".join(lines).replace(b"{retention}", kept.encode())
    return made_asset(body, page.content_type)


def _asked(text: str) -> _First | None:
    try:
        return msgspec.json.decode(text, type=_First)
    except msgspec.MsgspecError:
        return None
