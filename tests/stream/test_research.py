"""Coefficients against a planted link, the look-ahead rule day by day, and contagion with a known lag."""

from __future__ import annotations

import gzip
import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.records import SignalRow
from stream.cli import main
from stream.prices import read_prices
from stream.research import Bar, by_phase, coefficients, contagion, rank_correlation
from stream.sessions import load_sessions

DAY = 86_400_000
FIRST = date(2024, 1, 1)


def row(entity: str, start_ms: int, value: float | None, size: int = DAY) -> SignalRow:
    return SignalRow(
        signal="market.valence", domain="market", entity=entity, window_start=start_ms, window_end=start_ms + size,
        value=value, lo=value, hi=value, n=30, n_eff=30.0, authors=30, buzz=30.0, status="final", revision=0,
        watermark=start_ms + size, model="m@1", ontology="o",
    )  # fmt: skip


def ms(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000)


def planted(lead: int, seed: int = 1) -> tuple[list[SignalRow], dict[str, list[Bar]]]:
    """Values that foretell the return `lead` days later (0: of the same day), 5 tickers, 120 trading days."""
    random = np.random.default_rng(seed)
    rows, prices = [], {}
    for ticker in "ABCDE":
        moods = random.normal(0, 1, 122)
        close, bars = 100.0, []
        for k in range(120):
            day = FIRST + timedelta(days=k)
            start = close
            if k >= lead:
                close *= 1 + 0.01 * moods[k - lead] + random.normal(0, 0.01)
            bars.append(Bar(day, start, close))
            rows.append(row(f"ticker:{ticker}", ms(day), float(moods[k])))
        prices[ticker] = bars
    return rows, prices


def test_a_planted_link_is_found_where_it_lies_and_nowhere_else() -> None:
    same, ahead = coefficients(*planted(0))
    assert same.ic is not None
    assert same.ic > 0.5
    assert same.lo is not None
    assert same.lo > 0.4
    assert ahead.lo is not None
    assert ahead.hi is not None
    assert ahead.lo < 0 < ahead.hi
    _, foretold = coefficients(*planted(1))
    assert foretold.ic is not None
    assert foretold.ic > 0.5


def test_shifting_prices_breaks_it() -> None:
    """What follows from the day before is gone when prices are moved by ten days: it was no accident of the method."""
    rows, prices = planted(1)
    shifted = {t: [Bar(b.day + timedelta(days=10), b.open, b.close) for b in bars] for t, bars in prices.items()}
    _, ahead = coefficients(rows, shifted)
    assert ahead.lo is not None
    assert ahead.hi is not None
    assert ahead.lo < 0 < ahead.hi


def test_the_next_day_opens_after_the_window_has_ended() -> None:
    bars = [Bar(date(2024, 1, 5), 10, 11), Bar(date(2024, 1, 8), 20, 30), Bar(date(2024, 1, 9), 40, 44)]
    friday, saturday = ms(date(2024, 1, 5)), ms(date(2024, 1, 6))
    rows = [row("ticker:A", friday, 1.0), row("ticker:A", saturday, 2.0), row("ticker:A", friday + DAY // 2, 3.0)]
    same, ahead = coefficients(rows, {"A": bars})
    assert (same.n, ahead.n) == (0, 3)  # Friday is the first bar: no close before it; Saturday has none
    inside = row("ticker:A", ms(date(2024, 1, 8)), 1.0, size=DAY // 2)  # ends at noon: that day has opened already
    _, later = coefficients([inside], {"A": bars})
    assert later.n == 1
    assert coefficients([row("ticker:A", ms(date(2024, 1, 9)), 1.0)], {"A": bars})[1].n == 0


def test_unknown_values_and_tickers_without_prices_are_left_out() -> None:
    rows, prices = planted(0)
    nothing = [row("ticker:A", r.window_start, None) for r in rows[:5]] + [row("ticker:Z", rows[0].window_start, 1.0)]
    assert coefficients(rows + nothing, prices) == coefficients(rows, prices)
    assert coefficients([], prices)[0].ic is None


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=3, max_size=30))
def test_rank_correlation_against_its_definition(pairs: list[tuple[int, int]]) -> None:
    def ranks(values: list[int]) -> list[float]:
        return [sum(v < x for v in values) + (sum(v == x for v in values) + 1) / 2 for x in values]

    a, b = np.array(ranks([p[0] for p in pairs])), np.array(ranks([p[1] for p in pairs]))
    got = rank_correlation(np.array([p[0] for p in pairs], float), np.array([p[1] for p in pairs], float))
    if a.std() == 0 or b.std() == 0:
        assert got is None
    else:
        assert got == pytest.approx(float(np.corrcoef(a, b)[0, 1]))


def test_contagion_finds_who_moved_first() -> None:
    random = np.random.default_rng(2)
    moods = random.normal(0, 1, 200)
    rows = [row("ticker:A", k * 3_600_000, float(moods[k]), 3_600_000) for k in range(200)]
    rows += [row("all:*", k * 3_600_000, float(moods[k - 3] + random.normal(0, 0.3)), 3_600_000) for k in range(3, 200)]
    found = contagion(rows, "ticker:A")
    assert max(found, key=lambda one: one.r).lag == 3
    assert [one.lag for one in found] == list(range(-12, 13))


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows, prices = planted(0)
    file, table = tmp_path / "rows.jsonl.gz", tmp_path / "prices.csv"
    with gzip.open(file, "wb") as out:
        out.writelines(msgspec.json.encode(r) + b"\n" for r in rows)
    lines = [f"{t},{b.day},{b.open},{b.close}" for t, bars in prices.items() for b in bars]
    table.write_text("ticker,date,open,close\n" + "\n".join(lines) + "\n", "utf-8")
    assert main(["research", "ic", "--signals", str(file), "--prices", str(table)]) == 0
    out_text = capsys.readouterr().out
    assert "same day: IC +0." in out_text
    assert "not a forecast" in out_text
    command = ["research", "contagion", "--signals", str(file), "--entity", "ticker:A", "--window", "24h"]
    assert main(command) == 0
    assert "too few windows" in capsys.readouterr().out
    command = [
        "research",
        "ic",
        "--signals",
        str(file),
        "--prices",
        str(table),
        "--calendar",
        "XNYS",
        "--window",
        "24h",
    ]
    assert main(command) == 0
    assert "lie in more than one phase" in capsys.readouterr().out
    assert main([*command[:-2]]) == 2  # windows of 30m: there are none
    assert "no row of market.valence with windows of 30m" in capsys.readouterr().err
    assert main([*command[:-3], "NOPE", "--window", "24h"]) == 2
    assert "expected an exchange such as XNYS, got 'NOPE'" in capsys.readouterr().err
    table.write_text("ticker,date,open\nA,2024-01-01,1\n", "utf-8")
    assert main(["research", "ic", "--signals", str(file), "--prices", str(table)]) == 2
    assert "['close'] are not there" in capsys.readouterr().err
    table.write_text("ticker,date,open,close\nA,2024-01-01,1,x\n", "utf-8")
    assert main(["research", "ic", "--signals", str(file), "--prices", str(table)]) == 2
    assert "line 2" in capsys.readouterr().err


def test_a_trading_day_begins_with_the_close_before() -> None:
    """Thanksgiving 2023: a holiday on Thursday, a half day on Friday; what each phase is compared with."""
    sessions = load_sessions("XNYS", date(2023, 11, 20), date(2023, 11, 30))
    days = [date(2023, 11, d) for d in (21, 22, 24, 27, 28)]
    prices = {"A": [Bar(day, 10.0 + k, 11.0 + 3 * k) for k, day in enumerate(days)]}

    def ask(*hours: float, size: float = 0.5) -> dict[tuple[str | None, str], int]:
        """(phase, horizon) -> pairs of windows that begin so many hours after Wednesday 22 00:00 UTC."""
        begin = ms(date(2023, 11, 22))
        rows = [row("ticker:A", begin + round(h * 3_600_000), 1.0, round(size * 3_600_000)) for h in hours]
        return {(one.phase, one.horizon): one.n for one in by_phase(rows, prices, sessions)[0] if one.n}

    both = ("same day", "next day")
    assert ask(20) == {(part, h): 1 for part in (None, "open") for h in both}  # Wednesday 15:00 in New York
    assert ask(22, 24 + 4) == {(part, h): 1 for part in (None, "post-close") for h in both}  # one phase: one value
    assert ask(24 + 20) == {(part, h): 1 for part in (None, "closed") for h in both}  # the holiday
    assert ask(48 + 13) == {(part, h): 1 for part in (None, "pre-open") for h in both}  # Friday 08:00
    assert ask(48 + 17.5) == {(part, h): 1 for part in (None, "open") for h in both}  # to 13:00, the half day's close
    assert ask(48 + 18) == {(part, h): 1 for part in (None, "post-close") for h in both}
    assert ask(20.75) == {}  # astride the close
    assert ask(22, 48 + 13, 48 + 17)[None, "same day"] == 1  # all of them news of Friday


def test_phases_do_not_look_ahead() -> None:
    """A link planted between what is said before the opening and the session that follows is found there alone."""
    random = np.random.default_rng(3)
    sessions = load_sessions("XNYS", date(2023, 1, 3), date(2023, 6, 30))
    days = [day for day in sessions.days if date(2023, 1, 3) <= day <= date(2023, 6, 30)]
    rows, prices = [], {}
    for ticker in "ABC":
        bars = []
        for day, opens, closes in zip(sessions.days, sessions.opens, sessions.closes, strict=True):
            if day not in days:
                continue
            before, during = random.normal(size=2).tolist()
            rows += [row(f"ticker:{ticker}", opens - 3_600_000, before, 1_800_000)]
            rows += [row(f"ticker:{ticker}", closes - 3_600_000, during, 1_800_000)]
            bars.append(Bar(day, 100.0, 100.0 * (1 + 0.01 * before + random.normal(0, 0.01))))
        prices[ticker] = bars
    found, astride = by_phase(rows, prices, sessions)
    told = {(one.phase, one.horizon): one for one in found}
    assert astride == 0
    foretold, spoken = told["pre-open", "next day"], told["open", "next day"]
    assert foretold.lo is not None
    assert foretold.lo > 0.4
    assert spoken.lo is not None
    assert spoken.hi is not None
    assert spoken.lo < 0 < spoken.hi
    assert told["closed", "same day"].ic is None


@pytest.mark.data
def test_real_prices_are_read() -> None:
    prices = read_prices(Path(os.environ["AFFECT_DATA"]) / "prices" / "stockemotions_daily_2020.csv.gz")
    assert len(prices["AAPL"]) == 254
