"""As-of queries, revisions and exports over HTTP, on a log that is being written."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import msgspec
import pyarrow.parquet as pq
import pytest
from published_rows import CODEC, MINUTE, by_hand, filled, row

from stream.archive_base import PublishedRow, RowQuery
from stream.errors import LogUnavailable
from stream.feed import Feed
from stream.log_archive import LogArchive
from stream.metrics import Metrics
from stream.web import LiveServer

HISTORY = [
    (row(n=10, status="provisional", watermark=30_000), 1_000),
    (row(n=40), 61_000),
    (row(2 * MINUTE, n=7), 70_000),
    (row(n=41, revision=1, status="revised"), 95_000),
    (row(2 * MINUTE, entity="ticker:TSLA", signal="market.fear", n=5), 96_000),
]
Scene = Callable[[aiohttp.ClientSession], Awaitable[None]]


def play(scene: Scene, archive: Any = None) -> None:
    async def run() -> None:
        source = LogArchive(await filled(HISTORY), CODEC) if archive is None else archive
        server = LiveServer(Feed(first_id=0), Metrics(process=False), port=0, archive=source)
        await server.start()
        try:
            async with asyncio.timeout(30), aiohttp.ClientSession(server.url) as http:
                await scene(http)
        finally:
            await server.stop()

    asyncio.run(run())


async def answered(http: aiohttp.ClientSession, path: str, status: int = 200, **params: Any) -> dict[str, Any]:
    async with http.get(path, params=params) as answer:
        assert answer.status == status, await answer.text()
        found: dict[str, Any] = await answer.json()
        return found


@pytest.mark.parametrize("at", [0, 1_000, 61_000, 94_999, 95_000, 10**12])
def test_as_of_gives_what_was_known_newest_window_first(at: int) -> None:
    async def scene(http: aiohttp.ClientSession) -> None:
        found = await answered(http, "/api/asof", at=at)
        expected = sorted(by_hand(HISTORY, RowQuery(known_at_ms=at)), key=lambda r: (-r.window_end, r.row_id))
        assert found["rows"] == json.loads(msgspec.json.encode(expected))
        assert (found["at_ms"], found["source"], found["reaches_back_to_ms"]) == (at, "log", 1_000)

    play(scene)


def test_as_of_narrows_and_is_bounded() -> None:
    async def scene(http: aiohttp.ClientSession) -> None:
        later = {"at": "1970-01-02T00:00"}
        for params, count in (
            ({"signal": "market.fear"}, 1), ({"entity": "ticker:AAPL"}, 2), ({"window": "1"}, 0), ({"limit": "1"}, 1),
            ({"from": str(2 * MINUTE)}, 2), ({"to": str(2 * MINUTE)}, 1), ({"domain": "crisis"}, 0), ({}, 3),
        ):  # fmt: skip
            assert len((await answered(http, "/api/asof", **later, **params))["rows"]) == count, params

    play(scene)


def test_revisions_are_every_published_version_in_order() -> None:
    async def scene(http: aiohttp.ClientSession) -> None:
        row_id = HISTORY[0][0].row_id
        found = await answered(http, "/api/revisions", row_id=row_id)
        assert [(r["n"], r["status"], r["recorded_ms"]) for r in found["versions"]] == [
            (10, "provisional", 1_000), (40, "final", 61_000), (41, "revised", 95_000),
        ]  # fmt: skip
        assert found["total"] == 3
        known = await answered(http, "/api/revisions", row_id=row_id, at=61_000, limit=1)
        assert ([r["n"] for r in known["versions"]], known["total"]) == ([40], 2)
        assert (await answered(http, "/api/revisions", row_id="a|b|1|2"))["versions"] == []

    play(scene)


def test_export_in_every_format_is_the_newest_rows_or_all() -> None:
    async def scene(http: aiohttp.ClientSession) -> None:
        async with http.get("/api/export") as answer:
            assert answer.headers["Content-Disposition"] == 'attachment; filename="signals.csv"'
            assert answer.headers["Content-Type"] == "text/csv"
            lines = list(csv.DictReader(io.StringIO(await answer.text(), newline="")))
        newest = by_hand(HISTORY, RowQuery())
        assert [(x["signal"], int(x["n"])) for x in lines] == [(r.signal, r.n) for r in newest]
        async with http.get("/api/export", params={"format": "jsonl", "which": "all"}) as answer:
            lines = [json.loads(line) for line in (await answer.text()).splitlines()]
        assert [(x["n"], x["recorded_ms"]) for x in lines] == [(r.n, at) for r, at in HISTORY]
        async with http.get("/api/export", params={"format": "parquet", "at": "61000"}) as answer:
            table = pq.read_table(io.BytesIO(await answer.read()))
        assert table["n"].to_pylist() == [40]

    play(scene)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/api/asof", "at: expected a value, got none"),
        ("/api/asof?at=soon", "at: expected epoch milliseconds or ISO 8601"),
        ("/api/asof?at=0&limit=0", "limit: expected a whole number from 1 to 5000"),
        ("/api/revisions", "row_id: expected a value"),
        ("/api/revisions?row_id=a", "row_id: expected signal|entity|window_start|window_end"),
        ("/api/export?format=xls", "format: expected one of csv, jsonl, parquet"),
        ("/api/export?which=some", "which: expected one of newest, all"),
        ("/api/export?from=x", "from: expected epoch milliseconds"),
    ],
)
def test_wrong_requests_say_what_was_expected(path: str, says: str) -> None:
    async def scene(http: aiohttp.ClientSession) -> None:
        assert says in (await answered(http, path, 400))["error"]

    play(scene)


class Away:
    """A log that is away, at once or after the first batch; or one that takes its time."""

    source = "log"

    def __init__(self, batches: int = 0, wait: asyncio.Event | None = None) -> None:
        self.batches, self.wait = batches, wait
        self.reading = 0

    async def versions(self, query: RowQuery, latest_first: bool = False) -> AsyncIterator[list[PublishedRow]]:
        self.reading += 1
        try:
            for _ in range(self.batches):
                yield [PublishedRow(**msgspec.structs.asdict(row()))]
            if self.wait is not None:
                await self.wait.wait()
            raise LogUnavailable("the log is locked; stop the other process")
        finally:
            self.reading -= 1

    newest = versions

    async def reach_ms(self) -> int | None:
        return None


def test_a_log_that_is_away_is_503_with_its_reason() -> None:
    async def scene(http: aiohttp.ClientSession) -> None:
        for path in ("/api/asof?at=0", "/api/revisions?row_id=a|b|1|2", "/api/export"):
            async with http.get(path) as answer:
                assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
                assert "the log is locked" in (await answer.json())["error"]

    play(scene, Away())


def test_an_export_that_breaks_off_does_not_look_whole() -> None:
    async def scene(http: aiohttp.ClientSession) -> None:
        async with http.get("/api/export") as answer:
            assert answer.status == 200
            with pytest.raises(aiohttp.ClientError):
                await answer.read()

    play(scene, Away(batches=2))


def test_few_read_at_a_time_and_one_that_leaves_makes_room() -> None:
    async def scene(http: aiohttp.ClientSession) -> None:
        asked = [asyncio.create_task(answered(http, "/api/asof", at=0)) for _ in range(2)]
        while slow.reading < 2:  # noqa: ASYNC110 - the server has no event for that
            await asyncio.sleep(0.01)
        assert "2 others are being answered" in (await answered(http, "/api/asof", 503, at=0))["error"]
        for task in asked:
            task.cancel()
        await asyncio.wait(asked)
        while slow.reading:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    slow = Away(wait=asyncio.Event())
    play(scene, slow)


def test_parquet_without_its_extra_is_501(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(http: aiohttp.ClientSession) -> None:
        found = await answered(http, "/api/export", 501, format="parquet")
        assert "pip install 'affectstream[export]'" in found["error"]

    monkeypatch.setitem(sys.modules, "stream.export_parquet", None)
    play(scene)


def test_a_server_without_an_archive_says_so() -> None:
    async def run() -> None:
        server = LiveServer(Feed(first_id=0), Metrics(process=False), port=0)
        await server.start()
        try:
            async with aiohttp.ClientSession(server.url) as http:
                assert "is not read here" in (await answered(http, "/api/asof", 503, at=0))["error"]
        finally:
            await server.stop()

    asyncio.run(run())
