"""A lesson over real sockets: consent first, chat that is nowhere kept, leaving at once, and live equal to replay."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec

from operators.classroom import NAMES
from stream.audit import Audit, entries
from stream.capture_desk import CaptureDesk
from stream.config import Config
from stream.feed import Feed
from stream.frame_strand import FrameStrand
from stream.history import SeriesKey
from stream.lesson_desk import LessonDesk
from stream.memory import MemoryLog
from stream.metrics import Metrics
from stream.replaying import replay, replay_config
from stream.runner import Runner
from stream.sqlite_log import SqliteLog
from stream.topology import build
from stream.web import LiveServer
from stream.web_capture import CaptureRoutes
from stream.web_lesson import LessonRoutes

MINUTE = 60_000
START = 1_700_000_040_000
CANARY = "zebra canary 4711 is utterly lost and confused about the second step"


class Clock:
    """Time as the test has it."""

    def __init__(self) -> None:
        self.ms = START + 1_000

    def now_ms(self) -> int:
        return self.ms


class Class:
    """A running lesson: engine, desk and pages on one SQLite log."""

    def __init__(
        self,
        folder: Path,
        token: str | None = None,
        looks: CaptureDesk | None = None,
        policy: dict[str, object] | None = None,
        capture: dict[str, object] | None = None,
        seats: int = 10,
    ) -> None:
        self.folder, self.clock = folder, Clock()
        self.config = msgspec.convert(
            {
                "domain": "classroom",
                "windows": {"sizes": ["1m"]},
                "policy": policy or {},
                "capture": capture or {},
                "classroom": {"seats": seats},
                "log": {"retention": "36500d"},  # the test's time is long past
                "time": {"disorder": "5s", "lateness": "5s", "idle": "30s", "future": "1h"},
            },
            Config,
        ).check()
        self.log = SqliteLog(folder / "lesson.db")
        self.feed = Feed()
        self.audit = Audit(folder / "audit.jsonl", self.clock)
        self.desk = LessonDesk(self.config, self.clock, self.audit)
        self.strand: FrameStrand | None = None
        if looks is not None and self.config.capture.mode == "topics":
            self.strand = FrameStrand(self.config, self.clock)
            looks.keeper = self.strand.frames
            self.desk.carry(self.strand, looks)
        lesson = LessonRoutes(self.desk)
        self.server = LiveServer(
            self.feed,
            Metrics(process=False),
            port=0,
            token=token,
            lesson=lesson,
            capture=None if looks is None else CaptureRoutes(self.desk, looks),
        )
        self.pages: list[tuple[aiohttp.ClientWebSocketResponse, str]] = []

    @asynccontextmanager
    async def going(self) -> AsyncIterator[aiohttp.ClientSession]:
        topology = build(self.config, 1)
        runner = Runner(topology, self.log, self.clock, until_end=False, feed=self.feed, on_rows=self.desk.see)
        running = asyncio.create_task(runner.run())
        await self.server.start()
        await self.desk.start(self.log, topology)
        try:
            async with aiohttp.ClientSession(self.server.url) as session:
                yield session
        finally:
            await self.server.stop()
            await self.desk.stop()
            runner.stop()
            await running
            await self.log.close()
            self.audit.close()

    async def join(self, session: aiohttp.ClientSession, key: str = "") -> tuple[aiohttp.ClientWebSocketResponse, str]:
        ws = await session.ws_connect("/join/ws")
        code = self.desk.lesson.rooms["1"].code
        await ws.send_json({"do": "join", "room": "1", "code": code, "key": key})
        return ws, (await heard(ws, "seat"))["key"]

    async def pass_time(self, ms: int) -> None:
        """Let `ms` go by, in steps that keep every seat on record."""
        for _ in range(ms // 10_000):
            self.clock.ms += 10_000
            await until(self._all_said)

    def _all_said(self) -> bool:
        seats = self.desk.lesson.rooms["1"].seats.values()
        return not self.desk._waiting and all(self.clock.ms - seat.said_ms < 20_000 for seat in seats)

    def row(self, signal: str, end: int) -> dict[str, object] | None:
        found = self.feed.history.rows(SeriesKey(f"classroom.{signal}", "room:1", MINUTE))
        row = next((row for row in found if row.window_end == end), None)
        return None if row is None else msgspec.to_builtins(row)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.02)


async def heard(ws: aiohttp.ClientWebSocketResponse, kind: str) -> dict[str, str]:
    async with asyncio.timeout(30):
        while True:
            message = json.loads((await ws.receive()).data)
            if message["type"] == kind:
                return dict(message)


def kept(folder: Path, words: bytes) -> list[str]:
    return [p.name for p in folder.rglob("*") if p.is_file() and words in p.read_bytes()]


def test_a_lesson_from_consent_to_the_curve(tmp_path: Path) -> None:
    room = Class(tmp_path)

    async def whole() -> None:
        async with room.going() as session:
            pages = [await room.join(session) for _ in range(11)]
            teacher = await session.ws_connect("/teach/ws")
            await teacher.send_json({"do": "ask", "text": "7 x 8?", "options": ["54", "56"], "right": 1})
            for k, (ws, _) in enumerate(pages):
                number = 0
                while not number:
                    message = await heard(ws, "question")
                    number = 0 if message["question"] is None else int(message["question"]["number"])  # type: ignore[index]
                await ws.send_json({"do": "answer", "number": number, "option": int(k < 6)})
                await ws.send_json({"do": "chat", "text": CANARY})
                assert (await heard(ws, "took"))["do"] == "answer"
                assert (await heard(ws, "took"))["do"] == "chat"
            await room.pass_time(50_000)
            await leaves(room, session, *pages[10])
            await room.pass_time(60_000)
            end = START + MINUTE
            await until(lambda: room.row("right", end) is not None)
            right, quiet = room.row("right", end), room.row("engagement", end)
            assert right is not None
            assert quiet is not None
            # Ten are left of eleven, six of them right; one of each kind is trimmed away: 5 of 8.
            assert (right["value"], right["n"]) == (0.6, 10)
            assert quiet["value"] == 0.75
            assert "proxy, not validated" in str(right["reasons"])
            await leaves(room, session, *pages[9])
            await room.pass_time(80_000)
            await until(lambda: room.row("engagement", end + MINUTE) is not None)
            few = room.row("engagement", end + 2 * MINUTE) or room.row("engagement", end + MINUTE)
            assert few is not None
            assert (few["value"], few["n"]) == (None, 0)
            for path in ("/api/rows?limit=500", "/api/posts?entity=room:1", "/api/posts?entity=all:*", "/metrics"):
                assert CANARY.split()[0] not in await (await session.get(path)).text()
            told = await (await session.get("/api/rows?limit=5000")).json()
            assert {row["entity"] for row in told["rows"]} == {"room:1"}

    asyncio.run(whole())
    for word in (CANARY, CANARY.split()[0], "7 x 8"):
        assert kept(tmp_path, word.encode()) == []
    assert kept(tmp_path, b"answer 1 1") != [], "the search itself must find what is there"
    kinds = [(e.kind, e.facts.get("given")) for e in entries(tmp_path / "audit.jsonl")]
    assert kinds.count(("consent", 1)) == 13  # eleven, and two that came back as somebody else
    assert kinds.count(("consent", 0)) == 4
    assert any(kind == "suppressed" for kind, _ in kinds)
    compare_with_replay(room)


async def leaves(room: Class, session: aiohttp.ClientSession, ws: aiohttp.ClientWebSocketResponse, key: str) -> None:
    """Withdraw: the link is gone before the page hears of it, every open minute knows, and the key opens nothing."""
    seat = room.desk.lesson.rooms["1"].seats[key].name
    await ws.send_json({"do": "withdraw"})
    await heard(ws, "withdrawn")
    assert key not in room.desk.lesson.rooms["1"].seats
    assert seat not in str(room.desk.lesson.rooms)
    async with asyncio.timeout(60):
        while not await on_the_log(room, seat):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    fresh, other = await room.join(session, key)
    assert other != key
    await fresh.send_json({"do": "withdraw"})
    await heard(fresh, "withdrawn")


async def on_the_log(room: Class, seat: str) -> bool:
    records = await room.log.read(room.config.topic, 0, 0, 10_000)
    return any(b'"gone"' in r.value and seat.encode() in r.value for r in records)


def compare_with_replay(room: Class) -> None:
    """The recorded events in another engine give the rows that were told live."""

    async def again() -> dict[str, tuple[object, ...]]:
        log = SqliteLog(room.folder / "lesson.db")
        records = await log.read(room.config.topic, 0, 0, 10_000)
        await log.close()
        path = room.folder.parent / f"{room.folder.name}-recorded.jsonl"
        path.write_bytes(b"\n".join(record.value for record in records) + b"\n")
        config = replay_config("classroom", windows=["1m"], lateness="5s", disorder="5s", policy=room.config.policy)
        rows, _ = await replay(MemoryLog(), config, path)
        found = map(json.loads, rows.lines())
        return {f"{r['signal']}|{r['window_end']}": (r["value"], r["lo"], r["hi"], r["n"], r["reasons"]) for r in found}

    replayed = asyncio.run(again())
    live = {
        f"{key.signal}|{row.window_end}": (row.value, row.lo, row.hi, row.n, list(row.reasons))
        for key in list(room.feed.history.keys())
        for row in room.feed.history.rows(key)
    }
    assert len(live) >= 2 * len(NAMES)
    assert {k: replayed[k] for k in live} == live


def test_what_a_page_sends_is_bounded_and_a_wrong_code_opens_nothing(tmp_path: Path) -> None:
    room = Class(tmp_path)

    async def whole() -> None:
        async with room.going() as session:
            wrong = await session.ws_connect("/join/ws")
            await wrong.send_json({"do": "join", "room": "1", "code": "AAAAAA"})
            assert "code" in (await heard(wrong, "refused"))["why"]
            assert (await wrong.receive()).type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
            for junk in ("[1]", "{", '{"do":5}', '{"do":"lost"}'):
                ws = await session.ws_connect("/join/ws")
                await ws.send_str(junk)
                assert (await ws.receive()).type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
            ws, _ = await room.join(session)
            await ws.send_json({"do": "chat", "text": "x" * 300})
            assert "characters" in (await heard(ws, "not"))["why"]
            for _ in range(8):
                await ws.send_json({"do": "lost"})
            assert "slow down" in (await heard(ws, "not"))["why"]
            await ws.send_str("{" + " " * 5_000 + "}")
            async with asyncio.timeout(30):
                while (message := await ws.receive()).type is aiohttp.WSMsgType.BINARY:
                    pass
            assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1009)
            foreign = await session.get("/join/ws", headers={"Origin": "http://elsewhere.example"})
            assert foreign.status == 403

    asyncio.run(whole())


def test_with_a_token_students_reach_their_page_and_nothing_else(tmp_path: Path) -> None:
    room = Class(tmp_path, token="a-token-of-some-length")

    async def whole() -> None:
        await room.server.start()
        async with aiohttp.ClientSession(room.server.url, cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
            for path in ("/teach", "/teach/ws", "/", "/api/rows"):
                assert (await session.get(path)).status == 401
            for part in ("/join", "/join/join.js", "/join/style.css", "/join/theme.js", "/join/dom.js"):
                assert (await session.get(part)).status == 200
            opened = await session.get("/teach?token=a-token-of-some-length")
            assert (opened.status, opened.url.path) == (200, "/teach")
        await room.server.stop()
        await room.log.close()
        room.audit.close()

    asyncio.run(whole())
