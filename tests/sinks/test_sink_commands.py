"""`affect sink postgres | jsonl` as people run it: processes that are killed, servers that die, two at once."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import msgspec
import pytest
from lives import Life, affect, wait_for
from postgres_cluster import PASSWORD, Cluster, held
from signal_rows import as_final, many, newest, publish

from operators.records import SignalRow
from stream.connect import open_log

ROWS = many(6_000)


def url_of(folder: Path, name: str = "log.db") -> str:
    return f"sqlite:///{folder / name}"


def append(url: str, rows: list[SignalRow]) -> None:
    """Publish rows as the engine does."""

    async def run() -> None:
        log = open_log(url)
        await publish(log, rows)
        await log.close()

    asyncio.run(run())


def closed(rows: list[SignalRow]) -> set[SignalRow]:
    return {r for r in rows if r.status != "provisional"}


def lines(path: Path) -> list[SignalRow]:
    whole = path.read_bytes()
    assert whole.endswith(b"\n")
    return [msgspec.json.decode(line, type=SignalRow) for line in whole.splitlines()]


@pytest.mark.postgres
def test_postgres_to_the_end_and_what_it_refuses(dsn: str, tmp_path: Path) -> None:
    url = url_of(tmp_path)
    append(url, ROWS[:2_000])
    words = ("sink", "postgres", "--log", url)
    done = affect(*words, "--dsn", "MY_DSN", "--until-end", MY_DSN=dsn)
    assert (done.returncode, done.stderr) == (0, "2000 rows written\n")
    assert as_final(held(dsn)) == newest(ROWS[:2_000])
    assert set(held(dsn, "signal_revisions")) == closed(ROWS[:2_000])
    again = affect(*words, "--until-end", AFFECT_POSTGRES=dsn)
    assert (again.returncode, again.stderr) == (0, "0 rows written\n")
    wrong = affect(*words, AFFECT_POSTGRES=dsn.replace(PASSWORD, "canary"))
    assert wrong.returncode == 1
    assert "password authentication failed" in wrong.stderr
    assert "PostgreSQL dbname=" in wrong.stderr
    assert len(wrong.stderr.splitlines()) == 1
    shown = affect(*words, "--dsn", dsn)
    unset = affect(*words, "--dsn", "NOT_SET")
    nonsense = affect(*words, AFFECT_POSTGRES="=canary=")
    assert (shown.returncode, unset.returncode, nonsense.returncode) == (2, 2, 2)
    assert "set $NOT_SET to postgresql://" in unset.stderr
    for said in (wrong, shown, nonsense):
        assert PASSWORD not in said.stderr
        assert "canary=" not in said.stderr


@pytest.mark.postgres
@pytest.mark.faults
def test_kill_9_of_the_postgres_sink_mid_stream(dsn: str, tmp_path: Path) -> None:
    """Rows flow, the sink is killed at random moments; in the end the tables hold every row once, the newest on top."""
    url, rng = url_of(tmp_path), random.Random(4)
    append(url, ROWS[:1])
    words = ("sink", "postgres", "--log", url)
    assert affect(*words, "--until-end", AFFECT_POSTGRES=dsn).returncode == 0
    for at in range(1, len(ROWS), 1_500):
        count = len(held(dsn))
        with Life(tmp_path / "said", *words, AFFECT_POSTGRES=dsn) as life:
            for k in range(at, min(at + 1_500, len(ROWS)), 250):
                append(url, ROWS[k : k + 250])
            if rng.random() < 0.8:
                life.sees(lambda before=count: len(held(dsn)) > before)  # type: ignore[misc]
    assert affect(*words, "--until-end", AFFECT_POSTGRES=dsn).returncode == 0
    assert as_final(held(dsn)) == newest(ROWS)
    assert sorted(map(str, held(dsn, "signal_revisions"))) == sorted(map(str, closed(ROWS)))


@pytest.mark.postgres
@pytest.mark.faults
def test_the_sink_waits_for_a_server_that_is_away_and_goes_on(dsn: str, cluster: Cluster, tmp_path: Path) -> None:
    url, said = url_of(tmp_path), tmp_path / "said"
    append(url, ROWS[:1_000])
    cluster.kill()
    try:
        with Life(said, "sink", "postgres", "--log", url, AFFECT_POSTGRES=dsn) as life:
            life.says("open the database: PostgreSQL")
            cluster.start()
            life.says("open the database: works again")
            life.sees(lambda: set(held(dsn, "signal_revisions")) == closed(ROWS[:1_000]))
            cluster.kill()
            append(url, ROWS[1_000:3_000])
            life.says("write rows: PostgreSQL")
            cluster.start()
            life.says("write rows: works again")
            life.sees(lambda: as_final(held(dsn)) == newest(ROWS[:3_000]))
            assert life.stop() == 0
            assert life.said.endswith("3000 rows written\n")
            assert life.said.count("retrying") == 2
            assert PASSWORD not in life.said
    finally:
        cluster.stop()
        cluster.start()


@pytest.mark.postgres
@pytest.mark.faults
def test_two_sinks_of_one_group_the_second_takes_over(dsn: str, tmp_path: Path) -> None:
    url = url_of(tmp_path)
    words = ("sink", "postgres", "--log", url)
    append(url, ROWS[:100])
    with Life(tmp_path / "one", *words, AFFECT_POSTGRES=dsn) as one:
        one.sees(lambda: as_final(held(dsn)) == newest(ROWS[:100]))
        with Life(tmp_path / "two", *words, AFFECT_POSTGRES=dsn) as two:
            two.says("join affect-postgres")
            append(url, ROWS[100:400])
            one.sees(lambda: as_final(held(dsn)) == newest(ROWS[:400]))
            one.kill()
            append(url, ROWS[400:900])
            two.sees(lambda: as_final(held(dsn)) == newest(ROWS[:900]))
            assert two.stop() == 0
            assert two.said.endswith("500 rows written\n")


@pytest.mark.postgres
def test_two_sinks_of_two_groups_write_the_same_tables(dsn: str, tmp_path: Path) -> None:
    url = url_of(tmp_path)
    append(url, ROWS[:2_000])
    words = ("sink", "postgres", "--log", url, "--until-end", "--every-row")
    with Life(tmp_path / "one", *words, "--group", "a", AFFECT_POSTGRES=dsn) as one:
        assert affect(*words, "--group", "b", AFFECT_POSTGRES=dsn).returncode == 0
        one.says("2000 rows written")
    assert as_final(held(dsn)) == newest(ROWS[:2_000])
    assert sorted(map(str, held(dsn, "signal_revisions"))) == sorted(map(str, set(ROWS[:2_000])))


def test_jsonl_goes_on_where_it_stopped_and_refuses_another_log(tmp_path: Path) -> None:
    url, out = url_of(tmp_path), tmp_path / "rows.jsonl"
    append(url, ROWS[:1_000])
    words = ("sink", "jsonl", "--out", str(out), "--until-end", "--log")
    assert affect(*words, url).stderr == "1000 rows written\n"
    append(url, ROWS[1_000:1_500])
    assert affect(*words, url).stderr == "500 rows written\n"
    assert affect(*words, url).stderr == "0 rows written\n"
    assert lines(out) == ROWS[:1_500]
    other = url_of(tmp_path, "other.db")
    append(other, ROWS[:10])
    refused = affect(*words, other)
    assert refused.returncode == 2
    assert "was written from" in refused.stderr
    (tmp_path / "other.db").replace(tmp_path / "log.db")
    anew = affect(*words, url)
    assert anew.returncode == 2
    assert "the file stands at offset 1500" in anew.stderr
    assert lines(out) == ROWS[:1_500]


@pytest.mark.faults
def test_kill_9_of_the_jsonl_sink_mid_stream(tmp_path: Path) -> None:
    url, out = url_of(tmp_path), tmp_path / "rows.jsonl"
    words = ("sink", "jsonl", "--log", url, "--out", str(out))
    append(url, ROWS[:1])
    for at in range(1, 4_001, 1_000):
        size = out.stat().st_size if out.exists() else 0
        with Life(tmp_path / "said", *words) as life:
            for k in range(at, at + 1_000, 250):
                append(url, ROWS[k : k + 250])
            life.sees(lambda before=size: out.exists() and out.stat().st_size > before)  # type: ignore[misc]
    append(url, ROWS[4_001:4_500])
    with Life(tmp_path / "last", *words) as life:
        life.sees(lambda: out.read_bytes().count(b"\n") >= 4_500)
        assert life.stop() == 0
    assert lines(out) == ROWS[:4_500]


@pytest.mark.broker
def test_jsonl_from_kafka(kafka_bootstrap: str, tmp_path: Path) -> None:
    url, out = f"kafka://{kafka_bootstrap}?prefix=jsonl{random.randrange(10**9)}.", tmp_path / "rows.jsonl"
    append(url, ROWS[:1_000])
    words = ("sink", "jsonl", "--log", url, "--out", str(out), "--until-end")
    first = affect(*words)
    assert (first.returncode, first.stderr) == (0, "1000 rows written\n")
    append(url, ROWS[1_000:1_200])
    assert affect(*words).stderr == "200 rows written\n"
    assert lines(out) == ROWS[:1_200]


@pytest.mark.broker
@pytest.mark.postgres
@pytest.mark.faults
def test_postgres_from_kafka_killed_on_the_way(kafka_bootstrap: str, dsn: str, tmp_path: Path) -> None:
    url = f"kafka://{kafka_bootstrap}?prefix=pg{random.randrange(10**9)}."
    append(url, ROWS[:1_000])
    words = ("sink", "postgres", "--log", url)
    with Life(tmp_path / "said", *words, AFFECT_POSTGRES=dsn) as life:
        wait_for(lambda: len(held(dsn)) > 0, lambda: life.said)
    append(url, ROWS[1_000:2_000])
    done = affect(*words, "--until-end", AFFECT_POSTGRES=dsn)
    assert done.returncode == 0, done.stderr
    assert as_final(held(dsn)) == newest(ROWS[:2_000])
    assert set(held(dsn, "signal_revisions")) == closed(ROWS[:2_000])
