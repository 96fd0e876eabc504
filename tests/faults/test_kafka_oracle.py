"""Several `affect` processes on a real Kafka against the independent oracle, on the real streams."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from kafka_engine import Engine

from stream.base import Output, partition_of
from stream.config import INPUT_TOPICS

sys.path.insert(0, str(Path(__file__).parent.parent / "replay"))
from oracle import (
    TASKS,
    Post,
    cues_of,
    disagreements,
    disordered,
    entities_of,
    expected,
    read_posts,
    score_file,
    times_of,
)

DATA = os.environ.get("AFFECT_DATA")
HEAD = int(os.environ.get("AFFECT_ORACLE_POSTS", "4000"))
"""Posts of each stream; 0 = the whole of it."""
STREAMS = {"market": "posts_finance", "crisis": "posts_disaster"}
PARTITIONS = 5
STEP_S = 0.25

pytestmark = [
    pytest.mark.faults,
    pytest.mark.broker,
    pytest.mark.data,
    pytest.mark.timeout(900),
]


class Stream:
    """A stream in order and out of order, and what its rows must be either way."""

    def __init__(self, domain: str, folder: Path) -> None:
        self.domain = domain
        posts = read_posts(Path(str(DATA)) / "text" / "streams" / f"{STREAMS[domain]}.jsonl.gz")[: HEAD or None]
        path = folder / f"{domain}.jsonl"
        path.write_text("".join(json.dumps(post) + "\n" for post in posts), encoding="utf-8")
        times = times_of(posts, STEP_S)
        scores = {task: score_file(path, task) for task in TASKS[domain]}
        scores["cues"] = cues_of(posts)
        self.want = expected(posts, times, entities_of(posts, domain), scores, domain)
        self.count = len(posts)
        stamped = [{**post, "created_at": at} for post, at in zip(posts, times, strict=True)]
        shuffled = disordered(posts, times)
        self.repeats = len(shuffled) - len(posts)
        self.orders = {"in order": self.outputs(stamped), "out of order": self.outputs(shuffled)}

    def outputs(self, posts: list[Post]) -> list[Output]:
        """The posts as a producer of past times sends them: their own clock is the newest time so far."""
        found, newest = [], 0
        for post in posts:
            key = str(post["id"]).encode()
            newest = max(newest, int(str(post["created_at"])))
            partition = partition_of(key, PARTITIONS)
            found.append(Output(INPUT_TOPICS[self.domain], partition, key, json.dumps(post).encode(), newest))
        return found


@pytest.fixture(scope="module", params=sorted(STREAMS))
def stream(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Stream:
    return Stream(request.param, tmp_path_factory.mktemp("streams"))


@pytest.mark.parametrize("order", ["in order", "out of order"])
@pytest.mark.parametrize("workers", [1, 2, 5])
def test_signals_equal_the_oracle(broker: Any, stream: Stream, workers: int, order: str, tmp_path: Path) -> None:
    """Five partitions; every (signal, entity, window) is there, n exact, values to 1e-9, every post accounted for."""
    outputs = stream.orders[order]
    repeats = stream.repeats if order == "out of order" else 0

    async def scene() -> None:
        async with Engine(broker.bootstrap, tmp_path, stream.domain, PARTITIONS, engine="hashed", batch=1000) as engine:
            await engine.ensure()
            for k in range(workers):
                engine.worker(f"w{k}")
            await engine.append(outputs)
            result = await engine.result()
            rows = {key: (row.n, row.value) for key, row in result.rows.items()}
            assert disagreements(rows, stream.want) == []
            assert result.sums.conserved
            assert (result.sums.applied, result.sums.duplicate) == (stream.count, repeats)
            assert (result.sums.late, result.sums.rejected, result.late, result.dead) == (0, 0, 0, [])

    asyncio.run(scene())
