"""A stream with authors, a bot, reposts and copies: the same bytes for any partitions, cut and log; bounded voices."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from stream.scenario import generate

START = 1_700_000_000_000
BOT_POSTS = 400


def posts() -> list[dict[str, object]]:
    """A panic of twelve minutes, and a bot that shouts the same four hundred times in one of them."""
    made = [dict(post) for post in generate("panic", seed=5, minutes=12, posts_per_minute=240, start_ms=START).posts]
    bot = [
        {"id": f"bot{k}", "text": f"$AAPL is going to zero, terrified, sell everything now ({k})", "author": "bot",
         "created_at": START + 300_000 + 140 * k, "tickers": ["AAPL"]}
        for k in range(BOT_POSTS)
    ]  # fmt: skip
    return sorted(made + bot, key=lambda post: int(str(post["created_at"])))


def replay(folder: Path, file: Path, *more: str) -> bytes:
    """The rows `affect replay` writes."""
    out = folder / f"rows{len(list(folder.iterdir()))}.jsonl"
    words = ["replay", str(file), "--domain", "market", "--engine", "hashed", "--out", str(out), *more]
    command = [sys.executable, "-m", "stream.cli", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out.read_bytes()


@pytest.fixture(scope="module", name="file")
def _file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("authors") / "posts.jsonl"
    path.write_text("".join(json.dumps(post) + "\n" for post in posts()), "utf-8")
    return path


@pytest.fixture(scope="module", name="plain")
def _plain(file: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return replay(tmp_path_factory.mktemp("plain"), file)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("how", [("--workers", "3"), ("--workers", "5", "--batch-size", "17"), ("--log", "sqlite")])
def test_the_same_bytes_however_it_is_run(tmp_path: Path, file: Path, plain: bytes, how: tuple[str, ...]) -> None:
    more = ("--log", f"sqlite:///{tmp_path / 'log.db'}", "--workers", "2") if how[1] == "sqlite" else how
    assert replay(tmp_path, file, *more) == plain


def test_authors_are_counted_and_the_bot_is_hushed(plain: bytes) -> None:
    rows = [json.loads(line) for line in plain.splitlines()]
    minute = START // 60_000 * 60_000 + 300_000
    wanted = {"signal": "market.fear", "entity": "ticker:AAPL", "window_start": minute, "window_end": minute + 60_000}
    (fear,) = [row for row in rows if wanted.items() <= row.items()]
    inside = [
        post for post in posts()
        if minute <= int(str(post["created_at"])) < minute + 60_000 and post.get("tickers") == ["AAPL"]
    ]  # fmt: skip
    shouted = Counter(post.get("author") for post in inside)["bot"]
    assert shouted > 250
    assert fear["n"] >= len({post["id"] for post in inside})
    assert fear["capped"] > 0.6
    assert fear["n_eff"] < fear["n"] / 2
    assert fear["value"] < 0.5  # three posts in four are pure fear
