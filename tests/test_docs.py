"""The documents say what the program does: examples run, figures are the manifest's, names and links are real."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from engines.artefacts import Manifest, read_manifest
from engines.orders import Status
from operators.classroom import SIGNALS as CLASSROOM
from operators.crisis import SIGNALS as CRISIS
from operators.market import SIGNALS as MARKET
from operators.reasons import REASONS
from operators.records import SignalRow
from operators.social import SIGNALS as SOCIAL
from stream import topics
from stream.cli import build_parser
from stream.config import DOMAINS, Config, load_config
from stream.engine_metrics import StatusCollector
from stream.feed import Feed, OpsStatus
from stream.metrics import Metrics
from stream.web import LiveServer

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
REFERENCE = ROOT / "docs" / "reference.md"
FEED = ROOT / "docs" / "feed.md"
NOTEBOOK = ROOT / "docs" / "notebook.md"
PAGES = sorted(
    [*ROOT.glob("*.md"), *(p for f in ("docs", "decisions", "benchmarks", "deploy") for p in ROOT.glob(f"{f}/**/*.md"))]
)
LONGEST_README = 260
LARGEST_PICTURE = 250_000

_RUNNABLE = re.compile(
    r"<!-- runnable -->\n```(?P<language>sh|python)\n(?P<code>.*?)```\n"
    r"(?:\n<!-- output -->\n```text\n(?P<output>.*?)```\n)?",
    re.DOTALL,
)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_TEST = re.compile(r"(tests/[\w/]+\.py)(?:::(\w+))?")
_CODE = re.compile(r"```.*?```", re.DOTALL)


class Block(NamedTuple):
    """A block of a page, `sh` or `python`, and the output it claims (None where it claims none)."""

    language: str
    code: str
    output: str | None


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def blocks(page: Path) -> list[Block]:
    return [Block(found["language"], found["code"], found["output"]) for found in _RUNNABLE.finditer(text(page))]


def masked(output: str) -> str:
    """Figures with a point, and the model's version, change with the model; everything else must be as written."""
    return re.sub(r"[+-]?\d+\.\d+", "#", re.sub(r"@[0-9a-f]{8}", "@#", output)).strip()


@pytest.mark.parametrize(("page", "least"), [(README, 5), (FEED, 2), (NOTEBOOK, 1)], ids=["readme", "feed", "notebook"])
def test_the_examples_run_and_print_what_the_page_says(page: Path, least: int, tmp_path: Path) -> None:
    """All blocks, in order, in one empty folder that holds `deploy/config` and nothing else."""
    shutil.copytree(ROOT / "deploy" / "config", tmp_path / "deploy" / "config")
    env = {name: value for name, value in os.environ.items() if not name.startswith("AFFECT_")}
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    found = blocks(page)
    assert len(found) >= least
    for block in found:
        words = ["bash", "-euo", "pipefail", "-c"] if block.language == "sh" else [sys.executable, "-W", "error", "-c"]
        done = subprocess.run(
            [*words, block.code],
            cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, f"{block.code}\n{done.stdout}\n{done.stderr}"
        if block.output is None:
            assert done.stdout.strip() or block.code.startswith("cat >"), f"prints nothing:\n{block.code}"
        else:
            assert masked(done.stdout) == masked(block.output), block.code


def model_table(hashed: Manifest) -> str:
    """The README's figures: the encoder's and the hashed bag's, side by side."""
    beside = {(m.task, m.metric): f"{m.value:.3f} ({m.lo:.3f} - {m.hi:.3f})" for m in hashed.metrics}
    lines = ["| task | metric | text-affect (95 %) | hashed-bag (95 %) | rows | published |", "|" + " --- |" * 6]
    lines += [
        f"| `{m.task}` | {m.metric} | {m.value:.3f} ({m.lo:.3f} - {m.hi:.3f}) | {beside.get((m.task, m.metric), '-')}"
        f" | {m.rows} | {m.published} |"
        for m in read_manifest("text-affect").metrics
    ]
    return "\n".join(lines)


def data_table(manifest: Manifest) -> str:
    """The README's list of training data."""
    lines = ["| data set | training rows | licence as stated | source |", "| --- | --- | --- | --- |"]
    lines += [f"| {d.name} | {d.rows} | {d.licence} | {d.source} |" for d in manifest.data]
    return "\n".join(lines)


@pytest.mark.parametrize(("name", "render"), [("models", model_table), ("data", data_table)])
def test_the_readmes_tables_are_the_manifests(name: str, render: object) -> None:
    assert callable(render)
    want = render(read_manifest("hashed-bag"))
    found = re.search(rf"<!-- {name}:.*?-->\n(.*?)<!-- /{name} -->", text(README), re.DOTALL)
    assert found is not None
    assert found[1].strip() == want, f"the README's table should read:\n{want}"


def test_the_readme_fits_its_bounds_and_shows_pictures() -> None:
    assert len(text(README).splitlines()) <= LONGEST_README
    shown = [ROOT / target for target in _LINK.findall(text(README)) if target.endswith(".png")]
    assert len(shown) == 3
    for picture in shown:
        assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        assert picture.stat().st_size <= LARGEST_PICTURE


def commands(parser: argparse.ArgumentParser, words: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command with its parser, `affect signals tail` and the like."""
    below = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    if not below:
        yield words, parser
    for action in below:
        for name, child in action.choices.items():
            yield from commands(child, f"{words} {name}")


def test_every_command_and_option_is_in_the_reference() -> None:
    page = text(REFERENCE)
    missing = []
    for words, parser in commands(build_parser(), "affect"):
        section = re.search(rf"^### `{re.escape(words)}[ `].*?(?=^##|\Z)", page, re.DOTALL | re.MULTILINE)
        if section is None:
            missing.append(f"### `{words}`")
            continue
        options = [max(a.option_strings, key=len) for a in parser._actions if a.option_strings and a.dest != "help"]
        missing += [f"{words}: {option}" for option in options if f"`{option}" not in section[0]]
    assert missing == []


def test_every_verb_the_documents_name_exists() -> None:
    known = {words.split()[1] for words, _ in commands(build_parser(), "affect")}
    named = {
        (page.name, verb) for page in PAGES for verb in re.findall(r"(?:`|^)affect ([a-z]+)", text(page), re.MULTILINE)
    }
    assert {verb for _, verb in named} >= known
    assert sorted((page, verb) for page, verb in named if verb not in known) == []


def test_every_signal_topic_reason_and_row_field_is_in_the_reference() -> None:
    page = text(REFERENCE)
    names = [*MARKET, *CRISIS, *SOCIAL, *CLASSROOM, *topics.MEANING, *REASONS]
    assert [name for name in names if f"`{name}`" not in page] == []
    fields = [f.name for f in msgspec.structs.fields(SignalRow)]
    assert [name for name in fields if f"`{name}`" not in text(README)] == []


def test_every_metric_is_in_the_reference_and_no_other() -> None:
    metrics = Metrics(process=False)
    metrics.status(OpsStatus(watermark_delay_s=1.0))
    metrics.dead_letter("bad_json")
    there = {line.split()[2] for line in metrics.exposition().decode().splitlines() if line.startswith("# TYPE ")}
    there = {name for name in there if not name.endswith("_created")}
    status = Status("m@1", "m", "numpy", "", "tcp://x", 0, 0, True, 0, 0, {}, {}, 1.0)
    served = list(StatusCollector(lambda: status).collect())
    there |= {metric.name + "_total" * (metric.type == "counter") for metric in served}
    named = set(re.findall(r"`(affect_\w+)", text(REFERENCE)))
    assert named == there


def test_every_route_is_in_the_reference() -> None:
    routes = [route.path for route in LiveServer(Feed(), Metrics(process=False)).routes]
    assert len(routes) > 8
    assert [route for route in routes if f"`{route}`" not in text(REFERENCE)] == []


def settings() -> Iterator[tuple[str, str, object]]:
    """(section, key, default) of every setting."""
    for field in msgspec.structs.fields(Config):
        if isinstance(field.default, msgspec.Struct):
            yield from ((field.name, f.name, f.default) for f in msgspec.structs.fields(field.default))
        else:
            yield "", field.name, field.default


def toml(value: object) -> str:
    """A value as TOML writes it."""
    if isinstance(value, tuple):
        return f"[{', '.join(toml(v) for v in value)}]"
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


@pytest.mark.parametrize("domain", DOMAINS)
def test_each_config_loads_and_explains_every_key_with_its_default(domain: str) -> None:
    path = ROOT / "deploy" / "config" / f"{domain}.toml"
    assert load_config(str(path), {}).domain == domain
    sections = re.split(r"^\[(\w+)\]$", text(path), flags=re.MULTILINE)
    by_name = {"": sections[0], **dict(zip(sections[1::2], sections[2::2], strict=True))}
    wrong = []
    for section, key, default in settings():
        found = re.search(rf"(?P<words>(?:^#.*\n)+)(?:# )?{key} = ", by_name[section], re.MULTILINE)
        if found is None:
            wrong.append(f"[{section}] {key} is not there, or has no comment above it")
            continue
        words = " ".join(line.lstrip("# ") for line in found["words"].splitlines())
        if f"Default {toml(default)}." not in words:
            wrong.append(f"[{section}] {key}: expected its comment to say: Default {toml(default)}.")
    assert wrong == []


def anchors(page: Path) -> set[str]:
    """Heading anchors as forges make them."""
    heads = re.findall(r"^#+ (.+)$", _CODE.sub("", text(page)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_and_cited_tests_are_real(page: Path) -> None:
    wrong = []
    for target in _LINK.findall(_CODE.sub("", text(page))):
        if re.match(r"[a-z]+:", target):
            wrong.append(f"{target}: outside links rot; name the source in words")
            continue
        name, _, anchor = target.partition("#")
        place = (page.parent / name) if name else page
        if not place.exists():
            wrong.append(f"{target}: no such file")
        elif anchor and anchor not in anchors(place):
            wrong.append(f"{target}: no such heading")
    for name, function in _TEST.findall(text(page)):
        if not (ROOT / name).exists():
            wrong.append(f"{name}: no such file")
        elif function and f"def {function}(" not in text(ROOT / name):
            wrong.append(f"{name}: no such test {function}")
    assert wrong == []


def test_decisions_have_their_four_parts_and_are_numbered() -> None:
    pages = sorted((ROOT / "decisions").glob("*.md"))
    assert [int(page.name[:4]) for page in pages] == list(range(1, len(pages) + 1))
    for page in pages:
        heads = re.findall(r"^## (.+)$", text(page), re.MULTILINE)
        assert heads == ["Status", "Context", "Choice", "What we gave up"], page.name


def test_the_changelog_knows_this_version() -> None:
    version = re.search(r'^version = "(.+)"$', text(ROOT / "pyproject.toml"), re.MULTILINE)
    assert version is not None
    assert re.search(rf"^## {re.escape(version[1])}\b", text(ROOT / "CHANGELOG.md"), re.MULTILINE)
    assert "Apache License" in text(ROOT / "LICENSE")
