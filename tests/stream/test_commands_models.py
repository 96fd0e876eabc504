"""`affect score`, `eval` and `models`, as a script would use them."""

from __future__ import annotations

import argparse
import gzip
import io
import json
import sys
import zlib
from pathlib import Path

import pytest

from engines.errors import AffectError, UnknownModel
from engines.load import load_text_model
from engines.stub import stub_spec
from operators.calibrate import Calibrate
from operators.ontology import PRIMARIES
from stream.commands import models, zoo
from stream.errors import UsageError


def affect(*words: str) -> int:
    parser = argparse.ArgumentParser()
    verbs = parser.add_subparsers(required=True)
    for group in (models, zoo):
        group.add(verbs)
    args = parser.parse_args(words)
    return int(args.run(args))


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def feed(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_score_gives_the_integers_the_pipeline_sums(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = [f"post {k}: we need water and I am {'happy' if k % 2 else 'sad'} 日本" for k in range(2500)]
    path = tmp_path / "in.jsonl.gz"
    with gzip.open(path, "wt", encoding="utf-8") as out:
        out.writelines(json.dumps({"id": f"p{k}", "text": text, "more": [1]}) + "\n" for k, text in enumerate(texts))
    model = load_text_model("hashed")
    micro = Calibrate().calibrate(model.spec, model.logits(texts), ["emtract7"])["emtract7"].tolist()
    assert affect("score", "--task", "emtract7", "--input", str(path), "--engine", "hashed") == 0
    rows = lines(capsys)
    assert [r["id"] for r in rows] == [f"p{k}" for k in range(2500)]
    head = model.spec.head("emtract7")
    assert head is not None
    assert [r["scores"] for r in rows] == [
        {name: value / 1_000_000 for name, value in zip(head.labels, row, strict=True)} for row in micro
    ]
    assert all(r["labels"] == [max(r["scores"], key=r["scores"].get)] for r in rows)  # type: ignore[attr-defined,arg-type]


def test_score_reads_standard_input_and_numbers_rows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    feed(monkeypatch, b'{"text":"a"}\n\n{"id":7,"text":"\xc3\xa9"}\n{"text":"c"}')
    assert affect("score", "--task", "disaster_message", "--engine", "stub") == 0
    rows = lines(capsys)
    assert [r["id"] for r in rows] == [0, 7, 2]
    s = zlib.crc32("é".encode()) % 1000 / 1000
    assert set(rows[1]["scores"].values()) == {s}  # type: ignore[attr-defined]


def test_parrott_is_the_roll_up(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    feed(monkeypatch, b'{"text":"Thank you, I love it!"}\n{"text":""}\n')
    assert affect("score", "--task", "parrott") == 0
    rows = lines(capsys)
    assert rows[0]["labels"] == ["love"]
    for row in rows:
        scores = row["scores"]
        assert isinstance(scores, dict)
        assert list(scores) == [*PRIMARIES, "none"]
        assert sum(round(v * 1_000_000) for v in scores.values()) == 1_000_000


def test_no_rows_in_no_rows_out(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    feed(monkeypatch, b"")
    assert affect("score", "--task", "sentiment3") == 0
    assert lines(capsys) == []


@pytest.mark.parametrize(
    "bad",
    [b"{", b"[1]", b'"text"', b"\xff\xfe", b'{"id":1}', b'{"text":5}', b'{"text":null}', b'{"text":"a"} x', b"\0"],
)
def test_a_bad_line_is_named(monkeypatch: pytest.MonkeyPatch, bad: bytes) -> None:
    feed(monkeypatch, b'{"text":"fine"}\n\n' + bad + b"\n")
    with pytest.raises(UsageError, match="standard input line 3: ") as error:
        affect("score", "--task", "sentiment3", "--engine", "stub")
    assert error.value.exit_code == 2
    assert "\n" not in str(error.value)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing\.jsonl"):
        affect("score", "--task", "sentiment3", "--input", str(tmp_path / "nothing.jsonl"))
    with pytest.raises(UsageError, match="cannot read"):
        affect("score", "--task", "sentiment3", "--input", str(tmp_path))
    broken = tmp_path / "cut.jsonl.gz"
    broken.write_bytes(gzip.compress(b'{"text":"a"}\n' * 9)[:-9])
    with pytest.raises(UsageError, match="cannot unpack"):
        affect("score", "--task", "sentiment3", "--input", str(broken))


@pytest.mark.parametrize("words", [("--task", "nothing"), ("--task", "sentiment3", "--engine", "nothing")])
def test_unknown_task_or_engine_lists_what_there_is(monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]) -> None:
    feed(monkeypatch, b'{"text":"a"}\n')
    with pytest.raises(UnknownModel, match=r"emtract7|hashed"):
        affect("score", *words)


def test_eval_counts_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = [f"t{k}" for k in range(40)]
    positive = [zlib.crc32(t.encode()) % 1000 >= 500 for t in texts]
    rows = [
        {"id": k, "text": t, "sentiment": "positive" if p else "neutral"}
        for k, (t, p) in enumerate(zip(texts, positive, strict=True))
    ]
    rows[0]["sentiment"] = "neutral" if positive[0] else "positive"
    rows.append({"id": 99, "text": "no label"})
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert affect("eval", "--task", "sentiment3", "--data", str(path), "--engine", "stub", "--json") == 0
    (found,) = lines(capsys)
    assert (found["rows"], found["skipped"], found["model"]) == (40, 1, "stub@crc32")
    same = [sum(p == want for p in positive[1:]) for want in (True, False)]
    total = [same[0] + (not positive[0]), same[1] + positive[0]]
    recall = sum(a / b for a, b in zip(same, total, strict=True)) / 2
    metrics = found["metrics"]
    assert isinstance(metrics, list)
    assert metrics[0]["metric"] == "average_recall"
    assert metrics[0]["value"] == pytest.approx(recall)
    assert affect("eval", "--task", "sentiment3", "--data", str(path), "--engine", "stub") == 0
    out = capsys.readouterr().out
    assert f"{recall:.4f}" in out
    assert "95 %" in out
    assert "0.681" in out


def test_eval_refuses_what_it_cannot_measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text":"a","emotion":"nothing"}\n')
    monkeypatch.delenv("AFFECT_DATA", raising=False)
    for words in (
        ("--task", "emtract7", "--data", str(path)),
        ("--task", "all", "--data", str(path)),
        ("--task", "emtract7"),
        ("--task", "parrott", "--data", str(path)),
    ):
        with pytest.raises(AffectError) as error:
            affect("eval", *words)
        assert error.value.exit_code == 2


def test_models_list_and_show(capsys: pytest.CaptureFixture[str]) -> None:
    assert affect("models") == 0
    assert all(t.task in capsys.readouterr().out for t in stub_spec().heads[:1])
    assert affect("models", "list", "--json") == 0
    face, listed, encoder, voice = lines(capsys)
    assert (listed["name"], encoder["name"]) == ("hashed-bag", "text-affect")
    assert (face["kind"], voice["kind"], listed["kind"]) == ("face", "voice", "text")
    assert face["research_only"] == voice["research_only"] == (not listed["research_only"])
    assert affect("models", "show", "hashed", "--json") == 0
    (shown,) = lines(capsys)
    assert shown == listed
    assert affect("models", "show", "hashed-bag") == 0
    out = capsys.readouterr().out
    assert str(listed["sha256"]) in out
    assert "CC BY 4.0" in out
    for words in (("models", "show"), ("models", "show", "nothing")):
        with pytest.raises(AffectError, match="hashed-bag") as error:
            affect(*words)
        assert error.value.exit_code == 2


def test_an_encoders_values_are_scores_without_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text('{"text": "What a wonderful, happy day!"}\n{"text": "He died in terrible pain."}\n')
    assert affect("score", "--task", "vad", "--input", str(path), "--engine", "text-affect") == 0
    happy, pain = lines(capsys)
    assert list(happy["scores"]) == ["V", "A", "D"]  # type: ignore[call-overload]
    assert 5 >= happy["scores"]["V"] > 3 > pain["scores"]["V"] >= 1  # type: ignore[index]
    assert happy["labels"] == pain["labels"] == []
    labelled = tmp_path / "labelled.jsonl"
    rows = [("What a wonderful, happy day!", 4.5), ("He died in terrible pain.", 1.5), ("The table is brown.", 3.0)]
    labelled.write_text("".join(json.dumps({"text": t, "V": v, "A": 3 + v / 9, "D": v}) + "\n" for t, v in rows))
    words = ("eval", "--task", "vad", "--data", str(labelled), "--engine", "text-affect")
    assert affect(*words, "--json") == 0
    (found,) = lines(capsys)
    figures = {m["metric"]: m["value"] for m in found["metrics"]}  # type: ignore[attr-defined]
    assert list(figures) == ["pearson", "pearson_V", "pearson_A", "pearson_D"]
    assert figures["pearson_V"] > 0.9
    assert found["ece"] is None
    assert affect(*words) == 0
    assert "pearson_V" in capsys.readouterr().out


@pytest.mark.data
def test_eval_all_runs_on_the_public_halves(capsys: pytest.CaptureFixture[str]) -> None:
    assert affect("eval", "--task", "all", "--engine", "stub", "--json") == 0
    assert [found["task"] for found in lines(capsys)] == [head.task for head in stub_spec().heads]
