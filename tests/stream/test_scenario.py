"""Scenarios: the same from the same seed, true to their truth, and as untidy as announced."""

from __future__ import annotations

import itertools
from collections import Counter

import msgspec
import numpy as np
import pytest

from operators.entities import Linker
from operators.records import Post
from stream.errors import UsageError
from stream.scenario import DELAY_MS, MINUTE_MS, PLOTS, Scenario, generate, play

START = 1_700_000_040_000 // MINUTE_MS * MINUTE_MS
RUNS = {name: generate(name, 7, 30, 120, START) for name in PLOTS}
names = pytest.mark.parametrize("name", list(PLOTS))


def once(run: Scenario) -> dict[str, Post]:
    return {p.id: p for p in (msgspec.convert(post, Post) for post in run.posts)}


def planted(name: str, entity: str, channel: str) -> list[float]:
    return [row.planted for row in RUNS[name].truth if (row.entity, row.channel) == (entity, channel)]


@names
def test_a_seed_is_a_run(name: str) -> None:
    assert generate(name, 7, 30, 120, START) == RUNS[name]
    other = generate(name, 8, 30, 120, START)
    assert not {p["id"] for p in other.posts} & {p["id"] for p in RUNS[name].posts}


@names
def test_posts_keep_the_contract(name: str) -> None:
    run = RUNS[name]
    posts = once(run)
    assert {"panic": "market", "hurricane": "crisis", "launch": "social"}[name] == run.domain
    for post in posts.values():
        assert isinstance(post.created_at, int)
        assert START <= post.created_at < START + 30 * MINUTE_MS
        assert "{" not in post.text
        assert post.text
    assert 0.85 < len(posts) / (30 * 120) < 1.15
    assert 0.02 < sum(p.author is None for p in posts.values()) / len(posts) < 0.08
    assert {p.lang for p in posts.values()} == {None, "en"}


@names
def test_untidy_as_announced(name: str) -> None:
    run = RUNS[name]
    seen: dict[str, int] = {}
    repeats, late, newest = 0, 0, 0
    for post in run.posts:
        at = post["created_at"]
        assert isinstance(at, int)
        if str(post["id"]) in seen:
            repeats += 1
            continue
        seen[str(post["id"])] = at
        late += at < newest
        assert newest - at < DELAY_MS + MINUTE_MS
        newest = max(newest, at)
    assert 0.012 < repeats / len(run.posts) < 0.03
    assert 0.2 < late / len(seen) < 0.29
    authors = Counter(p.author for p in once(run).values() if p.author)
    assert authors.most_common(1)[0][0] == "signal_bot_4711"
    texts = Counter(p.text for p in once(run).values())
    copies = sum(c - 1 for c in texts.values()) / len(seen)
    assert 0.01 < copies < 0.12


@names
def test_truth_counts_what_linking_finds(name: str) -> None:
    run = RUNS[name]
    linker = Linker(run.domain)
    found: Counter[tuple[str, int]] = Counter()
    for post in once(run).values():
        assert isinstance(post.created_at, int)
        for entity in linker.entities(post.text, post.tickers, post.place, post.event):
            found[entity, post.created_at // MINUTE_MS * MINUTE_MS] += 1
    told = {(row.entity, row.minute_ms): row.posts for row in run.truth}
    assert {key: n for key, n in told.items() if n} == dict(found)
    assert sum(n for (entity, _), n in told.items() if entity == "all:*") == len(once(run))


@names
def test_linking_has_work(name: str) -> None:
    posts = once(RUNS[name]).values()
    given = sum(p.tickers is not None or p.place is not None or p.event is not None for p in posts) / len(posts)
    assert 0.4 < given < 0.6


@names
def test_planted_shares_are_what_is_written(name: str) -> None:
    """Per channel over the run: counts lie within four standard errors of the plan (the bot writes up to 3 %)."""
    rows = [row for row in RUNS[name].truth if row.entity == "all:*"]
    for channel in {row.channel for row in rows}:
        own = [row for row in rows if row.channel == channel]
        assert all(0 <= row.planted <= 1 and 0 <= row.count <= row.posts for row in own)
        expected = sum(row.planted * row.posts for row in own)
        counted = sum(row.count for row in own)
        spread = sum(row.planted * (1 - row.planted) * row.posts for row in own) ** 0.5
        bot = 0.04 * sum(row.posts for row in own)
        assert abs(counted - expected) < 4 * spread * 1.5 + bot, channel


def test_the_panic_panics_and_recovers() -> None:
    fear, bull = (
        np.array(planted("panic", "ticker:TSLA", "fear")),
        np.array(planted("panic", "ticker:TSLA", "stance.bullish")),
    )
    assert fear[12:15].mean() > 5 * fear[:5].mean()
    assert bull[12:15].mean() < 0.3 * bull[:5].mean()
    assert bull[-4:].mean() > bull[:5].mean()
    calm = np.array(planted("panic", "ticker:KO", "fear"))
    assert calm.max() < 0.5 * fear.max()
    posts = [row.posts for row in RUNS["panic"].truth if (row.entity, row.channel) == ("all:*", "fear")]
    assert sum(posts[12:15]) > 2 * sum(posts[:3])


def test_the_hurricane_asks_before_it_is_offered() -> None:
    rescue = planted("hurricane", "place:Houma", "need.search_and_rescue")
    water = planted("hurricane", "place:Houma", "need.water")
    assert np.argmax(rescue) < np.argmax(water)
    asked, offered = planted("hurricane", "all:*", "message.request"), planted("hurricane", "all:*", "message.offer")
    assert np.argmax(asked) < np.argmax(offered)
    assert max(planted("hurricane", "place:Biloxi", "fear")) < max(planted("hurricane", "place:Houma", "fear"))
    assert any(post.place is None and "our" in post.text for post in once(RUNS["hurricane"]).values())


def test_the_launch_excites_then_disappoints() -> None:
    joy, sad = planted("launch", "topic:auroraone", "joy"), planted("launch", "topic:auroraone", "sadness")
    assert np.argmax(joy) < np.argmax(sad)
    assert max(sad) > 3 * sad[0]


def test_play_goes_on_with_new_ids() -> None:
    posts = list(itertools.islice(play("launch", 1, 30, START, minutes=4), 600))
    assert len({p["id"] for p in posts}) > 550
    last = posts[-1]["created_at"]
    assert isinstance(last, int)
    assert last > START + 12 * MINUTE_MS


@pytest.mark.parametrize(("name", "minutes", "rate"), [("flood", 1, 1), ("panic", 0, 1), ("panic", 1, 0)])
def test_wrong_use_is_one_line(name: str, minutes: int, rate: int) -> None:
    with pytest.raises(UsageError, match="scenario: "):
        generate(name, 1, minutes, rate, 0)
