"""The live page, its API and its feed over HTTP: a server made of described routes behind one guard.

    /                   the page                       /static/NAME        its files (ETag)
    /api/status         operations status              /api/signals        signals, window sizes, domains held
    /api/entities       entities with n                /api/posts          posts that moved an entity
    /api/series         history as columns, per signal /api/rows           history as signal rows
    /api/asof           what was known at a moment     /api/revisions      every published version of a row
    /api/explain        why a value moved              /api/alerts         newest alerts with their posts
    /api/matrix         need x place                   /api/queue          requests for help, the backlog
    /api/export         rows as CSV, JSON lines or Parquet
    /join  /teach       a lesson's pages, where there is a classroom
    /events             server-sent events             /ws                 the same over a WebSocket
    /api/openapi.json   what all of this is            /api/asyncapi.json  what the feed sends
    /livez  /readyz     health                         /metrics            Prometheus

Read-only: every route is GET. Answers JSON; a wrong request gets 400 and `{"error": what, expected, got}`.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping

import msgspec
from aiohttp import web

from stream.api_description import asyncapi, openapi
from stream.archive_base import Archive
from stream.audit import Audit
from stream.contribution import Explain
from stream.errors import StreamError, UsageError
from stream.feed import Feed
from stream.metrics import Metrics
from stream.web_archive import ArchiveRoutes
from stream.web_ask import Route, json_answer
from stream.web_capture import CaptureRoutes
from stream.web_crisis import CrisisRoutes
from stream.web_explain import ExplainRoutes
from stream.web_feed import FeedRoutes
from stream.web_guard import WILDCARDS, Guard
from stream.web_lesson import LessonRoutes
from stream.web_read import ReadRoutes

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


class LiveServer:
    """Serves `feed` and `metrics` to browsers and programs, on loopback unless told otherwise.

    Args:
        host: address to listen on. Anything but loopback needs `token`, or `without_token`.
        port: 0 = any free one; `port` holds the real one after `start`.
        allowed_hosts: further names browsers may use for this machine.
        token: every request but health must carry it; None = none is asked for (see `Guard`).
        without_token: let the network read without a token.
        archive: what was published, for exports and as-of queries; None = they are refused.
        explainers: say why a row has its value, by domain; may be filled while the server runs.
        max_readers: event streams and WebSockets at once; one more gets 503.
        heartbeat_s: an idle reader gets a comment (a ping) this often.
        send_timeout_s: a reader that takes nothing for so long is cut off.
        audit: where exports are noted; None = nowhere.
        lesson: pages of a classroom; None = there is none.
        capture: its cameras and microphones; None = none are let in.

    Raises:
        UsageError: the network could read without a token and nobody said it may.
    """

    def __init__(
        self,
        feed: Feed,
        metrics: Metrics,
        host: str = "127.0.0.1",
        port: int = 8642,
        *,
        allowed_hosts: tuple[str, ...] = (),
        token: str | None = None,
        without_token: bool = False,
        archive: Archive | None = None,
        explainers: Mapping[str, Explain] | None = None,
        max_readers: int = 256,
        heartbeat_s: float = 10.0,
        send_timeout_s: float = 10.0,
        audit: Audit | None = None,
        lesson: LessonRoutes | None = None,
        capture: CaptureRoutes | None = None,
    ) -> None:
        self.feed = feed
        self.metrics = metrics
        self.host = host
        self.port = port
        self._feed_routes = FeedRoutes(feed, metrics, max_readers, heartbeat_s, send_timeout_s)
        self.routes: list[Route] = [
            *ReadRoutes(feed, metrics).routes(),
            *CrisisRoutes(feed).routes(),
            *ExplainRoutes(feed, {} if explainers is None else explainers).routes(),
            *self._feed_routes.routes(),
            *ArchiveRoutes(archive, send_timeout_s, audit).routes(),
            *([] if lesson is None else lesson.routes()),
            *([] if capture is None else capture.routes()),
            Route("/api/openapi.json", self._openapi, "This description (OpenAPI 3.1).", answer=dict[str, msgspec.Raw]),
            Route(
                "/api/asyncapi.json",
                self._asyncapi,
                "What the feed sends (AsyncAPI 3.0).",
                answer=dict[str, msgspec.Raw],
            ),
        ]
        open_paths = frozenset(route.path for route in self.routes if route.open)
        self._guard = Guard(host, allowed_hosts, token, without_token, open_paths)
        self._pages = [pages for pages in (lesson, capture) if pages is not None]
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Where a browser on this machine finds the page."""
        name = "127.0.0.1" if self.host in WILDCARDS else self.host
        return f"http://{f'[{name}]' if ':' in name else name}:{self.port}/"

    async def start(self) -> None:
        """Listen. Returns once requests are answered.

        Raises:
            UsageError: the port is taken or may not be used, or the address is not ours.
        """
        app = web.Application(middlewares=[self._guard.middleware], client_max_size=1024)
        app.on_response_prepare.append(_add_headers)
        app.add_routes([web.get(route.path, route.handler) for route in self.routes])
        # Cancelled when the other end goes: an event stream with nothing to send would not notice before its heartbeat.
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0, handler_cancellation=True)
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
        self._feed_routes.close()
        for pages in self._pages:
            await pages.close()
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    async def _openapi(self, request: web.Request) -> web.StreamResponse:
        return json_answer(openapi(self.routes))

    async def _asyncapi(self, request: web.Request) -> web.StreamResponse:
        return json_answer(asyncapi(self.routes))


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)
    if request.path == "/capture":
        response.headers["Permissions-Policy"] = "camera=(self), microphone=(self), geolocation=()"


def _cannot_listen(host: str, port: int, err: OSError) -> StreamError:
    if err.errno == errno.EADDRINUSE:
        return UsageError(
            f"port {port}: expected a free port on {host}, got one another program uses; "
            f"choose another with --port or web.port (0 takes any free one)"
        )
    if err.errno == errno.EACCES:
        return UsageError(f"port {port}: not allowed for this user; choose one above 1023 with --port or web.port")
    return UsageError(f"address {host}:{port}: cannot listen ({err.strerror}); choose another web.host or web.port")
