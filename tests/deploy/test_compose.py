"""The compose file against the compose specification, and against the files it mounts."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parents[2]
PLACE = ROOT / "deploy" / "compose.yaml"
COMPOSE: dict[str, Any] = yaml.safe_load(PLACE.read_text())
OURS = {"worker", "signals", "sink", "engine"}


def specification() -> Any:
    """As `check-jsonschema` ships it; its command does not start beside the `click` that the lock holds."""
    spec = importlib.util.find_spec("check_jsonschema")
    assert spec is not None
    assert spec.origin is not None
    return json.loads((Path(spec.origin).parent / "builtin_schemas" / "vendor" / "compose-spec.json").read_text())


def test_it_is_a_compose_file() -> None:
    schema = specification()
    check = jsonschema.validators.validator_for(schema)(schema)
    assert [f"{list(e.absolute_path)}: {e.message}" for e in check.iter_errors(COMPOSE)] == []
    broken = json.loads(json.dumps(COMPOSE))
    broken["services"]["worker"]["depends_onn"] = ["kafka"]
    assert [e.message for e in check.iter_errors(broken)] != []


def test_images_have_versions_and_ports_stay_on_this_machine() -> None:
    for name, service in COMPOSE["services"].items():
        assert re.fullmatch(r"affectstream:[cg]pu|[a-z]+(/[a-z]+)?:v?\d+\.\d+(\.\d+)?", service["image"]), name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name


@pytest.mark.parametrize("name", sorted(OURS))
def test_our_services_may_do_little(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service.get("profiles", []) == (["gpu"] if name == "engine" else [])


def test_what_is_mounted_is_there_and_named_volumes_are_declared() -> None:
    named = set()
    for service in COMPOSE["services"].values():
        for source in (mount.partition(":")[0] for mount in service.get("volumes", [])):
            if source.startswith("."):
                assert (PLACE.parent / source).exists(), source
            else:
                named.add(source)
    assert named == set(COMPOSE["volumes"])


def test_secrets_come_from_the_environment_and_are_all_in_the_example() -> None:
    asked = set(re.findall(r"\$\{(\w+):\?", PLACE.read_text()))
    example = re.findall(r"^(\w+)=(.*)$", (PLACE.parent / "secrets.env.example").read_text(), re.MULTILINE)
    assert asked == {name for name, _ in example}
    assert {value for _, value in example} == {""}
    assert re.findall(r"\$\{\w+\}|(?<!\$)\$\w+", PLACE.read_text()) == []  # one that is not set is said at once


def test_prometheus_and_grafana_find_what_the_compose_file_runs() -> None:
    services = COMPOSE["services"]
    job, of_server = yaml.safe_load((PLACE.parent / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    (found,) = job["dns_sd_configs"]
    assert set(found["names"]) <= set(services)
    assert services["worker"]["ports"][0].endswith(f":{found['port']}")
    (found,) = of_server["dns_sd_configs"]
    assert found["names"] == ["engine"]
    assert services["engine"]["build"]["dockerfile"] == "deploy/Dockerfile.gpu"
    told = re.search(r"^CMD (.*)$", (PLACE.parent / "Dockerfile.gpu").read_text(), re.MULTILINE)
    assert told is not None
    assert f"0.0.0.0:{found['port']}" in json.loads(told[1])
    (secret,) = services["prometheus"]["secrets"]
    assert job["authorization"]["credentials_file"] == f"/run/secrets/{secret}"
    sources = yaml.safe_load((PLACE.parent / "grafana/provisioning/datasources/affect.yaml").read_text())["datasources"]
    assert {re.sub(r"^http://|:\d+$", "", source["url"]) for source in sources} <= set(services)
    (provider,) = yaml.safe_load((PLACE.parent / "grafana/provisioning/dashboards/affect.yaml").read_text())[
        "providers"
    ]
    assert any(mount.split(":")[1] == provider["options"]["path"] for mount in services["grafana"]["volumes"])
