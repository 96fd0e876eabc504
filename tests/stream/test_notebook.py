"""The notebook door: the rows of `affect replay`, as a data frame, inside a running event loop or out of it."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import pytest
from published_rows import MINUTE, filled, row, run

import affectstream
from engines.errors import MissingExtra
from operators.records import SignalRow
from stream.cli import main
from stream.connect import open_log
from stream.errors import UsageError
from stream.notebook import _finished

START = 1_709_562_600_000
WORDS = "up down calm loud late soon short long green red flat hot cold high low fast slow big small old".split()
RNG = random.Random(4)
POSTS = [
    {
        "id": f"p{k}",
        "text": f"{'$AAPL' if k % 40 else '$TSLA'} {' '.join(RNG.sample(WORDS, 8))}",  # no copies of each other
        "author": f"user{k}",
        "created_at": START + 1000 * k,
    }
    for k in range(120)
]
STUB: dict[str, Any] = {"domain": "market", "windows": ["1m"], "engine": "stub"}


@pytest.fixture
def posts(tmp_path: Path) -> Path:
    path = tmp_path / "posts.jsonl"
    path.write_text("".join(json.dumps(p) + "\n" for p in POSTS))
    return path


def test_rows_are_those_of_affect_replay_to_the_byte(posts: Path, tmp_path: Path) -> None:
    out = tmp_path / "signals.jsonl"
    words = ["replay", str(posts), "--domain", "market", "--windows", "1m", "--engine", "stub", "--out", str(out)]
    assert main(words) == 0
    expected = out.read_bytes()
    for given in (posts, str(posts), POSTS, iter(POSTS)):
        found = b"".join(msgspec.json.encode(r) + b"\n" for r in affectstream.rows(given, **STUB))
        assert found == expected


def test_a_frame_has_a_column_for_every_field_with_times_and_unknowns(posts: Path) -> None:
    frame = affectstream.replay(posts, **STUB)
    rows = list(affectstream.rows(posts, **STUB))
    assert list(frame.columns) == [f.name for f in msgspec.structs.fields(SignalRow)]
    assert len(frame) == len(rows) > 10
    assert isinstance(frame["window_end"].dtype, pd.DatetimeTZDtype)
    assert frame["window_end"][0] == pd.Timestamp(rows[0].window_end, unit="ms", tz="UTC")
    for name in ("value", "lo", "hi", "n_eff"):
        assert frame[name].dtype == "float64"
    assert frame["n"].tolist() == [r.n for r in rows]
    assert [None if pd.isna(v) else v for v in frame["value"]] == [r.value for r in rows]
    assert frame["value"].isna().any()
    assert frame["value"].notna().any()


def test_it_works_inside_a_running_event_loop_as_notebooks_have_one(posts: Path) -> None:
    async def cell() -> int:
        return len(affectstream.replay(posts, **STUB))

    assert asyncio.run(cell()) == len(list(affectstream.rows(posts, **STUB)))
    assert [t.name for t in threading.enumerate() if t.name.startswith("affect-notebook")] == []


def test_no_posts_are_an_empty_frame_with_its_columns() -> None:
    frame = affectstream.frame([])
    assert (len(frame), "signal" in frame.columns) == (0, True)
    assert isinstance(frame["window_end"].dtype, pd.DatetimeTZDtype)


@pytest.mark.parametrize(
    ("given", "options", "says"),
    [
        ("nowhere.jsonl", {}, "nowhere.jsonl: cannot be read"),
        ([1], {}, "posts: expected mappings, got int at 0"),
        (POSTS, {"domain": "weather"}, "domain: expected one of market, crisis, social"),
        (POSTS, {"windows": []}, "windows.sizes: expected at least one"),
    ],
)
def test_wrong_use_is_one_clear_line(given: Any, options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        affectstream.replay(given, **{**STUB, **options})


def test_without_pandas_rows_work_and_frames_say_what_to_install(monkeypatch: pytest.MonkeyPatch, posts: Path) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert len(list(affectstream.rows(posts, **STUB))) > 10
    for use in (lambda: affectstream.replay(posts, **STUB), lambda: affectstream.signals("sqlite:///none.db")):
        with pytest.raises(MissingExtra, match=r"pandas is not installed: pip install 'affectstream\[notebook\]'"):
            use()


@pytest.fixture
def interruptible() -> Iterator[None]:
    """A process started in the background of a shell has SIGINT ignored, and hands that on to its tests."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_ends_the_work_and_its_thread() -> None:
    ended = threading.Event()

    async def work() -> None:
        try:
            main_thread = threading.main_thread()
            signal_to(main_thread)
            await asyncio.sleep(60)
        finally:
            ended.set()

    def signal_to(thread: threading.Thread) -> None:
        assert thread.ident is not None
        signal.pthread_kill(thread.ident, signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        _finished(work())
    assert ended.is_set()


def test_signals_of_a_log_now_then_and_every_version(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/run.db"
    history = [
        (row(n=10, status="provisional"), 1_000), (row(n=40), 61_000), (row(2 * MINUTE, signal="market.fear"), 70_000),
    ]  # fmt: skip

    async def write() -> None:
        log = await filled(history, open_log(url))
        await log.close()

    run(write())
    assert affectstream.signals(url)["n"].tolist() == [40, 40]
    then = affectstream.signals(url, at="1970-01-01T00:00:30")
    assert then["n"].tolist() == [10]
    assert then["recorded_ms"][0] == pd.Timestamp(1, unit="s", tz="UTC")
    assert affectstream.signals(url, revisions=True)["n"].tolist() == [10, 40, 40]
    assert affectstream.signals(url, signal="market.fear", entity="ticker:AAPL", window_ms=MINUTE)["n"].tolist() == [40]
    with pytest.raises(UsageError, match="at: expected epoch milliseconds"):
        affectstream.signals(url, at="then")
