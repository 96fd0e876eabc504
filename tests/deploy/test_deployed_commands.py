"""Every command, setting and log address of the deployment files is one that this program takes."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
from pathlib import Path
from string import Template
from typing import NamedTuple

import pytest
import yaml
from kustomized import containers, render

from stream.cli import build_parser
from stream.config import load_config
from stream.connect import open_log

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


class Run(NamedTuple):
    """A process that a deployment file starts."""

    place: str
    words: list[str]
    env: dict[str, str]


def from_docker() -> list[Run]:
    return [Run(p.name, _default(p), {}) for p in sorted(DEPLOY.glob("Dockerfile.*"))]


def _default(dockerfile: Path) -> list[str]:
    found = re.search(r"^CMD (.*)$", dockerfile.read_text(), re.MULTILINE)
    assert found is not None
    words = json.loads(found[1])
    assert isinstance(words, list)
    return words


def from_compose() -> list[Run]:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    made = []
    for name, service in services.items():
        if service["image"].startswith("affectstream"):
            words = service.get("command") or _default(ROOT / service["build"]["dockerfile"])
            made.append(Run(f"compose {name}", words, {k: str(v) for k, v in service.get("environment", {}).items()}))
    return made


def from_kustomize() -> list[Run]:
    made = []
    for overlay in ("cpu", "gpu"):
        resources = render(DEPLOY / "kustomize" / overlay)
        (settings,) = (r["data"] for r in resources if r["kind"] == "ConfigMap")
        values = {**settings, "POD_NAME": "worker-0"}
        for resource in resources:
            for c in containers(resource):
                own = {e["name"]: _expanded(e["value"], values) for e in c.get("env", []) if "value" in e}
                words = [_expanded(word, values) for word in c["args"]]
                made.append(Run(f"kustomize {overlay} {resource['metadata']['name']}", words, {**settings, **own}))
    return made


def _expanded(text: str, values: dict[str, str]) -> str:
    return re.sub(r"\$\((\w+)\)", lambda found: values[found[1]], text)


def from_systemd() -> list[Run]:
    made = []
    for path in sorted((DEPLOY / "systemd").glob("*.service")):
        text = path.read_text()
        env = dict(re.findall(r"^Environment=(\w+)=(.*)$", text, re.MULTILINE))
        found = re.search(r"^ExecStart=\S+ (.*)$", text, re.MULTILINE)
        assert found is not None
        line = Template(found[1]).substitute(env).replace("%i", "market")
        made.append(Run(path.name, shlex.split(line), {}))
    return made


RUNS = [*from_docker(), *from_compose(), *from_kustomize(), *from_systemd()]


@pytest.mark.parametrize("run", RUNS, ids=lambda r: r.place)
def test_the_command_is_one_of_ours(run: Run) -> None:
    args = build_parser().parse_args(run.words)
    named = [word for word in run.words if word.startswith("/etc/affectstream/")]
    assert [name for name in named if not (DEPLOY / "config" / Path(name).name).exists()] == []
    env = {name: value for name, value in run.env.items() if "${" not in value}
    config = load_config(None if args.verb != "run" else str(DEPLOY / "config" / Path(args.config).name), env)
    urls = [getattr(args, "log", None), config.log.url if args.verb == "run" else None]
    for url in urls:
        if url is not None and url.startswith("kafka"):
            asyncio.run(_opened(url))
    if config.web.host != "127.0.0.1" and args.verb == "run":
        assert config.web.token_env  # else it would not start
    assert not any("password" in word.lower() or "@" in word for word in run.words)


async def _opened(url: str) -> None:
    await open_log(url).close()


def test_all_of_them_were_found() -> None:
    assert len(RUNS) >= 2 + 4 + 3 + 4 + 4
    assert {run.words[0] for run in RUNS} == {"run", "signals", "sink", "engine"}
