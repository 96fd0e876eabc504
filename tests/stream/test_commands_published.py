"""`affect signals export | asof | revisions` as a user meets them."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from published_rows import MINUTE, filled, row, run

from stream.cli import main
from stream.connect import open_log

HISTORY = [
    (row(n=10, status="provisional", value=None, lo=None, hi=None), 1_000),
    (row(n=40), 61_000),
    (row(2 * MINUTE, n=7), 70_000),
    (row(5 * MINUTE, window_start=0, signal="market.fear", n=8), 80_000),
    (row(n=41, revision=1, status="revised"), 95_000),
]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"sqlite:///{tmp_path_factory.mktemp('log')}/run.db"

    async def write() -> None:
        held = await filled(HISTORY, open_log(url))
        await held.close()

    run(write())
    return url


def test_export_writes_the_newest_or_all_by_the_files_name(log: str, tmp_path: Path) -> None:
    out = tmp_path / "rows.parquet"
    assert main(["signals", "export", "--log", log, "--out", str(out)]) == 0
    assert pq.read_table(out)["n"].to_pylist() == [41, 7, 8]
    lines = tmp_path / "rows.jsonl"
    assert main(["signals", "export", "--log", log, "--out", str(lines), "--all-revisions"]) == 0
    assert [json.loads(line)["n"] for line in lines.read_text().splitlines()] == [10, 40, 7, 8, 41]
    back = tmp_path / "back.txt"
    words = ["signals", "export", "--file", str(lines), "--out", str(back), "--format", "jsonl", "--at", "61000"]
    assert main(words) == 0
    assert [json.loads(line)["n"] for line in back.read_text().splitlines()] == [40]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--signal", "market.fear"], [8]),
        (["--signal", "market.fear", "--signal", "market.joy"], [41, 7, 8]),
        (["--window", "5m"], [8]),
        (["--entity", "ticker:TSLA"], []),
        (["--domain", "market", "--from", "120000"], [7, 8]),
        (["--to", "1970-01-01T00:02:00"], [41]),
        (["--at", "70000", "--newest"], [40, 7]),
    ],
)
def test_export_narrows(log: str, tmp_path: Path, words: list[str], found: list[int]) -> None:
    out = tmp_path / "rows.jsonl"
    assert main(["signals", "export", "--log", log, "--out", str(out), *words]) == 0
    assert [json.loads(line)["n"] for line in out.read_text().splitlines()] == found


def test_asof_prints_what_was_known_and_how_far_back_it_knows(log: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["signals", "asof", "--log", log, "--at", "1970-01-01T00:01:10"]) == 0
    out = capsys.readouterr().out.splitlines()
    shown = "final       r0 +0.250 [+0.200, +0.300]   "
    assert out == [
        f"1970-01-01 00:01:01.000  {shown} n=40     market.joy|ticker:AAPL|0|60000",
        f"1970-01-01 00:01:10.000  {shown} n=7      market.joy|ticker:AAPL|60000|120000",
    ]
    assert main(["signals", "asof", "--log", log, "--at", "95000", "--limit", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 8
    assert main(["signals", "asof", "--log", log, "--at", "999"]) == 0
    told = capsys.readouterr()
    assert (told.out, told.err) == (
        "", "the log reaches back to 1970-01-01 00:00:01.000: what was known before cannot be told\n",
    )  # fmt: skip


def test_revisions_prints_every_version_in_order(log: str, capsys: pytest.CaptureFixture[str]) -> None:
    row_id = HISTORY[0][0].row_id
    assert main(["signals", "revisions", row_id, "--log", log]) == 0
    out = capsys.readouterr().out.splitlines()
    assert [line.split()[2:5] for line in out] == [
        ["provisional", "r0", "null"], ["final", "r0", "+0.250"], ["revised", "r1", "+0.250"],
    ]  # fmt: skip
    assert main(["signals", "revisions", row_id, "--log", log, "--json"]) == 0
    assert [json.loads(x)["recorded_ms"] for x in capsys.readouterr().out.splitlines()] == [1_000, 61_000, 95_000]
    assert main(["signals", "revisions", "a|b|1|2", "--log", log]) == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["export", "--out", "x.csv"], "give one source"),
        (["export", "--log", "memory://", "--file", "y", "--out", "x.csv"], "give one source"),
        (["export", "--log", "memory://", "--out", "x.xls"], "--format: expected one of csv, jsonl, parquet"),
        (["export", "--log", "memory://", "--out", "no/x.csv"], "does not exist"),
        (["export", "--file", "nowhere.jsonl", "--out", "x.csv"], "nowhere.jsonl: cannot be read"),
        (["export", "--postgres", "AFFECT_TEST_NONE", "--out", "x.csv"], "AFFECT_TEST_NONE is not set"),
        (["asof", "--log", "memory://", "--at", "noon"], "--at: expected epoch milliseconds or ISO 8601"),
        (["asof", "--log", "memory://", "--at", "1", "--window", "x"], "x"),
        (["asof", "--log", "memory://", "--at", "1", "--limit", "0"], "--limit"),
        (["revisions", "joy", "--log", "memory://"], "ID: expected signal|entity|window_start|window_end"),
    ],
)
def test_wrong_use_is_one_clear_line(
    words: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["signals", *words]) == 2
    err = capsys.readouterr().err
    assert says in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
