"""Rows and rules for the tests of alerts, short to write."""

from __future__ import annotations

from typing import Any

from operators.alerts import Rules
from operators.records import Alert, SignalRow

M = 60_000


def row(end: int, value: float | None = 0.5, n: int = 100, **given_: Any) -> SignalRow:
    """A one-minute row that ends at minute `end`."""
    fields: dict[str, Any] = {
        "signal": "market.fear", "domain": "market", "entity": "ticker:AAPL", "window_start": (end - 1) * M,
        "window_end": end * M, "value": value, "lo": value, "hi": value, "n": n, "n_eff": float(n), "authors": n,
        "buzz": float(n), "status": "final", "revision": 0, "watermark": end * M, "model": "m@1", "ontology": "o1",
    }  # fmt: skip
    return SignalRow(**{**fields, **given_})


def rules(body: str, **options: Any) -> Rules:
    parsed = Rules.parse(f'[[rule]]\nname = "r"\nsignal = "market.fear"\nwindow = "1m"\n{body}')
    return Rules(parsed.rules, **options)


def ends(made: Rules, rows: list[SignalRow]) -> list[int]:
    """Minutes at which the rows raise alerts."""
    return [alert.window_end // M for r in rows for alert in made.feed(r)]


def values(*of: float | None, first: int = 1) -> list[SignalRow]:
    return [row(first + k, value) for k, value in enumerate(of)]


def fold(made: Rules, rows: list[SignalRow]) -> list[Alert]:
    return [alert for r in rows for alert in made.feed(r)]
