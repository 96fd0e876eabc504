"""Dockerfiles, read by eye and by this: no image is built here (deploy/README.md says so)."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from stream.cli import build_parser

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "deploy").glob("Dockerfile.*"))
KNOWN = {"FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "VOLUME", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD"}


def instructions(path: Path) -> list[tuple[str, str]]:
    """(word, rest) of every instruction, lines joined."""
    text = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", path.read_text(), flags=re.MULTILINE))
    pairs = [line.split(None, 1) for line in text.splitlines() if line.strip()]
    assert {word for word, _ in pairs} <= KNOWN
    return [(word, rest.strip()) for word, rest in pairs]


def ignored(name: str) -> bool:
    """Whether .dockerignore keeps `name` from the build. Its rules here: all, but for names that are let in."""
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    return not any(name == rule[1:] or name.startswith(f"{rule[1:]}/") for rule in rules if rule.startswith("!"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_the_basics_hold(path: Path) -> None:
    made = instructions(path)
    bases = [rest for word, rest in made if word == "FROM"]
    assert len(bases) == 2
    assert bases[0] == f"{bases[1]} AS build"
    assert re.fullmatch(r"[\w/]+:\d+\.\d+\.\d+[\w.-]*", bases[1]), "a public image with a whole version"

    users = [rest for word, rest in made if word == "USER"]
    assert users == ["10001:10001"]
    words = [word for word, _ in made]
    assert words.index("USER") < words.index("ENTRYPOINT")
    check = next(rest for word, rest in made if word == "HEALTHCHECK")
    assert ("/livez" if path.suffix == ".cpu" else '"engine", "status"') in check

    runs = " ".join(rest for word, rest in made if word == "RUN")
    for install in re.findall(r"pip install ([^&]*)", runs):
        assert "--require-hashes -r locks/" in install or "--no-deps --no-build-isolation ." in install
        locks = re.search(r"--require-hashes -r (\S+)", install)
        assert locks is None or _hashed(ROOT / locks[1])
    assert not re.search(r"https?://|--index-url|--trusted-host|curl|wget", runs)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_what_is_copied_exists_and_is_let_in(path: Path) -> None:
    copied = set()
    for word, rest in instructions(path):
        if word == "COPY" and not rest.startswith("--from"):
            copied |= set(shlex.split(rest)[:-1])
    assert [name for name in copied if not (ROOT / name.rstrip("/")).exists()] == []
    assert [name for name in copied if ignored(name.rstrip("/"))] == []
    packaged = {"engines", "operators", "stream", "affectstream.py", "pyproject.toml", "README.md", "LICENSE"}
    assert packaged <= copied


def test_lists_are_json_as_docker_wants_them() -> None:
    for path in FILES:
        for word, rest in instructions(path):
            if word in ("ENTRYPOINT", "CMD"):
                assert all(isinstance(part, str) for part in json.loads(rest))
            if word == "HEALTHCHECK":
                program = json.loads(rest.partition(" CMD ")[2])
                if program[0] == "python":
                    compile(program[2], str(path), "exec")
                else:
                    build_parser().parse_args(program[1:])


def _hashed(path: Path) -> bool:
    """Every requirement of a lock has hashes, and none an address."""
    text = path.read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip()]
    return len(lines) > 0 and all("==" in line and "--hash=sha256:" in line and "://" not in line for line in lines)


def test_the_image_has_the_versions_the_tests_ran_with() -> None:
    pins = [
        set(re.findall(r"^([\w.-]+==[\w.]+)", (ROOT / "locks" / name).read_text(), re.MULTILINE))
        for name in ("image.txt", "dev.txt")
    ]
    assert len(pins[0]) > 50
    assert pins[0] <= pins[1]
