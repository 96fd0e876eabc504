"""What an installed wheel holds: every file the code reads beside itself."""

from __future__ import annotations

import tomllib
from fnmatch import fnmatchcase
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_every_data_file_is_in_the_package_data() -> None:
    given = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["package-data"]
    left_out, seen = [], set()
    for package, patterns in given.items():
        for path in sorted((ROOT / package).rglob("*")):
            if path.is_dir() or path.suffix in (".py", ".pyc"):
                continue
            name = path.relative_to(ROOT / package).as_posix()
            hits = {p for p in patterns if fnmatchcase(name, p.replace("**/", ""))}
            seen |= {f"{package}: {p}" for p in hits}
            if not hits:
                left_out.append(f"{package}/{name}")
    assert left_out == [], "add them to [tool.setuptools.package-data]"
    assert seen == {f"{package}: {p}" for package, patterns in given.items() for p in patterns}, "matches nothing"
