"""`affect letters`: what was refused and what was late, with reasons and counts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stream.cli import main

DAY = 86_400_000


@pytest.fixture(name="log")
def _log(tmp_path: Path) -> str:
    """A log that a replay left: two bad lines, one post a day late, one fine."""
    now = 1_700_000_000_000
    posts = [
        {"id": "a", "text": "$AAPL up", "created_at": now},
        {"id": "b", "text": "$AAPL much later", "created_at": now + 3 * DAY},
        {"id": "c", "text": "$AAPL from the past", "created_at": now},
        {"id": "d", "created_at": now},
    ]
    file = tmp_path / "posts.jsonl"
    file.write_text("\n".join([*map(json.dumps, posts), "no json"]) + "\n", "utf-8")
    url = f"sqlite:///{tmp_path / 'log.db'}"
    out = tmp_path / "out.jsonl"
    assert main(["replay", str(file), "--domain", "market", "--engine", "stub", "--log", url, "--out", str(out)]) == 0
    return url


def test_dead_letters_say_where_and_why(log: str, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["letters", "--log", log]) == 0
    out, err = capsys.readouterr()
    assert "affect.posts.finance.v1[0] offset" in out
    assert len(out.splitlines()) == 2
    assert "2 in affect.dead-letter.v1" in err
    assert main(["letters", "--log", log, "--json", "--limit", "1"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["topic"] == "affect.posts.finance.v1"


def test_late_posts_say_how_late(log: str, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["letters", "--log", log, "--late"]) == 0
    out, err = capsys.readouterr()
    assert "'c' of 2023-11-14T22:13:20+00:00" in out
    assert "1 in affect.late.v1: 1 late" in err


def test_a_mistyped_log_and_a_limit_of_nothing_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["letters", "--log", f"sqlite:///{tmp_path / 'none.db'}"]) == 2
    assert "there is no file" in capsys.readouterr().err
    assert main(["letters", "--log", "memory://", "--limit", "0"]) == 2
