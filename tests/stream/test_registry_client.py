"""The client of a registry elsewhere: asked once, bounded, and harmless whatever the other side does."""

from __future__ import annotations

import json
import logging
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("confluent_kafka.schema_registry", reason="needs the extra: pip install 'affectstream[registry]'")
sys.path.insert(0, str(Path(__file__).parent.parent / "registry"))

from clients import POST, POSTS, client_of
from server import Registry, serving

from operators.admission import parse_schema
from operators.codec import Codec
from operators.errors import ConfigInvalid, Rejected, SchemaUnknown
from operators.gate import Gate, frame
from operators.records import Post
from operators.registry import FileRegistry
from stream.config import load_config
from stream.errors import UsageError
from stream.registry_client import MAX_REFUSED, RegistryClient
from stream.registry_http import RegistryAccess, RegistryHttp
from stream.topology import build_codec
from tests.ports import free_port


class Hand:
    """A clock moved by hand."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


def point(name: str = "P") -> str:
    return json.dumps({"type": "record", "name": name, "fields": [{"name": "x", "type": "long"}]})


def state_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == "affect.registry"]


def test_ids_are_those_of_the_registry_and_asked_for_once() -> None:
    with serving() as (url, registry), client_of(url) as client:
        registry.register("x-value", {"schema": point()})
        assert client.by_id(1).type.name == "P"
        schema_id = client.register(POSTS, POST)
        assert schema_id == 2
        assert client.by_id(schema_id).type.name == "affect.Post"
        asked = len(registry.requests)
        assert [client.by_id(k).id for k in (1, 2, 1, 2)] == [1, 2, 1, 2]
        assert client.register(POSTS, POST) == 2
        assert len(registry.requests) == asked
        assert client.latest(POSTS).id == 2
        assert client.latest("affect.alerts.v1-value").type.name == "affect.Alert", "the local one stands in"


def test_a_codec_works_under_foreign_ids() -> None:
    with serving() as (url, registry), client_of(url) as client:
        registry.register("x-value", {"schema": point()})
        codec = Codec(client, Gate(client))
        (raw,) = codec.encode_posts([Post(id="a", text="hello")])
        assert raw[:5] == frame(registry.subjects[POSTS][1]) != frame(1)


def test_an_unknown_id_is_asked_for_once_then_refused_for_a_while() -> None:
    clock = Hand()
    with serving() as (url, registry), client_of(url, now=clock) as client:
        gate = Gate(client)
        for _ in range(5):
            with pytest.raises(Rejected) as refused:
                gate.check(frame(77) + b"x")
            assert refused.value.reason == "unknown_schema"
        assert len(registry.requests) == 1
        registry.texts[77] = point()
        registry.types[77] = parse_schema(point())
        clock.at += 31
        assert client.by_id(77).type.name == "P"
        assert len(registry.requests) == 2


def test_made_up_ids_fill_no_memory_and_take_no_more_than_their_share_of_time() -> None:
    clock = Hand()

    class Slow:
        address = "slow"
        asked = 0

        def schema(self, schema_id: int) -> str | None:
            self.asked += 1
            clock.at += 0.5
            return None

        def find(self, subject: str, schema: str) -> int | None:
            return None

        def register(self, subject: str, schema: str) -> int:
            return 1

        def latest(self, subject: str) -> tuple[int, str] | None:
            return None

    slow = Slow()
    client = RegistryClient(slow, FileRegistry(), unknown_s=1e9, now=clock)
    began = clock.at
    for k in range(10_000):
        with pytest.raises(SchemaUnknown):
            client.by_id(1000 + k)
        clock.at += 0.001
    spent = slow.asked * 0.5
    assert 5 <= spent <= 5.5 + 0.2 * (clock.at - began)
    clock.at += 1e6
    fast = RegistryClient(Slow(), FileRegistry(), unknown_s=1e9, budget_s=1e9, now=clock)
    for k in range(MAX_REFUSED + 100):
        with pytest.raises(SchemaUnknown):
            fast.by_id(1000 + k)
    assert len(fast._refused) == MAX_REFUSED


def test_down_registry_known_go_on_one_line_a_change(caplog: pytest.LogCaptureFixture) -> None:
    clock = Hand()
    registry, port = Registry(), free_port()
    registry.register("x-value", {"schema": point()})
    registry.register("y-value", {"schema": point("Q")})
    with serving(registry, port) as (url, _), client_of(url, now=clock) as client:
        assert client.by_id(1).type.name == "P"
        assert client.latest("x-value").id == 1
        remote = client
    with client_of(url, now=clock) as other:
        assert remote.by_id(1).type.name == "P"
        for _ in range(4):
            clock.at += 100
            with pytest.raises(SchemaUnknown, match="cannot be asked"):
                other.by_id(2)
        assert other.problem is not None
        with serving(registry, port):
            clock.at += 100
            assert other.by_id(2).type.name == "Q"
            assert other.problem is None
        lines = state_lines(caplog)
        assert len(lines) == 2, lines
        assert "known schemas go on" in lines[0]
        assert "works again" in lines[1]


def test_while_it_is_down_it_is_not_asked_at_every_record() -> None:
    clock = Hand()
    with client_of(f"http://127.0.0.1:{free_port()}", now=clock) as client:
        began = time.monotonic()
        for k in range(2000):
            with pytest.raises(SchemaUnknown):
                client.by_id(k)
        assert time.monotonic() - began < 1.0


def test_down_at_the_first_start_local_ids_stand_in_and_are_checked_later(caplog: pytest.LogCaptureFixture) -> None:
    clock = Hand()
    registry, port = Registry(), free_port()
    with client_of(f"http://127.0.0.1:{port}", now=clock) as client:
        codec = Codec(client, Gate(client))
        assert codec.encode_posts([Post(id="a", text="b")])[0][:5] == frame(1)
        registry.register("x-value", {"schema": point()})  # the registry says id 1 is something else
        with serving(registry, port):
            clock.at += 100
            with pytest.raises(SchemaUnknown):
                client.by_id(999)
        lines = state_lines(caplog)
        assert sum("go on" in line for line in lines) == 1, "one line though nine schemas were registered"
        assert [line for line in lines if "id 1 " in line and "restart" in line]


def test_a_restart_while_it_is_down_uses_the_ids_of_the_cache(tmp_path: Path) -> None:
    cache, port = tmp_path / "schemas.json", free_port()
    registry = Registry()
    registry.register("x-value", {"schema": point()})
    with serving(registry, port) as (url, _), client_of(url, cache) as client:
        first = Codec(client, Gate(client)).encode_posts([Post(id="a", text="b")])
        client.by_id(1)
    with client_of(url, cache) as client:
        assert Codec(client, Gate(client)).encode_posts([Post(id="a", text="b")]) == first
        assert client.by_id(1).type.name == "P"
        assert client.latest("affect.late.v1-value").type.name == "affect.LatePost"
    with client_of(f"http://127.0.0.1:{free_port()}", cache) as another:
        assert Codec(another, Gate(another)).encode_posts([Post(id="a", text="b")])[0][:5] == frame(1)
    cache.write_text('{"url": "u", "schemas": {"1"')
    with pytest.raises(UsageError, match="delete it"), client_of(url, cache):
        pass


def test_incompatible_and_forbidden_are_clear_at_once() -> None:
    with serving() as (url, registry), client_of(url) as client:
        registry.register(POSTS, {"schema": point()})
        with pytest.raises(ConfigInvalid, match=r"refuses the schema.*incompatible"):
            client.register(POSTS, POST)


def test_credentials(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> None:
    caplog.set_level(logging.DEBUG)
    token, password = "canary-token-31", "canary-pass-31"
    for access, header in (
        (RegistryAccess.from_env({"AFFECT_REGISTRY_TOKEN": token}), f"Bearer {token}"),
        (
            RegistryAccess.from_env({"AFFECT_REGISTRY_USER": "me", "AFFECT_REGISTRY_PASSWORD": password}),
            "Basic bWU6Y2FuYXJ5LXBhc3MtMzE=",
        ),
    ):
        with serving(authorization=header) as (url, _):
            good = RegistryHttp(url, access)
            assert RegistryClient(good, FileRegistry()).register(POSTS, POST) == 1
            wrong = RegistryHttp(url, RegistryAccess(token=token + "x"))
            with pytest.raises(UsageError, match="AFFECT_REGISTRY_TOKEN") as refused:
                RegistryClient(wrong, FileRegistry()).register(POSTS, POST)
            with pytest.raises(SchemaUnknown):
                RegistryClient(wrong, FileRegistry()).by_id(1)
            good.close()
            wrong.close()
        shown = f"{access!r} {refused.value} {capsys.readouterr()} {[r.getMessage() for r in caplog.records]}"
        assert "canary" not in shown
        assert "bWU6" not in shown


@pytest.mark.parametrize(
    ("url", "access", "word"),
    [
        ("ftp://h", RegistryAccess(), "expected http"),
        ("http://me:canary@h", RegistryAccess(), "no user or password"),
        ("http://", RegistryAccess(), "expected http"),
        ("http://h:99999", RegistryAccess(), "expected http"),
        ("http://a,http://b", RegistryAccess(), "expected http"),
        ("http://registry.example", RegistryAccess(token="canary"), "in the clear"),
    ],
)
def test_addresses_that_cannot_work(url: str, access: RegistryAccess, word: str) -> None:
    with pytest.raises(UsageError, match=word) as refused:
        RegistryHttp(url, access)
    assert "canary" not in str(refused.value)


def test_half_given_credentials_are_refused() -> None:
    with pytest.raises(UsageError, match="go together"):
        RegistryAccess.from_env({"AFFECT_REGISTRY_USER": "me"})
    with pytest.raises(UsageError, match="got both"):
        RegistryAccess.from_env({f"AFFECT_REGISTRY_{n}": "x" for n in ("USER", "PASSWORD", "TOKEN")})


def test_a_registry_that_changes_an_id_is_not_believed(tmp_path: Path) -> None:
    clock = Hand()
    registry, port = Registry(), free_port()
    with serving(registry, port) as (url, _), client_of(url, tmp_path / "c.json", clock) as client:
        client.register(POSTS, POST)
    swapped = Registry()
    swapped.register("x-value", {"schema": point()})
    swapped.register("y-value", {"schema": point("Q")})
    with serving(swapped, port), client_of(url, tmp_path / "c.json", clock) as client:
        assert client.by_id(1).type.name == "affect.Post"
        with pytest.raises(SchemaUnknown, match="never change"):
            client.latest("x-value")
        assert client.latest("y-value").type.name == "Q"


def test_the_setting_reaches_the_codec(tmp_path: Path) -> None:
    with serving() as (url, registry):
        config = load_config(None, {"AFFECT_REGISTRY__URL": url, "AFFECT_REGISTRY__CACHE": str(tmp_path / "kept.json")})
        registry.register("x-value", {"schema": point()})
        codec = build_codec(config.registry)
        assert codec.encode_posts([Post(id="a", text="b")])[0][:5] == frame(2)
        assert (tmp_path / "kept.json").exists()
