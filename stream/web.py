"""The live page and its feed over HTTP: the only door to aiohttp.

    /                   the page                       /static/NAME        its files (ETag)
    /api/status         operations status              /api/signals        signals, window sizes, domains held
    /api/entities       entities with n                /api/posts          posts that moved an entity
    /api/series         history as columns, per signal /api/rows           history as signal rows
    /events             server-sent events: rows, posts, status, reset, dropped; resumes by Last-Event-ID
    /livez  /readyz     health                         /metrics            Prometheus

Read-only: every route is GET. Answers JSON; a wrong request gets 400 and `{"error": what, expected, got}`.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import msgspec
from aiohttp import web

from operators.records import SignalRow
from stream.assets import load_assets
from stream.errors import StreamError, UsageError
from stream.feed import Feed, Subscription, status_json
from stream.metrics import Metrics

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Server": "affectstream",
}
MAX_ROWS = 5_000
MAX_SIGNALS = 64
COMPRESS_FROM = 2_048


class LiveServer:
    """Serves `feed` and `metrics` to browsers and scrapers, on loopback unless told otherwise.

    Args:
        host: address to listen on. Anything but loopback shows the feed to the network; there is no password here.
        port: 0 = any free one; `port` holds the real one after `start`.
        allowed_hosts: further names browsers may use for this machine (a `Host` of another name is refused, so that no
            web site can read the feed by pointing its own name here).
        max_readers: event streams at once; one more gets 503.
        heartbeat_s: an idle event stream carries a comment this often.
        send_timeout_s: a reader that takes nothing for so long is cut off.
    """

    def __init__(
        self,
        feed: Feed,
        metrics: Metrics,
        host: str = "127.0.0.1",
        port: int = 8642,
        *,
        allowed_hosts: tuple[str, ...] = (),
        max_readers: int = 128,
        heartbeat_s: float = 10.0,
        send_timeout_s: float = 10.0,
    ) -> None:
        self.feed = feed
        self.metrics = metrics
        self.host = host
        self.port = port
        self._allowed = {"localhost", "127.0.0.1", "::1", host.lower(), *(h.lower() for h in allowed_hosts)}
        self._wildcard = host in ("0.0.0.0", "::", "")
        if self._wildcard:
            self._allowed.add(socket.gethostname().lower())
        self._max_readers = max_readers
        self._heartbeat_s = heartbeat_s
        self._send_timeout_s = send_timeout_s
        self._assets = load_assets()
        self._open: set[Subscription] = set()
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Where a browser on this machine finds the page."""
        name = "127.0.0.1" if self._wildcard else self.host
        return f"http://{f'[{name}]' if ':' in name else name}:{self.port}/"

    async def start(self) -> None:
        """Listen. Returns once requests are answered.

        Raises:
            UsageError: the port is taken or may not be used, or the address is not ours.
        """
        app = web.Application(middlewares=[self._guard], client_max_size=1024)
        app.on_response_prepare.append(_add_headers)
        app.add_routes(
            [
                web.get("/", self._page),
                web.get("/static/{name}", self._static),
                web.get("/api/status", self._status),
                web.get("/api/signals", self._signals),
                web.get("/api/entities", self._entities),
                web.get("/api/posts", self._posts),
                web.get("/api/series", self._series),
                web.get("/api/rows", self._rows),
                web.get("/events", self._events),
                web.get("/livez", self._livez),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._metrics),
            ]
        )
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, self.host, self.port).start()
        except OSError as err:
            await runner.cleanup()
            raise _cannot_listen(self.host, self.port, err) from err
        self._runner = runner
        self.port = int(runner.addresses[0][1])

    async def stop(self) -> None:
        """End every event stream and stop listening. Idempotent; `start` may be called again."""
        for reader in tuple(self._open):
            reader.close()
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse foreign names and origins; say errors as JSON."""
        if not self._known(request.headers.get("Host", "")):
            return _error(403, "Host: expected this machine's name or address; start with allowed_hosts to add one")
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc.lower() != request.headers["Host"].lower():
            return _error(403, "Origin: expected this page's own, got another site's")
        try:
            return await handler(request)
        except web.HTTPException as err:
            return _error(err.status, f"{request.path[:80]}: {err.reason}")

    def _known(self, header: str) -> bool:
        try:
            name = (urlsplit(f"//{header}").hostname or "").lower()
        except ValueError:
            return False
        if name in self._allowed:
            return True
        return self._wildcard and _is_address(name)  # a bare address cannot be another site's name

    async def _page(self, request: web.Request) -> web.StreamResponse:
        return self._file(request, "index.html")

    async def _static(self, request: web.Request) -> web.StreamResponse:
        return self._file(request, request.match_info["name"])

    def _file(self, request: web.Request, name: str) -> web.StreamResponse:
        asset = self._assets.get(name)
        if asset is None:
            raise web.HTTPNotFound
        headers = {"ETag": asset.etag, "Cache-Control": "no-cache"}
        if asset.etag in request.headers.get("If-None-Match", ""):
            return web.Response(status=304, headers=headers)
        response = web.Response(body=asset.body, content_type=asset.content_type, charset="utf-8", headers=headers)
        response.enable_compression()
        return response

    async def _status(self, request: web.Request) -> web.StreamResponse:
        return _json(status_json(self.feed.ops))

    async def _signals(self, request: web.Request) -> web.StreamResponse:
        history = self.feed.history
        signals = [{"signal": s, "domain": d} for s, d in history.signals()]
        return _json(msgspec.json.encode({"signals": signals, "windows": history.windows()}))

    async def _entities(self, request: web.Request) -> web.StreamResponse:
        wanted = request.query.get("q", "").strip().lower()
        limit = _whole(request, "limit", 500, 1, MAX_ROWS)
        window = _window(request)
        found = [e for e in self.feed.history.entities(window) if wanted in e[0].lower()]
        names = [{"entity": e, "n": n, "window_end": end} for e, n, end in found[:limit]]
        return _json(msgspec.json.encode({"entities": names, "total": len(found)}))

    async def _posts(self, request: web.Request) -> web.StreamResponse:
        entity = _needed(request, "entity")
        return _json(msgspec.json.encode({"entity": entity, "posts": self.feed.posts(entity)}))

    async def _series(self, request: web.Request) -> web.StreamResponse:
        entity, window = _needed(request, "entity"), _window(request)
        if window is None:
            raise _Wrong("window: expected milliseconds, got none", self.feed.history.windows())
        history = self.feed.history
        series = {
            k.signal: history.columns(k) for k in history.keys(_signal_set(request), entity, window)[:MAX_SIGNALS]
        }
        answer = {"entity": entity, "window_ms": window, "last_id": self.feed.last_id, "series": series}
        return _json(msgspec.json.encode(answer))

    async def _rows(self, request: web.Request) -> web.StreamResponse:
        history = self.feed.history
        keys = history.keys(_signal_set(request), request.query.get("entity"), _window(request))
        limit = _whole(request, "limit", 500, 1, MAX_ROWS)
        since = _whole(request, "since", 0, 0, 2**62)
        rows: list[SignalRow] = []
        if request.query.get("latest") == "1":
            rows = [row for k in keys if (row := history.latest(k)) is not None]
        else:
            for key in keys:
                rows += history.rows(key, since, limit)
        rows.sort(key=lambda r: (-r.window_end, r.signal, r.entity))
        return _json(msgspec.json.encode({"last_id": self.feed.last_id, "rows": rows[:limit]}))

    async def _livez(self, request: web.Request) -> web.StreamResponse:
        return web.Response(text="ok\n")

    async def _readyz(self, request: web.Request) -> web.StreamResponse:
        status = self.feed.ops
        if status.ready:
            return web.Response(text="ready\n")
        return web.Response(status=503, text=f"{status.problem or 'not ready'}\n", headers={"Retry-After": "1"})

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        self.metrics.readers(len(self._open))
        return web.Response(body=self.metrics.exposition(), headers={"Content-Type": self.metrics.content_type})

    async def _events(self, request: web.Request) -> web.StreamResponse:
        if len(self._open) >= self._max_readers:
            return _error(503, f"/events: all {self._max_readers} event streams are taken; try again later")
        window = _window(request)
        last_id = _last_id(request)
        reader = self.feed.subscribe(last_id, entity=request.query.get("entity"), window_ms=window)
        self._open.add(reader)
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        )
        try:
            await response.prepare(request)
            await self._pump(reader, response)
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()  # a graceful close would wait for the reader that does not read
        except ConnectionError:
            pass  # the reader left; there is nobody to tell
        finally:
            reader.close()
            self._open.discard(reader)
        return response

    async def _pump(self, reader: Subscription, response: web.StreamResponse) -> None:
        """Write events until the reader ends. TimeoutError where it takes nothing for `send_timeout_s`."""
        await self._send(response, b"retry: 1000\n\n")
        while True:
            try:
                async with asyncio.timeout(self._heartbeat_s):
                    event = await anext(reader)
            except TimeoutError:
                await self._send(response, b": still here\n\n")
                continue
            except StopAsyncIteration:
                return
            await self._send(response, b"id: %d\nevent: %b\ndata: %b\n\n" % (event.id, event.kind.encode(), event.data))

    async def _send(self, response: web.StreamResponse, data: bytes) -> None:
        async with asyncio.timeout(self._send_timeout_s):
            await response.write(data)


class _Wrong(web.HTTPBadRequest):
    """A request that cannot be answered; the text says what was expected."""

    def __init__(self, text: str, there: object = None) -> None:
        super().__init__(reason=text if there is None else f"{text}; there is {there}")


def _needed(request: web.Request, name: str) -> str:
    value = request.query.get(name, "")
    if not value:
        raise _Wrong(f"{name}: expected a value, got none")
    return value


def _whole(request: web.Request, name: str, default: int, lo: int, hi: int) -> int:
    text = request.query.get(name)
    if text is None or text == "":
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 20 and lo <= int(text) <= hi):
        raise _Wrong(f"{name}: expected a whole number from {lo} to {hi}")
    return int(text)


def _window(request: web.Request) -> int | None:
    return _whole(request, "window", 0, 1, 2**53) or None


def _last_id(request: web.Request) -> int | None:
    """Where to resume: the header a browser sends by itself, else `?last_id=`. Nonsense means: from long ago."""
    text = request.headers.get("Last-Event-ID") or request.query.get("last_id")
    if not text:
        return None
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else -1


def _signal_set(request: web.Request) -> frozenset[str]:
    return frozenset(s for text in request.query.getall("signal", []) for s in text.split(",") if s)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _json(body: bytes) -> web.Response:
    response = web.Response(body=body, content_type="application/json", headers={"Cache-Control": "no-store"})
    if len(body) >= COMPRESS_FROM:
        response.enable_compression()
    return response


def _error(status: int, text: str) -> web.Response:
    headers = {"Retry-After": "5"} if status == 503 else {}
    return web.Response(
        status=status, body=msgspec.json.encode({"error": text}), content_type="application/json", headers=headers
    )


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)


def _cannot_listen(host: str, port: int, err: OSError) -> StreamError:
    if err.errno == errno.EADDRINUSE:
        return UsageError(
            f"port {port}: expected a free port on {host}, got one another program uses; "
            f"choose another with --port (--port 0 takes any free one)"
        )
    if err.errno == errno.EACCES:
        return UsageError(f"port {port}: not allowed for this user; choose one above 1023 with --port")
    return UsageError(f"address {host}:{port}: cannot listen ({err.strerror}); choose another with --port or --host")
