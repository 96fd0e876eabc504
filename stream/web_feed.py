"""The live feed, twice: server-sent events at /events and a WebSocket at /ws, the same events with the same ids.

A reader has a queue of its own, bounded: full, it gets `dropped` with the reason as its last event. One that takes no
byte for `send_timeout_s` is cut off. Neither is ever waited for by the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable

from aiohttp import WSCloseCode, WSMsgType, web

from stream.feed import Feed, FeedEvent, Subscription
from stream.metrics import Metrics
from stream.web_ask import DOMAIN, ENTITY, LAST_ID, WINDOW, Route, error_answer, text_of, whole_of

log_ = logging.getLogger("affect.feed")

SLOW = b"reader too slow; reconnect with last_id to go on"
DEAF = b"this feed takes no messages; filters go into the address"
CLOSE_S = 2.0
SEND_BUFFER = 131_072
"""Bytes the kernel holds for one reader (it doubles them). Left alone they become megabytes of stale rows."""
FILTERS = (ENTITY, WINDOW, DOMAIN, LAST_ID)

Send = Callable[[FeedEvent], Awaitable[None]]


class FeedRoutes:
    """Sends the events of `feed` to readers.

    Args:
        max_readers: readers at once, of both kinds; one more gets 503.
        heartbeat_s: an idle event stream carries a comment, a WebSocket a ping, this often; a ping without its pong
            within half of that ends the connection.
        send_timeout_s: a reader that takes nothing for so long is cut off.
    """

    def __init__(
        self, feed: Feed, metrics: Metrics, max_readers: int, heartbeat_s: float, send_timeout_s: float
    ) -> None:
        self._feed = feed
        self._metrics = metrics
        self._max_readers = max_readers
        self._heartbeat_s = heartbeat_s
        self._send_timeout_s = send_timeout_s
        self._open: set[Subscription] = set()

    def routes(self) -> list[Route]:
        """The routes, each with its description."""
        full = {503: "all places are taken; come again later"}
        about = "rows, posts, queue, alerts, status, reset, dropped; resumes after an id"
        return [
            Route(
                "/events", self._events, f"Server-sent events: {about}.", FILTERS,
                media=("text/event-stream",), errors=full,
            ),
            Route(
                "/ws", self._socket, f"WebSocket with the same events as JSON texts: {about}.", FILTERS,
                media=(), errors={**full, 426: "not a WebSocket handshake"},
            ),
        ]  # fmt: skip

    def close(self) -> None:
        """End every reader; what it has queued it still gets."""
        for reader in tuple(self._open):
            reader.close()

    def _subscribe(self, request: web.Request) -> Subscription | None:
        """A new reader, registered; None where there is no place for it."""
        window = whole_of(request, WINDOW)
        if len(self._open) >= self._max_readers:
            return None
        reader = self._feed.subscribe(
            _last_id(request), entity=text_of(request, ENTITY), window_ms=window, domain=text_of(request, DOMAIN)
        )
        self._open.add(reader)
        self._metrics.readers(len(self._open))
        line = None if request.transport is None else request.transport.get_extra_info("socket")
        if line is not None:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        return reader

    def _leave(self, reader: Subscription) -> None:
        reader.close()
        self._open.discard(reader)
        self._metrics.readers(len(self._open))

    def _full(self, request: web.Request) -> web.Response:
        return error_answer(503, f"{request.path}: all {self._max_readers} readers' places are taken; try again later")

    def _cut_off(self, request: web.Request, reason: str) -> None:
        """Count and note a reader that was dropped; a stalled one is broken off, as nothing else ends it."""
        self._metrics.dropped(reason)
        log_.info("reader %s dropped: %s", request.remote, reason)
        if reason == "stalled" and request.transport is not None:
            request.transport.abort()  # a graceful close would wait for the reader that does not read

    async def _events(self, request: web.Request) -> web.StreamResponse:
        reader = self._subscribe(request)
        if reader is None:
            return self._full(request)
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        )
        try:
            await response.prepare(request)
            await self._pump(reader, response, request)
        except TimeoutError:
            self._cut_off(request, "stalled")
        except ConnectionError:
            pass  # the reader left; there is nobody to tell
        finally:
            self._leave(reader)
        return response

    async def _pump(self, reader: Subscription, response: web.StreamResponse, request: web.Request) -> None:
        """Write events until the reader ends. TimeoutError where it takes nothing for `send_timeout_s`."""
        await self._write(response, b"retry: 1000\n\n")
        while True:
            try:
                async with asyncio.timeout(self._heartbeat_s):
                    event = await anext(reader)
            except TimeoutError:
                await self._write(response, b": still here\n\n")
                continue
            except StopAsyncIteration:
                return
            data = b"id: %d\nevent: %b\ndata: %b\n\n" % (event.id, event.kind.encode(), event.data)
            await self._write(response, data)
            if event.kind == "dropped":
                self._cut_off(request, "queue_full")

    async def _write(self, response: web.StreamResponse, data: bytes) -> None:
        async with asyncio.timeout(self._send_timeout_s):
            await response.write(data)

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        ws = web.WebSocketResponse(heartbeat=self._heartbeat_s, max_msg_size=1_024, compress=False, timeout=CLOSE_S)
        if not ws.can_prepare(request).ok:
            return error_answer(426, "/ws: expected a WebSocket handshake", {"Upgrade": "websocket"})
        reader = self._subscribe(request)
        if reader is None:
            return self._full(request)
        try:
            await ws.prepare(request)
            talk = asyncio.create_task(self._talk(reader, ws, request))
            try:
                await self._listen(ws)
            finally:
                reader.close()  # ends `talk`, which says goodbye
                await talk
        except ConnectionError:
            pass  # the reader left; there is nobody to tell
        finally:
            if isinstance(ws.exception(), TimeoutError):  # no pong: it no longer reads
                self._cut_off(request, "stalled")
            self._leave(reader)
        return ws

    async def _listen(self, ws: web.WebSocketResponse) -> None:
        """Read until the other end is gone; pongs are taken in here."""
        async for message in ws:
            if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                with contextlib.suppress(TimeoutError):  # it reads nothing, either
                    async with asyncio.timeout(self._send_timeout_s):
                        await self._goodbye(ws, WSCloseCode.UNSUPPORTED_DATA, DEAF)
                return

    async def _talk(self, reader: Subscription, ws: web.WebSocketResponse, request: web.Request) -> None:
        """Send events until the reader ends, then say why it did."""
        why, words = WSCloseCode.GOING_AWAY, b""
        try:
            async for event in reader:
                text = b'{"id":%d,"event":"%b","data":%b}' % (event.id, event.kind.encode(), event.data)
                async with asyncio.timeout(self._send_timeout_s):
                    await ws.send_str(text.decode())
                if event.kind == "dropped":
                    self._cut_off(request, "queue_full")
                    why, words = WSCloseCode.TRY_AGAIN_LATER, SLOW
            async with asyncio.timeout(self._send_timeout_s):
                await self._goodbye(ws, why, words)
        except TimeoutError:
            self._cut_off(request, "stalled")
        except ConnectionError:
            pass  # the reader left; there is nobody to tell

    async def _goodbye(self, ws: web.WebSocketResponse, why: int, words: bytes) -> None:
        if not ws.closed:
            await ws.close(code=why, message=words)


def _last_id(request: web.Request) -> int | None:
    """Where to resume: the header a browser sends by itself, else `?last_id=`. Nonsense means: from long ago."""
    text = request.headers.get("Last-Event-ID") or request.query.get("last_id")
    if not text:
        return None
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else -1
