"""The ladder on machines that are not here: what is taken, why the better is not, and what serves while a plan is
built.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from engines.base import AnyArray, TextModel
from engines.buckets import Buckets
from engines.device import DeviceFacts, Plan
from engines.errors import BackendRefused
from engines.ladder import BACKENDS, Ladder, Machine, Rung
from engines.load import backends, load_text_model
from engines.plan_cache import PlanCache, PlanKey
from engines.plan_engine import PlanEngine
from engines.plans import Meanwhile, build_plan, plan_key
from stream.cli import main
from tests.engines import precise, tiny
from tests.engines.fake_card import FACTS, FakeCard, FakePlan, Net

VERSION = "11.4.0.106"
BUCKETS = Buckets().capped(24)
CHILD = """
import os, sys, msgspec
from pathlib import Path
from engines.load import backends, load_text_model
from engines.plan_cache import PlanCache, PlanKey

class Request(msgspec.Struct):
    model: str
    cache: str
    key: PlanKey

request = msgspec.json.decode(sys.stdin.buffer.read(), type=Request)
assert Path(request.model).read_bytes()
print('{"phase": "Build", "steps": 2}\\n{"phase": "Build", "step": 0}\\nnot for us', flush=True)
"""
BUILDS = CHILD + "PlanCache(Path(request.cache)).put(request.key, b'plan', 1.0)\nprint('{\"built\": 1.0}')\n"


def right(ids: AnyArray, mask: AnyArray) -> AnyArray:
    return tiny.by_hand(tiny.weights(), ids[: int(mask.sum())])


class FakeRuntime:
    """Reads `plan`, and nothing else."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    def open(self, plan: bytes) -> Plan | None:
        if plan != b"plan":
            return None
        return FakePlan(self.bench.card, BUCKETS.all(), self.bench.net, tiny.OUTPUTS)


class Bench:
    """One machine with a card, a models folder and a plan folder; every part can be another."""

    def __init__(self, folder: Path) -> None:
        self.card = FakeCard()
        self.net: Net = right
        self.facts: DeviceFacts | None = FACTS
        self.version = VERSION
        self.lacks = {"torch"}
        self.child = BUILDS
        self.models = folder / "models"
        self.plans = PlanCache(folder / "plans")
        precise.kept(self.models)

    @property
    def key(self) -> PlanKey:
        return plan_key(precise.file("fp16").sha256, "fp16", FACTS, self.version, BUCKETS)

    def climb(self, wanted: str | None = None) -> tuple[TextModel, dict[str, Rung]]:
        def lacking(*names: str) -> str:
            return " and ".join(f"{n} not installed" for n in names if n in self.lacks)

        machine = Machine(
            facts=lambda: (self.facts, "" if self.facts else "no NVIDIA driver"),
            version=lambda: self.version,
            lacking=lacking,
            device=lambda facts: self.card,
            runtime=lambda: FakeRuntime(self),
            command=(sys.executable, "-c", self.child),
            plans=self.plans.folder,
            home=self.models,
        )
        ladder = Ladder(precise.manifest(), tiny.packed(), tiny.model(), len(tiny.VOCABULARY), machine)
        model, rungs = ladder.climb(wanted)
        assert [r.backend for r in rungs] == list(BACKENDS)
        assert sum(r.taken for r in rungs) == 1
        return model, {r.backend: r for r in rungs}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def until(done: Callable[[], bool]) -> None:
    """Wait for it, two minutes at most."""
    end = time.monotonic() + 120
    while not done():
        assert time.monotonic() < end
        time.sleep(0.02)


def serves(model: TextModel) -> str:
    model.logits(["we need water"])
    return model.spec.backend


def test_a_plan_that_is_there_is_taken_and_answers(bench: Bench) -> None:
    bench.plans.put(bench.key, b"plan", 1.0)
    model, rungs = bench.climb()
    assert isinstance(model.engine, PlanEngine)
    assert (rungs["tensorrt"].taken, model.reason) == (True, "")
    assert model.spec.model_id == f"text-affect:fp16@{precise.file('fp16').sha256[:8]}"
    got, want = model.logits(["we need water", ""]).logits, tiny.model(int8=False).logits(["we need water", ""]).logits
    for task, logits in want.items():
        np.testing.assert_allclose(got[task], logits, atol=1e-4)


def test_on_a_machine_without_a_card_every_reason_is_told(bench: Bench) -> None:
    bench.facts, bench.lacks = None, {"tensorrt", "cuda.core", "torch"}
    model, rungs = bench.climb()
    assert serves(model) == "onnx-cpu"
    for backend, extra in (("tensorrt", "gpu"), ("torch", "train")):
        assert f"not installed (pip install 'affectstream[{extra}]'); no NVIDIA driver" in rungs[backend].reason
    assert "has no CUDA provider" in rungs["onnx-cuda"].reason
    assert model.reason == "; ".join(f"{b} refused: {rungs[b].reason}" for b in BACKENDS[:3])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda b: setattr(b, "version", "10.9.0.34"), "TensorRT 10.9.0.34 is installed, needed is 11.x"),
        (lambda b: precise.kept(b.models, passed=False), "refused by the gate"),
        (lambda b: setattr(b, "models", b.models / "empty"), "affect models build text-affect --precision fp16"),
        (lambda b: setattr(b, "net", lambda ids, mask: right(ids, mask)[::-1]), "answers otherwise than onnx-cpu"),
        (lambda b: setattr(b, "net", lambda ids, mask: right(ids, mask) * np.nan), "not finite"),
        (lambda b: setattr(b, "net", unsteady()), "depend on its neighbours"),
        (lambda b: setattr(b, "card", FakeCard(fail_after=60)), "illegal address"),
    ],
    ids=["version", "gate", "no file", "wrong", "nan", "unsteady", "card fails"],
)
def test_what_does_not_stand_its_trial_is_refused(change: Callable[[Bench], object], reason: str, bench: Bench) -> None:
    bench.plans.put(bench.key, b"plan", 1.0)
    change(bench)
    model, rungs = bench.climb()
    assert reason in rungs["tensorrt"].reason
    assert serves(model) == "onnx-cpu"
    assert bench.card.live == []


def unsteady() -> Net:
    """A net whose last digit depends on how often it was asked."""
    asked = 0

    def net(ids: AnyArray, mask: AnyArray) -> AnyArray:
        nonlocal asked
        asked += 1
        return right(ids, mask) + asked * 1e-6

    return net


@pytest.mark.parametrize("there", ["nothing", "null plan", "another driver"])
def test_a_plan_is_built_while_onnx_serves_and_then_taken(there: str, bench: Bench) -> None:
    if there == "null plan":
        bench.plans.put(bench.key, b"of another world", 1.0)
    elif there == "another driver":
        bench.plans.put(msgspec.structs.replace(bench.key, driver="570"), b"plan", 1.0)
    model, rungs = bench.climb()
    said = {
        "nothing": "no plan has been",
        "null plan": "TensorRT cannot read it",
        "another driver": "driver 570 -> 580",
    }
    assert said[there] in rungs["tensorrt"].reason
    assert rungs["onnx-cpu"].taken
    before = model.logits(["we need water"]).logits["mood"]
    np.testing.assert_array_equal(before, tiny.model().logits(["we need water"]).logits["mood"])
    until(lambda: serves(model) == "tensorrt")
    assert bench.plans.get(bench.key)[0] == b"plan"
    model.engine.close()
    assert bench.card.live == []


@pytest.mark.parametrize(
    ("child", "reason"),
    [
        (CHILD + "os.kill(os.getpid(), 11)", "ended by signal 11"),
        (CHILD + 'print(\'{"refused": "no kernel"}\'); sys.exit(1)', "no kernel"),
        (CHILD + "sys.exit('out of memory')", "status 1): out of memory"),
        (CHILD + "print('{\"built\": 1.0}')", "did not arrive"),
        (BUILDS.replace("b'plan'", "b'null'"), "TensorRT cannot read it"),
    ],
    ids=["crash", "refused", "fails", "lies", "null again"],
)
def test_a_build_that_fails_leaves_onnx_serving_and_says_why(child: str, reason: str, bench: Bench) -> None:
    bench.child = child
    model, _ = bench.climb()
    engine = model.engine
    assert isinstance(engine, Meanwhile)
    assert engine.reason == "its plan is being built" or reason in engine.reason
    until(lambda: serves(model) == "onnx-cpu" and reason in engine.reason)


def test_the_build_hands_its_progress_on_and_is_ended_when_it_takes_too_long(bench: Bench, tmp_path: Path) -> None:
    heard: list[tuple[str, int | None, int | None]] = []
    model = tmp_path / "model.onnx"
    model.write_bytes(b"onnx")
    command = (sys.executable, "-c", BUILDS)
    assert build_plan(model, bench.key, bench.plans, lambda *said: heard.append(said), command) == ""
    assert heard == [("Build", 2, None), ("Build", None, 0)]
    hangs = (sys.executable, "-c", "import signal; signal.pause()")
    assert "after 1 s" in build_plan(model, bench.key, bench.plans, command=hangs, limit_s=1.0)
    assert "cannot be started" in build_plan(model, bench.key, bench.plans, command=(str(tmp_path / "nothing"),))


def test_unsteady_digits_are_for_who_asks_for_them_by_name(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.plans.put(bench.key, b"plan", 1.0)
    bench.net = unsteady()
    assert serves(bench.climb("tensorrt")[0]) == "tensorrt"
    assert "taken because it was asked for: the digits of a text depend on its neighbours" in caplog.text


def test_a_backend_asked_for_by_name_is_that_one_or_an_error(bench: Bench) -> None:
    with pytest.raises(BackendRefused, match=r"'torch' cannot run 'text-affect' here: torch not installed") as raised:
        bench.climb("torch")
    assert raised.value.exit_code == 2
    bench.plans.put(bench.key, b"plan", 1.0)
    model, rungs = bench.climb("tensorrt")
    assert serves(model) == "tensorrt"
    assert rungs["torch"].reason == "a better one is taken" or "asked for" in rungs["torch"].reason


def test_the_loader_the_doctor_and_the_command_tell_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On this machine, whatever it has: every backend is taken or has its reason, everywhere the same one."""
    rungs = backends()
    assert [r.backend for r in rungs] == [*BACKENDS, "hashed"]
    assert sum(r.taken for r in rungs) == 1
    assert all(r.reason for r in rungs if not r.taken)
    assert main(["doctor", "--json"]) == 0
    told = {f["what"]: f["detail"] for f in map(msgspec.json.decode, capsys.readouterr().out.splitlines())}
    assert {r.backend: told[f"on {r.backend}"] for r in rungs} == {r.backend: r.reason or "taken" for r in rungs}
    zoo = precise.zoo(tmp_path)
    model = load_text_model("text-affect", zoo)
    for rung in rungs[: BACKENDS.index(model.spec.backend)]:
        assert f"{rung.backend} refused: " in model.reason
    assert load_text_model("text-affect:onnx-cpu", zoo).spec.backend == "onnx-cpu"
    refused = [r for r in rungs[:3] if not r.taken]
    for rung in refused:
        with pytest.raises(BackendRefused, match=f"{rung.backend}' cannot run"):
            load_text_model(f"text-affect:{rung.backend}", zoo)


def test_the_command_builds_or_says_what_is_lacking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AFFECT_PLANS", str(tmp_path))
    assert main(["engine", "build", "--list"]) == 0
    if backends()[0].taken:
        pytest.skip("TensorRT is here")
    assert main(["engine", "build"]) == 2
    assert "not installed (pip install 'affectstream[gpu]')" in capsys.readouterr().err
    assert main(["engine", "build", "hashed"]) == 2
    assert "no encoder" in capsys.readouterr().err
