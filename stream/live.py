"""What a live run adds to the pipeline: posts for the page's list, and the demo's scenario played into the log."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Final

import msgspec
import numpy as np

from engines.base import EngineSpec
from operators.base import Clock
from operators.masking import mask
from operators.records import MICRO, PostBatch
from stream.base import CommitUnit, Log, Output, TopicSpec, partition_of
from stream.config import Config
from stream.feed import Feed, SpotPost
from stream.scenario import generate
from stream.scenario_lesson import NAME as LESSON
from stream.scenario_lesson import lessons
from stream.scoring import Observer
from stream.urgency import Urgency
from stream.worker import Pulse, commit, steadily

SPOT_TASK: Final = {"market": "emtract7", "crisis": "disaster_message", "social": "goemotions28"}
PER_BATCH = 8
"""Posts per entity and batch that reach the page: a list nobody can read faster."""

TICK_S = 0.2


def spotlight_into(feed: Feed, domain: str, spec: EngineSpec) -> Observer:
    """An observer that shows the newest posts of each entity on the page, masked, with their strongest label.

    In the crisis domain it fills the urgency queue too.
    """
    task = SPOT_TASK[domain]
    head = spec.head(task)
    labels = head.labels if head is not None else ()
    quiet = {k for k, label in enumerate(labels) if label in ("related", "aid_related", "direct_report")}
    loud = np.array([k for k in range(len(labels)) if k not in quiet])
    urgency = Urgency(spec) if domain == "crisis" else None

    def observe(batch: PostBatch) -> None:
        scores = batch.scores[task][:, loud]
        top = scores.argmax(axis=1)
        by_entity: dict[str, list[int]] = defaultdict(list)
        for row, name in zip(batch.link_rows.tolist(), batch.link_names, strict=True):
            if not len(batch.inverse) or batch.inverse[row]:  # a post that was shed has no score to show
                by_entity[name].append(row)
        shown: dict[int, SpotPost] = {}
        for name, rows in by_entity.items():
            posts = []
            for row in rows[-PER_BATCH:]:
                if row not in shown:
                    shown[row] = SpotPost(
                        time_ms=int(batch.times_ms[row]),
                        text_masked=mask(batch.texts[row]),
                        label=labels[int(loud[top[row]])],
                        score=int(scores[row, top[row]]) / MICRO,
                        repost=bool(batch.reposts[row]),
                        lang=batch.langs[row],
                    )
                posts.append(shown[row])
            feed.spotlight(name, posts, domain)
        if urgency is not None and len(batch):
            feed.urge(*urgency.find(batch), int(batch.times_ms.max()))

    return observe


def scenario_posts(name: str, seed: int, start_ms: int, minutes: int = 40) -> Iterator[dict[str, object]]:
    """Posts of a scenario in the order they arrive, one scenario after another, for ever."""
    if name == LESSON:
        yield from lessons(seed, start_ms, minutes)
    while True:
        scenario = generate(name, seed=seed, minutes=minutes, posts_per_minute=240, start_ms=start_ms)
        yield from scenario.posts
        seed, start_ms = seed + 1, start_ms + minutes * 60_000


@dataclass(frozen=True, slots=True)
class Play:
    """A scenario to play. `speed`: scenario seconds a second."""

    name: str
    seed: int
    speed: float


async def play_scenario(log: Log, config: Config, play: Play, clock: Clock, turn: asyncio.Lock | None = None) -> None:
    """Append a scenario's posts as its time passes, until cancelled.

    The first ten scenario minutes are there at once, so that the page has something to show. A lesson is played in its
    own time, up to now, so that whoever opens the student page sits in it. `turn`: shared by several
    that begin together, so that one is there early instead of all late.
    """
    topic = config.topic
    pulse = Pulse()

    async def append(outputs: list[Output]) -> None:
        await commit(log, CommitUnit("affect-demo", outputs=outputs), pulse, "append the scenario")

    await steadily(partial(log.ensure, [TopicSpec(topic, config.input.partitions)]), pulse, "topic of the scenario")
    partitions = len(await steadily(partial(log.span, topic), pulse, "topic of the scenario"))
    begun = clock.now_ms()
    lesson = play.name == LESSON
    start = begun // 60_000 * 60_000 - (20 if lesson else 40) * 60_000
    head = begun - start if lesson else 10 * 60_000
    speed = 1.0 if lesson else play.speed
    newest = start
    outputs: list[Output] = []
    posts = scenario_posts(play.name, play.seed, start)
    async with turn or asyncio.Lock():
        first = await asyncio.to_thread(next, posts)  # a second of work: others have the loop meanwhile
    for post in chain((first,), posts):
        created = post["created_at"]
        newest = max(newest, created if isinstance(created, int) else newest)
        while newest > start + head + int((clock.now_ms() - begun) * speed):
            if outputs:
                await append(outputs)
                outputs = []
            await asyncio.sleep(TICK_S)
        key = str(post["id"]).encode()
        outputs.append(Output(topic, partition_of(key, partitions), key, msgspec.json.encode(post), newest))
        if len(outputs) >= 500:
            await append(outputs)
            outputs = []
