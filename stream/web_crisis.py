"""Routes of the crisis view: the need x place matrix, and the urgency queue with its backlog."""

from __future__ import annotations

from aiohttp import web

from operators.crisis import NEEDS
from stream.feed import Feed
from stream.matrix import HOUR_MS, MOST_PLACES, Matrix, matrix_of
from stream.urgency import MOST, OLD_MS, UNSPECIFIED, Queue
from stream.web_ask import Param, Route, json_answer, moment_of, number_of, text_of

SIZE = Param("window", "Size of the windows, milliseconds.", "integer", default=HOUR_MS, low=1)
AT = Param("at", "The newest window that ends then or before.", "moment")
PLACES = Param(
    "limit", "So many places at most, those with most posts.", "integer", default=25, low=1, high=MOST_PLACES
)
POSTS = Param("limit", "Requests at most.", "integer", default=100, low=1, high=MOST)
PLACE = Param("place", "Only requests of this place, an entity such as `place:Houston`.")
NEED = Param("need", "Only requests of this need.", choices=(*NEEDS, UNSPECIFIED))
OLDER = Param("older", "Backlog: unmatched for longer, milliseconds.", "integer", default=OLD_MS)


class CrisisRoutes:
    """Routes over `feed`; nothing here waits for anything."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    def routes(self) -> list[Route]:
        """The routes, each with its description."""
        return [
            Route(
                "/api/matrix", self._matrix, "Need x place: count, rate per 10 000, first and last seen.",
                (SIZE, AT, PLACES), Matrix,
            ),
            Route(
                "/api/queue", self._queue, "Requests for help, masked, newest and most urgent first; the backlog.",
                (PLACE, NEED, OLDER, POSTS), Queue,
            ),
        ]  # fmt: skip

    async def _matrix(self, request: web.Request) -> web.StreamResponse:
        size, places = number_of(request, SIZE), number_of(request, PLACES)
        return json_answer(matrix_of(self._feed.history, size, moment_of(request, AT), places))

    async def _queue(self, request: web.Request) -> web.StreamResponse:
        limit, older = number_of(request, POSTS), number_of(request, OLDER)
        place, need = text_of(request, PLACE), text_of(request, NEED)
        return json_answer(self._feed.urgency.queue(limit, place, need, older))
