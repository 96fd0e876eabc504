"""A real web server that takes alerts, and misbehaves as it is told."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

from aiohttp import web

from operators.records import Alert

Reply = int | web.StreamResponse | Callable[[web.Request], Awaitable[web.StreamResponse]]


class Got(NamedTuple):
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes


class Receiver:
    """Answers with `replies` in turn, then with 204. A reply is a status, a response, or a coroutine that makes one."""

    def __init__(self) -> None:
        self.got: list[Got] = []
        self.replies: list[Reply] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.got.append(Got(request.path_qs, dict(request.headers), await request.read()))
        reply = self.replies.pop(0) if self.replies else 204
        if isinstance(reply, int):
            return web.Response(status=reply)
        return reply if isinstance(reply, web.StreamResponse) else await reply(request)


@asynccontextmanager
async def receiving(context: ssl.SSLContext | None = None, port: int = 0) -> AsyncIterator[Receiver]:
    """A receiver on a free port of loopback."""
    made, app = Receiver(), web.Application()
    app.router.add_route("*", "/{anything:.*}", made.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port, ssl_context=context)
        await site.start()
        made.url = f"{'https' if context else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
        yield made
    finally:
        await runner.cleanup()


async def hang(request: web.Request) -> web.StreamResponse:
    """Never answers."""
    await asyncio.sleep(60)
    return web.Response()


async def cut(request: web.Request) -> web.StreamResponse:
    """Closes the connection without a word."""
    assert request.transport is not None
    request.transport.close()
    return web.Response()


async def flood(request: web.Request) -> web.StreamResponse:
    """Says 200, and then never stops talking."""
    answer = web.StreamResponse()
    await answer.prepare(request)
    while True:
        await answer.write(b"x" * 65_536)


def alert(k: int = 0, **given: object) -> Alert:
    fields: dict[str, object] = {
        "rule": f"fear-{k}", "kind": "threshold", "severity": "critical",
        "row_id": f"market.fear|ticker:Ü {k}|0|60000", "signal": "market.fear", "domain": "market",
        "entity": f"ticker:Ü {k}", "window_start": 0, "window_end": 60_000, "value": 0.75, "lo": 0.5, "hi": None,
        "n": 40, "measure": 0.75, "reference": 0.5, "status": "final", "revision": 0, "message": "fear above 0.5",
    }  # fmt: skip
    return Alert(**{**fields, **given})  # type: ignore[arg-type]
