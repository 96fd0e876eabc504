"""Alerts from the topic to a real server that is slow, fails, hangs up and goes away: each at least once."""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web
from lives import Life, affect
from receiver import Got, Receiver, alert, cut, hang, receiving
from signal_rows import CODEC, looped, until

from operators.records import Alert, DeadLetter
from stream.base import CommitUnit, Log, Output
from stream.cli import main
from stream.config import Config
from stream.connect import open_log
from stream.contributing import explainer
from stream.delivering import Delivery, alert_body
from stream.errors import UnknownTopic, UsageError
from stream.memory import MemoryLog
from stream.runner import Runner
from stream.system_clock import SystemClock
from stream.topics import ALERTS, DEAD_LETTER, engine_topics
from stream.topology import build
from stream.webhook import Webhook
from stream.worker import Pulse

SECRET = b"canary-secret-0123456789"
CLOCK = SystemClock()


async def append(log: Log, alerts: Sequence[Alert | bytes], age_ms: int = 0) -> None:
    await log.ensure(engine_topics("affect.posts.finance.v1", 1, -1))
    at = CLOCK.now_ms() - age_ms
    values = [one if isinstance(one, bytes) else CODEC.encode(one) for one in alerts]
    await log.commit(CommitUnit("test", outputs=[Output(ALERTS, 0, None, value, at) for value in values]))


async def letters(log: Log) -> list[DeadLetter]:
    end = (await log.span(DEAD_LETTER))[0][1]
    return [CODEC.decode_dead_letter(r.value) for r in await log.read(DEAD_LETTER, 0, 0, end + 1)]


async def committed(log: Log, group: str = "affect-webhook") -> int:
    return (await log.committed(group, ALERTS))[0]


async def deliver(
    log: Log, server: Receiver, pulse: Pulse | None = None, timeout_s: float = 10.0, **more: Any
) -> Delivery:
    """To the end, unless told otherwise."""
    hook = Webhook(f"{server.url}/hook?token=canary", SECRET, CLOCK, timeout_s=timeout_s)
    given = {"until_end": True, "first_wait_s": 0.01, **more}
    one = Delivery(log, hook, CODEC, "affect-webhook", CLOCK, pulse or Pulse(), **given)
    try:
        async with asyncio.timeout(60):
            await one.run()
    finally:
        await hook.close()
    return one


def ids(got: Sequence[Got]) -> list[str]:
    """What arrived; header and body must agree."""
    found = []
    for one in got:
        body = json.loads(one.body)
        assert one.headers["Idempotency-Key"].startswith(body["rule"])
        found.append(body["id"])
    return found


def test_the_body_is_the_alert_with_its_id_and_a_link() -> None:
    given = json.loads(alert_body(alert(3), "http://127.0.0.1:8642/"))
    assert given.pop("id") == "fear-3|market.fear|ticker:Ü 3|0|60000"
    assert given.pop("link") == "http://127.0.0.1:8642/?view=market&entity=ticker%3A%C3%9C+3&window=60000"
    assert given.pop("posts") == []
    assert msgspec.convert(given, Alert) == alert(3)
    assert json.loads(alert_body(alert(3), ""))["link"] is None


@looped
async def test_each_once_and_in_order_over_a_server_that_fails_hangs_and_hangs_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log, alerts = MemoryLog(), [alert(k) for k in range(6)]
    await append(log, alerts)
    async with receiving() as server:
        wait = web.Response(status=429, headers={"Retry-After": "1"})
        server.replies = [204, 500, 503, 502, 204, hang, 204, cut, cut, 204, wait, 204]
        began = asyncio.get_running_loop().time()
        one = await deliver(log, server, timeout_s=2.0)
        took = asyncio.get_running_loop().time() - began
    tries = Counter(ids(server.got))
    assert list(tries) == [a.alert_id for a in alerts]
    assert list(tries.values()) == [1, 4, 2, 3, 2, 1]
    assert {len({g.body for g in server.got if json.loads(g.body)["id"] == i}) for i in tries} == {1}, "a copy is equal"
    assert took > 2.9, "two seconds of time-out, one of Retry-After"
    assert (one.delivered, one.dead, await committed(log), await letters(log)) == (6, Counter(), 6, [])
    said = [r.getMessage() for r in caplog.records]
    assert [s.rsplit("; ", 1)[-1] for s in said if s.endswith("retrying")] == ["retrying"] * 4
    assert sum("works again after" in s for s in said) == 4
    assert "canary" not in caplog.text
    await log.close()


@looped
async def test_what_the_server_does_not_want_is_dead_lettered_with_its_answer() -> None:
    log = MemoryLog()
    await append(log, [alert(0), b"\0\0\0\0\x05junk", alert(1), alert(2, domain="crisis"), alert(3)])
    async with receiving() as server:
        moved = web.Response(status=308, headers={"Location": "https://example.com/canary"})
        server.replies = [410, 204, moved]
        one = await deliver(log, server, domain="market")
    assert ids(server.got) == [alert(k).alert_id for k in (0, 1, 3)]
    found = await letters(log)
    assert [(d.topic, d.offset) for d in found] == [(ALERTS, 0), (ALERTS, 1), (ALERTS, 4)]
    assert [d.reason for d in found] == ["webhook_refused", found[1].reason, "webhook_refused"]
    assert found[1].reason not in ("webhook_refused", "webhook_stale")
    assert (found[0].detail, found[2].detail) == (
        f"{server.url}: 410", f"{server.url}: 308, a redirect to another origin; not followed",
    )  # fmt: skip
    assert (one.delivered, one.dead.total(), await committed(log)) == (1, 3, 5)
    await log.close()


@looped
async def test_an_alert_nobody_can_use_any_more_makes_way(caplog: pytest.LogCaptureFixture) -> None:
    log = MemoryLog()
    await append(log, [alert(0)], age_ms=7 * 3_600_000)
    await append(log, [alert(1)])
    async with receiving() as server:
        one = await deliver(log, server)
        assert ids(server.got) == [alert(1).alert_id]
        await append(log, [alert(2), alert(3)])
        server.replies = [503] * 10_000
        late = await deliver(log, server, max_age_ms=1_000)
    found = await letters(log)
    assert [(d.offset, d.reason) for d in found] == [(0, "webhook_stale"), (2, "webhook_stale"), (3, "webhook_stale")]
    assert found[0].detail == "0 tries; last: not tried"
    assert re.fullmatch(rf"\d+ tries; last: (not tried|{server.url}: 503)", found[1].detail)
    assert (one.delivered, late.delivered, await committed(log)) == (1, 0, 4)
    await log.close()


@looped
async def test_waits_grow_to_a_bound_and_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def note(stop: asyncio.Event, seconds: float) -> bool:
        waits.append(seconds)
        return False

    monkeypatch.setattr("stream.delivering._stopped", note)
    log = MemoryLog()
    await append(log, [alert(0)])
    async with receiving() as server:
        server.replies = [500] * 30
        await deliver(log, server, first_wait_s=0.5)
    full = [min(0.5 * 2**k, 60.0) for k in range(30)]
    assert all(most / 2 <= wait <= most for wait, most in zip(waits, full, strict=True))
    assert len(set(waits)) == 30
    await log.close()


@looped
async def test_a_stop_while_the_receiver_is_away_does_not_wait_for_it() -> None:
    log, pulse = MemoryLog(), Pulse()
    await append(log, [alert(0), alert(1)])
    async with receiving() as server:
        server.replies = [204, *[503] * 9]
        running = asyncio.create_task(deliver(log, server, pulse, until_end=False, first_wait_s=50.0))
        await until(lambda: len(server.got) == 2)
        pulse.ended.set()
        async with asyncio.timeout(20):
            assert (await running).delivered == 1
        assert await committed(log) == 1
        server.replies = []
        await deliver(log, server)
    assert ids(server.got) == [alert(k).alert_id for k in (0, 1, 1)]
    await log.close()


@looped
async def test_a_receiver_that_comes_back_gets_what_was_kept_for_it() -> None:
    log, pulse, alerts = MemoryLog(), Pulse(), [alert(k) for k in range(20)]
    await append(log, alerts[:3])
    async with receiving() as server:
        await deliver(log, server)
        port = int(server.url.rsplit(":", 1)[1])
    before = ids(server.got)
    running = asyncio.create_task(deliver(log, server, pulse, until_end=False))
    await append(log, alerts[3:])
    await asyncio.sleep(0.3)
    assert await committed(log) == 3
    async with receiving(port=port) as again:
        await until(lambda: len(again.got) == 17)
        pulse.ended.set()
        await running
    assert before + ids(again.got) == [a.alert_id for a in alerts]
    await log.close()


@looped
async def test_a_log_that_is_no_run_of_ours_is_said_at_once() -> None:
    log = MemoryLog()
    async with receiving() as server:
        with pytest.raises(UnknownTopic, match=ALERTS):
            await deliver(log, server)
    await log.close()


@looped
async def test_a_run_posts_its_alerts_and_a_receiver_that_is_away_does_not_trouble_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = tmp_path / "rules.toml"
    rule = '[[rule]]\nname = "any"\nsignal = "market.buzz"\nwindow = "1m"\nabove = 0.1\nstatus = "provisional"\n'
    rules.write_text(rule)
    async with receiving() as server:
        given = {
            "engine": {"name": "stub"},
            "windows": {"sizes": ["1m"], "minimum": 1},
            "time": {"future": "36500d"},
            "alerts": {"rules": str(rules), "webhook": server.url, "page": "http://127.0.0.1:8642/", "posts": 2},
        }
        config = msgspec.convert(given, Config).check()
        log, topology = MemoryLog(), build(config, 1)
        posts = [
            Output(config.topic, 0, None, msgspec.json.encode(post), 0)
            for post in ({"id": str(k), "text": f"$AAPL word{k}", "created_at": k * 1000} for k in range(200))
        ]
        await log.ensure(topology.topics)
        await log.commit(CommitUnit("test", outputs=posts))
        with pytest.raises(UsageError, match="set AFFECT_WEBHOOK_SECRET"):
            Runner(topology, log, CLOCK, until_end=False)
        monkeypatch.setenv("AFFECT_WEBHOOK_SECRET", SECRET.decode())
        server.replies = [503, 503]
        explain = explainer(log, topology, asyncio.Lock())
        runner = Runner(topology, log, CLOCK, until_end=False, explain=explain)
        running = asyncio.create_task(runner.run())
        await until(lambda: len(server.got) >= 2)
        assert (await runner.status()).problem is None
        await until(lambda: len(server.got) >= 4)
        runner.stop()
        await running
        end = (await log.span(ALERTS))[0][1]
        written = [CODEC.decode_alert(r.value).alert_id for r in await log.read(ALERTS, 0, 0, end)]
        seen = ids(server.got)
        assert seen[2:] == written[: len(seen) - 2]
        assert seen[:2] == written[:1] * 2
        assert await committed(log, "affect-market-webhook") == len(seen) - 2
        behind = [json.loads(one.body)["posts"] for one in server.got]
        assert behind[0] == behind[1]  # sent again as it was
        assert all(len(posts) == 2 and posts[0]["text_masked"].startswith("$AAPL word") for posts in behind)
        assert "/?view=market&entity=" in json.loads(server.got[0].body)["link"]
    await log.close()


def url_of(folder: Path) -> str:
    return f"sqlite:///{folder / 'log.db'}"


def append_to(url: str, alerts: Sequence[Alert]) -> None:
    async def run() -> None:
        log = open_log(url)
        await append(log, alerts)
        await log.close()

    asyncio.run(run())


@looped
async def test_the_command_delivers(tmp_path: Path) -> None:
    url, alerts = url_of(tmp_path), [alert(k) for k in range(3)]
    await asyncio.to_thread(append_to, url, alerts)

    async def run(*more: str, **env: str) -> Any:
        return await asyncio.to_thread(affect, "sink", "webhook", "--log", url, *more, **env)

    async with receiving() as server:
        env = {"HOOK": f"{server.url}/x?token=canary", "KEY": SECRET.decode()}
        server.replies = [204, 404, 204]
        words = ("--url-env", "HOOK", "--secret-env", "KEY", "--until-end", "--page", "http://127.0.0.1:8642")
        done = await run(*words, **env)
        assert done.returncode == 0, done.stderr
        assert done.stderr.endswith("2 alerts delivered, 1 webhook_refused\n")
        assert "canary" not in done.stderr
        assert ids(server.got) == [a.alert_id for a in alerts]
        assert json.loads(server.got[0].body)["link"].startswith("http://127.0.0.1:8642/?view=market&entity=")
        unsigned = await run("--until-end", "--unsigned", "--group", "other", AFFECT_WEBHOOK_URL=server.url)
        assert (unsigned.returncode, unsigned.stderr) == (0, "3 alerts delivered\n")
        assert "Affect-Signature" not in server.got[-1].headers


KEY = {"AFFECT_WEBHOOK_URL": "https://example.com/canary", "AFFECT_WEBHOOK_SECRET": "canary-0123456789"}


@pytest.mark.parametrize(
    ("words", "env", "said"),
    [
        ((), {}, "set $AFFECT_WEBHOOK_URL to https://"),
        ((), {**KEY, "AFFECT_WEBHOOK_SECRET": ""}, "set $AFFECT_WEBHOOK_SECRET, or say --unsigned"),
        ((), {**KEY, "AFFECT_WEBHOOK_SECRET": "canary"}, "at least 16 bytes, got 6"),
        (("--unsigned",), {"AFFECT_WEBHOOK_URL": "http://example.com/canary"}, "http would show alerts"),
        (("--url-env", "https://example.com/canary"), {}, "--url-env: expected the name"),
        (("--max-age", "soon"), KEY, "got 'soon'"),
        (("--log", "nowhere://x"), KEY, "expected one of memory://"),
    ],
)
def test_what_cannot_work_is_one_line_without_secrets(
    words: tuple[str, ...], env: dict[str, str], said: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for name in KEY:
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert main(["sink", "webhook", "--log", "sqlite:///none.db", *words]) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert len(shown.splitlines()) == 1
    assert "canary" not in shown


@pytest.mark.faults
@looped
async def test_kill_9_of_the_webhook_sink_sends_one_alert_twice_at_most(tmp_path: Path) -> None:
    url, alerts, kills = url_of(tmp_path), [alert(k) for k in range(400)], 3
    await asyncio.to_thread(append_to, url, alerts)
    async with receiving() as server:
        env = {"AFFECT_WEBHOOK_URL": server.url, "AFFECT_WEBHOOK_SECRET": SECRET.decode()}
        words = ("sink", "webhook", "--log", url, "--until-end")
        for kill in range(kills):
            goal = len(server.got) + 10 + kill
            with Life(tmp_path / "said", *words, **env) as life:
                await until(lambda goal=goal: len(server.got) >= goal)  # type: ignore[misc]
                await asyncio.to_thread(life.kill)
        done = await asyncio.to_thread(affect, *words, **env)
        assert done.returncode == 0, done.stderr
    seen = Counter(ids(server.got))
    assert list(seen) == [a.alert_id for a in alerts]
    assert max(seen.values()) <= kills + 1
    assert seen.total() <= len(alerts) + kills


@pytest.mark.broker
@looped
async def test_alerts_of_a_kafka_log(kafka_bootstrap: str) -> None:
    """Delivered, dead-lettered and gone on with by the group's offsets on a real broker."""
    url = f"kafka://{kafka_bootstrap}?prefix=hook{uuid.uuid4().hex[:12]}."
    await asyncio.to_thread(append_to, url, [alert(k) for k in range(3)])
    env = {"AFFECT_WEBHOOK_SECRET": SECRET.decode()}
    async with receiving() as server:
        server.replies = [503, 204, 400]
        for said in ("2 alerts delivered, 1 webhook_refused\n", "1 alerts delivered\n"):
            words = ("sink", "webhook", "--log", url, "--until-end")
            done = await asyncio.to_thread(affect, *words, **env, AFFECT_WEBHOOK_URL=server.url)
            assert done.returncode == 0, done.stderr
            assert done.stderr.endswith(said)
            if "1 webhook" in said:
                await asyncio.to_thread(append_to, url, [alert(3)])
    assert ids(server.got) == [alert(k).alert_id for k in (0, 0, 1, 2, 3)]
    log = open_log(url)
    assert [(d.offset, d.reason) for d in await letters(log)] == [(1, "webhook_refused")]
    await log.close()
