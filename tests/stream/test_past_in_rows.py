"""The past in the window stage: nothing looks ahead, live equals replay, and a kill at any moment changes no row."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.stub import stub_spec
from operators.cell_messages import block_message, progress_message
from operators.cells import FIXED, PaneBlock, Progress
from operators.clock import Lateness
from operators.market import COLUMNS, SIGNALS, market
from operators.records import MICRO, SignalRow
from operators.voices import no_voices
from operators.window import WindowSpec
from stream import windowing
from stream.base import Record
from stream.topology import build_codec
from stream.windowing import WindowParts, WindowStage

HOUR, DAY = 3_600_000, 86_400_000
START = 1_709_510_400_000
DOMAIN = market(stub_spec())
CODEC = build_codec()
PARTS = WindowParts(
    group="w", domain=DOMAIN, codec=CODEC, lateness=Lateness(0, 600_000, 10_000),
    windows=(WindowSpec(HOUR, HOUR),), minimum=20.0, model="m@1", ontology="o1", lane="mine",
)  # fmt: skip
PAST = tuple(f"market.{name}" for name in ("buzz_z", "fear_greed", "shock", "hype"))
Key = tuple[str, str, int, int]


def block(at: int, stamp: int, posts: dict[str, tuple[int, int, int]]) -> PaneBlock:
    """Posts of unknown authors: entity -> (how many, fear, joy), the scores in thousandths; a fifth is bullish."""
    values = np.zeros((len(posts), len(FIXED) + len(COLUMNS)), np.int64)
    fixed = {"n": 1, "unknown_authors": 1, "scored": 1, "weight": MICRO, "unknown_square": MICRO}
    for k, (n, fear, joy) in enumerate(posts.values()):
        said = {"fear": fear, "joy": joy, "neutral": 1000 - fear - joy, "valence": joy - fear, "bull": 200}
        for name, value in fixed.items():
            values[k, FIXED.index(name)] = n * value
        for name, value in said.items():
            values[k, len(FIXED) + COLUMNS.index(name)] = n * value * 1000
            values[k, len(FIXED) + COLUMNS.index(f"{name}_square")] = n * value * value
    linear = DOMAIN.linear
    none = np.zeros(0, np.int32), np.zeros(0, np.int64)
    return PaneBlock(0, stamp, START + at, list(posts), values, no_voices(2 + linear), no_voices(1), *none)


class Sent:
    """The pane topic, an hour at a time."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def _put(self, key: str, value: bytes) -> None:
        self.records.append(Record(len(self.records), f"mine/0/{key}".encode(), value, 0))

    def hour(self, k: int, posts: dict[str, tuple[int, int, int]]) -> None:
        """Posts in the first pane of hour `k`, and time until its end."""
        said = block(k * HOUR, len(self.records), posts)
        self._put(str(said.pane_start), CODEC.encode(block_message("mine", said, DOMAIN)))
        self.mark(START + (k + 1) * HOUR)

    def mark(self, watermark: int, closed: bool = False) -> None:
        n = len(self.records)
        mark = Progress(0, 1, n, n, 0, 0, 0, watermark, closed=closed)
        self._put("progress", CODEC.encode(progress_message("mine", mark)))


def stream(seed: int, hours: int) -> list[dict[str, tuple[int, int, int]]]:
    """Two tickers, one of them often too small, over so many hours."""
    rng = random.Random(seed)
    out = []
    for _ in range(hours):
        one, two = ((rng.randint(*many), rng.randint(50, 150), rng.randint(200, 400)) for many in ((25, 60), (5, 60)))
        whole = (one[0] + two[0], *((one[0] * one[j] + two[0] * two[j]) // (one[0] + two[0]) for j in (1, 2)))
        out.append({"ticker:A": one, "ticker:B": two, "all:*": whole})
    return out


def told(hours: list[dict[str, tuple[int, int, int]]], closed: bool = True) -> Sent:
    sent = Sent()
    for k, posts in enumerate(hours):
        sent.hour(k, posts)
    if closed:
        sent.mark(START + len(hours) * HOUR, closed=True)
    return sent


def settled(rows: list[SignalRow]) -> dict[Key, SignalRow]:
    """The newest closed row of each window."""
    return {(r.signal, r.entity, r.window_start, r.window_end): r for r in rows if r.status != "provisional"}


def run(sent: Sent, sealed_only: bool, cut: int = 10**9, parts: WindowParts = PARTS) -> list[SignalRow]:
    stage = WindowStage(parts, sealed_only)
    out: list[SignalRow] = []
    for at in range(0, len(sent.records), cut):
        stage.ingest(sent.records[at : at + cut])
        out += [row for rows, _ in stage.units(not sealed_only, 0) for row in rows]
    return out


def by_hour(rows: dict[Key, SignalRow], signal: str, entity: str = "ticker:A") -> list[float | None]:
    found = sorted((key[3], row.value) for key, row in rows.items() if key[:2] == (signal, entity))
    return [value for _, value in found]


def test_a_baseline_comes_after_a_day_and_twenty_windows_and_a_shock_says_what_it_was() -> None:
    hours = stream(1, 80)
    hours[70] = {**hours[70], "ticker:A": (900, 700, 50)}
    rows = settled(run(told(hours), True))
    z = by_hour(rows, "market.buzz_z")
    # 24 hours, the hours of 20 windows before those; a window that ends with an hour reads one hour more
    assert [k for k, value in enumerate(z) if value is not None] == list(range(43, 80))
    at = (START + 70 * HOUR, START + 71 * HOUR)
    shock, buzz, greed, hype = (
        rows[f"market.{name}", "ticker:A", *at] for name in ("shock", "buzz_z", "fear_greed", "hype")
    )
    assert shock.value is not None
    assert shock.value > 10
    assert shock.reasons[0].startswith("shock: market.fear is +")
    before = [math.log1p(h["ticker:A"][0]) for h in hours[:47]]
    mean, sd = np.mean(before), np.std(before, ddof=1)
    assert sd > math.sqrt(np.expm1(mean)) / np.exp(mean)
    assert buzz.value == pytest.approx((math.log1p(900) - mean) / sd, abs=1e-4)
    assert hype.value == pytest.approx(0.2 * buzz.value, abs=1e-4)
    joy, fear = ([h["ticker:A"][j] / 1000 for h in hours[:47]] for j in (2, 1))
    want = (0.05 - np.mean(joy)) / np.std(joy, ddof=1) - (0.7 - np.mean(fear)) / np.std(fear, ddof=1)
    assert greed.value == pytest.approx(want, abs=1e-3)
    for row in (shock, buzz, greed, hype):
        assert row.lo is not None
        assert row.hi is not None
        assert row.lo <= (row.value or 0.0) <= row.hi
    early = rows["market.shock", "ticker:A", START, START + HOUR]
    assert (early.value, early.reasons) == (None, ("no baseline yet",))


def test_short_windows_have_none_of_these_and_small_ones_without_a_past_neither() -> None:
    parts = replace(PARTS, windows=(WindowSpec(60_000, 60_000), *PARTS.windows))
    rows = settled(run(told(stream(1, 30)), True, parts=parts))
    assert {key[0] for key in rows if key[3] - key[2] == 60_000} == set(SIGNALS)
    assert {key[0] for key in rows if key[3] - key[2] == HOUR} == {*SIGNALS, *PAST}
    small = [k for k, hour in enumerate(stream(1, 30)) if hour["ticker:B"][0] < 20]
    assert small
    for k in small:
        assert ("market.shock", "ticker:B", START + k * HOUR, START + (k + 1) * HOUR) not in rows


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 99), st.integers(45, 60), st.integers(0, 2**31), st.sampled_from([True, False]))
def test_no_look_ahead(seed: int, known: int, future: int, sealed_only: bool) -> None:
    """Whatever is posted after a window has closed, its row stays, to the last bit."""
    hours, other = stream(seed, 75), stream(future, 75)
    mixed = [*hours[:known], *({k: (3 * n, f, j) for k, (n, f, j) in hour.items()} for hour in other[known:])]
    first, second = (settled(run(told(h), sealed_only, cut=20)) for h in (hours, mixed))
    limit = START + known * HOUR
    past = {key: row for key, row in first.items() if key[3] <= limit}
    assert past == {key: row for key, row in second.items() if key[3] <= limit}
    assert any(key[0] in PAST and row.value is not None for key, row in past.items())
    assert first != second


def test_live_tells_what_a_replay_tells() -> None:
    sent = told(stream(3, 24 * 6), closed=True)
    live, again, replay = (settled(run(sent, *how)) for how in ((False, 2), (False, 37), (True, 50)))
    assert live == again == replay
    assert sum(row.value is not None for key, row in live.items() if key[0] == "market.shock") > 150


def test_a_kill_between_any_two_commits_changes_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each life takes up state and position of the last whole commit and reads the pane topic again up to there."""
    monkeypatch.setattr(windowing, "MOST_ROWS", 200)
    sent = told(stream(4, 80))
    for sealed_only in (True, False):
        want = settled(run(sent, sealed_only))
        got: list[SignalRow] = []
        kept: dict[str, bytes] = {}
        position = lives = 0
        rng = random.Random(7)
        while position < len(sent.records):
            stage = WindowStage(PARTS, sealed_only)
            lives += 1
            stage.restore(kept)
            stage.ingest(sent.records[:position])
            stage.skip() if position else None
            until = rng.randint(1, 12)  # commits of this life
            while until > 0 and stage.offset < len(sent.records):
                stage.ingest(sent.records[stage.offset : stage.offset + 12])
                for rows, unit in stage.units(not sealed_only, 0):
                    got += rows
                    for key, value in unit.state.items():
                        assert key.startswith(stage.kept)
                        kept.pop(key) if value is None else kept.__setitem__(key, value)
                    position = unit.offsets.get(("affect.panes.v1", 0), position)
                    until -= 1
                    if until == 0:
                        break
        assert settled(got) == want
        assert lives > 5


def test_a_log_of_before_there_was_a_trail_makes_one() -> None:
    """A first life that kept nothing: what the pane topic still holds is the past."""
    sent = told(stream(5, 60), closed=False)
    stage, want = WindowStage(PARTS, False), WindowStage(PARTS, False)
    stage.restore({})
    stage.ingest(sent.records[:-20])
    stage.skip()
    want.ingest(sent.records[:-20])
    list(want.units(True, 0))
    tails = []
    for one in (stage, want):
        one.ingest(sent.records[-20:])
        tails.append([row for rows, _ in one.units(True, 0) for row in rows])
    assert tails[0] == tails[1]


def test_what_is_kept_grows_by_hours_and_not_by_commits() -> None:
    sent, stage = told(stream(6, 40), closed=False), WindowStage(PARTS, False)
    sizes = []
    for at in range(0, len(sent.records), 2):
        stage.ingest(sent.records[at : at + 2])
        *_, (_, unit) = stage.units(True, 0)
        sizes.append(len(unit.state))
    assert max(sizes) <= 3
