"""Exports read back with other programs' readers: every field, every kind, whole or not at all, in bounded memory."""

from __future__ import annotations

import csv
import io
import sys
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from published_rows import CODEC, MINUTE, by_hand, filled, row, run

from engines.errors import MissingExtra
from operators.records import SignalRow
from stream import export_parquet
from stream.archive_base import PublishedRow, RowQuery, published
from stream.errors import LogUnavailable, StreamError
from stream.exporting import FORMATS, Export, row_format
from stream.log_archive import LogArchive
from stream.row_columns import COLUMNS, MOMENTS

NAMES = [f.name for f in msgspec.structs.fields(PublishedRow)]
NUMBERS = st.one_of(st.none(), st.floats(-1, 1))
ROWS = st.builds(
    row,
    st.integers(1, 10**6).map(lambda k: k * MINUTE),
    entity=st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=8).map(lambda t: f"topic:{t}"),
    value=NUMBERS,
    lo=NUMBERS,
    hi=NUMBERS,
    n=st.integers(0, 2**53),
    reasons=st.lists(st.text("ab ,\"'\n", max_size=6), max_size=2).map(tuple),
)


class Held:
    """An archive of rows in memory, `size` a batch."""

    source = "log"

    def __init__(self, rows: list[PublishedRow], size: int = 7) -> None:
        self.rows, self.size = rows, size

    async def versions(self, query: RowQuery) -> AsyncIterator[list[PublishedRow]]:
        for at in range(0, len(self.rows), self.size):
            yield self.rows[at : at + self.size]

    newest = versions  # type: ignore[assignment]

    async def reach_ms(self) -> int | None:
        return None


def exported(rows: list[PublishedRow], name: str) -> bytes:
    async def work() -> bytes:
        export = Export(Held(rows), RowQuery(), row_format(name))  # type: ignore[arg-type]
        data = b"".join([part async for part in export.parts()])
        assert export.rows == len(rows)
        return data

    found = run(work())
    assert isinstance(found, bytes)
    return found


def test_every_field_of_a_row_is_a_column() -> None:
    assert list(COLUMNS) == NAMES
    assert set(MOMENTS) <= set(NAMES)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.builds(published, ROWS, st.one_of(st.none(), st.integers(0, 10**13))), max_size=20))
def test_parquet_and_json_lines_give_back_every_value(rows: list[PublishedRow]) -> None:
    decode = msgspec.json.Decoder(PublishedRow).decode
    assert [decode(line) for line in exported(rows, "jsonl").split(b"\n")[:-1]] == rows
    table = pq.read_table(io.BytesIO(exported(rows, "parquet")))
    assert table.column_names == NAMES
    for name in MOMENTS:
        assert str(table.schema.field(name).type) == "timestamp[ms, tz=UTC]"
        table = table.set_column(NAMES.index(name), name, table[name].cast("int64"))
    assert [msgspec.convert(found, PublishedRow) for found in table.to_pylist()] == rows


@settings(max_examples=40, deadline=None)
@given(st.lists(st.builds(published, ROWS, st.none()), max_size=20))
def test_csv_gives_back_every_value_and_empty_is_unknown(rows: list[PublishedRow]) -> None:
    lines = list(csv.DictReader(io.StringIO(exported(rows, "csv").decode(), newline="")))
    assert len(lines) == len(rows)
    for line, one in zip(lines, rows, strict=True):
        assert list(line) == NAMES
        assert line["entity"] == one.entity
        assert line["reasons"] == "; ".join(one.reasons)
        assert line["recorded_ms"] == ""
        for name in ("value", "lo", "hi"):
            known = getattr(one, name)
            assert line[name] == "" if known is None else float(line[name]) == known
        assert (int(line["n"]), int(line["window_end"])) == (one.n, one.window_end)


def test_csv_has_no_cell_a_spreadsheet_would_run() -> None:
    rows = [published(row(entity=f"{sign}cmd()", reasons=(f"{sign}1",)), None) for sign in "=+-@\t"]
    lines = list(csv.DictReader(io.StringIO(exported(rows, "csv").decode(), newline="")))
    assert all(line["entity"][0] == line["reasons"][0] == "'" for line in lines)


@pytest.mark.parametrize("name", FORMATS)
def test_an_export_of_nothing_is_a_file_with_its_head(name: str) -> None:
    data = exported([], name)
    assert data.startswith({"csv": b"signal,domain,entity,", "jsonl": b"", "parquet": b"PAR1"}[name])
    if name == "parquet":
        assert pq.read_table(io.BytesIO(data)).num_rows == 0


def test_a_file_is_written_whole_with_the_newest_rows_or_with_all(tmp_path: Path) -> None:
    history = [(row(n=10, status="provisional"), 1), (row(n=40), 2), (row(2 * MINUTE), 3)]

    async def work(revisions: bool) -> list[int]:
        out = tmp_path / "rows.parquet"
        archive = LogArchive(await filled(history), CODEC)
        await Export(archive, RowQuery(), row_format("parquet"), revisions).to_file(out)
        return [int(n) for n in pq.read_table(out)["n"].to_pylist()]

    assert run(work(False)) == [r.n for r in by_hand(history, RowQuery())] == [40, 40]
    assert run(work(True)) == [10, 40, 40]
    assert [p.name for p in tmp_path.iterdir()] == ["rows.parquet"]


def test_a_source_that_goes_away_half_way_leaves_the_old_file(tmp_path: Path) -> None:
    class Going(Held):
        async def versions(self, query: RowQuery) -> AsyncIterator[list[PublishedRow]]:
            yield self.rows
            raise LogUnavailable("gone")

        newest = versions  # type: ignore[assignment]

    out = tmp_path / "rows.csv"
    out.write_text("old")
    export = Export(Going([published(row(), 1)]), RowQuery(), row_format("csv"))  # type: ignore[arg-type]
    with pytest.raises(LogUnavailable):
        run(export.to_file(out))
    assert (out.read_text(), len(list(tmp_path.iterdir()))) == ("old", 1)
    with pytest.raises(StreamError, match="cannot be written"):
        run(Export(Held([]), RowQuery(), row_format("csv")).to_file(tmp_path / "no" / "x.csv"))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", FORMATS)
def test_memory_does_not_grow_with_the_rows(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixty thousand rows, as objects or as CSV many megabytes, a batch of a thousand at a time."""
    monkeypatch.setattr(export_parquet, "GROUP_ROWS", 5_000)
    one = [published(row((1 + k) * MINUTE, value=k / 1000), k) for k in range(1_000)]

    class Endless(Held):
        async def versions(self, query: RowQuery) -> AsyncIterator[list[PublishedRow]]:
            for _ in range(60):
                yield one

        newest = versions  # type: ignore[assignment]

    async def work() -> int:
        export = Export(Endless([]), RowQuery(), row_format(name))  # type: ignore[arg-type]
        size = 0
        async for part in export.parts():
            size += len(part)
        return size

    tracemalloc.start()
    try:
        assert run(work()) > (6_600_000 if name != "parquet" else 30_000)
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()


def test_parquet_without_its_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "stream.export_parquet", None)
    with pytest.raises(MissingExtra, match=r"pip install 'affectstream\[export\]'"):
        row_format("parquet")


def test_a_kind_a_table_has_no_place_for_becomes_json(monkeypatch: pytest.MonkeyPatch) -> None:
    from stream.row_columns import Kind, _kind

    class Odd(msgspec.Struct):
        a: dict[str, int]
        b: int | str
        c: bool
        d: list[float]
        e: bool | None

    kinds = {f.name: _kind(f.name, msgspec.inspect.type_info(f.type)) for f in msgspec.structs.fields(Odd)}
    assert kinds == {"a": Kind.JSON, "b": Kind.JSON, "c": Kind.FLAG, "d": Kind.JSON, "e": Kind.FLAG}


def test_rows_know_no_field_the_signal_row_does_not_have() -> None:
    mine: list[Any] = [f.name for f in msgspec.structs.fields(SignalRow)]
    assert [*mine, "recorded_ms"] == NAMES
