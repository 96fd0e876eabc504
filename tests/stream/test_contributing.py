"""Explained values are the rows' own, to 1e-9, with loud authors, copies, late posts, any partitions; parts add up."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Mapping, Sequence
from functools import cache

import msgspec
import pytest

from operators.records import SignalRow
from stream.base import CommitUnit, Log, Output, TopicSpec
from stream.contributing import contributing
from stream.contribution import Contribution
from stream.errors import UsageError
from stream.memory import MemoryLog
from stream.replaying import replay, replay_config
from stream.topology import Topology, build

T = 1_709_562_600_000
WORDS = "buy sell hold moon fear $AAPL earnings beat miss panic 🚀 😱 great awful calm".split()


@cache
def posts() -> tuple[dict[str, object], ...]:
    """Six minutes: people who post again and again, two bots, copies, unknown authors, doubles and disorder."""
    rng = random.Random(11)
    out = []
    for k in range(1500):
        kind = rng.random()
        author = "bot" if kind < 0.2 else f"a{rng.randint(0, 60)}" if kind < 0.7 else None
        text = "to the moon 🚀 $AAPL" if author == "bot" else f"@someone {' '.join(rng.choices(WORDS, k=6))} {k}"
        if k > 900 and rng.random() < 0.3:
            text += " halted"
        post: dict[str, object] = {
            "id": f"p{rng.randint(0, k) if rng.random() < 0.02 else k}",
            "text": text,
            "created_at": T + 240 * k - (rng.randint(0, 45_000) if rng.random() < 0.1 else 0),
            "tickers": rng.choice((["AAPL"], ["AAPL", "KO"], ["KO"])),
        }
        if author is not None:
            post["author"] = author
        if rng.random() < 0.9:
            post["source"] = rng.choice(("x", "reddit") if k < 700 else ("x", "news"))
        out.append(post)
    return tuple(out)


class Case:
    """A replay of `posts` that stays in its log."""

    def __init__(self, partitions: int, windows: tuple[str, ...], lateness: str = "1m") -> None:
        self.config = replay_config("market", engine="stub", windows=windows, lateness=lateness, workers=partitions)
        self.log: Log = MemoryLog()
        self.rows: dict[str, SignalRow] = {}
        self.topology: Topology = build(self.config, partitions, replay=True)

    async def run(self, given: Sequence[Mapping[str, object]] | None = None) -> None:
        topic, n = self.config.topic, self.config.input.partitions
        await self.log.ensure([TopicSpec(topic, n)])
        outputs = [
            Output(topic, k % n, None, json.dumps(post).encode(), int(str(post["created_at"])))
            for k, post in enumerate(posts() if given is None else given)
        ]
        await self.log.commit(CommitUnit("sender", outputs=outputs))
        rows, _ = await replay(self.log, self.config)
        for line in rows.lines():
            row = msgspec.json.decode(line, type=SignalRow)
            self.rows[row.row_id] = row

    async def explain(self, row: SignalRow, **more: object) -> Contribution:
        return await contributing(self.log, self.topology, row.row_id, sealed_only=True, **more)  # type: ignore[arg-type]


def same(one: float | None, two: float | None) -> bool:
    return one is two if one is None or two is None else abs(one - two) <= 1e-9


@pytest.mark.parametrize(("partitions", "windows"), [(1, ("1m", "5m/1m")), (3, ("2m/1m",))])
def test_the_value_explained_is_that_of_the_row(partitions: int, windows: tuple[str, ...]) -> None:
    async def check() -> None:
        case = Case(partitions, windows)
        await case.run()
        chosen = [row for row in case.rows.values() if row.signal in SOME]
        by_window: dict[tuple[str, int], list[SignalRow]] = {}
        for row in chosen:
            by_window.setdefault((row.entity, row.window_end - row.window_start), []).append(row)
        told = 0
        for rows in by_window.values():
            for row in random.Random(3).sample(rows, min(5, len(rows))):
                found = await case.explain(row)
                assert found.complete
                assert (found.n, same(found.value, row.value)) == (row.n, True), (row, found)
                assert same(found.lo, row.lo)
                assert same(found.hi, row.hi)
                size = row.window_end - row.window_start
                was = case.rows.get(f"{row.signal}|{row.entity}|{row.window_start - size}|{row.window_start}")
                assert same(found.previous, None if was is None else was.value)
                if found.parts is not None and found.change is not None:
                    told += 1
                    whole = found.parts.level + found.parts.mix + found.parts.volume + found.parts.past
                    assert abs(whole - found.change) <= 1e-9
                    assert found.parts.past == 0
        assert told >= 5

    asyncio.run(check())


SOME = (
    "market.joy",
    "market.bullishness",
    "market.buzz",
    "market.concentration",
    "market.near_duplicates",
    "market.disagreement",
)


def test_posts_words_and_groups() -> None:
    async def check() -> None:
        case = Case(2, ("1m",))
        await case.run()
        start = T // 60_000 * 60_000 + 240_000
        row = case.rows[f"market.joy|all:*|{start}|{start + 60_000}"]
        found = await case.explain(row, top=7, by="source")
        moved = [abs(post.moved) for post in found.posts]
        assert moved == sorted(moved, reverse=True)
        assert len(moved) == 7
        assert moved[0] > 0
        assert all("@someone" not in post.text_masked for post in found.posts)
        assert len({post.post_id for post in found.posts}) == 7
        assert {group.group for group in found.groups} == {"x", "news", "unknown"}
        assert sum(group.share for group in found.groups) == pytest.approx(1)
        assert sum(group.n for group in found.groups) == row.n
        whole = await case.explain(row)
        assert (whole.by, {group.group for group in whole.groups}) == ("entity", {"ticker:AAPL", "ticker:KO"})
        ticker = await case.explain(case.rows[row.row_id.replace("all:*", "ticker:KO")])
        assert (ticker.by, {group.group for group in ticker.groups}) == ("source", {"x", "news", "unknown"})
        for by in ("language", "author", "copy", "entity"):
            other = await case.explain(row, by=by)
            assert (other.value, other.by) == (found.value, by)
        # the word that came with post 900, in the minute it came in
        first = T + 240 * 900
        minute = first // 60_000 * 60_000
        rose = await case.explain(case.rows[f"market.joy|all:*|{minute}|{minute + 60_000}"])
        names = [word.word for word in rose.words]
        assert "halted" in names
        assert not any("someone" in name for name in names)

    asyncio.run(check())


def test_what_was_not_read_is_said() -> None:
    async def check() -> None:
        case = Case(1, ("1m",))
        await case.run()
        last = max(case.rows.values(), key=lambda row: (row.window_end, row.signal == "market.joy"))
        short = await case.explain(last, most=300)
        assert not short.complete
        assert "only the newest 300 records" in short.notes[0]
        for wrong, why in (
            ("market.joy|all:*|0", "signal|entity"),
            ("market.jo|all:*|0|60000", "no signal 'market.jo'; there is: market.neutral"),
            ("market.joy|all:*|0|61000", "no window of 0 to 61000; there is: 1m"),
        ):
            with pytest.raises(UsageError, match=why.replace("|", r"\|")):
                await contributing(case.log, case.topology, wrong)
        nothing = await contributing(case.log, case.topology, "market.joy|all:*|0|60000")
        assert (nothing.n, nothing.value, nothing.posts, nothing.parts) == (0, None, (), None)

    asyncio.run(check())


def test_signals_against_the_past_have_their_own_part() -> None:
    """Sixty hours, busier and gladder every day: a baseline needs a day and twenty windows before it."""
    made = [
        {"id": f"p{k}-{j}", "text": f"word{k * j % 97} {k}", "created_at": T + k * 3_600_000 + j * 60_000}
        for k in range(60)
        for j in range(25 + k % 7 + k // 3)
    ]

    async def check() -> None:
        case = Case(1, ("1h",))
        await case.run(made)
        rows = [r for r in case.rows.values() if r.value is not None and r.signal in PAST]
        by_signal = {name: [r for r in rows if r.signal == name] for name in PAST}
        assert all(len(found) >= 8 for found in by_signal.values())
        pasts = []
        for found in by_signal.values():
            for row in (found[1], found[-2]):
                told = await case.explain(row)
                assert (same(told.value, row.value), same(told.lo, row.lo), same(told.hi, row.hi)) == (True,) * 3, row
                assert told.posts[0].moved != 0
                assert told.parts is not None
                assert told.change is not None
                parts = told.parts
                assert parts.level + parts.mix + parts.volume + parts.past == pytest.approx(told.change, abs=1e-9)
                pasts.append(parts.past)
        assert any(abs(past) > 1e-6 for past in pasts)

    asyncio.run(check())


PAST = ("market.buzz_z", "market.fear_greed", "market.shock", "market.hype")
