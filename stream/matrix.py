"""The need x place matrix: how much of each need, where, since when; and how much of it nobody can place.

A pure function over series of signal rows, wherever they come from. Nothing is invented: what was below the minimum
sample is None, and posts without a place are in no cell but are told beside them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from operators.crisis import NEEDS
from operators.names import WHOLE
from operators.records import SignalRow
from stream.history import Columns, History

HOUR_MS = 3_600_000
PER: Final = 10_000.0
SEEN = 1.0
"""A need was seen in a window where at least so many posts of it are expected."""
MOST_PLACES = 200
WITHOUT_PLACE = "crisis.without_place"
SIGNALS: Final = {f"crisis.need.{need}": need for need in NEEDS}
"""Signal -> need."""
FIELDS = ("window_end", "value", "lo", "hi", "corrected", "n", "buzz", "revision", "status")


class Rate(msgspec.Struct, frozen=True):
    """Posts per 10 000 with their 95 % interval; `corrected`: the model's known confusions undone, None = not known."""

    value: float
    lo: float
    hi: float
    corrected: float | None = None


class Cell(msgspec.Struct, frozen=True):
    """One need in one place (an entity, `place:Houston`, or `all:*`).

    `count`: expected posts, the rate times the weighted posts; None, as `rate`, below the minimum sample. `n`: posts of
    the place, whatever they say. `first_seen`, `last_seen`: start of the first and end of the last window known in
    which at least one such post is expected, epoch milliseconds; None = in none.
    """

    need: str
    place: str
    count: float | None
    rate: Rate | None
    n: int
    first_seen: int | None
    last_seen: int | None
    status: str
    revision: int


class Matrix(msgspec.Struct, frozen=True):
    """The matrix of one window [window_start, window_end); both None where there is no window.

    `places`: most posts first; `more_places`: places left out. `cells`: by place, then need; `whole`: over all posts,
    those without a place too. `without_place`: share of the posts no place was found for, in 10 000. `since`: end of
    the first window known, so how far back `first_seen` can reach.
    """

    window_ms: int
    window_start: int | None
    window_end: int | None
    n: int
    needs: tuple[str, ...]
    places: list[str]
    more_places: int
    cells: list[Cell]
    whole: list[Cell]
    without_place: Rate | None
    since: int | None


def matrix(
    series: Mapping[tuple[str, str], Columns], window_ms: int, at_ms: int | None = None, most_places: int = MOST_PLACES
) -> Matrix:
    """The matrix of the newest settled window that ends at `at_ms` or before.

    Args:
        series: (signal, entity) -> its rows of windows of `window_ms`, rising; other signals are not looked at.
        at_ms: epoch milliseconds; None = now. Where no window is settled the newest one is taken.
        most_places: those with most posts are kept.
    """
    known = {key: columns for key, columns in series.items() if key[0] in SIGNALS or key[0] == WITHOUT_PLACE}
    end = _newest(known.values(), at_ms)
    if end is None:
        return Matrix(window_ms, None, None, 0, NEEDS, [], 0, [], [], None, None)
    cells = []
    for (signal, entity), columns in known.items():
        if signal in SIGNALS and (cell := _cell(SIGNALS[signal], entity, columns, end, window_ms)) is not None:
            cells.append(cell)
    posts = {cell.place: cell.n for cell in cells}
    ranked = sorted((place for place in posts if place != WHOLE), key=lambda place: (-posts[place], place))
    kept = {place: k for k, place in enumerate(ranked[:most_places])}
    order = {need: k for k, need in enumerate(NEEDS)}
    return Matrix(
        window_ms=window_ms,
        window_start=end - window_ms,
        window_end=end,
        n=posts.get(WHOLE, 0),
        needs=NEEDS,
        places=list(kept),
        more_places=len(ranked) - len(kept),
        cells=sorted((c for c in cells if c.place in kept), key=lambda c: (kept[c.place], order[c.need])),
        whole=sorted((c for c in cells if c.place == WHOLE), key=lambda c: order[c.need]),
        without_place=_rate(known.get((WITHOUT_PLACE, WHOLE)), end),
        since=min(ends[0] for columns in known.values() if (ends := _whole_numbers(columns, "window_end"))),
    )


def matrix_of(history: History, window_ms: int, at_ms: int | None = None, most_places: int = MOST_PLACES) -> Matrix:
    """The matrix of what a history holds; the windows of places that are left out are not read."""
    wanted = frozenset((*SIGNALS, WITHOUT_PLACE))
    keys = history.keys(wanted, None, window_ms)
    first = {key.entity: key for key in keys}
    rows = [history.latest(key, True, at_ms) or history.latest(key, False, at_ms) for key in first.values()]
    found = [row for row in rows if row is not None]
    end = max((row.window_end for row in found if row.status != "provisional"), default=None)
    end = max((row.window_end for row in found), default=None) if end is None else end
    there = {row.entity: row.n for row in found if row.window_end == end and row.entity != WHOLE}
    ranked = sorted(there, key=lambda name: (-there[name], name))
    kept = {WHOLE, *ranked[:most_places]}
    series = {(key.signal, key.entity): history.columns(key) for key in keys if key.entity in kept}
    made = matrix(series, window_ms, at_ms, most_places)
    return msgspec.structs.replace(made, more_places=len(ranked) - len(made.places))


def matrix_series(rows: Iterable[SignalRow]) -> dict[tuple[str, str], Columns]:
    """Newest rows of windows of one size, by window end, as the series `matrix` takes."""
    gathered: dict[tuple[str, str], dict[str, list[object]]] = {}
    for row in rows:
        columns = gathered.setdefault((row.signal, row.entity), {name: [] for name in FIELDS})
        for name in FIELDS:
            columns[name].append(getattr(row, name))
    return gathered  # type: ignore[return-value]


def _newest(series: Iterable[Columns], at_ms: int | None) -> int | None:
    settled: int | None = None
    newest: int | None = None
    for columns in series:
        for end, status in zip(_whole_numbers(columns, "window_end"), columns["status"], strict=True):
            if at_ms is not None and end > at_ms:
                break
            newest = end if newest is None else max(newest, end)
            if status != "provisional":
                settled = end if settled is None else max(settled, end)
    return newest if settled is None else settled


def _cell(need: str, place: str, columns: Columns, end: int, window_ms: int) -> Cell | None:
    ends = _whole_numbers(columns, "window_end")
    if end not in ends:
        return None
    at = ends.index(end)
    counts = [
        None if value is None or weight is None else value * weight
        for value, weight in zip(_numbers(columns, "value")[: at + 1], _numbers(columns, "buzz"), strict=False)
    ]
    seen = [k for k, count in enumerate(counts) if count is not None and count >= SEEN]
    return Cell(
        need=need,
        place=place,
        count=counts[at],
        rate=_rate(columns, end),
        n=_whole_numbers(columns, "n")[at],
        first_seen=ends[seen[0]] - window_ms if seen else None,
        last_seen=ends[seen[-1]] if seen else None,
        status=str(columns["status"][at]),
        revision=_whole_numbers(columns, "revision")[at],
    )


def _rate(columns: Columns | None, end: int) -> Rate | None:
    if columns is None or end not in columns["window_end"]:
        return None
    at = _whole_numbers(columns, "window_end").index(end)
    value, lo, hi, corrected = (_numbers(columns, name)[at] for name in ("value", "lo", "hi", "corrected"))
    if value is None or lo is None or hi is None:
        return None
    return Rate(PER * value, PER * lo, PER * hi, None if corrected is None else PER * corrected)


def _numbers(columns: Columns, name: str) -> list[float | None]:
    return columns[name]  # type: ignore[return-value]


def _whole_numbers(columns: Columns, name: str) -> list[int]:
    return columns[name]  # type: ignore[return-value]
