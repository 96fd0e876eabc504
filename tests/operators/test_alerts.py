"""Alert rules: what fires, what does not, and that it is a fold."""

from __future__ import annotations

import msgspec
import pytest
from alert_rows import M, ends, fold, row, rules, values
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.alerts import Rules
from operators.errors import ConfigInvalid
from operators.records import Alert, SignalRow


def test_threshold_fires_once_until_it_clears() -> None:
    assert ends(rules("above = 0.5"), values(0.4, 0.6, 0.7, 0.5, 0.6)) == [2, 5]
    assert ends(rules("below = 0.5"), values(0.6, 0.4, 0.3, 0.5, 0.4)) == [2, 5]
    assert ends(rules("above = 0.5\nbelow = -0.5"), values(0.5, 0.6, 0.0, -0.6, -0.7)) == [2, 4]
    assert ends(rules("above = 0.0"), values(0.0, -0.1, 0.1)) == [3]


def test_hysteresis_clears_only_beyond_the_margin() -> None:
    assert ends(rules("above = 0.5\nhysteresis = 0.1"), values(0.6, 0.45, 0.6, 0.375, 0.6)) == [1, 5]
    assert ends(rules("below = 0.25\nhysteresis = 0.125"), values(0.2, 0.3, 0.2, 0.375, 0.2)) == [1, 5]


def test_cool_down_holds_back_and_does_not_lose() -> None:
    up_and_down = values(0.6, 0.4, 0.6, 0.6, 0.4, 0.6)
    assert ends(rules('above = 0.5\ncool_down = "3m"'), up_and_down) == [1, 4]
    assert ends(rules('above = 0.5\ncool_down = "5m"'), up_and_down) == [1, 6]
    assert ends(rules("above = 0.5"), up_and_down) == [1, 3, 6]


def test_each_entity_is_its_own() -> None:
    made = rules('above = 0.5\nentity = "ticker:*"')
    rows = [row(1, 0.6, entity=name) for name in ("ticker:A", "ticker:B", "all:*", "ticker:A")]
    assert [a.entity for r in rows for a in made.feed(r)] == ["ticker:A", "ticker:B"]


def test_only_its_signal_and_window() -> None:
    made = rules("above = 0.5")
    assert made.feed(row(1, 0.9, signal="market.joy")) == []
    assert made.feed(row(5, 0.9, window_start=0)) == []
    assert len(made) == 0


def test_change_compares_with_the_window_that_ended_where_this_begins() -> None:
    rise, fall = 'kind = "change"\nby = 0.2', 'kind = "change"\nby = -0.2'
    assert ends(rules(rise), values(0.1, 0.4, 0.7, 0.7, 0.95)) == [2, 5]
    assert ends(rules(fall), values(0.9, 0.6, 0.6, 0.1)) == [2, 4]
    assert ends(rules(rise), [row(1, 0.1), row(3, 0.9)]) == []  # the window before is not there
    assert ends(rules(rise), values(0.1, None, 0.9)) == []  # or unknown


def test_change_of_hopping_windows() -> None:
    made = Rules.parse('[[rule]]\nname="c"\nsignal="market.fear"\nwindow="5m"\nkind="change"\nby=0.3')
    rows = [row(end, 0.05 * end, window_start=(end - 5) * M) for end in range(5, 16)]
    assert ends(made, rows) == []  # 0.25 in five minutes, however many hops
    made = Rules.parse('[[rule]]\nname="c"\nsignal="market.fear"\nwindow="5m"\nkind="change"\nby=0.2')
    found = [a for r in rows for a in made.feed(r)]
    assert [a.window_end // M for a in found] == [10]
    assert found[0].reference == pytest.approx(0.25)
    assert found[0].measure == pytest.approx(0.25)


def test_burst_of_posts() -> None:
    quiet = [row(k, n=20 + k % 3) for k in range(1, 11)]
    made = rules('kind = "burst"\nz = 4')
    (alert,) = [a for r in [*quiet, row(11, n=60), row(12, n=61)] for a in made.feed(r)]
    assert alert.window_end == 11 * M
    assert alert.reference == pytest.approx(21, abs=1)
    assert alert.measure == pytest.approx((60 - alert.reference) / alert.reference**0.5)
    # Too early: nothing is known of what is usual.
    assert ends(rules('kind = "burst"\nz = 4'), [row(1, n=20), row(2, n=60)]) == []


def test_burst_where_nobody_had_written_before() -> None:
    """Windows without posts have no row: they count as none, not as unknown."""
    made = rules('kind = "burst"\nz = 4')
    before = [row(k, n=20, entity="all:*") for k in range(1, 11)]
    assert ends(made, [*before, row(11, n=25, entity="place:Houston")]) == [11]


def test_burst_average_counts_null_windows_and_time_without_rows() -> None:
    made = rules('kind = "burst"\nz = 4')
    quiet = [row(k, value=None, n=15) for k in range(1, 12)]
    assert ends(made, [*quiet, row(12, n=30)]) == []  # z 3.9 against 15: null rows still say how many posts
    made = rules('kind = "burst"\nz = 4')
    assert ends(made, [*(row(k, n=30) for k in range(1, 12)), row(60, n=30)]) == [60]  # after 48 silent minutes


def test_burst_of_a_share() -> None:
    quiet = [row(k, 0.05, n=100) for k in range(1, 11)]
    share = 'kind = "burst"\nz = 4\nof = "share"'
    assert ends(rules(share), [*quiet, row(11, 0.2, n=100)]) == [11]  # 20 posts' worth where 5 are usual
    assert ends(rules(share), [*quiet, row(11, 0.05, n=200)]) == []  # more posts, the same share: 10
    value = 'kind = "burst"\nz = 4\nof = "value"'
    assert ends(rules(value), [*values(*[10.0] * 10), row(11, 30.0)]) == [11]
    assert ends(rules(value), [*values(*[-10.0] * 10), row(11, -30.0)]) == []  # not a count


def test_null_never_alerts_and_never_clears() -> None:
    assert ends(rules("below = 0.5"), values(None, 0.4, None, 0.4)) == [2]
    assert ends(rules("above = 0.5"), values(0.6, None, None, 0.6)) == [1]


def test_repeated_and_older_rows_change_nothing() -> None:
    made = rules("above = 0.5")
    assert ends(made, [row(1, 0.6, revision=1, n=101)]) == [1]
    made.snapshot()
    assert made.feed(row(1, 0.6, revision=1, n=101)) == []
    assert made.feed(row(1, 0.1, revision=0, n=100)) == []
    assert made.feed(row(-9, 0.9)) == []
    assert made.snapshot() == {}
    assert ends(made, [row(2, 0.7)]) == []


def test_a_revision_is_judged_while_its_window_is_the_newest() -> None:
    made = rules("above = 0.5")
    assert ends(made, [row(1, 0.4), row(1, 0.6, n=101, revision=1, status="revised")]) == [1]
    made = rules("above = 0.5")
    assert ends(made, [row(1, 0.4), row(2, 0.4), row(1, 0.9, n=101, revision=1)]) == []
    # A window raises one alert, whatever its revisions do.
    made = rules("above = 0.5")
    assert ends(made, [row(1, v, revision=k) for k, v in enumerate((0.6, 0.4, 0.7))]) == [1]


def test_a_revision_counts_for_what_comes_after_it() -> None:
    made = rules('kind = "change"\nby = 0.2')
    assert ends(made, [row(1, 0.5), row(1, 0.1, revision=1), row(2, 0.5)]) == [2]


def test_provisional_rows_only_where_asked_for() -> None:
    rows = [row(1, 0.6, n=50, status="provisional"), row(1, 0.4, n=100)]
    assert ends(rules("above = 0.5"), rows) == []
    assert ends(rules('above = 0.5\nstatus = "provisional"'), rows) == [1]
    # The newest open window is still unknown: the one before is judged nevertheless.
    early = [row(3, None, n=5, status="provisional"), row(2, 0.6, n=50, status="provisional")]
    assert ends(rules('above = 0.5\nstatus = "provisional"'), early) == [2]


def test_an_alert_says_what_it_is() -> None:
    (alert,) = rules('above = 0.5\nseverity = "critical"').feed(row(1, 0.625))
    assert alert.alert_id == f"r|market.fear|ticker:AAPL|0|{M}"
    assert (alert.severity, alert.kind, alert.value, alert.measure, alert.reference) == (
        "critical", "threshold", 0.625, 0.625, 0.5,
    )  # fmt: skip
    assert alert.message == "market.fear of ticker:AAPL, 1m: 0.625 is above 0.5 (n 100)"


def test_keys_are_bounded_and_forgetting_raises_no_false_burst() -> None:
    made = rules('kind = "burst"\nz = 4', most_keys=10)
    found = [
        alert
        for minute in range(1, 30)
        for k in range(40)
        for alert in made.feed(row(minute, n=50, entity=f"ticker:{k}"))
    ]
    assert len(made) <= 10
    assert found == []
    assert len(made._states) + len(made._began) <= 11
    restored = rules('kind = "burst"\nz = 4', most_keys=10)
    restored.restore({k: v for k, v in made.snapshot().items() if v is not None})
    assert len(restored) == len(made)


def test_memory_of_one_entity_is_bounded() -> None:
    made = rules('kind = "burst"\nz = 4')
    for k in range(1, 500):
        made.feed(row(k, None if k % 3 else 0.5))
    assert max(len(state.seen) for state in made._states.values()) <= 3


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("", ["above", "none"]),
        ("above = nan", ["above", "finite"]),
        ("abve = 1", ["abve"]),
        ('above = "x"', ["above"]),
        ("above = 1\nz = 2", ["z", "threshold"]),
        ('kind = "burst"', ["z"]),
        ('kind = "cusum"', ["above"]),
        ('kind = "cusum"\nabove = -1', ["above"]),
        ('kind = "cusum"\nabove = 5\nhysteresis = 6', ["hysteresis"]),
        ('kind = "cusum"\nz = 5', ["z"]),
        ('kind = "burst"\nz = -1', ["z"]),
        ('kind = "change"\nby = 0', ["by"]),
        ('kind = "odd"\nby = 1', ["kind"]),
        ("above = 1\nhysteresis = -1", ["hysteresis"]),
        ("above = 1\nbelow = 0.9\nhysteresis = 0.5", ["hysteresis"]),
        ('above = 1\ncool_down = "soon"', ["cool_down", "soon"]),
        ('above = 1\nseverity = "loud"', ["severity"]),
        ('above = 1\nof = "share"', ["of"]),
        ("above = 1\nwarm_up = 0", ["warm_up"]),
    ],
)
def test_a_wrong_rule_is_named(body: str, words: list[str]) -> None:
    text = f'[[rule]]\nname = "panic"\nsignal = "market.fear"\nwindow = "1m"\n{body}'
    with pytest.raises(ConfigInvalid) as caught:
        Rules.parse(text, "alerts.toml")
    for word in ["alerts.toml", "panic", *words]:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "[[rule]]"),
        ("[[rule]", "TOML"),
        ("x = 1", "x"),
        ("rule = 3", "rule"),
        ('[[rule]]\nsignal = "s"\nwindow = "1m"\nabove = 1', "name"),
        ('[[rule]]\nname = "a"\nsignal = "s"\nwindow = "1 minute"\nabove = 1', "window"),
        ('[[rule]]\nname = "a"\nsignal = "s"\nwindow = "0s"\nabove = 1', "window"),
        ('[[rule]]\nname = "a|b"\nsignal = "s"\nwindow = "1m"\nabove = 1', "name"),
        ('[[rule]]\nname = "a"\nsignal = "s"\nwindow = "1m"\nabove = 1\n' * 2, "no other"),
    ],
)
def test_a_wrong_file_is_named(text: str, word: str) -> None:
    with pytest.raises(ConfigInvalid, match=r"^night\.toml: ") as caught:
        Rules.parse(text, "night.toml")
    assert word in str(caught.value)


EVERY_KIND = """
[[rule]]
name = "high"
signal = "market.fear"
window = "1m"
above = 0.6
hysteresis = 0.2
cool_down = "2m"
status = "provisional"
[[rule]]
name = "jump"
signal = "market.fear"
window = "1m"
kind = "change"
by = -0.3
[[rule]]
name = "crowd"
signal = "market.fear"
window = "1m"
kind = "burst"
z = 2
warm_up = 2
memory = 3
[[rule]]
name = "share"
signal = "market.fear"
window = "1m"
kind = "burst"
of = "share"
z = 1
warm_up = 1
memory = 3
[[rule]]
name = "rising"
signal = "market.fear"
window = "1m"
kind = "cusum"
above = 2
warm_up = 2
memory = 4
status = "provisional"
"""
ROWS = st.lists(
    st.builds(
        lambda end, value, n, revision, status, entity: row(
            end, value, n, revision=revision, status=status, entity=f"ticker:{entity}"
        ),
        st.integers(1, 12),
        st.one_of(st.none(), st.floats(0, 1).map(lambda x: round(x, 3))),
        st.integers(1, 60),
        st.integers(0, 2),
        st.sampled_from(["provisional", "final", "revised"]),
        st.sampled_from("ABC"),
    ),
    max_size=60,
)


@given(ROWS, st.lists(st.integers(0, 60), max_size=5), st.integers(2, 12))
@settings(max_examples=150, deadline=None)
def test_cuts_and_restarts_change_nothing(rows: list[SignalRow], cuts: list[int], keys: int) -> None:
    """Any batches, a restore from what was snapshot at each cut: the same alerts."""
    parsed = Rules.parse(EVERY_KIND).rules
    whole = fold(Rules(parsed, keys), rows)
    stored: dict[str, bytes] = {}
    found: list[Alert] = []
    at = 0
    for cut in [*sorted(cuts), len(rows)]:
        part = Rules(parsed, keys)
        part.restore(dict(reversed(stored.items())))
        found += fold(part, rows[at:cut])
        at = max(at, cut)
        for key, value in part.snapshot().items():
            if value is None:
                stored.pop(key, None)
            else:
                stored[key] = value
    assert found == whole


@given(ROWS)
@settings(max_examples=100, deadline=None)
def test_every_row_twice_changes_nothing(rows: list[SignalRow]) -> None:
    once = fold(Rules.parse(EVERY_KIND), rows)
    assert fold(Rules.parse(EVERY_KIND), [r for r in rows for _ in range(2)]) == once
    assert len({alert.alert_id for alert in once}) == len(once)


@given(ROWS, ROWS)
@settings(max_examples=100, deadline=None)
def test_no_look_ahead(rows: list[SignalRow], future: list[SignalRow]) -> None:
    """Later windows, whatever they hold, change no alert about the windows before them."""
    later = [msgspec.structs.replace(r, window_start=r.window_start + 20 * M, window_end=r.window_end + 20 * M)
             for r in future]  # fmt: skip
    alone = fold(Rules.parse(EVERY_KIND), rows)
    both = fold(Rules.parse(EVERY_KIND), [*rows, *later])
    assert both[: len(alone)] == alone
    assert all(alert.window_end > 20 * M for alert in both[len(alone) :])


@given(st.lists(st.one_of(st.none(), st.floats(-1, 1)), max_size=40), st.floats(0, 0.4), st.integers(0, 5))
@settings(max_examples=150, deadline=None)
def test_threshold_against_the_obvious(held: list[float | None], margin: float, cool: int) -> None:
    """Rows in order, one a window: the rule is the two lines everybody would write."""
    expected, active, last = [], False, None
    for minute, value in enumerate(held, 1):
        if value is None:
            continue
        if active:
            active = value - 0.2 > -margin
        elif value > 0.2 and (last is None or minute - last >= cool):
            active, last = True, minute
            expected.append(minute)
    made = rules(f'above = 0.2\nhysteresis = {margin!r}\ncool_down = "{cool}{"m" if cool else "s"}"')
    assert ends(made, values(*held)) == expected


def test_a_changed_rule_starts_anew_and_the_old_state_is_deleted() -> None:
    old = rules("above = 0.5")
    assert ends(old, [row(1, 0.6)]) == [1]
    stored = {k: v for k, v in old.snapshot().items() if v is not None}
    new = rules("above = 0.55")
    new.restore(stored)
    assert ends(new, [row(2, 0.6)]) == [2]
    assert {k for k, v in new.snapshot().items() if v is None} == set(stored)
