"""Every SQL query of the Grafana dashboards, on the tables that `affect sink postgres` makes and fills."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

import psycopg
import pytest
from signal_rows import published, row

from stream.dashboards import all_dashboards
from stream.panels import Sql
from stream.postgres import PostgresSink

pytestmark = pytest.mark.postgres

PANELS = {
    f"{d.name}: {p.title} {k}": q.text
    for d in all_dashboards()
    for p in d.panels
    for k, q in enumerate(p.queries)
    if isinstance(q, Sql)
}
DROP_DOWNS = {v.name: v.choice.text for d in all_dashboards() for v in d.variables if isinstance(v.choice, Sql)}
CHOSEN = {"domain": "market", "entity": "ticker:A'B", "signal": "market.joy", "window": "60000"}


def written_out(query: str) -> str:
    """As Grafana writes its variables and its macro out."""
    for name, value in CHOSEN.items():
        quoted = "'" + value.replace("'", "''") + "'"
        query = query.replace(f"${{{name}:sqlstring}}", quoted).replace(f"${name}", value)
    query = query.replace(
        "$__timeFilter(time)",
        "time BETWEEN '1970-01-01T00:00:00Z'::timestamptz AND '1970-01-02T00:00:00Z'::timestamptz",
    )
    assert "$" not in query
    return query


def test_every_query_gives_rows_and_columns_that_panels_can_draw(dsn: str) -> None:
    rows = [
        *(row(CHOSEN["entity"], 60_000 * k, n=k, value=None if k == 3 else k / 100) for k in range(1, 9)),
        row(CHOSEN["entity"], 60_000, revision=1, n=9),
        row("all:*", 60_000, signal="market.buzz"),
    ]

    async def fill() -> None:
        sink = PostgresSink(dsn)
        try:
            await sink.open()
            await sink.write(published(rows))
        finally:
            await sink.close()

    asyncio.run(fill())
    assert len(PANELS) > 8
    assert set(DROP_DOWNS) == set(CHOSEN)
    with psycopg.connect(dsn) as connection:
        for place, query in PANELS.items():
            found = connection.execute(written_out(query))  # type: ignore[arg-type]
            columns = [column.name for column in found.description or ()]
            assert found.fetchall(), place
            if "ORDER BY time" in query and "DISTINCT" not in query:
                assert columns[0] == "time", place
        for name, query in DROP_DOWNS.items():
            offered = [str(value) for (value,) in connection.execute(written_out(query)).fetchall()]  # type: ignore[arg-type]
            assert CHOSEN[name] in offered, name
        chosen = connection.execute(written_out(PANELS["signals: $signal of $entity 0"])).fetchall()  # type: ignore[arg-type]
        assert [value for _, value in chosen] == [0.09, 0.02, None, 0.04, 0.05, 0.06, 0.07, 0.08]


def test_grafanas_user_reads_and_writes_nothing(dsn: str) -> None:
    """What deploy/postgres/reader.sh has psql run, on tables made before and after it."""
    script = Path(__file__).parents[2] / "deploy" / "postgres" / "reader.sh"
    info = psycopg.conninfo.conninfo_to_dict(dsn)
    env = os.environ | {
        "PGHOST": str(info["host"]), "PGPORT": str(info["port"]), "PGPASSWORD": str(info["password"]),
        "PGSSLMODE": "disable", "POSTGRES_USER": str(info["user"]), "POSTGRES_DB": str(info["dbname"]),
        "AFFECT_GRAFANA_PASSWORD": "only'reads",
    }  # fmt: skip
    told = subprocess.run(["sh", str(script)], env=env, capture_output=True, text=True, timeout=60)
    assert told.returncode == 0, told.stderr

    async def fill() -> None:
        sink = PostgresSink(dsn)
        try:
            await sink.open()
            await sink.write(published([row()]))
        finally:
            await sink.close()

    asyncio.run(fill())
    reader = psycopg.conninfo.make_conninfo(dsn, user="grafana", password="only'reads")
    with psycopg.connect(reader, autocommit=True) as connection:
        assert connection.execute("SELECT count(*) FROM signal_points").fetchone() == (1,)
        with pytest.raises(psycopg.Error):
            connection.execute("DELETE FROM signals")
        connection.execute("SET default_transaction_read_only = off")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("DELETE FROM signals")
