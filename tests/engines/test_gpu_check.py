"""`make gpu-check` where there is no card: says why and what to do, prints the host's lines, and is no failure."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from engines.ladder import facts_here

ROOT = Path(__file__).parent.parent.parent


def test_without_a_card_it_says_why_and_what_to_do_and_prints_the_hosts_lines() -> None:
    facts, why = facts_here()
    if facts is not None:
        pytest.skip("there is a card here")
    words = [sys.executable, "benchmarks/gpu_check.py", "--texts", "64"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert f"no card: {why}" in done.stdout
    assert "a machine with an NVIDIA driver, pip install 'affectstream[train]'" in done.stdout
    assert "GPU_PYTHON=PYTHON make gpu-check" in done.stdout
    lines = dict(re.findall(r"^\| (\S.*?) +\| +([\d,.]+) \|", done.stdout, re.MULTILINE))
    assert lines.keys() == {"tokenisation, one core", "through the engine server, onnx-cpu"}
    assert all(float(value.replace(",", "")) > 0 for value in lines.values())
