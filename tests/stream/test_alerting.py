"""Alerts in the embedded engine: exactly the fold over the rows, however it is stopped and started."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stream.alerting
from engines.load import load_text_model
from operators.alert_rules import Rule
from operators.alerts import Rules
from operators.codec import Codec
from operators.errors import ConfigInvalid
from operators.gate import Gate
from operators.records import Alert, DeadLetter, SignalRow
from operators.registry import FileRegistry
from stream.alerting import AlertStage, AlertWorker, load_rules
from stream.base import CommitUnit, Log, Output
from stream.config import Config, load_config
from stream.errors import LogUnavailable, UsageError
from stream.memory import MemoryLog
from stream.runner import Runner
from stream.sqlite_log import SqliteLog
from stream.system_clock import SystemClock
from stream.topics import ALERTS, DEAD_LETTER, SIGNALS, engine_topics
from stream.topology import build, build_domain
from stream.worker import Pace, Pulse

M = 60_000
SHIPPED = Path(__file__).parents[2] / "deploy" / "config"
REGISTRY = FileRegistry()
CODEC = Codec(REGISTRY, Gate(REGISTRY))
TEXT = """
[[rule]]
name = "fear"
signal = "market.fear"
entity = "ticker:*"
window = "1m"
above = 0.6
cool_down = "2m"
[[rule]]
name = "jump"
signal = "market.fear"
window = "1m"
kind = "change"
by = 0.3
[[rule]]
name = "crowd"
signal = "market.fear"
window = "1m"
kind = "burst"
z = 3
warm_up = 3
"""
RULES: tuple[Rule, ...] = Rules.parse(TEXT).rules
PACE = Pace(batch_size=100, commit_interval_s=0.0, idle_s=1.0, until_end=False)


def row(end: int, value: float | None, n: int = 100, **given_: Any) -> SignalRow:
    fields: dict[str, Any] = {
        "signal": "market.fear", "domain": "market", "entity": "ticker:AAPL", "window_start": (end - 1) * M,
        "window_end": end * M, "value": value, "lo": value, "hi": value, "n": n, "n_eff": float(n), "authors": n,
        "buzz": float(n), "status": "final", "revision": 0, "watermark": end * M, "model": "m@1", "ontology": "o1",
    }  # fmt: skip
    return SignalRow(**{**fields, **given_})


ROWS = [
    row(end, (end * 37 + len(name) * 13) % 100 / 100, n=20 + (end * 29 % 7) ** 2, entity=name)
    for end in range(1, 60)
    for name in ("ticker:AAPL", "ticker:GM", "all:*")
]


def folded(rows: list[SignalRow]) -> list[Alert]:
    rules = Rules(RULES)
    return [alert for r in rows for alert in rules.feed(r)]


async def opened(log: Log) -> Log:
    await log.ensure(engine_topics("affect.posts.finance.v1", 1, -1))
    return log


async def append(log: Log, rows: list[SignalRow]) -> None:
    outputs = [Output(SIGNALS, 0, r.row_id.encode(), CODEC.encode(r), r.window_end) for r in rows]
    await log.commit(CommitUnit("test-rows", outputs=outputs))


async def alerts_of(log: Log) -> list[Alert]:
    end = (await log.span(ALERTS))[0][1]
    return [CODEC.decode_alert(r.value) for r in await log.read(ALERTS, 0, 0, max(end, 1))]


def worker(log: Log, pulse: Pulse | None = None, **more: Any) -> AlertWorker:
    held = Pulse() if pulse is None else pulse
    return AlertWorker(log, partial(Rules, RULES), CODEC, "affect-alerts", "market", PACE, SystemClock(), held, **more)


async def run_to_end(log: Log) -> None:
    one = worker(log)
    await one.start()
    await one.finish()
    await one.stop()


def play(scene: Callable[[Log], Any], log: Log | None = None) -> None:
    async def run() -> None:
        held = await opened(MemoryLog() if log is None else log)
        try:
            async with asyncio.timeout(20):
                await scene(held)
        finally:
            await held.close()

    asyncio.run(run())


def test_the_rows_raise_something() -> None:
    assert {alert.rule for alert in folded(ROWS)} == {"fear", "jump", "crowd"}


def test_alerts_are_the_fold_over_the_rows() -> None:
    seen: list[Alert] = []

    async def scene(log: Log) -> None:
        one = worker(log, on_alerts=seen.extend)
        await one.start()
        await append(log, ROWS[:50])
        await append(log, ROWS[50:])
        await one.finish()
        await one.stop()
        found = await alerts_of(log)
        assert found == folded(ROWS)
        assert seen == found

    play(scene)


@given(st.lists(st.integers(0, len(ROWS)), max_size=4))
@settings(max_examples=4, deadline=None)
def test_stopped_anywhere_and_started_again(cuts: list[int]) -> None:
    async def scene(log: Log) -> None:
        at = 0
        for cut in [*sorted(cuts), len(ROWS)]:
            await append(log, ROWS[at:cut])
            at = cut
            await run_to_end(log)
        await run_to_end(log)
        assert await alerts_of(log) == folded(ROWS)

    play(scene)


@given(st.lists(st.tuples(st.integers(1, 40), st.booleans()), max_size=12))
@settings(max_examples=30, deadline=None)
def test_killed_between_reading_and_commit(steps: list[tuple[int, bool]]) -> None:
    """A step that was folded and not committed is as if it had never been."""

    async def scene(log: Log) -> None:
        await append(log, ROWS)

        async def restored() -> AlertStage:
            stage = AlertStage(Rules(RULES), CODEC, "g", "market")
            stage.restore(await log.restore("g", ""), (await log.committed("g", SIGNALS))[0])
            return stage

        stage = await restored()
        for size, committed in [*steps, (len(ROWS), True)]:
            stage.ingest(await log.read(SIGNALS, 0, stage.offset, size))
            unit = stage.unit(0, 0)
            if committed:
                await log.commit(CommitUnit(unit.group, unit.offsets, unit.state, unit.outputs))
            else:
                stage = await restored()
        assert await alerts_of(log) == folded(ROWS)

    play(scene)


def test_state_survives_the_process(tmp_path: Path) -> None:
    path = tmp_path / "a.db"

    async def first(log: Log) -> None:
        await append(log, ROWS[:80])
        await run_to_end(log)

    async def second(log: Log) -> None:
        await append(log, ROWS[80:])
        await run_to_end(log)
        assert await alerts_of(log) == folded(ROWS)

    play(first, SqliteLog(str(path)))
    play(second, SqliteLog(str(path)))


class Flaky(MemoryLog):
    """A log whose every third commit finds the disk full."""

    refused = 0
    tries = 0

    async def commit(self, unit: CommitUnit) -> None:
        if unit.group == "affect-alerts":
            self.tries += 1
            if self.tries % 3 == 1:
                self.refused += 1
                raise LogUnavailable("disk full")
        await super().commit(unit)


def test_a_refused_commit_is_made_again_unchanged() -> None:
    log = Flaky()

    async def scene(_: Log) -> None:
        for at in range(0, len(ROWS), 60):
            await append(log, ROWS[at : at + 60])
            await run_to_end(log)
        assert log.refused > 0
        assert await alerts_of(log) == folded(ROWS)

    play(scene, log)


def test_one_process_at_a_time_and_the_other_takes_over() -> None:
    async def scene(log: Log) -> None:
        one, two = worker(log), worker(log)
        await one.start()
        await two.start()
        await append(log, ROWS[:90])
        await one.finish()
        await one.stop()
        await append(log, ROWS[90:])
        await two.finish()
        await two.stop()
        assert await alerts_of(log) == folded(ROWS)

    play(scene)


def test_what_is_no_row_is_dead_lettered_and_the_rest_goes_on() -> None:
    async def scene(log: Log) -> None:
        await append(log, ROWS[:90])
        await log.commit(CommitUnit("test", outputs=[Output(SIGNALS, 0, None, b"\x00nonsense", 7)]))
        await append(log, ROWS[90:])
        await run_to_end(log)
        assert await alerts_of(log) == folded(ROWS)
        (record,) = await log.read(DEAD_LETTER, 0, 0, 10)
        letter = CODEC.decode_dead_letter(record.value)
        assert (letter.topic, letter.offset, letter.size_bytes) == (SIGNALS, 90, 9)
        assert isinstance(letter, DeadLetter)

    play(scene)


def test_rows_of_another_domain_pass_by() -> None:
    async def scene(log: Log) -> None:
        await append(log, [msgspec.structs.replace(r, domain="crisis") for r in ROWS])
        await run_to_end(log)
        assert await alerts_of(log) == []

    play(scene)


def test_the_runner_starts_it_only_where_rules_are_configured(tmp_path: Path) -> None:
    """Posts in, alerts out: what the topic holds is the fold over the rows the same run wrote."""
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rule]]\nname = "any"\nsignal = "market.buzz"\nwindow = "1m"\nabove = 0.1\n')
    given_ = {
        "engine": {"name": "stub"},
        "windows": {"sizes": ["1m"], "minimum": 1},
        "time": {"future": "36500d"},
        "alerts": {"rules": str(rules)},
    }

    async def scene(log: Log) -> None:
        config = msgspec.convert(given_, Config).check()
        posts = [
            Output(config.topic, 0, None, msgspec.json.encode(post), 0)
            for post in ({"id": str(k), "text": f"$AAPL word{k}", "created_at": k * 1000} for k in range(200))
        ]
        await log.commit(CommitUnit("test", outputs=posts))
        await Runner(build(config, 1, replay=True), log, SystemClock(), until_end=True).run()
        end = (await log.span(SIGNALS))[0][1]
        rows = [CODEC.decode_signal(r.value) for r in await log.read(SIGNALS, 0, 0, end)]
        fold = load_rules(str(rules))
        expected = [alert for r in rows for alert in fold.feed(r)]
        assert await alerts_of(log) == expected
        assert {alert.entity for alert in expected} == {"all:*", "ticker:AAPL"}

    play(scene)
    given_["alerts"] = {}

    async def without(log: Log) -> None:
        config = msgspec.convert(given_, Config).check()
        assert Runner(build(config, 1), log, SystemClock(), until_end=True)._alerts is None

    play(without)


def test_a_wrong_rules_file_is_named_before_the_first_record(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    with pytest.raises(UsageError, match=r"rules\.toml: cannot be read"):
        load_rules(str(path))
    path.write_bytes(b"\xff")
    with pytest.raises(ConfigInvalid, match=r"rules\.toml: expected UTF-8"):
        load_rules(str(path))
    path.write_text("[[rule]]\nname = 1")
    with pytest.raises(ConfigInvalid, match=r"rules\.toml: rule 1"):
        load_rules(str(path))


def test_the_package_holds_the_rules_of_deploy() -> None:
    text = (SHIPPED / "alerts.toml").read_text(encoding="utf-8")
    assert load_rules("shipped").rules == Rules.parse(text).rules
    packed = (Path(stream.alerting.__file__).parent / "rules" / "alerts.toml").read_text(encoding="utf-8")
    assert packed == text, "cp deploy/config/alerts.toml stream/rules/"


def test_the_setting_by_file_and_environment(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('[alerts]\nrules = "x.toml"\n')
    assert load_config(str(path), {}).alerts.rules == "x.toml"
    assert load_config(None, {"AFFECT_ALERTS__RULES": "y.toml"}).alerts.rules == "y.toml"


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("alerts*.toml")), ids=str)
def test_the_rules_that_ship(path: Path) -> None:
    spec = load_text_model("stub").spec
    signals = {s for d in ("market", "crisis", "social") for s in build_domain(d, spec).signals}
    windows = set(Config().window_specs)
    for rule in load_rules(str(path)).rules:
        assert rule.signal in signals
        assert rule.window_ms in {w.size_ms for w in windows}
