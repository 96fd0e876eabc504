"""What docs/getting-signals-out.md tells people to type, typed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ports import free_port

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "getting-signals-out.md"
PORT = "9009"
ID = ("signal", "entity", "window_start", "window_end")
pytestmark = pytest.mark.postgres


def test_the_page_can_be_typed_from_top_to_bottom(dsn: str, tmp_path: Path) -> None:
    """One shell for all blocks, in an empty folder that holds `deploy/config` and nothing else."""
    blocks = re.findall(
        r"<!-- runnable(?:: postgres)? -->\n```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL
    )
    assert len(blocks) == 5
    port = str(free_port())
    code = "\n".join(blocks).replace(PORT, port)
    # The receiver must listen before it is posted to; a person takes longer to type.
    ready = f"until (echo > /dev/tcp/127.0.0.1/{port}) 2>/dev/null; do sleep 0.1; done"
    code = code.replace("received.jsonl &\n", f"received.jsonl &\n{ready}\n")
    shutil.copytree(ROOT / "deploy" / "config", tmp_path / "deploy" / "config")
    env = {name: value for name, value in os.environ.items() if not name.startswith("AFFECT_")}
    env |= {"AFFECT_POSTGRES": dsn, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code],
        cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    alerts = [json.loads(line) for line in (tmp_path / "received.jsonl").read_text().splitlines()]
    assert len(rows) > 50
    assert {a["entity"] for a in alerts} == {"ticker:AAPL"}
    assert alerts[0]["link"].startswith("http://127.0.0.1:8642/?view=market&entity=ticker%3AAAPL&window=60000")
    assert f"{len(rows)} rows written" in done.stderr
    assert f"{len(alerts)} alerts delivered" in done.stderr
    assert "(3 rows)" in done.stdout
    counted = re.search(r"count \n-+\n\s*(\d+)\n", done.stdout)
    assert counted is not None
    closed = {tuple(r[k] for k in ID) for r in rows if r["status"] != "provisional"}
    assert int(counted[1]) == len(closed)


def test_the_panels_query_runs(dsn: str) -> None:
    """The Grafana query, with Grafana's macro written out, on tables the sink has made."""
    import psycopg

    from stream.postgres import migrations

    found = re.search(r"```sql\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    query = found[1].replace("$__timeFilter(time)", "time BETWEEN '2024-01-01T00:00:00Z' AND '2025-01-01T00:00:00Z'")
    row = ("market.fear", "ticker:AAPL", 1_709_562_600_000, 1_709_562_900_000, "market", None, "final")
    with psycopg.connect(dsn) as connection:
        for _, script in migrations().values():
            connection.execute(script.encode())
        connection.execute(
            "INSERT INTO signals (signal, entity, window_start, window_end, domain, value, status, n, n_eff, authors, "
            "buzz, revision, watermark, model, ontology, reasons, recorded_ms) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s, 3, 3, 3, 3, 0, 0, 'm', 'o', '{few}', 0)",
            row,
        )
        (found_row,) = connection.execute(query.encode()).fetchall()
    assert found_row[1:] == ("ticker:AAPL", None)
    assert found_row[0].timestamp() == 1_709_562_900
