"""`affect signals serve` on a real Kafka: workers and brokers die, and tables, roll-ups and alerts are right."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest

from operators.alerts import Rules
from operators.latest import Latest, identity
from operators.records import Alert, SignalRow, Status
from operators.rollup import MARKET, Rollup, parse_sectors
from stream.alerting import AlertWorker
from stream.base import CommitUnit, Log, Output, TopicSpec
from stream.connect import open_log
from stream.errors import LogError
from stream.memory import MemoryLog
from stream.signals_serve import ensure_plane
from stream.system_clock import SystemClock
from stream.topics import ALERTS, DEAD_LETTER, PLANE, ROLLUPS, SIGNALS, engine_topics
from stream.topology import build_codec
from stream.worker import Pace, Pulse
from tests.broker.signals_worker import RULES, SECTORS, Worker

pytestmark = [pytest.mark.broker, pytest.mark.timeout(600)]
T = TypeVar("T")
M = 60_000
CODEC = build_codec()


def row(entity: str, end: int, n: int, status: Status = "final", revision: int = 0) -> SignalRow:
    value = (end * 37 + n * 11 + len(entity) * 13) % 100 / 100
    return SignalRow(
        signal="market.fear", domain="market", entity=entity, window_start=(end - 1) * M, window_end=end * M,
        value=value, lo=max(0.0, value - 0.1), hi=min(1.0, value + 0.1), n=n, n_eff=n * 0.8, authors=n, buzz=float(n),
        status=status, revision=revision, watermark=end * M, model="m@1", ontology="o1",
    )  # fmt: skip


def rows(begin: int, end: int) -> list[SignalRow]:
    """Windows as a run publishes them: provisional, final, now and then revised; and stale copies of older versions."""
    out: list[SignalRow] = []
    for at in range(begin, end):
        names = ("ticker:AAPL", "ticker:MSFT", "ticker:JPM", "ticker:GS", "ticker:ZZZ", "all:*")
        n = [20 + (at * 29 % 7) ** 2 + k for k in range(len(names))]
        out += [row(name, at, k // 2, "provisional") for name, k in zip(names, n, strict=True)]
        out += [row(name, at, k) for name, k in zip(names, n, strict=True)]
        if at % 3 == 0:
            out.append(row("ticker:AAPL", at - 1, n[0] + 40, "revised", 1))
        out += out[-9:-7]  # said again, and older than what followed
    return out


def publish(url: str, published: Sequence[SignalRow]) -> None:
    async def act(log: Log) -> None:
        outputs = [Output(SIGNALS, 0, r.row_id.encode(), CODEC.encode(r), 0) for r in published]
        await log.commit(CommitUnit("test", outputs=outputs))

    on_log(url, act)


def on_log(url: str, act: Callable[[Log], Awaitable[T]]) -> T:
    async def run() -> T:
        log = open_log(url)
        try:
            return await act(log)
        finally:
            await log.close()

    return asyncio.run(run())


async def embedded(published: Sequence[SignalRow]) -> list[Alert]:
    """The alerts of the embedded loop on the same rows."""
    log, pulse = MemoryLog(), Pulse()
    await log.ensure(engine_topics("affect.posts.finance.v1", 1, -1))
    await log.commit(CommitUnit("t", outputs=[Output(SIGNALS, 0, None, CODEC.encode(r), 0) for r in published]))
    pace = Pace(batch_size=100, commit_interval_s=0.0, idle_s=1.0, until_end=False)
    worker = AlertWorker(log, lambda: Rules.parse(RULES), CODEC, "g", "market", pace, SystemClock(), pulse)
    await worker.start()
    await worker.finish()
    await worker.stop()
    end = (await log.span(ALERTS))[0][1]
    return [CODEC.decode_alert(r.value) for r in await log.read(ALERTS, 0, 0, end)]


def written(url: str, topic: str) -> list[bytes]:
    async def act(log: Log) -> list[bytes]:
        begin, end = (await log.span(topic))[0]
        out: list[bytes] = []
        while begin < end and (records := await log.read(topic, 0, begin, 5_000)):
            out += [r.value for r in records]
            begin = records[-1].offset + 1
        return out

    return on_log(url, act)


def check_tables(worker: Worker, published: Sequence[SignalRow]) -> None:
    """What the views say is what the folds say of the rows."""
    latest, rollup = Latest(), Rollup(parse_sectors(SECTORS))
    for r in published:
        latest.feed(r)
        rollup.feed(r)
    expected = [msgspec.to_builtins(r) for r in latest.rows()]
    assert [{**found, "reasons": tuple(found["reasons"])} for found in worker.get("/api/latest")] == expected
    found = {r["entity"]: r for r in worker.get("/api/rollups")}
    assert {(e, r["value"], r["n"], r["n_eff"]) for e, r in found.items()} == {
        (r.entity, r.value, r.n, r.n_eff) for r in rollup.newest()
    }
    assert set(found) == {MARKET, "sector:tech", "sector:banks"}


def check_topics(url: str, published: Sequence[SignalRow], repeats: bool) -> None:
    """No alert and no roll-up lost, none that should not be; `repeats`: some may be there twice."""
    alerts = [CODEC.decode_alert(raw) for raw in written(url, ALERTS)]
    expected = asyncio.run(embedded(published))
    assert {a.rule for a in expected} == {"fear", "jump", "crowd"}
    assert set(map(_word, alerts)) == set(map(_word, expected))
    assert {a.alert_id for a in alerts} == {a.alert_id for a in expected}
    if not repeats:
        assert alerts == expected
    final = Latest()
    rollup = Rollup(parse_sectors(SECTORS), most_windows=10_000)
    for r in published:
        rollup.feed(r)
    truth = {r.row_id: r for r in rollup.take()}
    newest: dict[str, SignalRow] = {}
    for raw in written(url, ROLLUPS):
        r = CODEC.decode_signal(raw)
        final.feed(r)
        if r.row_id not in newest or (r.revision, r.n) >= (newest[r.row_id].revision, newest[r.row_id].n):
            newest[r.row_id] = r
    assert newest == truth


def _word(alert: Alert) -> bytes:
    return msgspec.json.encode(alert)


def changelog(url: str) -> dict[str, SignalRow]:
    """The latest-value table as its topic would restore it: by offset, not by what was written last."""
    held: dict[str, tuple[int, SignalRow]] = {}
    for raw in written(url, f"{PLANE}-latest-changelog"):
        if len(raw) > 8:  # not where it stands
            stamp, found = int.from_bytes(raw[:8], "big"), CODEC.decode_signal(raw[8:])
            if identity(found) not in held or held[identity(found)][0] <= stamp:
                held[identity(found)] = (stamp, found)
    return {key: found for key, (_, found) in held.items()}


def test_stopped_and_started_the_tables_are_right_and_alerts_are_those_of_the_embedded_loop(
    kafka_bootstrap: str, prefix: str, tmp_path: Path
) -> None:
    url = f"kafka://{kafka_bootstrap}?prefix={prefix}"
    on_log(url, ensure_plane)
    first, second = rows(10, 40), rows(40, 60)
    publish(url, first)
    with Worker(tmp_path, url) as worker:
        worker.reads_to(len(first))
        check_tables(worker, first)
        shown = worker.get("/api/alerts?limit=5")
        assert [a["window_end"] for a in shown] == sorted((a["window_end"] for a in shown), reverse=True)
        assert {a["rule"] for a in worker.get("/api/alerts?rule=jump")} == {"jump"}
        assert {r["entity"] for r in worker.get("/api/latest?entity=ticker:M*")} == {"ticker:MSFT"}
        worker.stop()
        assert "Traceback" not in worker.said

    async def nonsense(log: Log) -> None:
        await log.commit(CommitUnit("test", outputs=[Output(SIGNALS, 0, None, b"\x00nonsense", 0)]))

    on_log(url, nonsense)
    publish(url, second)
    with Worker(tmp_path, url) as worker:
        worker.reads_to(len(first) + 1 + len(second))
        check_tables(worker, first + second)
        worker.stop()
    check_topics(url, first + second, repeats=False)
    (letter,) = [CODEC.decode_dead_letter(raw) for raw in written(url, DEAD_LETTER)]
    assert (letter.topic, letter.offset, letter.size_bytes) == (SIGNALS, len(first), 9)


def test_two_workers_one_suspended_then_the_other_killed(kafka_bootstrap: str, prefix: str, tmp_path: Path) -> None:
    """The standby passes questions on and takes over; the zombie that wakes turns nothing back, and is a standby."""
    url = f"kafka://{kafka_bootstrap}?prefix={prefix}"
    on_log(url, ensure_plane)
    published = rows(10, 30)
    publish(url, published)
    with Worker(tmp_path, url) as one, Worker(tmp_path, url) as two:
        one.ready()
        two.ready()
        one.reads_to(len(published))
        two.reads_to(len(published))
        for worker in (one, two):
            check_tables(worker, published)
        owner, other = (one, two) if one.get("/readyz")["tables"] == "here" else (two, one)
        assert other.get("/readyz")["tables"].endswith(f":{owner.port}")

        publish(url, more := rows(30, 40))
        published += more
        owner.process.send_signal(signal.SIGSTOP)
        other.until(lambda: (other.get("/readyz") or {}).get("tables") == "here")
        publish(url, more := rows(40, 50))
        published += more
        other.reads_to(len(published))
        check_tables(other, published)
        owner.process.send_signal(signal.SIGCONT)
        owner.ready()
        publish(url, more := rows(50, 60))
        published += more
        # One of them has the tables, and both answer for it.
        owner.reads_to(len(published))
        other.reads_to(len(published))
        for worker in (owner, other):
            worker.until(lambda w=worker: w.get("/api/latest") is not None)  # type: ignore[misc]
            check_tables(worker, published)

        holder, left = (owner, other) if owner.get("/readyz")["tables"] == "here" else (other, owner)
        publish(url, more := rows(60, 70))
        published += more
        holder.process.kill()
        left.until(lambda: (left.get("/readyz") or {}).get("tables") == "here")
        left.reads_to(len(published))
        check_tables(left, published)
        left.stop()
    check_topics(url, published, repeats=True)
    latest = Latest()
    for r in published:
        latest.feed(r)
    assert changelog(url) == {identity(r): r for r in latest.rows()}


def test_the_broker_is_killed_under_it_and_was_not_there_when_it_started(
    mortal: Any, prefix: str, tmp_path: Path
) -> None:
    url = f"kafka://{mortal.bootstrap}?prefix={prefix}&patience=2"
    on_log(url, ensure_plane)
    published = rows(10, 30)
    publish(url, published)
    mortal.nodes[0].kill()
    with Worker(tmp_path, url) as worker:
        worker.until(lambda: "retrying" in worker.said)
        mortal.nodes[0].start()
        mortal.nodes[0].wait(60.0)
        worker.reads_to(len(published))
        check_tables(worker, published)
        publish(url, more := rows(30, 50))
        published += more
        mortal.nodes[0].kill()
        worker.until(lambda: worker.said.count("retrying") > 1)
        mortal.nodes[0].start()
        mortal.nodes[0].wait(60.0)
        _in_the_end(lambda: publish(url, rows(50, 60)))
        published += rows(50, 60)
        worker.reads_to(len(published))
        check_tables(worker, published)
        worker.stop()
        assert "Traceback" not in worker.said
        assert worker.said.count("works again") >= 2
    check_topics(url, published, repeats=True)


def _in_the_end(act: Callable[[], None], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            return act()
        except LogError as error:
            if not error.retriable or time.monotonic() > deadline:
                raise


def test_wrong_topics_are_named_and_nothing_starts(kafka_bootstrap: str, prefix: str, tmp_path: Path) -> None:
    url = f"kafka://{kafka_bootstrap}?prefix={prefix}"

    async def two_partitions(log: Log) -> None:
        await log.ensure([TopicSpec(SIGNALS, 2)])

    on_log(url, two_partitions)
    with Worker(tmp_path, url) as worker:
        assert worker.process.wait(60) == 1
        assert f"topic '{SIGNALS}' has 2 partitions, asked for 1" in worker.said
        assert worker.said.count("\n") == 1


def test_the_documented_agent_runs(kafka_bootstrap: str, prefix: str, tmp_path: Path) -> None:
    """The code of docs/faust-agent.md, as it stands there but for the address."""
    url = f"kafka://{kafka_bootstrap}?prefix={prefix}"
    on_log(url, ensure_plane)
    page = (Path(__file__).parents[2] / "docs" / "faust-agent.md").read_text()
    code = page.split("```python\n")[1].split("```")[0]
    assert "kafka://127.0.0.1:9092" in code
    (tmp_path / "fear_watch.py").write_text(code.replace("kafka://127.0.0.1:9092", url))
    publish(url, [r for r in rows(10, 20) if r.entity == "ticker:AAPL"])
    out = tmp_path / "out.txt"
    words = next(line for line in page.splitlines() if line.startswith("faust -A")).split()
    with out.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", *words], cwd=tmp_path, stdout=file, stderr=file,
            env={**os.environ, "PYTHONPATH": f"{Path(__file__).parents[2]}:{tmp_path}"},
        )  # fmt: skip
    try:
        expected = [r for r in rows(10, 20) if r.entity == "ticker:AAPL" and r.value is not None and r.value > 0.6]
        deadline = time.monotonic() + 120
        while out.read_text().count("ticker:AAPL") < len(expected):
            assert process.poll() is None, out.read_text()
            assert time.monotonic() < deadline, out.read_text()
            time.sleep(0.1)
        assert f"ticker:AAPL {expected[0].value}" in out.read_text()
    finally:
        process.kill()
        process.wait()
