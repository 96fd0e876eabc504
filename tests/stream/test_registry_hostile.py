"""A registry that means harm, or is none: one dead letter each, no memory filled, no thread left behind."""

from __future__ import annotations

import gzip
import json
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

pytest.importorskip("confluent_kafka.schema_registry", reason="needs the extra: pip install 'affectstream[registry]'")
sys.path.insert(0, str(Path(__file__).parent.parent / "registry"))

from clients import POST, POSTS, client_of
from server import serving

from operators.errors import SchemaUnknown
from stream.registry_base import RegistryUnavailable
from stream.registry_http import RegistryHttp


def hostile(answer: Callable[[BaseHTTPRequestHandler], None]) -> type[BaseHTTPRequestHandler]:
    class Hostile(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.close_connection = True
            try:
                answer(self)
            except OSError:
                return

        do_POST = do_GET  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    return Hostile


def body(content: bytes, status: int = 200, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def endless(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(1 << 30))
    handler.end_headers()
    for _ in range(1 << 10):
        handler.wfile.write(b" " * (1 << 20))


def dripping(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-A: ")
    for _ in range(80):
        handler.wfile.write(b"a")
        handler.wfile.flush()
        time.sleep(0.1)


def silent(handler: BaseHTTPRequestHandler) -> None:
    time.sleep(4)


def bomb(levels: int) -> bytes:
    recursive = {"type": "record", "name": "R", "fields": [{"name": "n", "type": ["null", "R"]}]}
    return json.dumps({"schema": json.dumps(recursive)}).encode() if levels == 0 else b"[" * levels


HOSTILE = {
    "1 GB body": endless,
    "recursive schema": body(bomb(0)),
    "zero-size items": body(json.dumps({"schema": '{"type":"array","items":"null"}'}).encode()),
    "deep JSON": body(bomb(400_000)),
    "redirect": body(b"", 302, Location="http://127.0.0.1:1/"),
    "redirect in body": body(b"<html>moved</html>", 301, Location="/elsewhere"),
    "HTML": body(b"<html>hello</html>"),
    "a list": body(b"[1, 2]"),
    "a number": body(b"7"),
    "null": body(b"null"),
    "nothing": body(b""),
    "schema is a number": body(b'{"schema": 7}'),
    "schema is null": body(b'{"schema": null}'),
    "schema is no JSON": body(b'{"schema": "{"}'),
    "id is huge": body(b'{"id": ' + b"9" * 5000 + b', "schema": "\\"int\\""}'),
    "not UTF-8": body(b'{"schema": "\xff\xfe"}'),
    "lone surrogate": body(b'{"schema": "\\ud800"}'),
    "protobuf": body(b'{"schema": "syntax", "schemaType": "PROTOBUF"}'),
    "references": body(b'{"schema": "\\"int\\"", "references": [{"name": "a", "subject": "b", "version": 1}]}'),
    "references are text": body(b'{"schema": "\\"int\\"", "references": "x"}'),
    "gzip bomb": body(gzip.compress(b" " * (1 << 26)), Content_Encoding="gzip"),
    "404 page": body(b"<html>no such page</html>", 404),
    "500": body(b'{"error_code": 50001, "message": "a\\nb"}', 500),
    "error is a list": body(b"[]", 500),
    "wrong length": body(b"{}", Content_Length="999999"),
    "no HTTP": lambda handler: handler.wfile.write(b"\x00\x01SSH-2.0\r\n\r\n"),  # type: ignore[dict-item]
    "dripping headers": dripping,
    "silence": silent,
}


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_a_hostile_registry_is_harmless(name: str) -> None:
    """Whatever it answers, an unknown id is one dead letter within the deadline, and no memory is filled."""
    import resource

    with serving(handler=hostile(HOSTILE[name])) as (url, _), client_of(url) as client:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.monotonic()
        with pytest.raises(SchemaUnknown) as refused:
            client.by_id(5000)
        assert time.monotonic() - began < 2.5
        assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 40
        assert len(str(refused.value)) < 800
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["a list", "redirect", "id is huge", "404 page", "500", "HTML", "nothing"])
def test_a_hostile_registry_gives_no_ids(name: str) -> None:
    with serving(handler=hostile(HOSTILE[name])) as (url, _):
        remote = RegistryHttp(url, timeout_s=1.0, deadline_s=1.5)
        with pytest.raises(RegistryUnavailable):
            remote.register(POSTS, POST)
        with pytest.raises(RegistryUnavailable):
            remote.latest(POSTS)
        remote.close()


def test_no_thread_stays_behind_a_dripping_registry() -> None:
    with serving(handler=hostile(dripping)) as (url, _):
        remote = RegistryHttp(url, timeout_s=0.3, deadline_s=0.5)
        with pytest.raises(RegistryUnavailable, match="no whole answer"):
            remote.schema(1)
        remote.close()
        until = time.monotonic() + 3
        while time.monotonic() < until and any(t.name == "affect-registry" for t in threading.enumerate()):
            time.sleep(0.02)
        assert not any(t.name == "affect-registry" for t in threading.enumerate())
