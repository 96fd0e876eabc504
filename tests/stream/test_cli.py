"""The command line: every verb has its help, wrong use is one line and exit 2, and the verbs do what they say."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from stream.cli import main
from stream.config import DOMAINS, INPUT_TOPICS

VERBS = (
    ("demo",), ("run",), ("replay",), ("send",), ("score",), ("eval",), ("models",), ("signals",), ("signals", "tail"),
    ("signals", "explain"), ("topics",), ("topics", "print"), ("topics", "apply"), ("doctor",),
    ("models", "list"), ("models", "show"), ("models", "build"), ("engine",), ("engine", "bench"), ("engine", "verify"),
    ("engine", "serve"), ("engine", "swap"), ("engine", "status"), ("engine", "keys"),
)  # fmt: skip
T = 1_790_000_040_000


def affect(*words: str) -> int:
    """Run a command in this process; its exit code."""
    try:
        return main(list(words))
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 1


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("AFFECT_")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize("verb", [(), *VERBS], ids=" ".join)
def test_help(verb: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert affect(*verb, "--help") == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: affect {' '.join(verb)}".strip())


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert affect("--version") == 0
    assert re.fullmatch(r"affect \d+\.\d+\.\d+\S*\n", capsys.readouterr().out)


def test_the_top_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    affect("--help")
    out = capsys.readouterr().out
    assert all(re.search(rf"^ +{verb[0]} ", out, re.MULTILINE) for verb in VERBS)


REPLAY = ("replay", "posts.jsonl", "--domain", "market", "--out", "x.jsonl", "--engine", "stub")
WRONG = {
    "no verb": (),
    "unknown verb": ("replya",),
    "unknown option": ("doctor", "--jsno"),
    "bad domain": ("replay", "posts.jsonl", "--domain", "sports", "--out", "x.jsonl"),
    "no domain": ("replay", "posts.jsonl", "--out", "x.jsonl"),
    "missing file": ("replay", "nothing.jsonl", "--domain", "market", "--out", "x.jsonl"),
    "a folder": ("replay", ".", "--domain", "market", "--out", "x.jsonl"),
    "no gzip": ("replay", "fake.jsonl.gz", "--domain", "market", "--out", "x.jsonl"),
    "bad log": (*REPLAY, "--log", "postgres://x"),
    "half a log": (*REPLAY, "--log", "sqlite://"),
    "bad windows": (*REPLAY, "--windows", "5m/2m"),
    "no windows": (*REPLAY, "--windows", ""),
    "bad lateness": (*REPLAY, "--lateness", "soon"),
    "rank time 0": (*REPLAY, "--rank-time", "0"),
    "rank time nan": (*REPLAY, "--rank-time", "nan"),
    "rank time word": (*REPLAY, "--rank-time", "soon"),
    "batch size 0": (*REPLAY, "--batch-size", "0"),
    "workers 0": (*REPLAY, "--workers", "0"),
    "unknown engine": (*REPLAY[:-1], "nothing"),
    "input and topic": (*REPLAY, "--from", "t"),
    "neither input nor topic": ("replay", "--domain", "market", "--out", "x.jsonl"),
    "unknown topic": ("replay", "--from", "nothing", "--domain", "market", "--out", "x.jsonl", "--engine", "stub"),
    "no folder for out": (*REPLAY[:4], "--out", "no/where.jsonl"),
    "out is a folder": (*REPLAY[:4], "--out", ".", "--engine", "stub"),
    "run without config": ("run",),
    "run with no such config": ("run", "-c", "nothing.toml"),
    "run with a bad config": ("run", "-c", "bad.toml"),
    "send a missing file": ("send", "nothing.jsonl", "--domain", "market", "--log", "sqlite:///x.db"),
    "send to no partitions": ("send", "posts.jsonl", "--domain", "market", "--log", "memory://", "--partitions", "0"),
    "demo for no time": ("demo", "--headless", "--seconds", "0"),
    "demo for nan": ("demo", "--headless", "--port", "0", "--seconds", "nan"),
    "run for no time": ("run", "-c", "bad.toml", "--seconds", "-1"),
    "demo port": ("demo", "--headless", "--port", "70000"),
    "demo speed": ("demo", "--headless", "--speed", "0"),
    "demo scenario": ("demo", "--headless", "--scenario", "picnic"),
    "score without task": ("score",),
    "score an unknown task": ("score", "--task", "nothing", "--input", "posts.jsonl"),
    "unknown model": ("models", "show", "nothing"),
    "list one model": ("models", "list", "hashed"),
    "engine what": ("engine",),
    "bench an unknown model": ("engine", "bench", "nothing"),
    "serve an unknown model": ("engine", "serve", "--engine", "nothing"),
    "serve what is served": ("engine", "serve", "--engine", "remote:tcp://127.0.0.1:1"),
    "serve the network without keys": ("engine", "serve", "--engine", "stub", "--bind", "tcp://0.0.0.0:1"),
    "serve no rows": ("engine", "serve", "--engine", "stub", "--max-batch", "0"),
    "keys of nobody": ("engine", "keys", "keys", "--client", "../x"),
    "bench no texts": ("engine", "bench", "--texts", "0"),
    "tail without log": ("signals", "tail"),
    "tail of an empty log": ("signals", "tail", "--log", "memory://"),
    "explain no id": ("signals", "explain", "market.joy", "--log", "memory://"),
    "explain no domain": ("signals", "explain", "sports.joy|all:*|0|60000", "--log", "memory://"),
    "explain no signal": ("signals", "explain", "market.jo|all:*|0|60000", "--log", "memory://", "--engine", "stub"),
    "topics what": ("topics",),
    "topics partitions": ("topics", "print", "--partitions", "0"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_use_is_one_line_and_exit_2(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "posts.jsonl").write_text('{"id": "a", "text": "t"}\n')
    (tmp_path / "fake.jsonl.gz").write_text('{"id": "a", "text": "t"}\n')
    (tmp_path / "bad.toml").write_text("[run]\nworker = 1\n")
    code = affect(*WRONG[name])
    told = capsys.readouterr()
    assert told.out == ""
    assert re.fullmatch(r"affect[^\n]*: [^\n]{10,}\n", told.err), told.err
    assert code == 2
    assert "Traceback" not in told.err


def test_a_replay_never_writes_over_the_posts_it_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    posts = posts_file(tmp_path / "posts.jsonl", 3)
    before = posts.read_bytes()
    (tmp_path / "link.jsonl").symlink_to(posts)
    for out in ("posts.jsonl", "link.jsonl"):
        assert affect("replay", "posts.jsonl", "--domain", "market", "--out", out, "--engine", "stub") == 2
        assert "the same one" in capsys.readouterr().err
    assert posts.read_bytes() == before


def test_from_the_shell_too(tmp_path: Path) -> None:
    """As a process: the same line, nothing of Python's, exit 2; a reader that leaves early is no failure."""
    done = subprocess.run([sys.executable, "-m", "stream.cli", "replya"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    piped = f"{sys.executable} -m stream.cli topics print | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", piped], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "0"
    assert done.stderr == ""


def posts_file(path: Path, count: int = 60) -> Path:
    lines = [
        json.dumps(
            {
                "id": f"p{k}",
                "text": f"@bob buy {k}",
                "created_at": T + k * 1_000,
                "author": f"a{k}",
                "tickers": ["AAPL"],
            }
        )
        for k in range(count)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def replayed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """A log that holds a replay of sixty posts of one minute."""
    posts_file(tmp_path / "posts.jsonl")
    assert affect(*REPLAY, "--log", "sqlite:///log.db", "--windows", "1m", "--json") == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last == {"in": 60, "applied": 60, "duplicate": 0, "late": 0, "rejected": 0, "in_flight": 0}
    return "sqlite:///log.db"


def test_replay_leaves_rows_that_tail_shows(replayed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    assert len(rows) == 32
    assert affect("signals", "tail", "--log", replayed, "--json", "--last", "100") == 0
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    key = ("signal", "entity", "window_end", "window_start")
    assert sorted(shown, key=lambda r: [r[k] for k in key]) == rows
    assert affect("signals", "tail", "--log", replayed, "--signal", "market.buzz", "--entity", "ticker:AAPL") == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert "n=60" in line
    assert line.endswith(f"market.buzz|ticker:AAPL|{T}|{T + 60_000}")
    assert affect("signals", "tail", "--log", replayed, "--last", "0") == 0
    assert capsys.readouterr().out == ""


def test_replay_from_a_topic_gives_the_same_bytes(replayed: str, tmp_path: Path) -> None:
    words = ("replay", "--from", INPUT_TOPICS["market"], "--domain", "market", "--engine", "stub", "--windows", "1m")
    assert affect(*words, "--out", "again.jsonl", "--log", replayed) == 0
    assert (tmp_path / "again.jsonl").read_bytes() == (tmp_path / "x.jsonl").read_bytes()


def test_a_log_replayed_with_other_settings_is_refused(
    replayed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = (*REPLAY, "--log", replayed)
    assert affect(*again, "--windows", "5m") == 2
    assert "--windows 1m, asked for 5m; use another --log" in capsys.readouterr().err
    assert affect(*again, "--windows", "1m", "--lateness", "2h") == 2
    assert affect(*again, "--windows", "1m", "--engine", "hashed") == 2
    assert "model" in capsys.readouterr().err
    assert affect(*again, "--windows", "1m", "--batch-size", "7") == 0


def test_a_command_that_only_reads_makes_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = ("--log", "sqlite:///typo.db")
    for words in (
        ("signals", "tail", *name),
        ("signals", "explain", "market.joy|all:*|0|60000", *name),
        ("signals", "revisions", "--signal", "market.joy", *name),
        ("replay", "--from", "affect.posts.finance.v1", "--domain", "market", "--out", "o.jsonl", *name),
    ):
        assert affect(*words) == 2, words
        capsys.readouterr()
    assert not (tmp_path / "typo.db").exists()


def test_a_replay_says_why_posts_were_rejected_and_that_times_look_like_seconds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "posts.jsonl").write_text(
        '{"id":"a","text":"x","created_at":1709562600}\n{"id":7,"text":"x"}\n{"text":"x"}\n{"id":8,"text":"y"}\n'
    )
    assert affect(*REPLAY) == 0
    said = capsys.readouterr().err
    assert "3 posts rejected: wrong_type 2, missing_field 1; the first: message 1 of partition 0" in said
    assert "created_at 1709562600 is taken as milliseconds" in said


def test_explain_names_the_posts_that_moved_a_value(replayed: str, capsys: pytest.CaptureFixture[str]) -> None:
    name = f"market.joy|ticker:AAPL|{T}|{T + 60_000}"
    assert affect("signals", "explain", name, "--log", replayed, "--engine", "stub", "--json", "--top", "3") == 0
    told = json.loads(capsys.readouterr().out)
    assert (
        affect("signals", "tail", "--log", replayed, "--signal", "market.joy", "--entity", "ticker:AAPL", "--json") == 0
    )
    row = json.loads(capsys.readouterr().out)
    assert (told["n"], told["previous"]) == (60, None)
    assert told["value"] == pytest.approx(row["value"], abs=1e-12)
    sizes = [abs(post["moved"]) for post in told["posts"]]
    assert len(sizes) == 3
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 0
    assert all(post["text_masked"].startswith("@user buy ") for post in told["posts"])
    assert affect("signals", "explain", name.replace("AAPL", "KO"), "--log", replayed, "--engine", "stub") == 1
    assert "no posts about ticker:KO" in capsys.readouterr().err
    assert affect("signals", "explain", name, "--log", replayed, "--engine", "stub") == 0
    assert "from 60 posts (window before: nothing from 0)" in capsys.readouterr().out


def test_topics_print(capsys: pytest.CaptureFixture[str]) -> None:
    assert affect("topics", "print", "--domain", "crisis", "--partitions", "6", "--json") == 0
    topics = {line["topic"]: line for line in map(json.loads, capsys.readouterr().out.splitlines())}
    assert topics[INPUT_TOPICS["crisis"]]["partitions"] == 6
    assert topics["affect.panes.v1"]["cleanup"] == "compact"
    assert INPUT_TOPICS["market"] not in topics
    assert affect("topics", "print") == 0
    out = capsys.readouterr().out
    assert all(INPUT_TOPICS[domain] in out for domain in DOMAINS)


def test_doctor_finds_this_machine_fit(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert affect("doctor", "--json") == 0
    found = {line["what"]: line for line in map(json.loads, capsys.readouterr().out.splitlines())}
    assert found["author key"]["state"] == "note"
    assert found["engine (auto)"]["state"] == "ok"
    assert all(line["state"] in ("ok", "note") for line in found.values())
    monkeypatch.setenv("AFFECT_PRIVACY__AUTHOR_KEY", "secret")
    assert affect("doctor") == 0
    out = capsys.readouterr().out
    assert "secret" not in out
    assert re.search(r"^ok +author key +set$", out, re.MULTILINE)


def test_send_then_run_from_a_config_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    posts = posts_file(tmp_path / "posts.jsonl")
    send = ("send", str(posts), "--domain", "market", "--log", "sqlite:///log.db", "--partitions", "2")
    assert affect(*send) == 0
    assert "60 lines -> affect.posts.finance.v1" in capsys.readouterr().err
    assert affect(*send) == 0
    assert "0 lines -> " in capsys.readouterr().err
    (tmp_path / "run.toml").write_text(
        '[log]\nurl = "sqlite:///log.db"\n[engine]\nname = "stub"\n[web]\nenabled = false\n[windows]\nsizes = ["1m"]\n'
    )
    done = subprocess.run(
        [sys.executable, "-m", "stream.cli", "run", "-c", "run.toml", "--seconds", "3"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "60 posts in = 60 applied + 0 duplicate + 0 late + 0 rejected + 0 in flight; " in done.stderr
    assert affect("signals", "tail", "--log", "sqlite:///log.db", "--signal", "market.buzz", "--json") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {(row["entity"], row["n"]) for row in rows} >= {("ticker:AAPL", 60), ("all:*", 60)}
