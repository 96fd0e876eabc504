"""The signal plane without a cluster: what is refused at start, what tables and views do. With one: tests/broker."""

from __future__ import annotations

import asyncio
import socket
import struct
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from operators.latest import Latest
from operators.records import Alert, SignalRow
from operators.rollup import Rollup, shipped_sectors
from stream.base import CommitUnit, Output
from stream.cli import main
from stream.memory import MemoryLog
from stream.signals_serve import ensure_plane
from stream.system_clock import SystemClock
from stream.topics import ALERTS, PLANE, ROLLUPS, SIGNALS, plane_topics
from stream.topology import build_codec
from stream.web_guard import Guard
from stream.web_signals import SignalRoutes

ROOT = Path(__file__).parents[2]
CODEC = build_codec()
ROW = SignalRow(
    signal="market.fear", domain="market", entity="ticker:AAPL", window_start=0, window_end=60_000, value=0.7, lo=0.6,
    hi=0.8, n=9, n_eff=9.0, authors=9, buzz=9.0, status="final", revision=0, watermark=60_000, model="m",
    ontology="o",
)  # fmt: skip


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line of a wrong use."""
    assert main(["signals", "serve", *words]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1, said
    return said


def test_wrong_use_is_one_line_before_anything_starts(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = ("--log", "kafka://127.0.0.1:1")
    assert "expected kafka://HOST:PORT" in refused(capsys, "--log", "sqlite:///a.db", "--port", "0")
    assert "--port: expected 0 to 65535" in refused(capsys, *log, "--port", "70000")
    assert "alert rules nowhere.toml: cannot be read" in refused(capsys, *log, "--rules", "nowhere.toml")
    assert "sectors nowhere.csv: cannot be read" in refused(capsys, *log, "--sectors", "nowhere.csv")
    (tmp_path / "s.csv").write_text("a,b\n")
    assert main(["signals", "serve", *log, "--sectors", str(tmp_path / "s.csv")]) != 0
    assert "expected the columns ticker,sector" in capsys.readouterr().err
    assert "expected loopback" in refused(capsys, *log, "--host", "0.0.0.0")
    assert "set $NO_SUCH_TOKEN" in refused(capsys, *log, "--token-env", "NO_SUCH_TOKEN")
    monkeypatch.setenv("SHORT_TOKEN", "abc")
    assert "at least 16" in refused(capsys, *log, "--token-env", "SHORT_TOKEN")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert f"127.0.0.1:{port}: cannot listen" in refused(capsys, *log, "--port", port)


def test_the_rest_of_the_program_never_imports_faust() -> None:
    code = "import sys, stream.cli, stream.serve, stream.runner, stream.commands.run; print('faust' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_without_faust_the_extra_is_named() -> None:
    code = (
        "import sys; sys.modules['faust'] = None\n"
        "from stream.signals_serve import _plane\n"
        "try:\n    _plane(None, [], None, None, '127.0.0.1', 1)\n"
        "except Exception as error:\n    print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("MissingExtra faust is not installed: pip install 'affectstream[faust]'")


def test_the_topics_are_made_before_and_a_retention_stays_as_it_is() -> None:
    async def scene() -> None:
        log = MemoryLog()
        spec = next(s for s in plane_topics(7) if s.name == ALERTS)
        await log.ensure([spec])
        await ensure_plane(log)
        there = {s.name: s for s in await log.topics()}
        assert there[ALERTS].retention_ms == 7
        assert {SIGNALS, ROLLUPS} < set(there)
        changelogs = [s for name, s in there.items() if name.endswith("-changelog")]
        assert len(changelogs) == 3
        assert all(s.compact and s.retention_ms == -1 and s.partitions == 1 for s in changelogs)
        assert all(s.name.startswith(PLANE) for s in changelogs)
        await log.close()

    asyncio.run(scene())


def test_a_restore_keeps_what_comes_from_the_later_row_and_takes_deletions() -> None:
    code = """
import sys
from types import SimpleNamespace as Of
import stream.signals_app as app
table = Of(data=Of(data={}))
table.held = table.data.data
def restore(*records):
    app.StampedTable.apply_changelog_batch(table, [Of(message=Of(key=k, value=v)) for k, v in records])
def value(offset, text): return app._STAMP.pack(offset) + text
restore((b"a", value(5, b"new")), (b"a", value(3, b"zombie")), (b"b", value(1, b"x")), (b"c", value(1, b"y")))
restore((b"b", None), (b"c", value(1, b"again")), (None, b"?"))
print({k: v[8:] for k, v in table.held.items()})
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str({b"a": b"new", b"c": b"again"})
    assert struct.calcsize(">q") == 8


class Fake:
    """A worker with or without the tables."""

    def __init__(self, ready: bool, owner: str | None = None) -> None:
        self.ready, self.offset, self._owner = ready, 1, owner

    def owner(self) -> str | None:
        return self._owner


async def site(worker: Fake, token: str | None = None) -> tuple[web.AppRunner, str]:
    """The views on a log with two alerts, one of them twice."""
    log = MemoryLog()
    await ensure_plane(log)
    now = SystemClock().now_ms()  # older records would be trimmed
    alerts = [_alert("a"), _alert("b"), _alert("a")]
    outputs = [Output(ALERTS, 0, None, CODEC.encode(a), now) for a in alerts]
    outputs += [Output(ALERTS, 0, None, b"nonsense", now), Output(SIGNALS, 0, None, CODEC.encode(ROW), now)]
    await log.commit(CommitUnit("t", outputs=outputs))
    latest, rollup = Latest(), Rollup(shipped_sectors())
    latest.feed(ROW)
    rollup.feed(ROW)
    routes = SignalRoutes(worker, lambda: latest, lambda: rollup, log, CODEC).routes()
    guard = Guard("127.0.0.1", (), token, False, frozenset({"/livez", "/readyz"}))
    app = web.Application(middlewares=[guard.middleware])
    app.add_routes([web.get(route.path, route.handler) for route in routes])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"


def _alert(rule: str) -> Alert:
    return Alert(
        rule=rule, kind="threshold", severity="info", row_id=ROW.row_id, signal=ROW.signal, domain="market",
        entity=ROW.entity, window_start=0, window_end=60_000, value=0.7, lo=None, hi=None, n=9, measure=0.7,
        reference=0.6, status="final", revision=0, message="m",
    )  # fmt: skip


Ask = Callable[..., Awaitable[tuple[int, Any]]]


def asked(scene: Callable[[Ask], Awaitable[None]]) -> None:
    async def run() -> None:
        async with aiohttp.ClientSession() as session:

            async def ask(url: str, **headers: str) -> tuple[int, Any]:
                async with session.get(url, headers={k.replace("_", "-"): v for k, v in headers.items()}) as answer:
                    return answer.status, await answer.json()

            await scene(ask)

    asyncio.run(run())


def test_the_worker_with_the_tables_answers() -> None:
    async def scene(ask: Ask) -> None:
        runner, at = await site(Fake(True))
        status, rows = await ask(f"{at}/api/latest")
        assert (status, [r["entity"] for r in rows]) == (200, ["ticker:AAPL"])
        assert (await ask(f"{at}/api/latest?entity=ticker:M*"))[1] == []
        assert (await ask(f"{at}/api/latest?window=60000&limit=1"))[1] == rows
        assert (await ask(f"{at}/api/latest?limit=0"))[0] == 400
        _, rolled = await ask(f"{at}/api/rollups")
        assert [r["entity"] for r in rolled] == ["market:*", "sector:technology"]
        assert [a["rule"] for a in (await ask(f"{at}/api/alerts"))[1]] == ["b", "a"]
        assert [a["rule"] for a in (await ask(f"{at}/api/alerts?rule=a"))[1]] == ["a"]
        assert (await ask(f"{at}/api/plane"))[1]["behind"] == 0
        assert (await ask(f"{at}/readyz"))[1] == {"ready": True, "tables": "here"}
        assert (await ask(f"{at}/api/latest", Host="evil.example"))[0] == 403
        await runner.cleanup()

    asked(scene)


def test_another_passes_the_question_on_once_with_its_token() -> None:
    async def scene(ask: Ask) -> None:
        token = "a token of some length"
        holder, there = await site(Fake(True), token)
        standby, here = await site(Fake(False, there), token)
        circle, round_ = await site(Fake(False, here), token)
        assert (await ask(f"{here}/api/latest"))[0] == 401
        status, rows = await ask(f"{here}/api/latest?entity=ticker:*", Authorization=f"Bearer {token}")
        assert (status, [r["entity"] for r in rows]) == (200, ["ticker:AAPL"])
        assert (await ask(f"{here}/readyz"))[1] == {"ready": True, "tables": there}
        # Passed on to one that does not have them either: it does not ask on and on.
        assert (await ask(f"{round_}/api/latest", Authorization=f"Bearer {token}"))[0] == 503
        await holder.cleanup()
        status, said = await ask(f"{here}/api/rollups", Authorization=f"Bearer {token}")
        assert (status, "does not answer" in said["error"]) == (503, True)
        await standby.cleanup()
        await circle.cleanup()

    asked(scene)


def test_nobody_has_the_tables() -> None:
    async def scene(ask: Ask) -> None:
        runner, at = await site(Fake(False))
        for path in ("/api/latest", "/api/rollups", "/api/plane", "/readyz"):
            assert (await ask(at + path))[0] == 503
        assert (await ask(f"{at}/livez"))[0] == 200
        assert (await ask(f"{at}/api/alerts"))[0] == 200
        await runner.cleanup()

    asked(scene)
