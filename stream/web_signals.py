"""Web views of the signal plane: newest rows, roll-ups, alerts, how it stands. JSON, GET only.

The worker that has the tables answers; another asks it and passes the answer on, once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Protocol

import aiohttp
from aiohttp import web

from operators.codec import Codec
from operators.errors import Rejected
from operators.latest import Latest
from operators.records import Alert, SignalRow
from operators.rollup import Rollup
from stream.base import Log
from stream.errors import LogError
from stream.topics import ALERTS, SIGNALS
from stream.web_ask import (
    ENTITY,
    WINDOW,
    Handler,
    Param,
    Route,
    error_answer,
    json_answer,
    number_of,
    text_of,
    whole_of,
)

PASSED_ON = "X-Affect-Passed-On"
ASK_S = 5.0
LONGEST = 10_000
ALERTS_READ = 2_000

SIGNAL = Param("signal", "Only this signal; a glob such as `market.*` too.")
ENTITIES = Param("entity", "Only this entity; a glob such as `ticker:*` or `sector:*` too.")
RULE = Param("rule", "Only alerts of this rule.")
ROWS = Param("limit", "Rows at most.", "integer", default=1_000, low=1, high=LONGEST)
ALERT_ROWS = Param("limit", "Alerts at most, the newest.", "integer", default=100, low=1, high=ALERTS_READ)


class Worker(Protocol):
    """What is asked of the worker. `ready`: the tables are here. `offset`: signal rows before it are done with."""

    @property
    def ready(self) -> bool: ...

    @property
    def offset(self) -> int | None: ...

    def owner(self) -> str | None:
        """Address of the worker that has the tables, where it is another."""
        ...


class SignalRoutes:
    """The routes. `latest`, `rollup`: looked at while `worker.ready`, called anew each time."""

    def __init__(
        self, worker: Worker, latest: Callable[[], Latest], rollup: Callable[[], Rollup], log: Log, codec: Codec
    ) -> None:
        self._worker, self._latest, self._rollup, self._log, self._codec = worker, latest, rollup, log, codec

    def routes(self) -> list[Route]:
        """All of them."""
        away = {503: "no worker has the tables now (starting, or a rebalance): ask again"}
        return [
            Route(
                "/api/latest", self._here(self._rows), "The newest row of every signal, entity and window size.",
                (SIGNAL, ENTITIES, WINDOW, ROWS), list[SignalRow], errors=away,
            ),
            Route(
                "/api/rollups", self._here(self._rollups), "The newest row of every sector and of the market.",
                (SIGNAL, ENTITIES, WINDOW, ROWS), list[SignalRow], errors=away,
            ),
            Route("/api/alerts", self._alerts, "The newest alerts, newest first.", (RULE, ENTITY, ALERT_ROWS),
                  list[Alert], errors={503: "the log is away"}),
            Route("/api/plane", self._here(self._plane), "How far the worker with the tables is.", (),
                  dict[str, int], errors=away),
            Route("/livez", self._livez, "The process answers.", open=True),
            Route("/readyz", self._readyz, "The tables are here, or at a worker that is known.", open=True,
                  errors={503: "not yet"}),
        ]  # fmt: skip

    def _here(self, handler: Handler) -> Handler:
        """`handler` where the tables are; else the answer of the worker that has them."""

        async def answer(request: web.Request) -> web.StreamResponse:
            if self._worker.ready:
                return await handler(request)
            owner = self._worker.owner()
            if owner is None or PASSED_ON in request.headers:
                return error_answer(503, "no worker has the tables now (starting, or a rebalance): ask again")
            return await _asked(owner, request)

        return answer

    async def _rows(self, request: web.Request) -> web.StreamResponse:
        found = self._latest().rows(text_of(request, SIGNAL), text_of(request, ENTITIES), whole_of(request, WINDOW))
        return json_answer(_first(found, number_of(request, ROWS)))

    async def _rollups(self, request: web.Request) -> web.StreamResponse:
        newest = Latest()
        for row in self._rollup().newest():
            newest.feed(row)
        found = newest.rows(text_of(request, SIGNAL), text_of(request, ENTITIES), whole_of(request, WINDOW))
        return json_answer(_first(found, number_of(request, ROWS)))

    async def _alerts(self, request: web.Request) -> web.StreamResponse:
        rule, entity, limit = text_of(request, RULE), text_of(request, ENTITY), number_of(request, ALERT_ROWS)
        try:
            begin, end = (await self._log.span(ALERTS))[0]
            records = await self._log.read(ALERTS, 0, max(begin, end - ALERTS_READ), ALERTS_READ) if end > begin else []
        except LogError as error:
            return error_answer(503, str(error))
        found: dict[str, Alert] = {}
        for record in records:
            try:
                alert = self._codec.decode_alert(record.value)
            except Rejected:
                continue  # not ours; whoever reads the topic to the end counts it
            if (rule is None or alert.rule == rule) and (entity is None or alert.entity == entity):
                found.setdefault(alert.alert_id, alert)  # one sent again is shown once
        return json_answer(list(found.values())[::-1][:limit])

    async def _plane(self, request: web.Request) -> web.StreamResponse:
        try:
            end = (await self._log.span(SIGNALS))[0][1]
        except LogError as error:
            return error_answer(503, str(error))
        latest, rollup, offset = self._latest(), self._rollup(), self._worker.offset
        known: Mapping[str, int | None] = {
            "offset": offset,
            "end": end,
            "behind": None if offset is None else max(0, end - offset),
            "latest_rows": len(latest),
            "latest_forgotten": latest.forgotten,
            "rollup_windows": len(rollup),
            "rollup_rows_too_old": rollup.too_old,
        }
        return json_answer(known)

    async def _livez(self, request: web.Request) -> web.StreamResponse:
        return json_answer({"alive": True})

    async def _readyz(self, request: web.Request) -> web.StreamResponse:
        if self._worker.ready:
            return json_answer({"ready": True, "tables": "here"})
        owner = self._worker.owner()
        return error_answer(503, "not ready") if owner is None else json_answer({"ready": True, "tables": owner})


def _first(rows: Iterable[SignalRow], most: int) -> list[SignalRow]:
    return list(islice(rows, most))


async def _asked(owner: str, request: web.Request) -> web.StreamResponse:
    headers = {PASSED_ON: "1"}
    if "Authorization" in request.headers:
        headers["Authorization"] = request.headers["Authorization"]
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ASK_S)) as session,
            session.get(f"{owner}{request.rel_url}", headers=headers) as answer,
        ):
            return web.Response(
                status=answer.status, body=await answer.read(), content_type=answer.content_type,
                headers={"Cache-Control": "no-store"},
            )  # fmt: skip
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        return error_answer(503, f"the worker with the tables does not answer ({type(error).__name__}): ask again")
