from __future__ import annotations

import os
from pathlib import Path

import pytest

from stream.connect import open_log
from stream.errors import UsageError
from stream.memory import MemoryLog
from stream.sqlite_log import SqliteLog


def test_each_form_opens_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert isinstance(open_log("memory://"), MemoryLog)
    relative, absolute = (
        open_log("sqlite:///state.db"),
        open_log(f"sqlite:///{tmp_path}/deep/state.db?synchronous=normal"),
    )
    assert isinstance(relative, SqliteLog)
    assert relative.path == os.path.join(os.getcwd(), "state.db")
    assert isinstance(absolute, SqliteLog)
    assert absolute.path == str(tmp_path / "deep" / "state.db")
    assert list(tmp_path.iterdir()) == []  # nothing is made before it is used


@pytest.mark.parametrize(
    "url",
    [
        "",
        "state.db",
        "memory",
        "memory:",
        "memory://x",
        "sqlite://state.db",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite:///folder/",
        "sqlite:///a.db?synchronous=OFF",
        "sqlite:///a.db?sync=FULL",
        "postgres://x",
        "kafka://127.0.0.1:9092",
    ],
)
def test_anything_else_gets_one_line_that_names_the_forms(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_log(url)
    said = str(caught.value)
    assert "\n" not in said
    assert "memory://" in said
    assert "sqlite:///" in said
    assert caught.value.exit_code == 2
    assert ("kafka extra" in said) == url.startswith("kafka")
