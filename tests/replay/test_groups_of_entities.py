"""Sectors and communities are entities like any other: their rows are those of a ticker or topic of the same posts."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import msgspec
import pytest

from operators.records import SignalRow
from stream.base import TopicSpec
from stream.config import Config, InputConfig
from stream.errors import UsageError
from stream.memory import MemoryLog
from stream.replaying import replay, replay_config

START = 1_700_000_000_000 // 3_600_000 * 3_600_000
Post = dict[str, object]


def rows_of(posts: list[Post], config: Config, folder: Path) -> list[SignalRow]:
    path = folder / "posts.jsonl"
    path.write_bytes(b"".join(msgspec.json.encode(post) + b"\n" for post in posts))

    async def run() -> list[SignalRow]:
        log = MemoryLog()
        await log.ensure([TopicSpec(config.topic, 2)])
        found, status = await replay(log, config, path)
        assert status.conserved
        return [msgspec.json.decode(line, type=SignalRow) for line in found.lines()]

    return asyncio.run(run())


def settings(domain: str, **given: bool) -> Config:
    config = replay_config(domain, engine="stub", windows=["1m", "1h"], lateness="10m", workers=2)
    tree = {**msgspec.structs.asdict(config.input), **given}
    return msgspec.structs.replace(config, input=InputConfig(**tree)).check()


def crowd(seed: int) -> list[Post]:
    """Posts of a loud author, of many quiet ones and of unknown ones, some late, about one to three tickers each."""
    dice = random.Random(seed)
    posts: list[Post] = []
    for k in range(900):
        at = START + k * 900 - (dice.randrange(60_000) if dice.random() < 0.1 else 0)
        author = "loud" if dice.random() < 0.2 else f"a{dice.randrange(200)}" if dice.random() < 0.9 else None
        tickers = dice.sample(["AAPL", "MSFT", "JPM", "XOM", "NOSUCH"], dice.randint(1, 3))
        posts.append({"id": f"p{k}", "text": f"words {k}", "created_at": max(at, START), "tickers": tickers})
        if author is not None:
            posts[-1]["author"] = author
    return posts


def same(rows: list[SignalRow], entity: str, others: list[SignalRow], other: str) -> int:
    """Rows of `entity` must be those of `other` to the last digit. Returns how many."""
    own = {(r.signal, r.window_start, r.window_end): r for r in rows if r.entity == entity}
    twin = {(r.signal, r.window_start, r.window_end): r for r in others if r.entity == other}
    assert own == {key: msgspec.structs.replace(row, entity=entity) for key, row in twin.items()}
    return len(own)


def test_a_sector_is_its_posts_each_once(tmp_path: Path) -> None:
    posts = crowd(1)
    rows = rows_of(posts, settings("market", sectors=True), tmp_path)
    tech = [{**post, "tickers": ["TECH"] if {"AAPL", "MSFT"} & set(post["tickers"]) else []} for post in posts]  # type: ignore[call-overload]
    assert same(rows, "sector:technology", rows_of(tech, settings("market"), tmp_path), "ticker:TECH") > 100
    plain = rows_of(posts, settings("market"), tmp_path)
    assert [row for row in rows if not row.entity.startswith("sector:")] == plain  # nothing else has moved
    assert {row.entity for row in rows if row.entity.startswith("sector:")} >= {"sector:technology", "sector:energy"}


def test_a_community_is_its_posts(tmp_path: Path) -> None:
    dice = random.Random(2)
    posts = [{**post, "source": dice.choice(["r/one", "r/two"]), "tickers": []} for post in crowd(2)]
    rows = rows_of(posts, settings("social", communities=True), tmp_path)
    events = rows_of([{**post, "event": post["source"]} for post in posts], settings("social"), tmp_path)
    assert same(rows, "source:r/one", events, "topic:r/one") > 100
    assert same(rows, "source:r/two", events, "topic:r/two") > 100


@pytest.mark.parametrize(
    ("domain", "setting"), [("crisis", "sectors"), ("social", "sectors"), ("market", "communities")]
)
def test_where_they_mean_nothing_they_are_refused(domain: str, setting: str) -> None:
    with pytest.raises(UsageError, match=rf"input\.{setting}: expected domain"):
        settings(domain, **{setting: True})
