"""Languages no head was trained on: counted, left out of the values where asked, and said."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import msgspec
import pytest

from engines.artefacts import read_manifest
from engines.load import load_text_model
from engines.tasks import TEXT_TASKS
from operators.readable import Readable, common, readable
from operators.records import SignalRow
from stream.cli import main
from stream.connect import open_log
from stream.replaying import replay, replay_config

START = 1_709_562_600_000
SAYS = {
    "en": "the flood took our house and we need water and food now",
    "zh": "我们的房子被洪水冲走了，现在需要水和食物",
    "fi": "maksut pitää hoitaa ajallaan ja tulva vei talon mukanaan eilen",
    "": "help",
}


def posts(langs: tuple[str, ...], entity: str) -> list[dict[str, object]]:
    return [
        {"id": f"{entity}{k}", "text": f"{SAYS[lang]} {k}", "author": f"{entity}{k}", "place": entity,
         "created_at": START + 500 * k}
        for k, lang in enumerate(langs * 20)
    ]  # fmt: skip


def rows(folder: Path, given: list[dict[str, object]], languages: str) -> dict[tuple[str, str], SignalRow]:
    file = folder / "posts.jsonl"
    file.write_text("".join(json.dumps(post) + "\n" for post in given), "utf-8")
    config = replay_config("crisis", engine="hashed", windows=["1m"], languages=languages)

    async def run() -> dict[tuple[str, str], SignalRow]:
        log = open_log("memory://")
        found, _ = await replay(log, config, file)
        await log.close()
        read = (msgspec.json.decode(line, type=SignalRow) for line in found.lines())
        return {(row.signal, row.entity): row for row in read}

    return asyncio.run(run())


def test_values_are_those_of_the_readable_posts_and_the_counts_those_of_all(tmp_path: Path) -> None:
    mixed = posts(("en", "zh", "", "fi"), "Mixed")
    whole = mixed + posts(("zh",), "Far")
    known = [post for post in mixed if any(str(post["text"]).startswith(SAYS[lang]) for lang in ("en", ""))]
    got, alone = rows(tmp_path, whole, "trained"), rows(tmp_path, known, "all")
    compared = 0
    for (signal, entity), row in alone.items():
        if entity != "place:Mixed" or signal in ("crisis.without_place",):
            continue
        mine = got[signal, entity]
        assert mine.n == 2 * row.n
        assert mine.authors == 2 * row.authors
        assert mine.sampled == 0.5
        assert mine.reasons[0].startswith("50% of the posts are not in the value: in languages")
        assert mine.value == pytest.approx(row.value, abs=1e-12), signal
        compared += row.value is not None
    assert compared > 20
    far = [row for (_, entity), row in got.items() if entity == "place:Far"]
    assert far
    assert all(row.value is None and row.n == 20 and row.sampled == 0 for row in far)
    unasked = rows(tmp_path, whole, "all")
    assert all(row.sampled == 1.0 and not any("languages" in r for r in row.reasons) for row in unasked.values())
    assert any(row.value is not None for (_, entity), row in unasked.items() if entity == "place:Far")


def test_given_codes_are_trusted_and_unsure_texts_are_read() -> None:
    assert [readable(code, {"en", "pt"}) for code in ("", "und", "en", "EN-gb", "pt_BR", "zh", "fil")] == [
        True, True, True, True, True, False, False,
    ]  # fmt: skip
    assert readable("zh", ())
    one = Readable({"en"}, leave_out=True)
    assert one.said() == ""


def test_heads_share_the_languages_that_all_of_them_read() -> None:
    assert common([("en",), ("en", "es"), ()]) == {"en"}
    assert common([(), ()]) == common([]) == frozenset()


def test_models_of_the_zoo_name_their_languages_and_the_stub_reads_any() -> None:
    for name in ("text-affect", "hashed-bag"):
        assert {h.task: h.languages for h in read_manifest(name).heads} == {t.task: t.languages for t in TEXT_TASKS}
    assert not any(head.languages for head in load_text_model("stub").spec.heads)


def test_a_replay_says_the_share_and_score_gives_null_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "posts.jsonl"
    given = [*posts(("en", "zh"), "Mixed"), {"id": "x", "text": "ok", "lang": "de", "created_at": START}]
    file.write_text("".join(json.dumps(post) + "\n" for post in given), "utf-8")
    words = ["replay", str(file), "--domain", "crisis", "--engine", "hashed", "--out", str(tmp_path / "out.jsonl")]
    assert main([*words, "--languages", "all"]) == 0
    said = "21 of 41 posts are in languages no head was trained on (zh 20, de 1)"
    assert f"{said}: scored all the same" in capsys.readouterr().err
    assert main(words) == 0
    assert f"{said}: left out of the values" in capsys.readouterr().err
    score = ["score", "--task", "sentiment3", "--engine", "hashed", "--input", str(file)]
    assert main(score) == 0
    out = capsys.readouterr()
    lines = [json.loads(line) for line in out.out.splitlines()]
    assert lines[1] == {"id": "Mixed1", "scores": None, "labels": [], "reason": "language", "lang": "zh"}
    assert set(lines[0]["scores"]) == {"positive", "neutral", "negative"}
    assert sum(line["scores"] is None for line in lines) == 21
    assert "21 texts not scored: sentiment3 was not trained on their language (zh 20, de 1)" in out.err
    file.write_text('{"text": "so happy", "lang": " EN_us "}\n{"text": "so happy", "lang": "pt-BR"}\n', "utf-8")
    assert main(score) == 0
    tagged = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line.get("lang") for line in tagged] == [None, "pt"]
    far = '{"text": "我们的房子被洪水冲走了"}\n' * 3
    for task, engine in (
        ("parrott", "hashed"),
        ("vad", "hashed"),
        ("sentiment3", "text-affect"),
        ("vad", "text-affect"),
    ):
        file.write_text(far, "utf-8")
        assert main(["score", "--task", task, "--engine", engine, "--input", str(file)]) == 0
        assert [json.loads(line)["lang"] for line in capsys.readouterr().out.splitlines()] == ["zh"] * 3
    file.write_text('{"text": "so happy", "lang": " EN_us "}\n{"text": "so happy", "lang": "pt-BR"}\n', "utf-8")
    assert main([*score, "--languages", "all"]) == 0
    assert all(json.loads(line)["scores"] for line in capsys.readouterr().out.splitlines())
