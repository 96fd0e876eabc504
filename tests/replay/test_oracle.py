"""Replay against the oracle on the real streams: every log, cut, worker count and order gives the same rows."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from oracle import (
    TASKS,
    Post,
    RowKey,
    cues_of,
    disagreements,
    disordered,
    entities_of,
    expected,
    read_posts,
    read_rows,
    score_file,
    times_of,
)

DATA = os.environ.get("AFFECT_DATA")
STREAMS = {"market": "posts_finance", "crisis": "posts_disaster"}
STEP_S = 0.25
Rows = dict[RowKey, tuple[int, float | None]]

pytestmark = [
    pytest.mark.data,
    pytest.mark.timeout(600),
]


def replay(path: Path, domain: str, out: Path, *more: str, engine: str = "hashed") -> dict[str, int]:
    """Run `affect replay`; returns its conservation sum. The encoder would take minutes a stream."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "stream.cli",
            "replay",
            str(path),
            "--domain",
            domain,
            "--out",
            str(out),
            "--json",
            "--engine",
            engine,
            *more,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def write_posts(path: Path, posts: list[Post]) -> Path:
    with gzip.open(path, "wt", encoding="utf-8", compresslevel=1) as out:
        out.writelines(json.dumps(post) + "\n" for post in posts)
    return path


class Case:
    """One stream (or its first `head` posts) with what its rows must be."""

    def __init__(self, domain: str, folder: Path, head: int | None = None) -> None:
        self.domain = domain
        posts = read_posts(Path(str(DATA)) / "text" / "streams" / f"{STREAMS[domain]}.jsonl.gz")[:head]
        self.path = write_posts(folder / f"{domain}-{head}.jsonl.gz", posts)
        self.times = times_of(posts, STEP_S)
        scores = {task: score_file(self.path, task) for task in TASKS[domain]}
        scores["cues"] = cues_of(posts)
        self.want: Rows = expected(posts, self.times, entities_of(posts, domain), scores, domain)
        self.count = len(posts)
        shuffled = disordered(posts, self.times)
        self.duplicates = len(shuffled) - len(posts)
        self.shuffled = write_posts(folder / f"{domain}-{head}-shuffled.jsonl.gz", shuffled)

    def check_in_order(self, folder: Path, *more: str) -> None:
        """In file order, by rank: counts exact, values to 1e-9."""
        out = folder / "rows.jsonl"
        sums = replay(self.path, self.domain, out, "--rank-time", str(STEP_S), *more)
        n = self.count
        assert sums == {"in": n, "applied": n, "duplicate": 0, "late": 0, "rejected": 0, "in_flight": 0}
        assert disagreements(read_rows(out), self.want) == []

    def check_disordered(self, folder: Path, *more: str) -> None:
        """27 % out of order, 2 % sent twice: the same rows."""
        out = folder / "rows.jsonl"
        sums = replay(self.shuffled, self.domain, out, *more)
        assert sums["duplicate"] == self.duplicates
        assert sums["in"] == sums["applied"] + self.duplicates
        assert sums["applied"] == self.count
        assert disagreements(read_rows(out), self.want) == []


@pytest.fixture(scope="module", params=sorted(STREAMS))
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """The whole stream."""
    return Case(request.param, tmp_path_factory.mktemp("oracle"))


@pytest.fixture(scope="module", params=sorted(STREAMS))
def head(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """The first 4000 posts: a batch size of 1 takes 3 ms a post."""
    return Case(request.param, tmp_path_factory.mktemp("oracle"), 4000)


def log_url(kind: str, folder: Path) -> str:
    return "memory://" if kind == "memory" else f"sqlite:///{folder}/log.db"


@pytest.mark.parametrize(("log", "batch", "workers"), [("memory", 64, 3), ("sqlite", 1000, 1)])
def test_in_order(case: Case, log: str, batch: int, workers: int, tmp_path: Path) -> None:
    args = ("--log", log_url(log, tmp_path), "--batch-size", str(batch), "--workers", str(workers))
    case.check_in_order(tmp_path, *args)


@pytest.mark.parametrize(("log", "batch", "workers"), [("memory", 1000, 1), ("sqlite", 64, 3)])
def test_disorder_and_duplicates(case: Case, log: str, batch: int, workers: int, tmp_path: Path) -> None:
    args = ("--log", log_url(log, tmp_path), "--batch-size", str(batch), "--workers", str(workers))
    case.check_disordered(tmp_path, *args)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("log", ["memory", "sqlite"])
def test_one_post_at_a_time(head: Case, log: str, workers: int, tmp_path: Path) -> None:
    args = ("--log", log_url(log, tmp_path), "--batch-size", "1", "--workers", str(workers))
    if workers == 1:
        head.check_in_order(tmp_path, *args)
    else:
        head.check_disordered(tmp_path, *args)


def test_twice_the_same_bytes(case: Case, tmp_path: Path) -> None:
    """Two replays, of other batch sizes and logs even, leave the same bytes."""
    outs = []
    for k, args in enumerate((("--batch-size", "333"), ("--log", f"sqlite:///{tmp_path}/log.db"))):
        out = tmp_path / f"{k}.jsonl"
        replay(case.shuffled, case.domain, out, *args)
        outs.append(out.read_bytes())
    assert outs[0] == outs[1]


def test_replay_and_score_take_the_same_models_unasked(tmp_path: Path) -> None:
    """Every head comes from the model that is best at it; nobody names one."""
    posts = read_posts(Path(str(DATA)) / "text" / "streams" / "posts_disaster.jsonl.gz")[:100]
    path = write_posts(tmp_path / "few.jsonl.gz", posts)
    scores = {task: score_file(path, task, "auto") for task in TASKS["crisis"]}
    scores["cues"] = cues_of(posts)
    want = expected(posts, times_of(posts, 1.0), entities_of(posts, "crisis"), scores, "crisis")
    replay(path, "crisis", tmp_path / "rows.jsonl", "--rank-time", "1", engine="auto")
    got = read_rows(tmp_path / "rows.jsonl")
    assert disagreements(got, want) == []
    assert sum(value is not None for _, value in got.values()) > 100
    models = {json.loads(line)["model"] for line in (tmp_path / "rows.jsonl").read_text().splitlines()}
    assert [model.split("@")[0] for model in models] == ["text-affect"]
