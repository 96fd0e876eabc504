"""Routes that read what the feed holds: signals, entities, series, rows, posts, status; health, metrics, the page."""

from __future__ import annotations

from aiohttp import web

from operators.records import SignalRow
from stream.answers import Alerts, Entities, Entity, Held, OpsAnswer, Posts, Rows, SeriesOfEntity, SignalName
from stream.assets import load_assets
from stream.feed import MAX_ALERTS, Feed
from stream.metrics import Metrics
from stream.ops_status import status_json
from stream.web_ask import (
    DOMAIN,
    ENTITY,
    SIGNAL,
    WINDOW,
    Param,
    Route,
    Wrong,
    asset_answer,
    json_answer,
    names_of,
    number_of,
    text_of,
    whole_of,
)

MAX_ROWS = 5_000
MAX_SIGNALS = 64

ONE_ENTITY = Param("entity", "The entity, such as `ticker:AAPL`.", required=True)
ONE_WINDOW = Param("window", "The window size, milliseconds.", "integer", required=True, low=1)
LIMIT = Param("limit", "At most so many.", "integer", default=500, low=1, high=MAX_ROWS)
SINCE = Param("since", "Windows that end then or later, epoch milliseconds.", "integer", default=0, high=2**62)
LATEST = Param("latest", "1: only the newest settled row of each series.", choices=("0", "1"), default="0")
RULE = Param("rule", "Only alerts of this rule.")
MOST = Param("limit", "Alerts at most, the newest.", "integer", default=100, low=1, high=MAX_ALERTS)
SEARCH = Param("q", "Only entities with this in their name.")
PLAIN = "text/plain"


class ReadRoutes:
    """Routes over `feed` and `metrics`; nothing here waits for anything."""

    def __init__(self, feed: Feed, metrics: Metrics) -> None:
        self._feed = feed
        self._metrics = metrics
        self._assets = load_assets()

    def routes(self) -> list[Route]:
        """The routes, each with its description."""
        return [
            Route("/", self._page, "The live page.", media=("text/html",)),
            Route("/static/{name}", self._static, "Files of the page.", media=("text/javascript", "text/css")),
            Route("/api/status", self._status, "How the engine is doing.", answer=OpsAnswer),
            Route("/api/signals", self._signals, "Signals and window sizes held.", answer=Held),
            Route(
                "/api/entities", self._entities, "Entities, most posts first.",
                (SEARCH, WINDOW, DOMAIN, LIMIT), Entities,
            ),
            Route("/api/posts", self._posts, "Newest posts that moved an entity, masked.", (ONE_ENTITY, DOMAIN), Posts),
            Route(
                "/api/series", self._series, "History of an entity as columns, by signal.",
                (ONE_ENTITY, ONE_WINDOW, SIGNAL, DOMAIN), SeriesOfEntity,
            ),
            Route(
                "/api/rows", self._rows, "Newest row of every window held, newest window first.",
                (SIGNAL, ENTITY, WINDOW, DOMAIN, SINCE, LATEST, LIMIT), Rows,
            ),
            Route(
                "/api/alerts", self._alerts, "The newest alerts, newest first, with a link and the posts behind them.",
                (RULE, ENTITY, DOMAIN, MOST), Alerts,
            ),
            Route("/livez", self._livez, "200 while the process lives.", media=(PLAIN,), open=True),
            Route(
                "/readyz", self._readyz, "200 when rows flow; else why not.", media=(PLAIN,), open=True,
                errors={503: "state is restored, the log is away, or a model loads"},
            ),
            Route("/metrics", self._metrics_page, "Prometheus metrics.", media=(PLAIN,)),
        ]  # fmt: skip

    async def _page(self, request: web.Request) -> web.StreamResponse:
        return await self._file(request, "index.html")

    async def _static(self, request: web.Request) -> web.StreamResponse:
        return await self._file(request, request.match_info["name"])

    async def _file(self, request: web.Request, name: str) -> web.StreamResponse:
        asset = self._assets.get(name)
        if asset is None:
            raise web.HTTPNotFound
        return await asset_answer(asset, request)

    async def _status(self, request: web.Request) -> web.StreamResponse:
        return json_answer(status_json(self._feed.ops))

    async def _signals(self, request: web.Request) -> web.StreamResponse:
        history = self._feed.history
        return json_answer(Held([SignalName(s, d) for s, d in history.signals()], history.windows()))

    async def _entities(self, request: web.Request) -> web.StreamResponse:
        wanted = (text_of(request, SEARCH) or "").strip().lower()
        limit = number_of(request, LIMIT)
        held = self._feed.history.entities(whole_of(request, WINDOW), text_of(request, DOMAIN))
        found = [e for e in held if wanted in e[0].lower()]
        return json_answer(Entities([Entity(*e) for e in found[:limit]], len(found)))

    async def _posts(self, request: web.Request) -> web.StreamResponse:
        entity = text_of(request, ONE_ENTITY) or ""
        return json_answer(Posts(entity, self._feed.posts(entity, text_of(request, DOMAIN))))

    async def _series(self, request: web.Request) -> web.StreamResponse:
        history = self._feed.history
        entity, window = text_of(request, ONE_ENTITY) or "", whole_of(request, WINDOW)
        if window is None:
            raise Wrong("window: expected milliseconds, got none", history.windows())
        domain = text_of(request, DOMAIN)
        keys = history.keys(names_of(request, SIGNAL), entity, window)
        kept = [k for k in keys if domain is None or history.domain_of(k) == domain][:MAX_SIGNALS]
        series = {k.signal: history.columns(k) for k in kept}
        return json_answer(SeriesOfEntity(entity, window, self._feed.last_id, series))

    async def _rows(self, request: web.Request) -> web.StreamResponse:
        history = self._feed.history
        keys = history.keys(names_of(request, SIGNAL), request.query.get("entity"), whole_of(request, WINDOW))
        limit, since = number_of(request, LIMIT), number_of(request, SINCE)
        domain = text_of(request, DOMAIN)
        rows: list[SignalRow] = []
        if text_of(request, LATEST) == "1":
            rows = [row for k in keys if (row := history.latest(k)) is not None]
        else:
            for key in keys:
                rows += history.rows(key, since, limit)
        rows = [row for row in rows if domain is None or row.domain == domain]
        rows.sort(key=lambda r: (-r.window_end, r.signal, r.entity))
        return json_answer(Rows(self._feed.last_id, rows[:limit]))

    async def _alerts(self, request: web.Request) -> web.StreamResponse:
        rule, entity, domain = text_of(request, RULE), text_of(request, ENTITY), text_of(request, DOMAIN)
        found = [
            card
            for card in self._feed.alerts()
            if rule in (None, card.rule) and entity in (None, card.entity) and domain in (None, card.domain)
        ]
        return json_answer(Alerts(found[: number_of(request, MOST)]))

    async def _livez(self, request: web.Request) -> web.StreamResponse:
        return web.Response(text="ok\n")

    async def _readyz(self, request: web.Request) -> web.StreamResponse:
        status = self._feed.ops
        if status.ready:
            return web.Response(text="ready\n")
        return web.Response(status=503, text=f"{status.problem or 'not ready'}\n", headers={"Retry-After": "1"})

    async def _metrics_page(self, request: web.Request) -> web.StreamResponse:
        return web.Response(body=self._metrics.exposition(), headers={"Content-Type": self._metrics.content_type})
