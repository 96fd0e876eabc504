"""The duties of the signal plane as its agents run them: cut short anywhere, nothing is lost and nothing is wrong."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.alerts import Rules
from operators.latest import Latest
from operators.records import Alert, SignalRow, Status
from operators.rollup import Rollup
from stream.signal_duties import AlertDuty, Duty, LatestDuty, RollupDuty
from stream.topics import ALERTS, PLANE_TABLES, ROLLUPS
from stream.topology import build_codec

M = 60_000
CODEC = build_codec()
SECTORS = {"ticker:A": "sector:x", "ticker:B": "sector:x", "ticker:C": "sector:y"}
RULES = Rules.parse("""
[[rule]]
name = "fear"
signal = "market.fear"
window = "1m"
above = 0.6
hysteresis = 0.1
cool_down = "2m"
status = "provisional"
[[rule]]
name = "jump"
signal = "market.fear"
window = "1m"
kind = "change"
by = 0.3
[[rule]]
name = "crowd"
signal = "market.fear"
window = "1m"
kind = "burst"
z = 2
warm_up = 3
""").rules


def row(entity: str, end: int, n: int, status: Status = "final", revision: int = 0) -> SignalRow:
    value = (end * 37 + n * 11 + ord(entity[-1]) * 13) % 100 / 100
    return SignalRow(
        signal="market.fear", domain="market", entity=entity, window_start=(end - 1) * M, window_end=end * M,
        value=value, lo=value, hi=value, n=n, n_eff=float(n), authors=n, buzz=float(n), status=status,
        revision=revision, watermark=end * M, model="m@1", ontology="o1",
    )  # fmt: skip


ROWS = [
    one
    for end in range(1, 25)
    for name, n in (("ticker:A", 20 + (end * 29 % 7) ** 2), ("ticker:B", 30), ("ticker:C", 9), ("all:*", 99))
    for one in (
        row(name, end, n // 2, "provisional"),
        row(name, end, n),
        *([row(name, end - 1, n + 40, "revised", 1)] if end % 4 == 2 else []),
    )
]


class Killed(Exception):
    """The process is gone."""


class Cluster:
    """What survives: messages sent, the tables' changelog, the committed offset. `budget`: acts until the next kill."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes]] = []
        self.table: dict[str, bytes] = {}
        self.committed = 0
        self.budget = 0

    def act(self) -> None:
        if self.budget == 0:
            raise Killed
        self.budget -= 1

    def live(self, duty: Duty, batch: int) -> None:
        """One life of an agent, from the committed offset to the end or the kill: outputs, state, acknowledgement."""
        duty.restore(self.table)
        at = self.committed
        while at < len(ROWS):
            for one in ROWS[at : at + batch]:
                duty.feed(one)
            settled = duty.settle()
            for message in settled.outputs:
                self.act()
                self.sent.append((message.topic, message.value))
            for key, value in settled.state.items():
                self.act()
                self.table.pop(key, None)
                if value is not None:
                    self.table[key] = value
            at = min(len(ROWS), at + batch)
            self.act()
            self.committed = at


LIVES = st.lists(st.tuples(st.integers(0, 120), st.integers(1, 40)), max_size=8)


def lived(make: Callable[[], Duty], lives: list[tuple[int, int]]) -> tuple[Cluster, Duty]:
    """Lives that end by a kill after so many acts, and a last one that reaches the end."""
    cluster = Cluster()
    for budget, batch in lives:
        cluster.budget = budget
        try:
            cluster.live(make(), batch)
        except Killed:
            continue
    cluster.budget = 10**9
    duty = make()
    cluster.live(duty, 50)
    duty.restore(cluster.table)
    return cluster, duty


@given(LIVES)
@settings(deadline=None, max_examples=30)
def test_killed_anywhere_no_alert_is_lost_and_one_sent_again_is_the_same(lives: list[tuple[int, int]]) -> None:
    fold = Rules(RULES)
    expected: list[Alert] = [alert for one in ROWS for alert in fold.feed(one)]
    assert {a.rule for a in expected} == {"fear", "jump", "crowd"}
    cluster, _ = lived(lambda: AlertDuty(CODEC, partial(Rules, RULES)), lives)
    alerts = [CODEC.decode_alert(value) for topic, value in cluster.sent if topic == ALERTS]
    assert {a.alert_id: a for a in alerts} == {a.alert_id: a for a in expected}
    assert len(cluster.sent) == len(alerts)
    assert set(alerts) == set(expected)
    if not lives:
        assert alerts == expected


@given(LIVES)
@settings(deadline=None, max_examples=30)
def test_killed_anywhere_the_last_roll_up_of_every_window_is_that_of_all_rows(lives: list[tuple[int, int]]) -> None:
    fold = Rollup(SECTORS)
    for one in ROWS:
        fold.feed(one)
    cluster, duty = lived(lambda: RollupDuty(CODEC, SECTORS), lives)
    newest: dict[str, SignalRow] = {}
    for topic, value in cluster.sent:
        assert topic == ROLLUPS
        got = CODEC.decode_signal(value)
        if got.row_id not in newest or (got.revision, got.n) >= (newest[got.row_id].revision, newest[got.row_id].n):
            newest[got.row_id] = got
    assert newest == {r.row_id: r for r in fold.take()}
    assert isinstance(duty, RollupDuty)
    assert duty.rollup.newest() == fold.newest()


@given(LIVES)
@settings(deadline=None, max_examples=30)
def test_killed_anywhere_the_table_holds_the_newest_rows(lives: list[tuple[int, int]]) -> None:
    fold = Latest()
    for one in ROWS:
        fold.feed(one)
    cluster, duty = lived(lambda: LatestDuty(CODEC), lives)
    assert cluster.sent == []
    assert isinstance(duty, LatestDuty)
    assert list(duty.latest.rows()) == list(fold.rows())


@pytest.mark.parametrize("k", range(3))
def test_tables_have_the_names_their_topics_are_made_by(k: int) -> None:
    duties = [LatestDuty(CODEC), RollupDuty(CODEC, SECTORS), AlertDuty(CODEC, partial(Rules, RULES))]
    assert duties[k].table == PLANE_TABLES[k]
