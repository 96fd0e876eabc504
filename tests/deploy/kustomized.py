"""The part of kustomize that our overlays use, so that they are rendered where there is no kubectl.

resources, components, namespace, images, patches (strategic merge, by file; target by kind and name); else an error.
`test_kustomize.py` holds it to the real one where that is installed.
"""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import yaml

Resource = dict[str, Any]
KEYS = {"containers": "name", "env": "name", "volumes": "name", "volumeMounts": "mountPath", "ports": "containerPort"}
"""The lists that are merged by a key; all others are replaced."""


def render(folder: Path) -> list[Resource]:
    """What `kubectl kustomize FOLDER` prints, in the order of the files."""
    asked = yaml.safe_load((folder / "kustomization.yaml").read_text())
    unknown = set(asked) - {"apiVersion", "kind", "resources", "components", "namespace", "images", "patches"}
    assert not unknown, unknown
    made: list[Resource] = []
    for name in asked.get("resources", []):
        path = folder / name
        made += render(path) if path.is_dir() else list(yaml.safe_load_all(path.read_text()))
    for name in asked.get("components", []):
        _change(made, folder / name, yaml.safe_load((folder / name / "kustomization.yaml").read_text()))
    _change(made, folder, asked)
    return made


def _change(made: list[Resource], folder: Path, asked: dict[str, Any]) -> None:
    """What a kustomization or a component does to resources."""
    for patch in asked.get("patches", []):
        _patch(made, yaml.safe_load((folder / patch["path"]).read_text()), patch.get("target"))
    for resource in made:
        if "namespace" in asked and resource["kind"] != "Namespace":
            resource["metadata"]["namespace"] = asked["namespace"]
        for container in containers(resource):
            for image in asked.get("images", []):
                if container["image"] == image["name"]:
                    container["image"] = f"{image.get('newName', image['name'])}:{image['newTag']}"
                    break


def containers(resource: Resource) -> list[Resource]:
    """The containers of a workload; none of anything else."""
    found = resource.get("spec", {}).get("template", {}).get("spec", {}).get("containers", [])
    assert isinstance(found, list)
    return found


def _patch(made: list[Resource], patch: Resource, target: dict[str, str] | None) -> None:
    where = target or {"kind": re.escape(patch["kind"]), "name": re.escape(patch["metadata"]["name"])}
    hit = [
        resource
        for resource in made
        if re.fullmatch(where.get("kind", ".*"), resource["kind"])
        and re.fullmatch(where.get("name", ".*"), resource["metadata"]["name"])
    ]
    assert hit, f"a patch of {where} meets nothing"
    for resource in hit:
        for section in set(patch) - {"apiVersion", "kind", "metadata"}:
            resource[section] = _merged(resource.get(section), patch[section], section)


def _merged(old: Any, new: Any, name: str) -> Any:
    if isinstance(old, dict) and isinstance(new, dict):
        return old | {k: _merged(old[k], v, k) if k in old else copy.deepcopy(v) for k, v in new.items()}
    if isinstance(old, list) and isinstance(new, list) and name in KEYS:
        key = KEYS[name]
        there = {item[key]: item for item in old}
        fresh = [copy.deepcopy(item) for item in new if item[key] not in there]
        news = {item[key]: item for item in new}
        return fresh + [_merged(item, news[k], "") if k in news else item for k, item in there.items()]
    return copy.deepcopy(new)
