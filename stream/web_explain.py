"""The route that says why a row has its value. Worked out from the posts, so one answer at a time, and kept."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping

from aiohttp import web

from engines.errors import EngineLost
from stream.archive_base import row_id_parts
from stream.contribution import BYS, By, Contribution, Explain
from stream.errors import LogError, UsageError
from stream.feed import Feed
from stream.history import SeriesKey
from stream.web_ask import Param, Route, Wrong, json_answer, number_of, text_of

KEPT = 1_000
MOST_WAITING = 8

ROW_ID = Param("id", "The row: `signal|entity|window_start|window_end`.", required=True)
TOP = Param("top", "Posts at most.", "integer", default=5, low=0, high=50)
BY = Param("by", "What posts are grouped by.", choices=BYS, default="auto")

_Key = tuple[str, int, int, str, int, str]


class ExplainRoutes:
    """Routes over `explainers`, by domain; a domain that is not in there (yet) is refused.

    Args:
        feed: knows the newest version of rows: an answer is kept for as long as its row stays as it is.
    """

    def __init__(self, feed: Feed, explainers: Mapping[str, Explain]) -> None:
        self._feed = feed
        self._explainers = explainers
        self._kept: OrderedDict[_Key, Contribution] = OrderedDict()
        self._turn = asyncio.Lock()
        self._waiting = 0

    def routes(self) -> list[Route]:
        """The route, with its description."""
        return [
            Route(
                "/api/explain", self._explain, "Why a row has its value, and what its change is made of; posts masked.",
                (ROW_ID, TOP, BY), Contribution,
                errors={503: "the log is away, posts are not read here, or others are being answered"},
            ),
        ]  # fmt: skip

    async def _explain(self, request: web.Request) -> web.StreamResponse:
        row_id, top = text_of(request, ROW_ID) or "", number_of(request, TOP)
        by: By = text_of(request, BY)  # type: ignore[assignment]  # one of its choices
        try:
            signal, entity, start, end = row_id_parts(row_id)
        except ValueError as problem:
            raise Wrong(f"id: {problem}") from None
        explain = self._explainers.get(signal.partition(".")[0])
        if explain is None:
            raise _Busy(f"{signal}: no posts of its domain are read here (yet); ask the process that runs the engine")
        row = self._feed.history.latest(SeriesKey(signal, entity, end - start), settled=False, at_ms=end)
        key = None
        if row is not None and row.window_end == end:
            key = (row_id, row.revision, row.n, row.status, top, by)
        found = self._held(key)
        if found is None:
            found = await self._asked(explain, row_id, top, by, key)
        return json_answer(found)

    def _held(self, key: _Key | None) -> Contribution | None:
        if key is None or key not in self._kept:
            return None
        self._kept.move_to_end(key)
        return self._kept[key]

    async def _asked(self, explain: Explain, row_id: str, top: int, by: By, key: _Key | None) -> Contribution:
        if self._waiting >= MOST_WAITING:
            raise _Busy(f"{MOST_WAITING} others are being answered; try again later")
        self._waiting += 1
        try:
            async with self._turn:
                found = self._held(key)
                if found is None:
                    found = await explain(row_id, top, by)
                    if key is not None:
                        self._kept[key] = found
                        if len(self._kept) > KEPT:
                            self._kept.popitem(last=False)
                return found
        except UsageError as problem:
            raise Wrong(f"id: {str(problem).removeprefix('ID: ')}") from None
        except (LogError, EngineLost) as problem:
            raise _Busy(str(problem)) from None
        finally:
            self._waiting -= 1


class _Busy(web.HTTPServiceUnavailable):
    def __init__(self, text: str) -> None:
        super().__init__(reason=" ".join(text.split()))
