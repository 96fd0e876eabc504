"""`affect score`, `eval` and `replay` with a chat endpoint from a settings file: budget, cache, no score, the key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from chat_server import ChatServer

from stream.cli import main
from tests.engines.endpoints import CANARY

pytestmark = pytest.mark.usefixtures("no_key_in_any_log")


def settings(folder: Path, server: ChatServer, more: str = "") -> str:
    """A settings file that names the endpoint, as a user writes it."""
    path = folder / "endpoint.toml"
    path.write_text(
        f'[engine]\nname = "endpoint"\naddress = "{server.address}"\n'
        f'[endpoint]\nmodel = "toy"\nkey_env = "TOY_KEY"\nper_minute = 100000\nbatch = 10\n{more}',
        "utf-8",
    )
    return str(path)


def test_score_eval_and_replay_take_an_endpoint_and_say_who_has_no_score(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOY_KEY", CANARY)
    data, out, cache = tmp_path / "rows.jsonl", tmp_path / "signals.jsonl", tmp_path / "cache"
    post = {"tickers": ["AAA"], "created_at": 1_709_562_600_000}
    given = [
        {**post, "id": str(k), "author": f"a{k}", "text": f"up {k}", "emotion": "happy" if k < 8 else "sad"}
        for k in range(40)
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in given), "utf-8")
    capped = settings(tmp_path, server, "requests = 2\n")
    assert main(["score", "-c", capped, "--task", "emtract7", "--input", str(data)]) == 0
    said = capsys.readouterr()
    scored = [json.loads(line) for line in said.out.splitlines()]
    assert [row["labels"] for row in scored[:20]] == [["happy"]] * 20
    assert scored[0]["scores"]["happy"] == 0.75
    null = [{"id": str(k), "scores": None, "labels": [], "reason": "budget"} for k in range(20, 40)]
    assert scored[20:] == null
    assert "20 answers gave no score (budget 20): their scores are null" in said.err

    assert main(["score", "-c", capped, "--task", "parrott", "--input", str(data)]) == 0
    rolled = capsys.readouterr()
    assert [row["scores"] is None for row in map(json.loads, rolled.out.splitlines())] == [False] * 20 + [True] * 20

    assert main(["eval", "-c", capped, "--task", "emtract7", "--data", str(data), "--json"]) == 0
    measured = capsys.readouterr()
    found = json.loads(measured.out)
    right = {one["metric"]: one["value"] for one in found["metrics"]}
    assert right["accuracy"] == pytest.approx(8 / 40)  # right are the 8 happy ones; no score is wrong
    assert found["ece"] == pytest.approx(0.75 - 8 / 20)  # of the 20 that have a probability
    assert "20 answers gave no score (budget 20): counted as wrong, left out of the ECE" in measured.err

    words = ["replay", str(data), "--domain", "market", "--out", str(out), "--windows", "1m"]
    assert main([*words, "-c", settings(tmp_path, server, f'requests = 2\ncache = "{cache}"\n')]) == 0
    replayed = capsys.readouterr()
    assert "20 answers gave no score (budget 20): their posts are null" in replayed.err
    asked = len(server.asked)
    assert main([*words, "-c", settings(tmp_path, server, f'requests = 2\ncache = "{cache}"\n')]) == 0
    assert len(server.asked) == asked + 2  # what is in the cache costs nothing: the rest fits the budget
    again = capsys.readouterr()
    assert "gave no score" not in again.err
    everything = (said, rolled, measured, replayed, again)
    assert CANARY not in "".join(one.out + one.err for one in everything) + out.read_text("utf-8")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["score", "--task", "emtract7", "--engine", "hashed"], "give one of them"),
        (["score", "--task", "ferplus8"], "faces or voices"),
        (["eval", "--task", "ravdess8"], "faces or voices"),
        (["eval", "--task", "all"], "one task"),
        (["eval", "--task", "vad", "--data", "none"], "expected tasks with labels"),
    ],
)
def test_settings_that_cannot_choose_the_model_are_refused(
    server: ChatServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    words: list[str], said: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("TOY_KEY", CANARY)
    assert main([*words, "-c", settings(tmp_path, server)]) != 0
    err = capsys.readouterr().err
    assert said in err
    assert CANARY not in err
    assert server.asked == []
