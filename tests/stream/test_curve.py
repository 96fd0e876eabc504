"""The phase curve: rows of one entity laid end to end, by hours from the event."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from operators.records import SignalRow
from stream.cli import main
from stream.commands.curve import Step, curve

HOUR, EVENT = 3_600_000, 10 * 3_600_000 + 1_800_000


def row(signal: str, start: int, value: float | None, size: int = HOUR, entity: str = "all:*") -> SignalRow:
    return SignalRow(
        signal=signal, domain="crisis", entity=entity, window_start=start, window_end=start + size, value=value,
        lo=value, hi=value, n=30, n_eff=30.0, authors=30, buzz=30.0, status="final", revision=0, watermark=start + size,
        model="m@1", ontology="o",
    )  # fmt: skip


ROWS = [
    row("crisis.joy", 11 * HOUR, 0.3),
    row("crisis.fear", 9 * HOUR, 0.1),
    row("crisis.fear", 10 * HOUR, 0.6),
    row("crisis.anger", 10 * HOUR, None),
    row("crisis.fear", 10 * HOUR + HOUR // 2, 0.9),  # overlaps two others
    row("crisis.request", 10 * HOUR, 0.9),
]


def test_hours_are_counted_from_the_event_and_windows_do_not_overlap() -> None:
    found = curve(ROWS, EVENT)
    assert [step.hours for step in found] == [-1.5, -0.5, 0.5]
    assert [sorted(step.shares) for step in found] == [["fear"], ["anger", "fear"], ["joy"]]
    assert found[1].shares["fear"].value == 0.6
    assert found[1].shares["anger"].value is None
    assert curve([], EVENT) == []


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rows.jsonl"
    other = [row("crisis.fear", 10 * HOUR, 0.2, entity="place:Houma"), row("crisis.fear", 0, 0.2, size=5 * HOUR)]
    file.write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in [*ROWS, *other]))
    ask = ["signals", "curve", "--from", str(file), "--event", "1970-01-01T10:30"]
    assert main(ask) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["hours", "n", "fear", "sadness", "anger", "joy"]
    assert lines[2].split() == ["-0.50", "30", "0.600", "[0.600,", "0.600]", "-", "-", "-"]
    assert main([*ask, "--json", "--entity", "place:Houma"]) == 0
    (step,) = [msgspec.json.decode(line, type=Step) for line in capsys.readouterr().out.splitlines()]
    assert (step.hours, step.shares["fear"].value) == (-0.5, 0.2)
    assert main([*ask, "--entity", "place:Nowhere"]) == 1
    assert "no rows" in capsys.readouterr().out
    assert main(["signals", "curve", "--event", "1970-01-01T10:30"]) == 2
    assert main([*ask[:-1], "soon"]) == 2
    assert "--event: expected epoch milliseconds" in capsys.readouterr().err
