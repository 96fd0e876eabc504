"""The PostgreSQL sink against a real server: idempotent, newest wins, survives kill -9, says no at once."""

from __future__ import annotations

import asyncio
import random

import psycopg
import pytest
from postgres_cluster import PASSWORD, Cluster, held
from signal_rows import CODEC, as_final, looped, many, newest, publish, published, row, until

from operators.records import SignalRow
from stream import postgres
from stream.base import CommitUnit, Log, Output
from stream.errors import LogError, LogUnavailable, UsageError
from stream.memory import MemoryLog
from stream.postgres import PostgresSink, migrations
from stream.sinking import SinkWorker
from stream.topics import SIGNALS
from stream.worker import Pulse

pytestmark = pytest.mark.postgres


async def drain(log: Log, dsn: str, group: str = "affect-postgres") -> SinkWorker:
    sink = PostgresSink(dsn)
    worker = SinkWorker(log, sink, CODEC, group, True, Pulse())
    try:
        async with asyncio.timeout(60):
            await worker.run()
    finally:
        await sink.close()
    return worker


@looped
async def test_a_row_comes_back_as_it_was(dsn: str) -> None:
    given = [
        row(value=None, lo=None, hi=None, reasons=()),
        row("ticker:Ü'\\\t\n💥", value=-0.1, n=2**40, n_eff=0.1 + 0.2, reasons=("x" * 500, '{"a": 1}', "")),
        row("place:São", end=-60_000, status="provisional", watermark=-(2**62)),
    ]
    sink = PostgresSink(dsn)
    await sink.write(published(given))
    await sink.close()
    assert sorted(held(dsn), key=str) == sorted(given, key=str)


@looped
async def test_a_nul_in_a_name_stops_nothing(dsn: str) -> None:
    sink = PostgresSink(dsn)
    await sink.write(published([row("ticker:a\0b", reasons=("\0",))]))
    await sink.close()
    assert [r.entity for r in held(dsn)] == ["ticker:a�b"]


@looped
async def test_the_newest_wins_whatever_the_order_and_the_batches(dsn: str) -> None:
    rows = many(3_000)
    sink = PostgresSink(dsn)
    rng = random.Random(1)
    for _ in range(2):
        rng.shuffle(rows)
        at = 0
        while at < len(rows):
            size = rng.choice((1, 7, 500, 2_000))
            await sink.write(published(rows[at : at + size]))
            at += size
    await sink.close()
    assert as_final(held(dsn)) == newest(rows)


@looped
async def test_revisions_are_kept_and_the_table_can_be_seen_as_of_a_moment(dsn: str) -> None:
    sink = PostgresSink(dsn)
    history = [
        row(n=5),
        row(n=15, revision=1),
        row("ticker:B", n=1),
        row(n=7, status="provisional"),
        row(n=25, revision=2),
    ]
    for _ in range(2):
        await sink.write(published(history))
    await sink.close()
    assert sorted((r.entity, r.revision) for r in held(dsn, "signal_revisions")) == [
        ("ticker:A", 0), ("ticker:A", 1), ("ticker:A", 2), ("ticker:B", 0),
    ]  # fmt: skip
    seen = {at: {(r.entity, r.n) for r in held(dsn, f"signals_as_of({at})")} for at in (999, 1_000, 1_002, 1_004)}
    assert seen == {
        999: set(),
        1_000: {("ticker:A", 5)},
        1_002: {("ticker:A", 15), ("ticker:B", 1)},
        1_004: {("ticker:A", 25), ("ticker:B", 1)},
    }
    every = PostgresSink(dsn, every_row=True)
    await every.write(published(history))
    await every.close()
    assert "provisional" in {r.status for r in held(dsn, "signal_revisions")}
    with psycopg.connect(dsn) as connection:
        found = connection.execute("SELECT DISTINCT extract(epoch FROM time - since) FROM signal_points").fetchall()
    assert found == [(60,)]


@looped
async def test_replays_read_twice_and_stale_rows_change_nothing(dsn: str) -> None:
    rows = many(4_000)
    log = MemoryLog()
    await publish(log, rows)
    assert (await drain(log, dsn)).reader.rows == 4_000
    first = sorted(held(dsn), key=str)
    assert as_final(first) == newest(rows)
    assert (await log.committed("affect-postgres", SIGNALS)) == [4_000]
    assert (await drain(log, dsn)).reader.rows == 0, "the group goes on where it was"
    assert (await drain(log, dsn, "another-group")).reader.rows == 4_000
    await publish(log, rows[:500])
    assert (await drain(log, dsn)).reader.rows == 500
    assert sorted(held(dsn), key=str) == first
    await log.close()


@looped
async def test_an_unreadable_message_is_left_out_and_told(dsn: str, caplog: pytest.LogCaptureFixture) -> None:
    log = MemoryLog()
    await publish(log, [row()])
    await log.commit(CommitUnit("test", outputs=[Output(SIGNALS, 0, b"k", b"\0\0\0\0\x04junk", 0)] * 3))
    await publish(log, [row("ticker:B")])
    worker = await drain(log, dsn)
    assert (worker.reader.rows, worker.reader.rejected) == (2, 3)
    assert {r.entity for r in held(dsn)} == {"ticker:A", "ticker:B"}
    assert sum("left out" in r.getMessage() for r in caplog.records) == 1
    await log.close()


@looped
async def test_two_writers_at_once_agree(dsn: str) -> None:
    rows = many(2_000)
    sinks = [PostgresSink(dsn) for _ in range(2)]

    async def write(sink: PostgresSink, mine: list[SignalRow]) -> None:
        for k in range(0, len(mine), 100):
            await sink.write(published(mine[k : k + 100]))

    await asyncio.gather(write(sinks[0], rows), write(sinks[1], rows[::-1]))
    for sink in sinks:
        await sink.close()
    assert as_final(held(dsn)) == newest(rows)


@looped
async def test_kill_9_of_the_server_midway(dsn: str, cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    """Killed twice while rows flow: one log line a change, and the table is the replay's."""
    rows = many(30_000)
    log = MemoryLog()
    await publish(log, rows[:1])
    sink, pulse = PostgresSink(dsn), Pulse()
    worker = SinkWorker(log, sink, CODEC, "affect-postgres", False, pulse)
    running = asyncio.create_task(worker.run())
    for k in range(0, 30_000, 1_000):
        await publish(log, rows[k : k + 1_000])
        await asyncio.sleep(0.01)
        if k in (7_000, 20_000):
            cluster.kill()
            await until(lambda: pulse.problem is not None)
            await asyncio.to_thread(cluster.start)
    await until(lambda: worker.reader.rows == 30_001 and pulse.problem is None)
    pulse.ended.set()
    await running
    assert (await log.committed("affect-postgres", SIGNALS)) == [30_001]
    await sink.close()
    assert as_final(held(dsn)) == newest(rows)
    said = [r.getMessage() for r in caplog.records if "write rows" in r.getMessage()]
    assert 2 <= len(said) <= 4, said
    assert [("works again" in line) for line in said] == [False, True] * (len(said) // 2)
    assert PASSWORD not in caplog.text
    await log.close()


@looped
async def test_a_stop_while_the_server_is_away_does_not_hang(dsn: str, cluster: Cluster) -> None:
    log = MemoryLog()
    await publish(log, [row()])
    cluster.stop()
    try:
        sink, pulse = PostgresSink(dsn), Pulse()
        running = asyncio.create_task(SinkWorker(log, sink, CODEC, "affect-postgres", False, pulse).run())
        await until(lambda: pulse.problem is not None)
        pulse.ended.set()
        async with asyncio.timeout(30):
            await running
        assert (await log.committed("affect-postgres", SIGNALS)) == [0]
    finally:
        await asyncio.to_thread(cluster.start)
    await drain(log, dsn)
    assert len(held(dsn)) == 1
    await log.close()


@pytest.mark.parametrize("wrong", ["password", "user", "database", "tls"])
@looped
async def test_what_will_never_work_is_said_at_once(dsn: str, cluster: Cluster, wrong: str) -> None:
    given = {
        "password": cluster.dsn("canary-wrong"),
        "user": dsn.replace("affect:", "nobody:"),
        "database": cluster.dsn(database="none_such"),
        "tls": dsn.replace("sslmode=disable", "sslmode=require"),
    }[wrong]
    sink = PostgresSink(given)
    with pytest.raises(LogError, match="check user, password, database and sslmode") as refused:
        await sink.open()
    assert not refused.value.retriable
    assert "canary" not in str(refused.value)


@looped
async def test_a_server_that_is_away_may_come_back(cluster: Cluster) -> None:
    sink = PostgresSink("postgresql://affect:canary@127.0.0.1:1/x")
    with pytest.raises(LogUnavailable) as away:
        await sink.open()
    assert "canary" not in str(away.value)
    with pytest.raises(UsageError, match="expected postgresql://"):
        PostgresSink("=canary=")


@looped
async def test_starting_sinks_take_turns_and_a_newer_database_is_refused(dsn: str) -> None:
    sinks = [PostgresSink(dsn) for _ in range(4)]
    assert await asyncio.gather(*(s.open() for s in sinks)) == [max(migrations())] * 4
    with psycopg.connect(dsn) as connection:
        done = connection.execute("SELECT version, name FROM affect_schema_version ORDER BY version").fetchall()
        assert done == [(k, name) for k, (name, _) in migrations().items()]
        connection.execute("INSERT INTO affect_schema_version VALUES (99, 'of the future')")
    with pytest.raises(
        LogError, match=f"its tables are of version 99, this program knows {max(migrations())}; install a newer one"
    ):
        await PostgresSink(dsn).open()
    for sink in sinks:
        await sink.close()


@looped
async def test_tables_of_the_first_version_are_migrated_with_their_rows(dsn: str) -> None:
    first = (
        "signal, entity, window_start, window_end, domain, value, lo, hi, n, n_eff, authors, buzz, status, revision, "
    )
    first += "watermark, model, ontology, reasons, recorded_ms"
    values = "'market.joy', 'ticker:OLD', 0, 60000, 'market', 0.5, NULL, 0.6, 9, 8, 7, 9, 'final', 0, 60000, 'm', 'o', "
    values += "'{a}', 5"
    with psycopg.connect(dsn) as connection:
        connection.execute(postgres.VERSIONS)
        connection.execute(migrations()[1][1].encode())
        connection.execute("INSERT INTO affect_schema_version (version, name) VALUES (1, '0001_signals.sql')")
        for table in ("signals", "signal_revisions"):
            connection.execute(f"INSERT INTO {table} ({first}) VALUES ({values})".encode())
    sink = PostgresSink(dsn)
    assert await sink.open() == max(migrations())
    fresh = row("ticker:NEW", capped=0.25, sampled=0.5, corrected=0.1, corrected_lo=0.05, corrected_hi=None)
    await sink.write(published([fresh]))
    await sink.close()
    for table in ("signals", "signal_revisions", f"signals_as_of({2**60})", "signal_points"):
        old, new = sorted(held(dsn, table), key=lambda r: r.entity, reverse=True)
        assert new == fresh
        assert (old.entity, old.value, old.reasons, old.capped, old.sampled) == ("ticker:OLD", 0.5, ("a",), 0.0, 1.0)
        assert old.corrected is None


@looped
async def test_a_migration_keeps_the_rows_or_changes_nothing(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next version does not exist yet: the scripts are made up, the database and its rows are not."""
    rows, known = many(200), migrations()
    sink = PostgresSink(dsn)
    await sink.write(published(rows))
    await sink.close()
    next_ = max(known) + 1
    broken = "ALTER TABLE signals ADD COLUMN note text; DELETE FROM signals; ALTER TABLE no_such ADD COLUMN x int;"
    monkeypatch.setattr(postgres, "migrations", lambda: {**known, next_: ("broken.sql", broken)})
    with pytest.raises(LogError, match="no_such"):
        await PostgresSink(dsn).open()
    assert as_final(held(dsn)) == newest(rows), "a migration that fails half-way changes nothing"
    fine = "ALTER TABLE signals ADD COLUMN note text NOT NULL DEFAULT 'old';"
    monkeypatch.setattr(postgres, "migrations", lambda: {**known, next_: ("note.sql", fine)})
    newer = PostgresSink(dsn)
    assert await newer.open() == next_
    await newer.write(published([row("ticker:FRESH")]))
    await newer.close()
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT count(*) FROM signals WHERE note = 'old'").fetchone() == (len(held(dsn)),)
    assert as_final(held(dsn)) == newest([*rows, row("ticker:FRESH")])


@looped
async def test_an_account_without_rights_is_told_which(dsn: str, cluster: Cluster) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS reader")
        connection.execute("CREATE ROLE reader LOGIN PASSWORD 'x'")
    with pytest.raises(LogError, match="CREATE on the schema"):
        await PostgresSink(dsn.replace(f"affect:{PASSWORD}", "reader:x")).open()
