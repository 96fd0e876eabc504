"""The overlays: rendered, held to Kubernetes' schemas, and to what every pod of ours must have."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes_validate import ValidationError, validate
from kustomized import containers, render

from stream.cli import build_parser

FOLDER = Path(__file__).parents[2] / "deploy" / "kustomize"
OVERLAYS = ("cpu", "gpu")
VERSIONS = ("1.34", "1.37")


def workloads(overlay: str) -> dict[str, dict[str, Any]]:
    return {r["metadata"]["name"]: r for r in render(FOLDER / overlay) if containers(r)}


def ordered(resources: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(resources, key=lambda r: (r["kind"], r["metadata"]["name"]))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kustomize_renders_what_these_tests_look_at(overlay: str) -> None:
    """The real one, where it is: Debian's is too old for `patches` with a target, so CI may be without."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("no kubectl here; what is rendered by tests/deploy/kustomized.py is checked all the same")
    told = subprocess.run([kubectl, "kustomize", str(FOLDER / overlay)], capture_output=True, text=True, timeout=60)
    assert told.returncode == 0, told.stderr
    assert ordered(list(yaml.safe_load_all(told.stdout))) == ordered(render(FOLDER / overlay))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_resource_is_one_of_kubernetes(overlay: str, version: str) -> None:
    resources = render(FOLDER / overlay)
    assert len(resources) >= 8
    for resource in resources:
        validate(resource, version, strict=True)


def test_the_schema_would_say_no() -> None:
    worker = workloads("cpu")["worker"]
    worker["spec"]["replicas"] = "two"
    with pytest.raises(ValidationError):
        validate(worker, VERSIONS[-1], strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_pod_may_do_little(overlay: str) -> None:
    found = workloads(overlay)
    assert set(found) >= {"worker", "signals", "sink"}
    for name, workload in found.items():
        pod = workload["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
            }, name  # fmt: skip
            assert "memory" in container["resources"]["limits"], name
            written = {mount["mountPath"] for mount in container["volumeMounts"]}
            assert written >= {"/tmp", "/var/lib/affectstream"}, name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_alive_is_not_ready_and_ports_are_named(overlay: str) -> None:
    for name, workload in workloads(overlay).items():
        (container,) = containers(workload)
        if name == "sink":
            assert "livenessProbe" not in container  # it serves nothing
            continue
        if name == "engine":
            args = build_parser().parse_args(container["livenessProbe"]["exec"]["command"][1:])
            assert args.control.startswith("tcp://127.0.0.1:")
            assert container["readinessProbe"]["tcpSocket"] == {"port": "engine"}
            continue
        assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
        assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
        assert {port["name"] for port in container["ports"]} == {"http"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_workers_name_is_its_membership_and_one_stays_up(overlay: str) -> None:
    resources = render(FOLDER / overlay)
    worker = workloads(overlay)["worker"]
    assert worker["kind"] == "StatefulSet"
    (container,) = containers(worker)
    given = [item["name"] for item in container["env"]]
    (url,) = (item["value"] for item in container["env"] if item["name"] == "AFFECT_LOG__URL")
    assert "instance=$(POD_NAME)" in url
    assert given.index("POD_NAME") < given.index("AFFECT_LOG__URL")  # only what stands before is put in
    (settings,) = (r for r in resources if r["kind"] == "ConfigMap")
    assert worker["spec"]["replicas"] <= int(settings["data"]["AFFECT_INPUT__PARTITIONS"])
    (budget,) = (r for r in resources if r["kind"] == "PodDisruptionBudget")
    assert budget["spec"]["minAvailable"] == 1 < worker["spec"]["replicas"]
    assert budget["spec"]["selector"] == worker["spec"]["selector"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_services_select_pods_and_no_secret_is_written_down(overlay: str) -> None:
    resources = render(FOLDER / overlay)
    pods = [w["spec"]["template"]["metadata"]["labels"] for w in workloads(overlay).values()]
    for service in (r for r in resources if r["kind"] == "Service"):
        assert any(service["spec"]["selector"].items() <= labels.items() for labels in pods)
    assert [r for r in resources if r["kind"] == "Secret"] == []
    assert {r["metadata"].get("namespace", "affectstream") for r in resources} == {"affectstream"}


def test_only_the_engine_server_asks_for_a_gpu_and_workers_find_it() -> None:
    found = {overlay: workloads(overlay) for overlay in OVERLAYS}
    asking = {(o, n) for o, named in found.items() for n, w in named.items() if "nvidia.com/gpu" in str(containers(w))}
    assert asking == {("gpu", "engine")}
    assert {n: containers(w)[0]["image"] for n, w in found["gpu"].items()} == {
        "engine": "affectstream:gpu", "worker": "affectstream:cpu", "signals": "affectstream:cpu",
        "sink": "affectstream:cpu",
    }  # fmt: skip
    given = {e["name"]: e.get("value") for e in containers(found["gpu"]["worker"])[0]["env"]}
    (service,) = (r for r in render(FOLDER / "gpu") if r["kind"] == "Service" and r["metadata"]["name"] == "engine")
    assert given["AFFECT_ENGINE__ADDRESS"] == f"tcp://engine:{service['spec']['ports'][0]['port']}"
    for name, mount in (("engine", "/etc/affect-keys"), ("worker", given["AFFECT_ENGINE__KEYS"])):
        assert mount in [m["mountPath"] for m in containers(found["gpu"][name])[0]["volumeMounts"]]
