"""`affect engine serve | swap | status | keys` as a person uses them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import pytest

from engines.serve import BEAT_S
from stream.cli import main
from tests.engines.serving import connected, zoo_of_two


def test_a_server_is_started_asked_changed_and_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Over a real process with keys: what it prints, what a client gets, what status and swap say; SIGTERM ends it."""
    one, two = zoo_of_two(tmp_path / "zoo")
    keys, control = tmp_path / "keys", f"ipc://{tmp_path}/control"
    assert main(["engine", "keys", str(keys), "--client", "ann"]) == 0
    made = capsys.readouterr()
    assert f"{keys}/clients/ann.key" in made.out
    assert "set engine.keys to it" in made.err
    assert main(["engine", "keys", str(keys), "--client", "ann"]) == 1
    words = ["--engine", "one", "--shadow", "two", "--shadow-share", "1", "--zoo", str(tmp_path / "zoo")]
    words += ["--bind", "tcp://127.0.0.1:*", "--control", control, "--curve-keys", str(keys)]
    words += ["--metrics", "127.0.0.1:0"]
    with subprocess.Popen(
        [sys.executable, "-m", "stream.cli", "engine", "serve", *words], stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            told = server.stdout.readline()
            assert told.startswith(f"engine server: {one} on numpy at tcp://127.0.0.1:")
            assert control in server.stdout.readline()
            scraped = server.stdout.readline().removeprefix("metrics: ").strip()
            model = connected(told.split()[-1], keys / "for-ann")
            model.logits(["so happy", "so sad"])
            model.engine.close()
            capsys.readouterr()
            assert main(["engine", "swap", "two", "--control", control]) == 0
            assert capsys.readouterr().out == f"{two} answers now\n"
            assert main(["engine", "swap", "three", "--control", control]) == 1
            assert "not known" in capsys.readouterr().err
            assert main(["engine", "status", "--control", control]) == 0
            said = capsys.readouterr().out
            assert said.startswith(f"{two} on numpy at ")
            assert f"shadow {two} sentiment3: 2 rows" in said
            assert main(["engine", "status", "--control", control, "--json"]) == 0
            assert json.loads(capsys.readouterr().out)["counts"]["answered"] == 1
            time.sleep(2 * BEAT_S)
            with urlopen(scraped, timeout=10) as answer:
                lines = answer.read().decode().splitlines()
            assert {
                f'affect_server_info{{backend="numpy",model="{two}",shadow="{two}"}} 1.0',
                'affect_server_requests_total{outcome="answered"} 1.0',
                'affect_server_requests_total{outcome="QueueFull"} 0.0',
                "affect_server_rows_total 2.0",
                "affect_server_swaps_total 1.0",
                'affect_server_doors_total{outcome="accepted"} 1.0',
                'affect_server_shadow_rows_total{task="sentiment3"} 2.0',
            } <= set(lines)
            server.send_signal(signal.SIGTERM)
            assert server.wait(60) == 0
        finally:
            server.kill()
    assert main(["engine", "status", "--control", "nowhere"]) == 1
    assert "is no address" in capsys.readouterr().err


@pytest.mark.parametrize("address", ["8652", "127.0.0.1:", "127.0.0.1:70000", "203.0.113.7:1"])
def test_an_address_that_is_none_is_refused(address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    zoo_of_two(tmp_path / "zoo")
    words = ["--engine", "one", "--zoo", str(tmp_path / "zoo"), "--bind", f"ipc://{tmp_path}/s", "--control", ""]
    assert main(["engine", "serve", *words, "--metrics", address]) == 2
    assert "--metrics" in capsys.readouterr().err
