"""An endpoint that is slow, full, broken or elsewhere: tried again, left alone, and never told another's key."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler

import msgspec
import pytest
from chat_server import Body, ChatServer, Trick, chat_server, fails, send

from engines.endpoint import LONGEST_WAIT_S, MAX_BODY, TRIES, EndpointEngine, featurize
from engines.endpoint_prompt import EndpointOptions
from engines.errors import EndpointRefused, EngineAway, ManifestInvalid
from engines.load import load_endpoint
from tests.engines.endpoints import CANARY, FREE, Time

pytestmark = pytest.mark.usefixtures("no_key_in_any_log")


def huge(h: BaseHTTPRequestHandler, _: Body) -> bool:
    return send(h, 200, b'{"choices": "' + b"a" * (MAX_BODY + 1000) + b'"}')


def slow(server: ChatServer) -> Trick:
    return lambda h, _: server.gate.wait(60)


def cut(h: BaseHTTPRequestHandler, _: Body) -> bool:
    h.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{")
    return True


def noise(h: BaseHTTPRequestHandler, _: Body) -> bool:
    h.wfile.write(b"\x00\x01\x02\r\n\r\n")
    return True


BROKEN: dict[str, Trick] = {
    "storm": fails(429),
    "503": fails(503, {"error": CANARY}),
    "html": fails(200, b"<html>log in</html>", Content_Type="text/html"),
    "huge": huge,
    "packed": fails(200, b"\x1f\x8b", Content_Encoding="gzip"),
    "deep": fails(200, b'{"choices":' + b"[" * 200_000),
    "empty": fails(200, {"choices": []}),
    "cut": cut,
    "noise": noise,
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_passes_is_tried_again_with_back_off_and_then_the_endpoint_is_away(server: ChatServer, name: str) -> None:
    time = Time()
    engine = time.engine(server)
    server.tricks = [BROKEN[name]] * 2
    assert not engine.infer(featurize(["a"])).abstained
    assert [wait for wait in time.waits if wait > 0.1] == pytest.approx([0.5, 1.0], abs=0.01)
    assert len(server.asked) == 3
    assert engine.requests == (1 if name in ("storm", "503") else 3)
    server.always = BROKEN[name]
    with pytest.raises(EngineAway, match=f"127.0.0.1: .* {TRIES} times") as caught:
        engine.infer(featurize(["b"]))
    assert CANARY not in str(caught.value)
    assert caught.value.__cause__ is None
    assert len(server.asked) == 3 + TRIES
    engine.close()


def test_silence_ends_at_the_deadline_and_nobody_at_all_is_away(server: ChatServer) -> None:
    time = Time()
    engine = time.engine(server, deadline_s=0.2)
    server.tricks = [slow(server)]
    assert not engine.infer(featurize(["a"])).abstained
    assert len(server.asked) == 2
    engine.close()
    with pytest.raises(EngineAway, match="closed"):
        EndpointEngine.infer(engine, featurize(["b"]))
    with chat_server() as gone:
        there = time.engine(gone)
    with pytest.raises(EngineAway, match="no answer"):
        there.infer(featurize(["a"]))
    there.close()


def test_retry_after_is_honoured_as_seconds_and_as_a_date(server: ChatServer) -> None:
    time = Time()
    engine = time.engine(server)
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=40), usegmt=True)
    server.tricks = [fails(429, Retry_After="7"), fails(503, Retry_After=date), fails(429, Retry_After="soon")]
    assert not engine.infer(featurize(["a"])).abstained
    waits = [wait for wait in time.waits if wait > 0.1]
    assert waits[0] == pytest.approx(7.5)
    assert 30 < waits[1] <= 41.1
    assert waits[2] == pytest.approx(2.0)
    server.tricks = [fails(429, Retry_After="3600")]
    asked = len(server.asked)
    for _ in range(3):
        with pytest.raises(EngineAway, match="left alone"):
            engine.infer(featurize(["b"]))
    assert len(server.asked) == asked + 1  # and it is left alone
    time.now += 3600 + LONGEST_WAIT_S
    assert not engine.infer(featurize(["b"])).abstained
    engine.close()


def test_the_rate_and_the_budget_hold_and_an_outage_eats_none_of_it(server: ChatServer) -> None:
    time = Time()
    options = msgspec.structs.replace(FREE, batch=1, requests=4, per_minute=30)
    engine = time.engine(server, options)
    server.tricks = [fails(500)]
    raw = engine.infer(featurize([f"t{k}" for k in range(6)]))
    assert dict(raw.abstained) == {4: "budget", 5: "budget"}
    assert (len(server.asked), engine.requests) == (5, 4)
    assert time.now - 1000 == pytest.approx(8.0)  # four gaps of two seconds
    assert not engine.infer(featurize(["t0"])).abstained  # what is known costs nothing
    engine.close()
    engine = time.engine(server, msgspec.structs.replace(FREE, batch=1, tokens=1500))
    raw = engine.infer(featurize([f"u{k}" for k in range(40)]))
    assert set(raw.abstained.values()) == {"budget"}
    assert 0 < engine.tokens <= 1500
    engine.close()


@pytest.mark.parametrize("status", [301, 307, 401, 403, 404, 400])
def test_a_redirect_or_a_wrong_key_is_an_error_and_no_other_host_hears_of_it(server: ChatServer, status: int) -> None:
    with chat_server() as other:
        server.always = fails(
            status, {"error": f"bad key {CANARY}"}, Location=f"{other.address}/v1/chat/completions?{CANARY}"
        )
        engine = Time().engine(server)
        with pytest.raises(EndpointRefused) as caught:
            engine.infer(featurize(["a"]))
        assert CANARY not in str(caught.value)
        assert not caught.value.retriable
        assert (len(server.asked), other.asked) == (2 if status == 400 else 1, [])
        engine.close()


@pytest.mark.parametrize(
    ("address", "key", "model"),
    [
        (f"http://{CANARY}@127.0.0.1", "", "m"),
        ("http://example.org", CANARY, "m"),
        ("https://example.org?k=" + CANARY, "", "m"),
        ("https://[::1", "", "m"),
        ("ftp://example.org", "", "m"),
        ("https://example.org", CANARY + "\nX: y", "m"),
        ("https://example.org", CANARY + "é", "m"),
        ("https://example.org", "", ""),
        ("https://example.org", "", "a+b"),
    ],
)
def test_what_cannot_be_used_or_would_give_the_key_away_is_refused(address: str, key: str, model: str) -> None:
    with pytest.raises(ManifestInvalid) as caught:
        load_endpoint(address, EndpointOptions(model=model), ("emtract7",), key)
    assert CANARY not in str(caught.value)
