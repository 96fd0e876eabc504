"""Windows of trading sessions equal windows over the posts of that phase alone, whatever they are cut into."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from operators.cell_messages import block_message, progress_message
from operators.cells import Progress
from operators.cells_wire import PaneCells
from operators.clock import EventClock
from operators.domain import Derived, Domain, Sums
from operators.panes import PaneStore
from operators.records import PostBatch, SignalRow
from stream.base import Record
from stream.cli import main
from stream.config import Config
from stream.memory import MemoryLog
from stream.replaying import replay, replay_config
from stream.session_windows import SessionRow, SessionWindows, calendar_of
from stream.topics import PANES
from stream.topology import build
from stream.windowing import WindowParts

HOUR = 3_600_000
CALENDAR = calendar_of("XNYS")
PHASES = {
    ("post-close", "2023-11-24"): ("2023-11-22 21:00", "2023-11-23 05:00"),
    ("closed", "2023-11-24"): ("2023-11-23 05:00", "2023-11-24 05:00"),  # Thanksgiving
    ("pre-open", "2023-11-24"): ("2023-11-24 05:00", "2023-11-24 14:30"),
    ("open", "2023-11-24"): ("2023-11-24 14:30", "2023-11-24 18:00"),  # a half day
    ("post-close", "2023-11-27"): ("2023-11-24 18:00", "2023-11-25 05:00"),
}
COMPARED = ("signal", "entity", "value", "lo", "hi", "n", "n_eff", "authors", "buzz", "corrected", "reasons")


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def made(seed: int = 1, count: int = 600) -> list[dict[str, Any]]:
    """Posts from Wednesday's close to Friday's midnight, in order of arrival: up to 20 s out of order."""
    dice = random.Random(seed)
    first, last = at("2023-11-22 21:00"), at("2023-11-25 05:00")
    edges = [at(text) + step for pair in PHASES.values() for text in pair for step in (-1, 0, 1)]
    times = [dice.randrange(first, last) for _ in range(count)] + [t for t in edges if first <= t < last]
    posts = [
        {"id": f"p{k}", "text": f"${dice.choice(('AAPL', 'TSLA'))} {dice.random()}", "author": f"a{k}", "created_at": t}
        for k, t in enumerate(times)
    ]
    return sorted(posts, key=lambda post: post["created_at"] + dice.randrange(20_000))


def config_of(windows: str = "1h", workers: int = 2) -> Config:
    return replay_config("market", engine="stub", windows=[windows], lateness="1h", workers=workers)


def written(path: Path, posts: list[dict[str, Any]]) -> Path:
    path.write_bytes(b"".join(msgspec.json.encode(post) + b"\n" for post in posts))
    return path


async def sessions(folder: Path, posts: list[dict[str, Any]], step: int) -> tuple[list[SessionRow], SessionWindows]:
    """Every row that is told when panes are taken in `step` at a time and asked for after each."""
    log, config = MemoryLog(), config_of()
    await replay(log, config, written(folder / "posts.jsonl", posts))
    windows = SessionWindows(build(config, 2, replay=True).windows, CALENDAR)
    out: list[SessionRow] = []
    while records := await log.read(PANES, 0, windows.offset, step):
        windows.ingest(records)
        out += windows.rows()
    return out, windows


async def alone(folder: Path, posts: list[dict[str, Any]], begin: int, end: int) -> list[SignalRow]:
    """The rows of a day that holds the posts of [begin, end) and nothing else."""
    midnight = at("2024-01-01 00:00")
    moved = [{**p, "created_at": midnight + p["created_at"] - begin} for p in posts if begin <= p["created_at"] < end]
    found, _ = await replay(MemoryLog(), config_of("24h", 1), written(folder / "part.jsonl", moved))
    rows = [msgspec.json.decode(line, type=SignalRow) for line in found.lines()]
    return [row for row in rows if not row.signal.endswith(("_z", ".shock", ".hype", ".fear_greed"))]


def facts(rows: list[Any] | Iterator[Any]) -> list[tuple[object, ...]]:
    return sorted(tuple(getattr(row, name) for name in COMPARED) for row in rows)


def test_every_phase_equals_a_window_over_its_posts_alone(tmp_path: Path) -> None:
    posts = made()
    told, _ = asyncio.run(sessions(tmp_path, posts, 100_000))
    assert {(row.phase, row.day) for row in told if row.phase != "day"} == set(PHASES)
    for (phase, day), (begin, end) in PHASES.items():
        mine = [row for row in told if (row.phase, row.day) == (phase, day)]
        assert {(row.window_start, row.window_end) for row in mine} == {(at(begin), at(end))}
        assert {row.status for row in mine} <= {"final", "revised"}
        assert facts(mine) == facts(asyncio.run(alone(tmp_path, posts, at(begin), at(end))))
    whole = next(
        r for r in told if (r.phase, r.day, r.signal, r.entity) == ("day", "2023-11-24", "market.joy", "all:*")
    )
    parts = [r for r in told if (r.day, r.signal, r.entity) == ("2023-11-24", "market.joy", "all:*") and r != whole]
    assert len(parts) == 4
    assert whole.n == sum(row.n for row in parts)
    assert whole.value == pytest.approx(sum((row.value or 0) * row.n for row in parts) / whole.n, abs=1e-6)
    assert (whole.window_start, whole.window_end) == (at("2023-11-22 21:00"), at("2023-11-24 18:00"))


def _derive(sums: Sums) -> Derived:
    mean = sums.mean(0)
    return Derived.stack([(mean, mean, mean)])


TOY = Domain("toy", (), ("score",), ("toy.mean",), lambda b: np.zeros((len(b), 1), np.int64), _derive)


def batch_of(partition: int, first: int, times: list[int]) -> PostBatch:
    n = len(times)
    none: list[None] = [None] * n
    offsets = np.arange(first, first + n, dtype=np.int64)
    return PostBatch(
        partition, offsets, [""] * n, [""] * n, np.array(times, np.int64),
        (2 * offsets + partition + 1).astype(np.uint64),
        [""] * n, list(none), list(none), list(none), np.zeros(n, np.bool_), np.zeros(n, np.bool_),
        np.arange(n, dtype=np.int32), ["all:*"] * n,
    )  # fmt: skip


def live(posts: list[dict[str, Any]], parts: WindowParts, cut: int) -> Iterator[Record]:
    """What two partitions send for posts that come a few at a time, as a live run does."""
    stores = [PaneStore(k, TOY, parts.lateness) for k in (0, 1)]
    clocks, sent = [EventClock(parts.lateness) for _ in (0, 1)], [0, 0]
    for first in range(0, len(posts) + cut, cut):
        for k in (0, 1):
            mine = [post["created_at"] for post in posts[first : first + cut]][k::2]
            if mine:
                batch = batch_of(k, sent[k], mine)
                marks, keep = clocks[k].advance(batch.times_ms)
                assert keep.all()
                stores[k].fold(batch, batch.times_ms[:, None] % 1_000_000, marks)
            sent[k] += len(mine)
            done = first >= len(posts)
            said: list[PaneCells] = [block_message(parts.lane, b, TOY) for b in stores[k].drain(sent[k] - 1)]
            progress = Progress(k, 2, sent[k], sent[k], 0, 0, 0, clocks[k].watermark_ms, False, done)
            for message in (*said, progress_message(parts.lane, progress)):
                yield Record(0, f"{parts.lane}/".encode(), parts.codec.encode(message), 0)


def test_it_is_told_as_it_fills_and_the_newest_rows_do_not_depend_on_the_cut() -> None:
    parts = dataclasses.replace(build(config_of(), 2, replay=True).windows, domain=TOY)
    posts, told = made(2, 200), []
    for cut in (10_000, 7):
        windows = SessionWindows(parts, CALENDAR)
        rows: list[SessionRow] = []
        for record in live(posts, parts, cut):
            windows.ingest([record])
            rows += windows.rows()
        assert windows.told == len(rows)
        told.append(rows)
    at_once, bit_by_bit = told
    assert len(bit_by_bit) > 5 * len(at_once)
    newest = {(row.row_id, row.phase): row for row in bit_by_bit}
    again = {(row.row_id, row.phase): row for row in at_once}
    assert {k: (r.value, r.n, r.authors) for k, r in newest.items()} == {
        k: (r.value, r.n, r.authors) for k, r in again.items()
    }
    first = next(row for row in bit_by_bit if row.phase == "open")
    assert (first.status, first.watermark < first.window_end) == ("provisional", True)
    known: dict[tuple[str, str], SessionRow] = {}
    for row in bit_by_bit:
        before = known.get((row.row_id, row.phase))
        assert before is None or (row.revision, row.n) >= (before.revision, before.n)
        assert before is None or before.status == "provisional" or row.status != "provisional"
        known[row.row_id, row.phase] = row
    assert {row.status for row in known.values()} <= {"final", "revised"}


def test_posts_of_the_future_change_no_settled_row(tmp_path: Path) -> None:
    """No look-ahead: what was said of the phases that had closed stays, whatever is written after."""
    posts = [p for p in made(3) if p["created_at"] < at("2023-11-24 18:00")]
    later = [p for p in made(4) if p["created_at"] >= at("2023-11-24 18:10")]
    for k, post in enumerate(later):
        post.update(id=f"later{k}", author=f"b{k}")
    before, _ = asyncio.run(sessions(tmp_path, posts, 100_000))
    after, _ = asyncio.run(sessions(tmp_path, posts + later, 100_000))
    assert len(after) > len(before) > 100
    newest = {(row.row_id, row.phase): row for row in after}
    assert [newest[row.row_id, row.phase] for row in before] == before


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, out = f"sqlite:///{tmp_path}/run.db", tmp_path / "out.jsonl"
    file = written(tmp_path / "posts.jsonl", made(5))
    given = ["replay", str(file), "--domain", "market", "--out", str(out), "--log", log, "--engine", "stub"]
    assert main([*given, "--windows", "1h", "--lateness", "1h"]) == 0
    ask = ["signals", "sessions", "--log", log, "--calendar", "XNYS", "--signal", "market.valence"]
    capsys.readouterr()
    assert main([*ask, "--entity", "all:*", "--phase", "open"]) == 0
    line = capsys.readouterr().out
    assert line.startswith("2023-11-24 open       final       r0 ")
    assert "market.valence all:* (11-24 14:30 to 11-24 18:00 UTC)" in line
    assert main([*ask, "--json", "--day", "2023-11-24"]) == 0
    lines = capsys.readouterr().out
    rows = [msgspec.json.decode(line, type=SessionRow) for line in lines.splitlines()]
    assert {row.phase for row in rows} == {"post-close", "closed", "pre-open", "open", "day"}
    assert {row.exchange for row in rows} == {"XNYS"}
    told, prices = tmp_path / "sessions.jsonl", tmp_path / "prices.csv"
    told.write_text(lines, "utf-8")
    prices.write_text("ticker,date,open,close\nAAPL,2023-11-22,1,2\nAAPL,2023-11-24,2,3\n", "utf-8")
    ic = ["research", "ic", "--signals", str(told), "--prices", str(prices), "--window", "session"]
    assert main([*ic, "--calendar", "XNYS"]) == 0
    found = capsys.readouterr().out
    assert "market.valence session, open, same day: IC not defined over 1 ticker days" in found
    assert "were left out" not in found
    assert main(ic) == 2
    assert "expected --calendar too" in capsys.readouterr().err
    assert main([*ask, "--day", "yesterday"]) == 2
    assert main([*ask[:-3], "NOPE"]) == 2
