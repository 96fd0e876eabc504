"""The cascade in a run: its share in the rows, replays that keep their bytes, and the switch under overload."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from engines.base import ScoreBatch, TensorBatch, TextModel
from engines.cascade import Cascade
from engines.load import load_text_model
from engines.stub import StubEngine, featurize
from engines.training.cascade import TOGETHER
from operators.records import SignalRow
from operators.relief import Relief
from stream.base import CommitUnit, Output
from stream.cli import main
from stream.config import Config
from stream.errors import UsageError
from stream.feed import Feed
from stream.memory import MemoryLog
from stream.metrics import Metrics
from stream.runner import Runner
from stream.system_clock import SystemClock
from stream.topology import HEADS, build, weights_of
from stream.windowing import FAST_NOTE

T = 1_790_000_040_000
PLAIN = ("aapl to the moon", "buying more", "strong sell, this is going down", "who knows", "bullish on this one")


def config(**engine: object) -> Config:
    return msgspec.convert({"engine": {"name": "text-affect", **engine}}, Config)


def test_the_heads_of_every_domain_have_limits_of_their_own() -> None:
    several = {domain: set(tasks) for domain, tasks in HEADS.items() if len(tasks) > 1}
    assert {frozenset(tasks) for tasks in several.values()} == {frozenset(tasks) for tasks in TOGETHER}


def test_replays_keep_their_bytes_however_they_are_cut_and_say_the_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    texts = [f"$AAPL {PLAIN[k % len(PLAIN)]} {'!' * (k % 7)} {k // 9}" for k in range(80)]
    lines = [{"id": f"p{k}", "text": t, "created_at": T + 400 * k, "author": f"a{k}"} for k, t in enumerate(texts)]
    Path("posts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for size in ("7", "1000"):
        words = ("replay", "posts.jsonl", "--domain", "market", "--engine", "cascade", "--windows", "1m")
        assert main([*words, "--batch-size", size, "--out", f"{size}.jsonl"]) == 0
    capsys.readouterr()
    assert Path("7.jsonl").read_bytes() == Path("1000.jsonl").read_bytes()
    model = load_text_model("cascade", tasks=HEADS["market"])
    fast = model.logits(texts).fast
    assert fast is not None
    assert 0 < fast.sum() < len(texts)
    rows = [msgspec.json.decode(line, type=SignalRow) for line in Path("7.jsonl").read_bytes().splitlines()]
    mine = [row for row in rows if row.entity == "ticker:AAPL"]
    by_window = {row.window_end: row for row in mine}
    assert sum(row.n for row in by_window.values()) == len(texts)
    for end, row in by_window.items():
        inside = [k for k in range(len(texts)) if end - 60_000 <= T + 400 * k < end]
        assert FAST_NOTE.format(share=fast[inside].mean()) in row.reasons
        assert row.model == model.spec.model_id


@pytest.mark.parametrize(
    ("engine", "said"),
    [({"cascade_above": -1}, "cascade_above"), ({"cascade_above": 9, "name": "hashed"}, "'text-affect'")],
)
def test_settings_that_cannot_work_are_refused(engine: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        config(**engine).check()


def test_the_setting_makes_a_cascade_that_is_off_in_live_runs_alone() -> None:
    settings = config(cascade_above=100).check()
    live, again = build(settings, 1), build(settings, 1, replay=True)
    assert isinstance(live.model.engine, Cascade)
    assert live.relief is not None
    assert live.model.spec == msgspec.structs.replace(again.model.spec, heads=live.model.spec.heads)
    assert not isinstance(again.model.engine, Cascade)
    assert again.relief is None
    assert {m.name for m in weights_of(settings)} == {"text-affect", "hashed-bag"}
    assert {m.name for m in weights_of(settings, replay=True)} == {"text-affect"}
    live.relief.observe(101)
    assert live.model.engine.on
    live.relief.observe(49)
    assert not live.model.engine.on
    other = build(msgspec.structs.replace(settings, domain="social"), 1, beside=live)
    assert other.model is not live.model  # which posts are passed on hangs on the heads asked


class Held(StubEngine):
    """Answers once it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.free = threading.Event()

    def infer(self, batch: TensorBatch) -> ScoreBatch:
        assert self.free.wait(60)
        return super().infer(batch)


def test_a_backlog_turns_it_on_and_its_end_off() -> None:
    engine, told = Held(), list[bool]()

    def turn(on: bool) -> None:
        told.append(on)
        engine.free.set()

    async def scene() -> None:
        log, clock = MemoryLog(), SystemClock()
        settings = msgspec.convert({"engine": {"name": "stub"}, "windows": {"sizes": ["1m"]}}, Config).check()
        topology = replace(build(settings, 1, model=TextModel(featurize, engine)), relief=Relief(20, turn))
        runner = Runner(topology, log, clock, until_end=False, feed=Feed(), metrics=Metrics(process=False))
        running = asyncio.create_task(runner.run())
        try:
            async with asyncio.timeout(60):
                while not any(worker.scorers for worker in runner.workers):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                now = clock.now_ms()
                bodies = [
                    msgspec.json.encode({"id": f"n{k}", "text": f"buy {k}", "created_at": now}) for k in range(50)
                ]
                posts = [Output(settings.topic, 0, b"k", body, now) for body in bodies]
                await log.commit(CommitUnit("sender", outputs=posts))
                while told != [True, False]:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        finally:
            engine.free.set()
            runner.stop()
            await running
        assert topology.score.scored == 50
        await log.close()

    asyncio.run(scene())
