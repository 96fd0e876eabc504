"""The need x place matrix: cells by hand, first and last seen, places kept, the command and the route's function."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from operators.crisis import NEEDS
from operators.records import SignalRow
from stream.cli import main
from stream.history import History
from stream.matrix import HOUR_MS, Matrix, matrix, matrix_of, matrix_series

H = HOUR_MS
START = 1_700_002_800_000


def row(signal: str, entity: str, hour: int, value: float | None, n: int = 100, **more: Any) -> SignalRow:
    end = START + hour * H
    sure = {} if value is None else {"lo": value / 2, "hi": min(1.0, value * 2)}
    fields: dict[str, Any] = {
        "signal": signal, "domain": "crisis", "entity": entity, "window_start": end - H, "window_end": end,
        "value": value, "lo": None, "hi": None, "n": n, "n_eff": float(n), "authors": n, "buzz": float(n),
        "status": "final", "revision": 0, "watermark": end, "model": "m@1", "ontology": "o1", **sure, **more,
    }  # fmt: skip
    return SignalRow(**fields)


ROWS = [
    row("crisis.need.water", "place:Houma", 1, 0.001),  # a tenth of a post: not seen
    row("crisis.need.water", "place:Houma", 2, 0.02),
    row("crisis.need.water", "place:Houma", 3, 0.2, n=200, buzz=150.0, corrected=0.1),
    row("crisis.need.food", "place:Houma", 2, 0.05),
    row("crisis.need.food", "place:Houma", 3, 0.0, n=200),
    row("crisis.need.water", "place:Slidell", 3, None, n=5),
    row("crisis.need.water", "place:Biloxi", 2, 0.5),  # nobody wrote about it in the third hour
    row("crisis.need.water", "all:*", 3, 0.1, n=500),
    row("crisis.without_place", "all:*", 3, 0.25, n=500),
    row("crisis.request", "place:Houma", 3, 0.5, n=200),
]


def history(rows: list[SignalRow]) -> History:
    out = History()
    for one in rows:
        out.put(one)
    return out


def both(rows: list[SignalRow], **more: Any) -> Matrix:
    """The matrix, the same from rows and from a history."""
    found = matrix(matrix_series(rows), H, **more)
    assert matrix_of(history(rows), H, **more) == found
    return found


def test_cells_by_hand() -> None:
    found = both(ROWS)
    assert (found.window_start, found.window_end, found.n) == (START + 2 * H, START + 3 * H, 500)
    assert found.places == ["place:Houma", "place:Slidell"]
    assert found.needs == NEEDS
    water, food, slidell = found.cells
    assert (water.need, water.place, water.count) == ("water", "place:Houma", pytest.approx(30.0))
    assert water.rate is not None
    assert (water.rate.value, water.rate.lo, water.rate.hi) == pytest.approx((2_000, 1_000, 4_000))
    assert water.rate.corrected == pytest.approx(1_000)
    assert (water.first_seen, water.last_seen) == (START + H, START + 3 * H)
    assert (food.count, food.first_seen, food.last_seen) == (0.0, START + H, START + 2 * H)
    assert (slidell.count, slidell.rate, slidell.n, slidell.first_seen) == (None, None, 5, None)
    assert [cell.count for cell in found.whole] == [pytest.approx(50.0)]
    assert found.without_place is not None
    assert found.without_place.value == pytest.approx(2_500)


def test_as_it_was_at_a_moment() -> None:
    found = both(ROWS, at_ms=START + 3 * H - 1)
    assert found.window_end == START + 2 * H
    assert found.places == ["place:Biloxi", "place:Houma"]  # of equals the first name
    water = next(c for c in found.cells if (c.need, c.place) == ("water", "place:Houma"))
    assert water.last_seen == START + 2 * H
    assert found.without_place is None


def test_settled_windows_before_open_ones() -> None:
    opened = [*ROWS, row("crisis.need.water", "place:Houma", 4, 0.9, status="provisional")]
    assert both(opened).window_end == START + 3 * H
    only = [row("crisis.need.water", "place:Houma", 4, 0.9, status="provisional")]
    assert both(only).window_end == START + 4 * H


def test_places_with_most_posts_are_kept() -> None:
    found = both(ROWS, most_places=1)
    assert (found.places, found.more_places) == (["place:Houma"], 1)
    assert {cell.place for cell in found.cells} == {"place:Houma"}


def test_nothing_is_known_of_nothing() -> None:
    found = both([])
    assert (found.window_end, found.cells, found.without_place) == (None, [], None)


def test_the_command_prints_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in ROWS))
    assert main(["signals", "matrix", "--from", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(msgspec.json.encode(both(ROWS)))
    assert main(["signals", "matrix", "--from", str(path)]) == 0
    out = capsys.readouterr().out
    assert "Houma" in out
    assert "[1000, 4000]" in out
    assert "Slidell" in out
    assert "too few posts (5)" in out
    assert "25.0 % of the posts" in out
    assert main(["signals", "matrix", "--from", str(path), "--window", "5m"]) == 1
    assert main(["signals", "matrix"]) == 2
    assert main(["signals", "matrix", "--from", str(path), "--at", "yesterday"]) == 2
