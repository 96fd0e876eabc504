"""As-of answers out of PostgreSQL: what the log says, and as far back as the sink has run."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest
from signal_rows import looped, many, published

from stream.archive_base import PublishedRow, RowQuery
from stream.cli import main
from stream.config import Config, WebConfig
from stream.errors import LogError, LogUnavailable
from stream.memory import MemoryLog
from stream.newest_rows import NewestRows
from stream.postgres import PostgresSink
from stream.postgres_archive import PostgresArchive
from stream.serve import _archive

pytestmark = pytest.mark.postgres
T = TypeVar("T")
HELD = published(many(600))


async def gathered(batches: AsyncIterator[list[T]]) -> list[T]:
    return [one async for batch in batches for one in batch]


async def filled(dsn: str, every_row: bool = True) -> PostgresArchive:
    sink = PostgresSink(dsn, every_row)
    await sink.write(HELD)
    await sink.close()
    return PostgresArchive(dsn)


def by_sqlite(query: RowQuery, closed_only: bool = False) -> list[PublishedRow]:
    """The same question answered by what the log's archive uses."""
    rows = NewestRows()
    wanted = [
        PublishedRow(**msgspec.structs.asdict(one.row), recorded_ms=one.recorded_ms)
        for one in HELD
        if query.wants(one.row)
        and (query.known_at_ms is None or one.recorded_ms <= query.known_at_ms)
        and (not closed_only or one.row.status != "provisional")
    ]
    rows.add(wanted)
    found = [r for batch in rows.batches(1000) for r in batch]
    rows.close()
    return found


def bare(rows: list[PublishedRow]) -> list[tuple[object, ...]]:
    """What decides; of versions equal in all of it the database keeps the first, the log's archive the last."""
    return [(r.row_id, r.revision, r.n, r.status, r.watermark, r.value, r.reasons) for r in rows]


@looped
async def test_answers_are_those_of_the_log(dsn: str) -> None:
    archive, rng = await filled(dsn), random.Random(5)
    for _ in range(12):
        query = RowQuery(
            known_at_ms=rng.choice([None, 1_000 + rng.randrange(600)]),
            entity=rng.choice([None, None, "ticker:T7"]),
            from_ms=rng.choice([None, 600_000]),
            to_ms=rng.choice([None, 1_800_000]),
            signals=rng.choice([frozenset(), frozenset({"market.joy"}), frozenset({"market.none"})]),
            domain=rng.choice([None, "market"]),
            window_ms=rng.choice([None, 60_000]),
        )
        expected = by_sqlite(query)
        assert bare(await gathered(archive.newest(query))) == bare(expected)
        falling = await gathered(archive.newest(query, latest_first=True))
        assert bare(falling) == bare(sorted(expected, key=lambda r: (-r.window_end, r.row_id)))
    assert await archive.reach_ms() == 1_000


@looped
async def test_versions_come_in_the_order_of_publication(dsn: str) -> None:
    archive = await filled(dsn)
    row_id = HELD[0].row.row_id
    found = await gathered(archive.versions(RowQuery(row_id=row_id)))
    mine = [one for one in HELD if one.row.row_id == row_id]
    first = {(o.row.revision, o.row.n, o.row.status, o.row.watermark): o.recorded_ms for o in reversed(mine)}
    assert [r.recorded_ms for r in found] == sorted(first.values())
    known = await gathered(archive.versions(RowQuery(row_id=row_id, known_at_ms=HELD[0].recorded_ms)))
    assert [r.recorded_ms for r in known] == [HELD[0].recorded_ms]


@looped
async def test_without_every_row_the_past_holds_closed_rows_only(dsn: str) -> None:
    archive, query = await filled(dsn, every_row=False), RowQuery(known_at_ms=1_300)
    found = await gathered(archive.newest(query))
    assert bare(found) == bare(by_sqlite(query, closed_only=True))
    assert all(r.status != "provisional" for r in found)


@looped
async def test_what_is_wrong_is_said_without_the_password(dsn: str) -> None:
    with pytest.raises(LogError, match="no table signal_revisions; run `affect sink postgres` first"):
        await PostgresArchive(dsn).reach_ms()
    away = PostgresArchive("postgresql://affect:canary-secret@127.0.0.1:1/none")
    with pytest.raises(LogUnavailable) as refused:
        await gathered(away.newest(RowQuery()))
    assert "canary-secret" not in str(refused.value)


def test_commands_read_it(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asyncio.run(filled(dsn))
    monkeypatch.setenv("AFFECT_POSTGRES", dsn)
    out = tmp_path / "rows.jsonl"
    assert main(["signals", "export", "--postgres", "AFFECT_POSTGRES", "--at", "1300", "--out", str(out)]) == 0
    found = [msgspec.json.decode(line, type=PublishedRow) for line in out.read_bytes().splitlines()]
    assert bare(found) == bare(by_sqlite(RowQuery(known_at_ms=1_300)))


def test_a_run_answers_from_it_where_settings_say_so(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFECT_POSTGRES", dsn)
    there = Config(web=WebConfig(postgres_env="AFFECT_POSTGRES"))
    assert (_archive(there, MemoryLog()).source, _archive(Config(), MemoryLog()).source) == ("postgres", "log")
