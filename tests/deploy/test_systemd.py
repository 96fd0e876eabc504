"""systemd units: no unknown key, little exposure."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "deploy" / "systemd"
UNITS = sorted(path.name for path in FOLDER.glob("*.service"))
MOST_EXPOSED = 3.0


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The folder, with a program in place of ours that is surely there."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze here (Debian package systemd)")
    made = tmp_path / "units"
    shutil.copytree(FOLDER, made)
    for path in made.glob("*.service"):
        text = path.read_text()
        assert "ExecStart=/opt/affectstream/bin/affect " in text
        path.write_text(text.replace("/opt/affectstream/bin/affect", "/bin/true"))
    return made


def analyse(units: Path, *words: str) -> str:
    told = subprocess.run(["systemd-analyze", *words], cwd=units, capture_output=True, text=True, timeout=60)
    return told.stdout + told.stderr


@pytest.mark.parametrize("name", UNITS)
def test_it_verifies_and_is_little_exposed(units: Path, name: str) -> None:
    """`verify` ends in 0 whatever it says, so what it says is read."""
    assert analyse(units, "verify", f"./{name}") == ""
    found = re.search(r"exposure level for \S+: ([\d.]+)", analyse(units, "security", "--offline=true", f"./{name}"))
    assert found is not None
    assert float(found[1]) <= MOST_EXPOSED


def test_a_misspelt_key_would_be_seen(units: Path) -> None:
    shared = units / "affect-.service.d" / "hardened.conf"
    shared.write_text(shared.read_text().replace("NoNewPrivileges=", "NoNewPrivilege="))
    assert "Unknown key" in analyse(units, "verify", f"./{UNITS[0]}")
