from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from engines.errors import MissingExtra
from stream.connect import open_log
from stream.errors import LogError, UsageError
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
        "kafka://",
        "kafka://127.0.0.1",
        "kafka://127.0.0.1:99999",
        "kafka://a:1,b",
        "kafka://user:secret@127.0.0.1:9092",
        "kafka://127.0.0.1:9092?acks=0",
        "kafka://127.0.0.1:9092?replication=0",
        "kafka://127.0.0.1:9092?patience=long",
        "kafka://127.0.0.1:9092?prefix=a/b",
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
    assert "kafka://HOST:PORT" in said
    assert "secret" not in said


def test_kafka_is_opened_without_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("aiokafka", reason="the kafka extra is not installed")
    from stream.kafka import KafkaLog

    assert isinstance(open_log("kafka://127.0.0.1:1,[::1]:2?prefix=x.&instance=a&replication=3&patience=0.5"), KafkaLog)
    monkeypatch.delenv("AFFECT_KAFKA_USER", raising=False)
    with pytest.raises(LogError, match="AFFECT_KAFKA_USER"):
        open_log("kafka://127.0.0.1:1?security=SASL_SSL")
    monkeypatch.setenv("AFFECT_KAFKA_USER", "u")
    monkeypatch.setenv("AFFECT_KAFKA_PASSWORD", "hush")
    assert "hush" not in repr(vars(open_log("kafka://127.0.0.1:1?security=SASL_SSL")))
    with pytest.raises(LogError, match="security=TLS"):
        open_log("kafka://127.0.0.1:1?security=tls")


def test_kafka_without_its_extra_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [m for m in sys.modules if m.startswith(("aiokafka", "stream.kafka"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "aiokafka", None)
    with pytest.raises(MissingExtra, match=r"pip install affectstream\[kafka\]"):
        open_log("kafka://127.0.0.1:9092")
