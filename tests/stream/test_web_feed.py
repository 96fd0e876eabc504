"""The WebSocket beside the event stream, over real sockets: the same events, slow ones dropped, fast ones untouched."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import pytest

from operators.records import SignalRow
from stream.feed import Feed, OpsStatus, SpotPost
from stream.metrics import Metrics
from stream.web import LiveServer

Scene = Callable[[Feed, LiveServer, aiohttp.ClientSession], Awaitable[None]]
WINDOW = 60_000


def row(end: int = WINDOW, **given: Any) -> SignalRow:
    fields: dict[str, Any] = {
        "signal": "market.joy", "domain": "market", "entity": "ticker:AAPL", "window_start": end - WINDOW,
        "window_end": end, "value": 0.25, "lo": 0.2, "hi": 0.3, "n": 40, "n_eff": 38.5, "authors": 30, "buzz": 40.0,
        "status": "final", "revision": 0, "watermark": end, "model": "m@1", "ontology": "o1",
    }  # fmt: skip
    return SignalRow(**{**fields, **given})


@asynccontextmanager
async def served(feed: Feed, **options: Any) -> AsyncIterator[tuple[LiveServer, aiohttp.ClientSession]]:
    server = LiveServer(feed, Metrics(process=False), port=0, **options)
    await server.start()
    try:
        async with aiohttp.ClientSession(server.url, connector=aiohttp.TCPConnector(limit=0)) as session:
            yield server, session
    finally:
        await server.stop()


def play(scene: Scene, feed: Feed | None = None, seconds: float = 60, **options: Any) -> None:
    async def run() -> None:
        held = Feed(first_id=0) if feed is None else feed
        async with asyncio.timeout(seconds), served(held, **options) as (server, session):
            await scene(held, server, session)

    asyncio.run(run())


async def take(ws: aiohttp.ClientWebSocketResponse, count: int) -> list[dict[str, Any]]:
    return [json.loads(await ws.receive_str()) for _ in range(count)]


async def until_close(ws: aiohttp.ClientWebSocketResponse) -> list[dict[str, Any]]:
    return [json.loads(message.data) async for message in ws if message.type is aiohttp.WSMsgType.TEXT]


async def happened(so: Callable[[], bool]) -> None:
    while not so():  # noqa: ASYNC110 - the other end is another task of this loop, and tells nobody
        await asyncio.sleep(0.005)


async def sse(response: aiohttp.ClientResponse, count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    fields: dict[str, str] = {}
    while len(found) < count:
        line = (await response.content.readline()).decode().rstrip("\n")
        if line == "" and "data" in fields:
            found.append({"id": int(fields["id"]), "event": fields["event"], "data": json.loads(fields["data"])})
            fields = {}
        elif line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value
    return found


def test_a_web_socket_gets_the_events_of_the_event_stream_under_the_same_ids() -> None:
    async def scene(feed: Feed, server: LiveServer, http: aiohttp.ClientSession) -> None:
        async with http.ws_connect("/ws") as ws, http.get("/events") as stream:
            feed.publish([row(), row(entity="ticker:TSLA")])
            feed.spotlight("ticker:AAPL", [SpotPost(time_ms=1, text_masked="é <b>", label="joy", score=0.5)])
            feed.status(OpsStatus(consumed=3))
            feed.publish([row(2 * WINDOW)])
            by_socket, by_stream = await take(ws, 5), await sse(stream, 5)
        assert by_socket == by_stream
        assert [e["event"] for e in by_socket] == ["status", "rows", "posts", "status", "rows"]
        assert [e["id"] for e in by_socket] == [0, 1, 1, 1, 2]
        await happened(lambda: feed.readers == 0)

    play(scene)


def test_it_resumes_after_the_last_id_and_says_reset_where_that_is_gone() -> None:
    async def scene(feed: Feed, server: LiveServer, http: aiohttp.ClientSession) -> None:
        for k in range(1, 5):
            feed.publish([row(k * WINDOW)])
        async with http.ws_connect("/ws?last_id=2") as ws:
            events = await take(ws, 3)
        assert [(e["id"], e["event"]) for e in events] == [(3, "rows"), (4, "rows"), (4, "status")]
        for gone in ("rubbish", "99"):
            async with http.ws_connect("/ws", params={"last_id": gone}) as ws:
                assert (await take(ws, 1))[0]["event"] == "reset"

    play(scene)


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ({"entity": "ticker:TSLA"}, {("ticker:TSLA", "market", WINDOW), ("ticker:TSLA", "market", 5 * WINDOW)}),
        ({"window": str(5 * WINDOW)}, {("ticker:TSLA", "market", 5 * WINDOW)}),
        ({"domain": "crisis"}, {("place:Bari", "crisis", WINDOW)}),
        ({"domain": "crisis", "entity": "ticker:TSLA"}, set()),
        ({}, {("ticker:TSLA", "market", WINDOW), ("ticker:TSLA", "market", 5 * WINDOW),
              ("place:Bari", "crisis", WINDOW)}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/ws", "/events"])
def test_filters_let_through_what_was_asked_for(
    path: str, asked: dict[str, str], wanted: set[tuple[str, str, int]]
) -> None:
    rows = [
        row(5 * WINDOW, entity="ticker:TSLA"),
        row(5 * WINDOW, entity="ticker:TSLA", window_start=0),
        row(5 * WINDOW, entity="place:Bari", domain="crisis", signal="crisis.need"),
    ]

    async def scene(feed: Feed, server: LiveServer, http: aiohttp.ClientSession) -> None:
        async def collected(read: Callable[[int], Awaitable[list[dict[str, Any]]]]) -> set[tuple[str, str, int]]:
            await read(1)  # the status it begins with: now it is subscribed
            feed.publish(rows)
            feed.status(OpsStatus(consumed=7))
            found = set()
            while (event := (await read(1))[0])["event"] == "rows":
                found |= {
                    (r["entity"], r["domain"], r["window_end"] - r["window_start"]) for r in event["data"]["rows"]
                }
            return found

        if path == "/ws":
            async with http.ws_connect(path, params=asked) as ws:
                assert await collected(lambda n: take(ws, n)) == wanted
        else:
            async with http.get(path, params=asked) as stream:
                assert await collected(lambda n: sse(stream, n)) == wanted

    play(scene)


def test_pings_are_sent_and_a_reader_that_answers_none_is_cut_off() -> None:
    async def scene(feed: Feed, server: LiveServer, http: aiohttp.ClientSession) -> None:
        async with http.ws_connect("/ws", autoping=False) as mute, http.ws_connect("/ws") as polite:
            await take(mute, 1)
            await take(polite, 1)
            assert (await mute.receive()).type is aiohttp.WSMsgType.PING
            gone = asyncio.create_task(mute.receive())  # reads on, and answers nothing
            polite_reads = asyncio.create_task(polite.receive_str())  # reading is what answers pings
            await gone
            assert mute.closed or gone.result().type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)
            await happened(lambda: feed.readers == 1)
            assert b'affect_feed_dropped_total{reason="stalled"} 1.0' in server.metrics.exposition()
            feed.publish([row()])
            assert json.loads(await polite_reads)["event"] == "rows"

    play(scene, heartbeat_s=0.3)


def test_what_a_reader_sends_is_refused_and_a_ping_of_its_own_is_answered() -> None:
    async def scene(feed: Feed, server: LiveServer, http: aiohttp.ClientSession) -> None:
        async with http.ws_connect("/ws", autoping=False) as ws:
            await take(ws, 1)
            await ws.ping(b"there?")
            answer = await ws.receive()
            assert (answer.type, bytes(answer.data)) == (aiohttp.WSMsgType.PONG, b"there?")
            await ws.send_str("hello")
            assert (await ws.receive()).type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
            assert ws.close_code == aiohttp.WSCloseCode.UNSUPPORTED_DATA
        async with http.ws_connect("/ws") as ws:
            await take(ws, 1)
            await ws.send_str("x" * 5_000)
            assert await until_close(ws) == []
            assert ws.close_code == aiohttp.WSCloseCode.MESSAGE_TOO_BIG
        await happened(lambda: feed.readers == 0)

    play(scene)


def test_a_stop_says_goodbye() -> None:
    async def scene(feed: Feed, server: LiveServer, http: aiohttp.ClientSession) -> None:
        async with http.ws_connect("/ws") as ws:
            await take(ws, 1)
            feed.publish([row()])
            left = asyncio.create_task(until_close(ws))
            await server.stop()
            assert [e["event"] for e in await left] == ["rows"]
            assert ws.close_code == aiohttp.WSCloseCode.GOING_AWAY

    play(scene)


def test_both_kinds_share_the_places_and_plain_http_is_told_what_to_do() -> None:
    async def scene(feed: Feed, server: LiveServer, http: aiohttp.ClientSession) -> None:
        async with http.get("/ws") as plain:
            assert (plain.status, plain.headers["Upgrade"]) == (426, "websocket")
        async with http.ws_connect("/ws") as first:
            await take(first, 1)
            async with http.get("/events") as second:
                assert (second.status, second.headers["Retry-After"]) == (503, "5")
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await http.ws_connect("/ws")
            assert refused.value.status == 503
        with pytest.raises(aiohttp.WSServerHandshakeError) as foreign:
            await http.ws_connect("/ws", headers={"Origin": "http://evil.example"})
        assert foreign.value.status == 403

    play(scene, max_readers=1)


def handshake(port: int) -> socket.socket:
    """A WebSocket that will read nothing: a small receive buffer, then silence."""
    stuck = socket.socket()
    stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    stuck.connect(("127.0.0.1", port))
    stuck.sendall(
        b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    return stuck


def wide(number: int) -> list[SignalRow]:
    """Rows of one event, about 60 kB of JSON."""
    return [row((1 + number * 100 + k) * WINDOW, reasons=("x" * 300,)) for k in range(100)]


def test_a_slow_reader_hears_why_it_is_dropped_and_can_go_on_where_it_was() -> None:
    async def scene(feed: Feed, server: LiveServer, http: aiohttp.ClientSession) -> None:
        async with http.ws_connect("/ws", max_msg_size=0) as slow:
            first = (await take(slow, 1))[0]
            while feed.readers:  # it reads nothing meanwhile: buffers fill, then its queue
                feed.publish(wide(feed.last_id))
                await asyncio.sleep(0)
            last = feed.last_id
            events = [first, *await until_close(slow)]
            assert slow.close_code == aiohttp.WSCloseCode.TRY_AGAIN_LATER
        assert events[-1]["event"] == "dropped"
        assert "8 events waiting" in events[-1]["data"]["reason"]
        assert b'affect_feed_dropped_total{reason="queue_full"} 1.0' in server.metrics.exposition()
        seen = [e["id"] for e in events if e["event"] == "rows"]
        assert seen == list(range(1, len(seen) + 1)), "what came before the drop came in order, without a hole"
        assert len(seen) < last
        async with http.ws_connect("/ws", params={"last_id": str(seen[-1] if seen else 0)}, max_msg_size=0) as again:
            rest = await take(again, last - len(seen) + 1)
        assert [e["id"] for e in rest if e["event"] == "rows"] == list(range(len(seen) + 1, last + 1))

    play(scene, Feed(first_id=0, queue_events=8, ring_rows=10**6), send_timeout_s=30)


def test_two_hundred_fast_readers_lose_nothing_beside_slow_ones() -> None:
    """One reader takes no byte at all, one reads nothing until it is dropped; the others get every event, in order."""
    fast, events = 200, 12

    async def scene(feed: Feed, server: LiveServer, http: aiohttp.ClientSession) -> None:
        stuck = handshake(server.port)
        async with AsyncExitStack() as stack:
            half = fast // 2
            sockets = [await stack.enter_async_context(http.ws_connect("/ws", max_msg_size=0)) for _ in range(half)]
            streams = [await stack.enter_async_context(http.get("/events")) for _ in range(half)]
            await happened(lambda: feed.readers == fast + 1)
            got = [asyncio.create_task(ids_of_socket(ws, events + 1)) for ws in sockets]
            got += [asyncio.create_task(ids_of_stream(stream, events + 1)) for stream in streams]
            for number in range(events):
                feed.publish(wide(number))
                await asyncio.sleep(0)
            for found in await asyncio.gather(*got):
                assert found == [0, *range(1, events + 1)]
            await happened(lambda: feed.readers == fast)  # the stuck one was cut off meanwhile, or soon is
        stuck.close()
        await happened(lambda: feed.readers == 0)

    play(scene, Feed(first_id=0), seconds=120, send_timeout_s=0.5, heartbeat_s=60)


async def ids_of_socket(ws: aiohttp.ClientWebSocketResponse, count: int) -> list[int]:
    return [int((await ws.receive_str()).partition(",")[0].removeprefix('{"id":')) for _ in range(count)]


async def ids_of_stream(response: aiohttp.ClientResponse, count: int) -> list[int]:
    found: list[int] = []
    async for line in response.content:
        found += [int(line[4:])] if line.startswith(b"id: ") else []
        if len(found) == count and line == b"\n":
            break
    return found


def test_readers_of_one_kind_share_one_encoding_and_old_ones_are_let_go() -> None:
    async def run() -> None:
        feed = Feed(first_id=0)
        readers = [feed.subscribe() for _ in range(3)]
        other = feed.subscribe(entity="ticker:TSLA")
        feed.publish([row(), row(entity="ticker:TSLA")])
        shared = [(await anext(r), await anext(r))[1].data for r in readers]
        assert shared[0] is shared[1] is shared[2]
        narrow = (await anext(other), await anext(other))[1].data
        assert [r["entity"] for r in json.loads(narrow)["rows"]] == ["ticker:TSLA"]
        for k in range(2, 12):
            feed.publish([row(k * WINDOW)])
            for reader in readers:
                await anext(reader)
        held = [len(batch.encoded) for batch in feed._ring]
        assert held[:-4] == [0] * (len(held) - 4)
        late = feed.subscribe(last_id=0)
        assert (await anext(late)).data == shared[0]
        assert len(feed._ring[0].encoded) == 0

    asyncio.run(run())
