"""Build, judge, record, load: the whole way on a tiny encoder with the real heads, replays included."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from engines.artefacts import Manifest, write_model
from engines.base import HeadSpec
from engines.derive.files import PrecisionFile, derive, reference
from engines.errors import PrecisionRefused, UnknownModel
from engines.load import encoder, load_text_model
from engines.precisions import PRECISIONS, Verdict, keep, open_derived, read_record
from engines.tasks import TEXT_TASKS
from engines.training.graph import build as build_graph
from stream.cli import main
from stream.errors import UsageError
from stream.precision_build import Work, build, verify
from stream.precision_gate import Judge, scenario_texts, table, validation_rows
from stream.signal_gate import Play, compared, replayed
from tests.engines import tiny

HEADS = tuple(HeadSpec(t.task, t.kind, t.labels, lo=t.lo, hi=t.hi) for t in TEXT_TASKS)
OUTPUTS = sum(len(h.labels) for h in HEADS)
PLAY = Play("panic", 3, 60)


def packed(seed: int = 0) -> bytes:
    """The tiny net with the real heads. Small head weights: probabilities lie near even and move little."""
    random = np.random.default_rng(seed)
    weights = {
        **tiny.weights(),
        "head.weight": (0.05 * random.normal(size=(OUTPUTS, tiny.WIDTH))).astype(np.float32),
        "head.bias": np.zeros(OUTPUTS, np.float32),
    }
    metadata = {"vocabulary": "\n".join(tiny.VOCABULARY)}
    return build_graph(weights, tiny.ATTENTION, tiny.EPSILON, metadata, int8=True)


def manifest() -> Manifest:
    digest = hashlib.sha256(packed()).hexdigest()
    return Manifest(
        name="text-affect", version=digest[:8], backend="onnx-cpu", file="model.onnx", sha256=digest, heads=HEADS,
        settings={"max_tokens": 24}, data=(), metrics=(), intended_use="tests", limits="", research_only=False,
        training_command="", seed=0,
    )  # fmt: skip


@pytest.fixture
def work(tmp_path: Path) -> Work:
    write_model(manifest(), packed(), "# tiny\n", tmp_path / "zoo")
    return Work(manifest(), None, None, 30, [PLAY], tmp_path / "home", tmp_path / "zoo")


@pytest.fixture(autouse=True)
def _models_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFECT_MODELS", str(tmp_path / "home"))
    monkeypatch.delenv("AFFECT_DATA", raising=False)


def test_all_precisions_are_built_judged_recorded_and_loaded(work: Work) -> None:
    told: dict[str, int] = {}

    def step(what: str, rows: int) -> None:
        told[what] = told.get(what, 0) + rows

    found = dict(build(work, PRECISIONS, step))
    assert list(found) == list(PRECISIONS)
    assert found["fp32"].signals == ()
    assert found["fp16"].passed, found["fp16"].reasons
    assert found["fp16"].signals[0].rows > 50
    assert found["fp16"].signals[0].most < 0.1
    assert "no labels" in found["fp16"].validation
    assert told["calibrating qdq-int8"] > 100
    assert told["scoring fp16"] == len(scenario_texts(1, 30))
    record = read_record(work.manifest, work.home)
    assert [f.precision for f in record.files] == list(PRECISIONS)
    assert {f.precision: f.verdict for f in record.files} == found
    fp32 = record.find("fp32")
    assert fp32 is not None
    assert {f.parent_sha256 for f in record.files[1:]} == {fp32.sha256}
    assert fp32.parent_sha256 == work.manifest.sha256
    assert load_text_model("text-affect:fp16", work.zoo).spec.name == "text-affect:fp16"
    told.clear()
    assert dict(build(work, ["fp32", "fp16"], step)) == {p: found[p] for p in ("fp32", "fp16")}
    assert not any(what.startswith(("scoring", "replaying")) for what in told), "judged once, not again"
    again = dict(verify(work, ["fp16"], step))
    assert again == {"fp16": found["fp16"]}
    assert told["scoring fp16"] > 0


def test_a_file_that_says_something_else_is_refused_and_never_opened(work: Work) -> None:
    """Another net in the guise of fp16: scores and signals both refuse it, and so does the loader."""
    whole = reference(packed())
    other = derive("fp16", reference(packed(seed=1)), [])
    foreign = PrecisionFile("fp16", other.packed, whole.sha256, "fp32")
    held, words = validation_rows(work.manifest, None, 30)
    verdict = Judge(work.manifest, packed(), whole, held, words, [PLAY]).judge(foreign)
    assert not verdict.passed
    assert any("keep their label" in reason for reason in verdict.reasons)
    assert any("rows moved by more than a tenth" in reason for reason in verdict.reasons)
    assert "REFUSED" in table("text-affect", [("fp16", verdict)])
    list(build(work, ["fp16"], lambda what, rows: None))
    refused = msgspec.structs.replace(foreign.recorded, verdict=verdict)
    keep(work.manifest, refused, foreign.packed, work.home)
    with pytest.raises(PrecisionRefused, match="refused by the gate"):
        open_derived(work.manifest, "fp16", work.home)
    with pytest.raises(PrecisionRefused):
        load_text_model("text-affect:fp16", work.zoo)


def test_cut_off_before_the_verdict_the_file_is_not_opened(work: Work) -> None:
    def dies(what: str, rows: int) -> None:
        if what.startswith("scoring"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(build(work, ["fp16"], dies))
    with pytest.raises(PrecisionRefused, match="never gated"):
        open_derived(work.manifest, "fp16", work.home)


def test_the_parent_of_training_is_asked_for_again(work: Work, tmp_path: Path) -> None:
    given = tmp_path / "float32.onnx"
    given.write_bytes(reference(packed(seed=0)).packed)
    with_parent = replace(work, source=given)
    list(build(with_parent, ["fp16"], lambda what, rows: None))
    with pytest.raises(UsageError, match="--from"):
        list(verify(work, ["fp16"], lambda what, rows: None))
    assert dict(verify(with_parent, ["fp16"], lambda what, rows: None))["fp16"].passed
    with pytest.raises(UsageError, match="float32 ONNX file"):
        list(build(replace(work, source=tmp_path / "nothing"), ["fp16"], lambda what, rows: None))
    with pytest.raises(UnknownModel, match="affect models build"):
        list(verify(work, ["qdq-int8"], lambda what, rows: None))


def test_signals_are_compared_in_widths_of_their_interval() -> None:
    rows = replayed(encoder(manifest(), packed()), PLAY)
    assert replayed(encoder(manifest(), packed()), PLAY) == rows, "the same bytes, so nothing has moved"
    key = next(k for k, r in rows.items() if r.signal == "market.fear" and r.value is not None)
    row = rows[key]
    assert row.value is not None
    assert row.lo is not None
    assert row.hi is not None
    for share, beyond in ((0.099, 0), (0.101, 1)):
        moved = msgspec.structs.replace(row, value=row.value + share * (row.hi - row.lo))
        found = compared(PLAY, rows, {**rows, key: moved})
        assert (found.beyond, found.lost, found.worst) == (beyond, 0, key)
        assert found.most == pytest.approx(share)
    gone = compared(PLAY, rows, {**rows, key: msgspec.structs.replace(row, value=None)})
    assert (gone.beyond, gone.lost) == (0, 1)
    less = compared(PLAY, rows, {k: r for k, r in rows.items() if k != key})
    assert less.lost == 1


def test_wrong_use_of_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    for words, said in (
        (("models", "build", "hashed"), "one precision"),
        (("models", "build", "nothing"), "not in the zoo"),
        (("models", "build", "--rows", "1"), "--rows"),
        (("engine", "verify", "text-affect"), "affect models build text-affect"),
        (("models", "build", "--from", "nothing.onnx"), "--from"),
    ):
        assert main(list(words)) == 2
        assert said in capsys.readouterr().err


def test_the_commands_print_a_table_or_json(
    work: Work, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from stream.commands import models_build

    monkeypatch.setattr(models_build, "work", lambda args: work)
    assert main(["models", "build", "--precision", "fp16"]) == 0
    out = capsys.readouterr().out
    assert "text-affect:fp16  passed" in out
    assert "goemotions28" in out
    assert "signals of panic" in out
    monkeypatch.setattr("stream.commands.zoo.read_manifest", lambda name: work.manifest)
    monkeypatch.setattr("stream.commands.zoo.read_packed", lambda manifest: b"")
    assert main(["models", "show", "text-affect"]) == 0
    assert f"file fp16  sha256 {read_record(work.manifest).files[0].sha256}, from fp32" in capsys.readouterr().out
    assert main(["models", "show", "text-affect", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["precisions"][0]["verdict"]["passed"] is True
    monkeypatch.setattr("stream.commands.engine_verify.work", lambda args: work)
    assert main(["engine", "verify", "--precision", "fp16", "--json"]) == 0
    (line,) = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    assert line["precision"] == "fp16"
    assert line["passed"] is True
    assert msgspec.convert({k: v for k, v in line.items() if k not in ("model", "precision")}, Verdict).passed
