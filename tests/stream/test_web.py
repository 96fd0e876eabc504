"""The live server over real sockets on loopback, with aiohttp's own client."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
import pytest

from operators.records import SignalRow
from stream.assets import load_assets
from stream.errors import UsageError
from stream.feed import Feed, OpsStatus, SpotPost
from stream.metrics import Metrics
from stream.urgency import UrgentPost
from stream.web import LiveServer


def row(end: int = 60_000, **given: Any) -> SignalRow:
    fields: dict[str, Any] = {
        "signal": "market.joy", "domain": "market", "entity": "ticker:AAPL", "window_start": end - 60_000,
        "window_end": end, "value": 0.25, "lo": 0.2, "hi": 0.3, "n": 40, "n_eff": 38.5, "authors": 30, "buzz": 40.0,
        "status": "final", "revision": 0, "watermark": end, "model": "m@1", "ontology": "o1",
    }  # fmt: skip
    return SignalRow(**{**fields, **given})


READY = OpsStatus(consumed=5, applied=3, duplicate=1, late=1, domain="market", ready=True, problem=None)
Scene = Callable[[Feed, LiveServer, aiohttp.ClientSession], Awaitable[None]]


@asynccontextmanager
async def served(feed: Feed, **options: Any) -> AsyncIterator[tuple[LiveServer, aiohttp.ClientSession]]:
    server = LiveServer(feed, Metrics(process=False), port=0, **options)
    await server.start()
    try:
        async with aiohttp.ClientSession(server.url) as session:
            yield server, session
    finally:
        await server.stop()


def play(scene: Scene, feed: Feed | None = None, **options: Any) -> None:
    async def run() -> None:
        held = Feed(first_id=0) if feed is None else feed
        async with asyncio.timeout(10), served(held, **options) as (server, session):
            await scene(held, server, session)

    asyncio.run(run())


def filled() -> Feed:
    feed = Feed(first_id=0)
    feed.publish([row(60_000 + k * 10_000, n=30 + k) for k in range(10)])
    feed.publish([row(160_000, value=None, lo=None, hi=None, n=4), row(160_000, signal="market.fear")])
    feed.publish([row(60_000, entity="ticker:TSLA", n=300), row(3_600_000, window_start=0)])
    feed.status(READY)
    return feed


async def events(response: aiohttp.ClientResponse, count: int) -> list[tuple[str, str, Any]]:
    """The next `count` events as (id, kind, data); comments and `retry` are passed over."""
    found: list[tuple[str, str, Any]] = []
    fields: dict[str, str] = {}
    while len(found) < count:
        line = (await response.content.readline()).decode().rstrip("\n")
        if line == "" and "data" in fields:
            found.append((fields["id"], fields["event"], json.loads(fields["data"])))
            fields = {}
        elif line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value
    return found


def test_series_and_rows_equal_what_was_published() -> None:
    async def scene(feed: Feed, server: LiveServer, http: aiohttp.ClientSession) -> None:
        async with http.get("/api/series", params={"entity": "ticker:AAPL", "window": "60000"}) as answer:
            body = await answer.json()
        assert body["last_id"] == feed.last_id
        assert sorted(body["series"]) == ["market.fear", "market.joy"]
        joy = body["series"]["market.joy"]
        assert joy["window_end"] == [60_000 + k * 10_000 for k in range(11)]
        assert joy["value"] == [0.25] * 10 + [None]
        assert joy["n"] == [30 + k for k in range(10)] + [4]
        params = {"entity": "ticker:AAPL", "window": "60000", "signal": "market.joy", "since": "150000"}
        async with http.get("/api/rows", params=params) as answer:
            rows = (await answer.json())["rows"]
        expected = [row(160_000, value=None, lo=None, hi=None, n=4), row(150_000, n=39)]
        assert rows == json.loads(msgspec.json.encode(expected))
        async with http.get("/api/rows", params={"latest": "1", "limit": "2"}) as answer:
            assert [r["window_end"] for r in (await answer.json())["rows"]] == [3_600_000, 160_000]

    play(scene, filled())


def test_entities_signals_posts_and_status() -> None:
    async def scene(feed: Feed, server: LiveServer, http: aiohttp.ClientSession) -> None:
        feed.spotlight("ticker:AAPL", [SpotPost(time_ms=1, text_masked="<b>hi</b>", label="joy", score=0.5)])
        async with http.get("/api/entities", params={"window": "60000"}) as answer:
            body = await answer.json()
        assert [(e["entity"], e["n"]) for e in body["entities"]] == [("ticker:TSLA", 300), ("ticker:AAPL", 40)]
        async with http.get("/api/entities", params={"q": "aap", "limit": "1"}) as answer:
            assert [e["entity"] for e in (await answer.json())["entities"]] == ["ticker:AAPL"]
        async with http.get("/api/signals") as answer:
            body = await answer.json()
        assert [s["signal"] for s in body["signals"]] == ["market.fear", "market.joy"]
        assert body["windows"] == [60_000, 3_600_000]
        async with http.get("/api/posts", params={"entity": "ticker:AAPL"}) as answer:
            assert (await answer.json())["posts"][0]["text_masked"] == "<b>hi</b>"
        async with http.get("/api/status") as answer:
            body = await answer.json()
        assert (body["consumed"], body["accounted"], body["conserved"]) == (5, 5, True)

    play(scene, filled())


def test_matrix_and_queue() -> None:
    async def scene(feed: Feed, server: LiveServer, http: aiohttp.ClientSession) -> None:
        end, hour = 3_600_000, 3_600_000
        water = row(end, signal="crisis.need.water", domain="crisis", entity="place:Houma", window_start=0, n=50)
        feed.publish([water])
        urgent = UrgentPost(id="p", time_ms=1, urgency=0.5, request=1.0, fear=0.0, sadness=0.0, need="water",
                            places=("place:Houma",), text_masked="no water")  # fmt: skip
        feed.urge([urgent], [], 2 * hour)
        async with http.get("/api/matrix") as answer:
            body = await answer.json()
        assert (body["window_end"], body["places"], body["cells"][0]["need"]) == (end, ["place:Houma"], "water")
        async with http.get("/api/matrix", params={"at": "1970-01-01T00:30"}) as answer:
            assert (await answer.json())["window_end"] is None
        async with http.get("/api/queue", params={"need": "water"}) as answer:
            body = await answer.json()
        assert [(p["id"], p["matched"]) for p in body["posts"]] == [("p", False)]
        assert (body["total"], body["backlog"]["unmatched"]) == (1, 1)
        async with http.get("/api/queue", params={"need": "gold"}) as answer:
            assert answer.status == 400

    play(scene, filled())


def test_events_resume_by_header_and_by_query() -> None:
    async def scene(feed: Feed, server: LiveServer, http: aiohttp.ClientSession) -> None:
        async with http.get("/events", params={"entity": "ticker:AAPL", "window": "60000"}) as live:
            assert live.headers["Content-Type"] == "text/event-stream"
            assert [kind for _, kind, _ in await events(live, 1)] == ["status"]
            feed.publish([row(170_000)])
            ((event_id, kind, data),) = await events(live, 1)
            assert (event_id, kind, data["rows"][0]["window_end"]) == ("4", "rows", 170_000)
        feed.publish([row(180_000)])
        feed.publish([row(190_000)])
        for how in ({"headers": {"Last-Event-ID": "4"}}, {"params": {"last_id": "4"}}):
            async with http.get("/events", **how) as again:  # type: ignore[arg-type]
                got = await events(again, 3)
            assert [(e[0], e[1]) for e in got] == [("5", "rows"), ("6", "rows"), ("6", "status")]
        async with http.get("/events", headers={"Last-Event-ID": "rubbish"}) as lost:
            assert (await events(lost, 1))[0][1] == "reset"

    play(scene, filled())


def test_an_idle_stream_carries_heartbeats_and_a_stop_ends_it() -> None:
    async def scene(feed: Feed, server: LiveServer, http: aiohttp.ClientSession) -> None:
        async with http.get("/events") as live:
            await events(live, 1)
            assert (await live.content.readline()) == b": still here\n"
            assert feed.readers == 1
            await server.stop()
            rest = await live.content.read()
            assert rest.strip().replace(b": still here", b"").strip() == b""
        assert feed.readers == 0

    play(scene, heartbeat_s=0.05)


def test_a_reader_that_never_reads_is_cut_off_and_others_go_on() -> None:
    async def scene(feed: Feed, server: LiveServer, http: aiohttp.ClientSession) -> None:
        stuck = socket.create_connection(("127.0.0.1", server.port))
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.sendall(b"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        async with http.get("/events") as live:
            await events(live, 1)
            while feed.readers < 2:  # noqa: ASYNC110 - a feed has no event for that
                await asyncio.sleep(0.01)
            sent = 0
            while feed.readers == 2:
                feed.publish([row(60_000 + (sent * 200 + k) * 10_000, reasons=("x" * 400,)) for k in range(200)])
                sent += 1
                assert (await events(live, 1))[0][1] == "rows"
            assert sent > 3
        stuck.close()

    play(scene, Feed(first_id=0, queue_events=16), send_timeout_s=0.3)


def test_event_streams_are_bounded() -> None:
    async def scene(feed: Feed, server: LiveServer, http: aiohttp.ClientSession) -> None:
        async with http.get("/events"), http.get("/events") as second:
            assert second.status == 503
            assert second.headers["Retry-After"] == "5"

    play(scene, max_readers=1)


def test_health_and_metrics_follow_the_status() -> None:
    async def scene(feed: Feed, server: LiveServer, http: aiohttp.ClientSession) -> None:
        async with http.get("/readyz") as answer:
            assert (answer.status, await answer.text()) == (503, "starting: nothing was read yet\n")
        feed.status(OpsStatus(ready=False, problem="log locked: stop the other process"))
        async with http.get("/readyz") as answer:
            assert (answer.status, await answer.text()) == (503, "log locked: stop the other process\n")
        feed.status(READY)
        server.metrics.status(READY)
        async with http.get("/readyz") as answer:
            assert answer.status == 200
        async with http.get("/livez") as answer:
            assert (answer.status, await answer.text()) == (200, "ok\n")
        async with http.get("/metrics") as answer:
            assert answer.headers["Content-Type"].startswith("text/plain")
            assert "affect_records_in_total 5.0" in await answer.text()

    play(scene)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Host": "evil.example:8642"}, 403),
        ({"Host": "localhost.evil.example"}, 403),
        ({"Host": "[::1"}, 403),
        ({"Host": "localhost:9999"}, 200),
        ({"Host": "[::1]:80"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "localhost:80", "Origin": "http://localhost:80"}, 200),
        ({"Host": "localhost:80", "Origin": "http://localhost:81"}, 403),
    ],
)
def test_foreign_names_and_origins_are_refused(headers: dict[str, str], status: int) -> None:
    async def scene(feed: Feed, server: LiveServer, http: aiohttp.ClientSession) -> None:
        for path in ("/api/status", "/events", "/"):
            async with http.get(path, headers=headers) as answer:
                assert answer.status == status

    play(scene)


def test_every_answer_carries_the_security_headers() -> None:
    async def scene(feed: Feed, server: LiveServer, http: aiohttp.ClientSession) -> None:
        for path in ("/", "/static/app.js", "/api/status", "/nothing", "/events", "/readyz"):
            async with http.get(path) as answer:
                assert answer.headers["Content-Security-Policy"].startswith("default-src 'self'; base-uri 'none'")
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                assert "aiohttp" not in answer.headers["Server"]

    play(scene)


def test_static_files_answer_304_to_their_etag_and_uplot_comes_from_its_package() -> None:
    async def scene(feed: Feed, server: LiveServer, http: aiohttp.ClientSession) -> None:
        for name in load_assets():
            async with http.get(f"/static/{name}") as answer:
                assert answer.status == 200
                etag = answer.headers["ETag"]
            async with http.get(f"/static/{name}", headers={"If-None-Match": etag}) as answer:
                assert (answer.status, await answer.read()) == (304, b"")
        async with http.get("/static/uplot.js") as answer:
            assert "var uPlot = (function" in await answer.text()
        for path in ("/static/..%2fweb.py", "/static/nothing.js", "/static/"):
            async with http.get(path) as answer:
                assert answer.status == 404

    play(scene)


@pytest.mark.parametrize(
    "path",
    [
        "/api/series?entity=a",
        "/api/series?window=60000",
        "/api/series?entity=a&window=-1",
        "/api/series?entity=a&window=1m",
        "/api/series?entity=a&window=99999999999999999999999",
        "/api/rows?limit=0",
        "/api/rows?limit=9999999",
        "/api/rows?since=%C2%B2",
        "/api/posts",
        "/events?window=x",
    ],
)
def test_wrong_requests_say_what_was_expected(path: str) -> None:
    async def scene(feed: Feed, server: LiveServer, http: aiohttp.ClientSession) -> None:
        async with http.get(path) as answer:
            assert answer.status == 400
            assert "expected" in (await answer.json())["error"]
        assert feed.readers == 0

    play(scene, filled())


def test_unknown_things_are_empty_not_wrong() -> None:
    async def scene(feed: Feed, server: LiveServer, http: aiohttp.ClientSession) -> None:
        async with http.get("/api/series?entity=ticker:NONE&window=60000") as answer:
            assert (await answer.json())["series"] == {}
        async with http.post("/api/status") as answer:
            assert answer.status == 405

    play(scene, filled())


def test_a_taken_port_is_one_clear_line_of_usage() -> None:
    async def scene(feed: Feed, server: LiveServer, http: aiohttp.ClientSession) -> None:
        second = LiveServer(feed, Metrics(process=False), port=server.port)
        with pytest.raises(UsageError, match=rf"port {server.port}: expected a free port .* --port") as caught:
            await second.start()
        assert caught.value.exit_code == 2
        assert "\n" not in str(caught.value)

    play(scene)


def test_a_server_starts_again_on_its_port() -> None:
    async def scene(feed: Feed, server: LiveServer, http: aiohttp.ClientSession) -> None:
        port = server.port
        await server.stop()
        await server.stop()
        await server.start()
        assert server.port == port
        async with http.get("/livez") as answer:
            assert answer.status == 200

    play(scene)


def test_the_page_asks_no_other_host_and_has_no_inline_script_or_style() -> None:
    for name, asset in load_assets().items():
        text = asset.body.decode()
        if name.startswith("uplot"):
            continue
        bare = text.replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in bare
        assert "https://" not in bare
        assert "innerHTML" not in text
        if name == "index.html":
            assert "style=" not in text
            assert "<style" not in text
            assert all(' src="/static/' in line for line in text.splitlines() if "<script" in line)
