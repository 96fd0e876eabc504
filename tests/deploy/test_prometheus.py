"""Prometheus: its files are sound, its rules do what they say, and a real one reads all of it from a running engine."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_server import Prometheus, tool, wait_for

from engines.orders import Status
from engines.shelf import Difference
from stream.cli import main
from stream.dashboards import all_dashboards
from stream.engine_metrics import StatusCollector
from stream.metrics import Metrics
from stream.ops_status import OpsStatus
from stream.panels import Promql
from tests.engines.serving import connected

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "prometheus"
RULES = yaml.safe_load((FOLDER / "rules.yml").read_text())
TESTS = Path(__file__).with_name("rules_test.yml")
TOKEN = "a-token-for-this-test-alone"
QUERIES = {
    f"{d.name}: {p.title} {k}": q.text
    for d in all_dashboards()
    for p in d.panels
    for k, q in enumerate(p.queries)
    if isinstance(q, Promql)
}


def rules(kind: str) -> dict[str, str]:
    """Name -> expression of the `record` or `alert` rules."""
    return {rule[kind]: rule["expr"] for group in RULES["groups"] for rule in group["rules"] if kind in rule}


def done(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*map(str, words)], capture_output=True, text=True, check=False, timeout=200)


def laid_out(folder: Path, target: str | None = None, server: str | None = None) -> Path:
    """The shipped files in `folder`, with the token there. `target`: scrape this, every second, in place of a name;
    `server`: and this engine server."""
    (folder / "token").write_text(TOKEN)
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    job, of_server = config["scrape_configs"]
    assert job["authorization"]["credentials_file"].startswith("/run/secrets/")
    job["authorization"]["credentials_file"] = str(folder / "token")
    if target is not None:
        del job["dns_sd_configs"]
        job["static_configs"] = [{"targets": [target]}]
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        del of_server["dns_sd_configs"]
        of_server["static_configs"] = [{"targets": [server]}]
    (folder / "rules.yml").write_bytes((FOLDER / "rules.yml").read_bytes())
    made = folder / "prometheus.yml"
    made.write_text(yaml.safe_dump(config))
    return made


def test_config_and_rules_are_sound(tmp_path: Path) -> None:
    for words in (("config", laid_out(tmp_path)), ("rules", FOLDER / "rules.yml")):
        told = done(tool("promtool"), "check", *words)
        assert told.returncode == 0, told.stdout + told.stderr


def test_the_rules_do_what_they_say(tmp_path: Path) -> None:
    played = tmp_path / "tests.yml"
    played.write_text(TESTS.read_text().replace("[RULES]", f"[{FOLDER / 'rules.yml'}]"))
    told = done(tool("promtool"), "test", "rules", played)
    assert told.returncode == 0, told.stdout + told.stderr


def test_every_rule_has_a_test_and_every_alert_a_page() -> None:
    """A severity and a summary too; and an alert fires at once only where its expression looks back itself."""
    played, page = TESTS.read_text(), (ROOT / "deploy" / "README.md").read_text()
    assert [name for name in rules("record") if name not in played] == []
    assert [name for name in rules("alert") if name not in played] == []
    assert [name for name in rules("alert") if f"\n### {name}\n" not in page] == []
    assert [name for name in re.findall(r"^### (Affect\w+)$", page, re.MULTILINE) if name not in rules("alert")] == []
    alerts = [rule for group in RULES["groups"] for rule in group["rules"] if "alert" in rule]
    assert {rule["labels"]["severity"] for rule in alerts} == {"critical", "warning"}
    assert all(rule["annotations"]["summary"] for rule in alerts)
    assert [rule["alert"] for rule in alerts if "for" not in rule and "increase(" not in rule["expr"]] == []


def exported() -> set[str]:
    """Names of the samples the engine exports."""
    metrics = Metrics()
    metrics.status(OpsStatus(watermark_delay_s=1.0, consumed=1))
    metrics.dead_letter("bad_json")
    lines = metrics.exposition().decode().splitlines()
    return {re.split(r"[ {]", line)[0] for line in lines if not line.startswith("#")} | {"up"}


def of_a_server() -> set[str]:
    """Names of the samples an engine server exports."""
    status = Status("m@1", "m", "numpy", "", "tcp://x", 0, 0, True, 0, 0, {}, {"sentiment3": Difference()}, 1.0)
    return {sample.name for metric in StatusCollector(lambda: status).collect() for sample in metric.samples}


@pytest.mark.parametrize("where", ["panels", "rules"])
def test_every_query_names_an_exported_metric(where: str) -> None:
    queries = QUERIES if where == "panels" else rules("record") | rules("alert")
    known = exported() | of_a_server() | set(rules("record"))
    assert len(queries) > 15
    for place, query in queries.items():
        named = set(re.findall(r"\b(?:affect[_:]|process_|up\b)[\w:]*", re.sub(r'"[^"]*"', "", query)))
        assert named, place
        assert named <= known, place


def test_every_exported_metric_is_on_the_dashboard() -> None:
    shown = " ".join([*QUERIES.values(), *rules("record").values()])
    families = {re.sub(r"_(bucket|count|sum|created)$", "", name) for name in exported() if name.startswith("affect_")}
    assert [name for name in sorted(families) if name not in shown] == []


def test_the_shipped_dashboards_are_the_built_ones(tmp_path: Path) -> None:
    """`affect dashboards export --out deploy/grafana/dashboards` brings them up to date."""
    assert main(["dashboards", "export", "--out", str(tmp_path)]) == 0
    shipped = ROOT / "deploy" / "grafana" / "dashboards"
    assert {p.name: p.read_bytes() for p in shipped.iterdir()} == {p.name: p.read_bytes() for p in tmp_path.iterdir()}


def test_the_provisioned_data_sources_are_those_the_panels_name() -> None:
    told = yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasources/affect.yaml").read_text())
    there = {(source["type"], source["uid"]) for source in told["datasources"]}
    named = {
        (panel["datasource"]["type"], panel["datasource"]["uid"])
        for path in (ROOT / "deploy" / "grafana" / "dashboards").glob("*.json")
        for panel in json.loads(path.read_text())["panels"]
    }
    assert named == there


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[str]:
    """`affect run` on the stub engine, asking for a token; its address."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("AFFECT_")} | {
        "AFFECT_ENGINE__NAME": "stub", "AFFECT_LOG__URL": f"sqlite:///{tmp_path}/affect-market.db",
        "AFFECT_WEB__PORT": "0", "AFFECT_WEB__TOKEN_ENV": "TOKEN", "TOKEN": TOKEN,
    }  # fmt: skip
    words = [sys.executable, "-W", "error", "-m", "stream.cli", "run", "-c", str(ROOT / "deploy/config/market.toml")]
    with subprocess.Popen(words, cwd=tmp_path, env=env | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE) as life:
        try:
            assert life.stdout is not None
            found = re.search(rb"http://([\d.:]+)", life.stdout.readline())
            assert found is not None
            yield found[1].decode()
        finally:
            life.terminate()
            assert life.wait(60) == 0


@pytest.fixture
def served() -> Iterator[tuple[str, str]]:
    """`affect engine serve` of the hashed bag, itself in its shadow; where clients, and where Prometheus find it."""
    words = [
        "engine",
        "serve",
        "--bind",
        "tcp://127.0.0.1:*",
        "--control",
        "",
        "--metrics",
        "127.0.0.1:0",
        "--shadow",
        "hashed",
        "--shadow-share",
        "1",
    ]
    command = [sys.executable, "-W", "error", "-m", "stream.cli", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as life:
        try:
            assert life.stdout is not None
            address = life.stdout.readline().split()[-1]
            found = re.search(r"http://([\d.:]+)", life.stdout.readline())
            assert found is not None
            yield address, found[1]
        finally:
            life.terminate()
            assert life.wait(60) == 0


def test_a_real_prometheus_reads_it_all(engine: str, served: tuple[str, str], tmp_path: Path) -> None:
    """Posts flow, some of them broken: every panel's query gives data, every rule is healthy, the right alerts fire."""
    server, model = Prometheus(laid_out(tmp_path, engine, served[1])), connected(served[0])
    posts = tmp_path / "posts.jsonl"
    try:
        server.start()
        for turn in range(3):
            lines = [
                json.dumps({"id": f"{turn}-{k}", "text": f"$AAPL {turn} {k}", "author": f"u{k}"}) for k in range(95)
            ]
            posts.write_text("\n".join([*lines, *["not a post"] * 5]) + "\n")
            assert (
                main(["send", str(posts), "--domain", "market", "--log", f"sqlite:///{tmp_path}/affect-market.db"]) == 0
            )
            wait_for(partial(_total, server, 100 * (turn + 1)), partial(server.get, "targets"))
            model.logits(["so happy", "so sad"])
        missing = dict(QUERIES)

        def all_there() -> bool | None:
            for place, query in QUERIES.items():
                text = query.replace("$__rate_interval", "1m").replace("$domain", ".*").replace("$server", ".*")
                if place in missing and server.ask(text):
                    del missing[place]
            return None if missing else True

        wait_for(all_there, lambda: missing)
        told = wait_for(lambda: _evaluated(server), lambda: server.get("rules"))
        assert told == set(rules("record")) | set(rules("alert"))
        untold = set(rules("record"))

        def all_told() -> bool | None:
            untold.difference_update([name for name in untold if server.ask(name)])
            return None if untold else True

        wait_for(all_told, lambda: untold)
        assert server.ask("affect:conservation:difference")[0]["value"][1] == "0"
        # On a busy machine a scrape may take too long, and a worker seem down until the next one.
        wait_for(lambda: _only("AffectUnusablePosts", server.ask("ALERTS")), lambda: server.get("alerts"))
        wait_for(
            lambda: server.ask("affect_server_rows_total == 6") or None, lambda: server.ask("affect_server_rows_total")
        )
        backed_up(tmp_path)
    finally:
        model.engine.close()
        server.stop()


def backed_up(folder: Path) -> None:
    """The runbook's copy of the log, taken while the engine runs."""
    found = re.search(r"<!-- runnable: backup -->\n```sh\n(.*?)```", (ROOT / "deploy/README.md").read_text(), re.DOTALL)
    assert found is not None
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    told = subprocess.run(["bash", "-euc", found[1]], cwd=folder, env=env, capture_output=True, text=True, timeout=120)
    assert told.returncode == 0, told.stderr
    assert "market." in told.stdout


def _only(name: str, alerts: list[Any]) -> bool | None:
    return True if {alert["metric"]["alertname"] for alert in alerts} == {name} else None


def _total(server: Prometheus, wanted: int) -> bool | None:
    found = server.ask('affect_records_in_total{domain="market"} - on () affect_in_flight_records')
    return True if found and float(found[0]["value"][1]) == wanted else None


def _evaluated(server: Prometheus) -> set[str] | None:
    """The names of all rules, once none of them is untried; a rule that failed is an end."""
    told: list[Any] = [rule for group in server.get("rules")["groups"] for rule in group["rules"]]
    assert [rule for rule in told if rule["health"] == "err"] == []
    return {rule["name"] for rule in told} if all(rule["health"] == "ok" for rule in told) else None
