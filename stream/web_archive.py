"""Routes over what was published: exports, as-of queries and the revisions of a row. They read the archive, not memory.

One such answer may mean reading a whole topic: few run at a time, each in bounded memory, and one whose asker has gone
ends.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from engines.errors import MissingExtra
from stream.answers import AsOf, Revisions
from stream.archive_base import Archive, PublishedRow, RowQuery, row_id_parts
from stream.audit import Audit
from stream.errors import LogError
from stream.exporting import FORMATS, Export, row_format
from stream.web_ask import (
    DOMAIN,
    ENTITY,
    SIGNAL,
    WINDOW,
    Param,
    Route,
    Wrong,
    error_answer,
    json_answer,
    moment_of,
    names_of,
    number_of,
    text_of,
    whole_of,
)

MAX_AT_ONCE = 2
MAX_ROWS = 5_000

FROM = Param("from", "Windows that end then or later.", "moment")
TO = Param("to", "Windows that end before.", "moment")
AT = Param("at", "As it was known then.", "moment")
AT_NEEDED = Param("at", "The moment in question.", "moment", required=True)
FORMAT = Param("format", "Of the file.", choices=FORMATS, default="csv")
WHICH = Param(
    "which", "The newest row of each window, or every published one.", choices=("newest", "all"), default="newest"
)
ROW_ID = Param("row_id", "`signal|entity|window_start|window_end`.", required=True)
LIMIT = Param("limit", "At most so many.", "integer", default=500, low=1, high=MAX_ROWS)
ONLY = (SIGNAL, ENTITY, WINDOW, DOMAIN, FROM, TO)


class ArchiveRoutes:
    """Routes over `archive`; None = there is none, and they say so. `send_timeout_s`: see `FeedRoutes`."""

    def __init__(self, archive: Archive | None, send_timeout_s: float, audit: Audit | None = None) -> None:
        self._audit = audit
        self._archive = archive
        self._send_timeout_s = send_timeout_s
        self._places = MAX_AT_ONCE

    def routes(self) -> list[Route]:
        """The routes, each with its description."""
        busy = {503: "the log is away, not read here, or others are being answered; come again later"}
        return [
            Route(
                "/api/export", self._export, "Rows as a file, oldest window first.", (FORMAT, WHICH, AT, *ONLY),
                media=("text/csv", "application/x-ndjson", "application/vnd.apache.parquet"),
                errors={**busy, 501: "parquet needs the extra `export`"},
            ),
            Route(
                "/api/asof", self._asof, "What was known at a moment, newest window first.", (AT_NEEDED, *ONLY, LIMIT),
                AsOf, errors=busy,
            ),
            Route(
                "/api/revisions", self._revisions, "Every published version of a row, in order.", (ROW_ID, AT, LIMIT),
                Revisions, errors=busy,
            ),
        ]  # fmt: skip

    async def _asof(self, request: web.Request) -> web.StreamResponse:
        query, limit = _query(request), number_of(request, LIMIT)
        at_ms = moment_of(request, AT_NEEDED) or 0
        rows: list[PublishedRow] = []
        async with self._place(request) as archive:
            async for batch in archive.newest(query, latest_first=True):
                rows += batch[: limit - len(rows)]
                if len(rows) >= limit or _gone(request):
                    break
            return json_answer(AsOf(at_ms, archive.source, await archive.reach_ms(), rows))

    async def _revisions(self, request: web.Request) -> web.StreamResponse:
        row_id, limit = text_of(request, ROW_ID) or "", number_of(request, LIMIT)
        try:
            row_id_parts(row_id)
        except ValueError as problem:
            raise Wrong(f"row_id: {problem}") from None
        kept: deque[PublishedRow] = deque(maxlen=limit)
        total = 0
        async with self._place(request) as archive:
            async for batch in archive.versions(RowQuery(row_id=row_id, known_at_ms=moment_of(request, AT))):
                kept.extend(batch)
                total += len(batch)
                if _gone(request):
                    break
            return json_answer(Revisions(row_id, archive.source, await archive.reach_ms(), total, list(kept)))

    async def _export(self, request: web.Request) -> web.StreamResponse:
        query, name = _query(request), text_of(request, FORMAT) or ""
        every = text_of(request, WHICH) == "all"
        try:
            form = row_format(name)
        except MissingExtra as missing:
            return error_answer(501, str(missing))
        async with self._place(request) as archive:
            response = web.StreamResponse(
                headers={
                    "Content-Type": form.media,
                    "Content-Disposition": f'attachment; filename="signals.{name}"',
                    "Cache-Control": "no-store",
                }
            )
            if self._audit is not None:
                self._audit.note("export", route=request.path)
            parts = Export(archive, query, form, every).parts()
            first = await anext(parts)  # a source that cannot be read is told of while there is still a status to tell
            try:
                await response.prepare(request)
                await self._send(response, first)
                async for part in parts:
                    await self._send(response, part)
                    if _gone(request):
                        return response
                await response.write_eof()
            except (LogError, TimeoutError):
                # Too late for a status: the file must not look whole.
                if request.transport is not None:
                    request.transport.abort()
            except ConnectionError:
                pass  # the asker left
        return response

    async def _send(self, response: web.StreamResponse, data: bytes) -> None:
        if data:
            async with asyncio.timeout(self._send_timeout_s):
                await response.write(data)

    @asynccontextmanager
    async def _place(self, request: web.Request) -> AsyncIterator[Archive]:
        """The archive, for one of the few that may read it now."""
        if self._archive is None:
            raise _Busy(f"{request.path}: what was published is not read here; ask the process that runs the engine")
        if self._places == 0:
            raise _Busy(f"{request.path}: {MAX_AT_ONCE} others are being answered; try again later")
        self._places -= 1
        try:
            yield self._archive
        except LogError as problem:
            raise _Busy(f"{request.path}: {problem}") from None
        finally:
            self._places += 1


class _Busy(web.HTTPServiceUnavailable):
    def __init__(self, text: str) -> None:
        super().__init__(reason=" ".join(text.split()))


def _query(request: web.Request) -> RowQuery:
    return RowQuery(
        signals=names_of(request, SIGNAL),
        entity=text_of(request, ENTITY),
        domain=text_of(request, DOMAIN),
        window_ms=whole_of(request, WINDOW),
        from_ms=moment_of(request, FROM),
        to_ms=moment_of(request, TO),
        known_at_ms=moment_of(request, AT),
    )


def _gone(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()
