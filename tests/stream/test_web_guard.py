"""Tokens, and the refusal to show signals to a network that nobody meant to show them to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from stream.config import Config, WebConfig, load_config, secret
from stream.errors import UsageError
from stream.feed import Feed
from stream.metrics import Metrics
from stream.serve import serve
from stream.web import LiveServer
from stream.web_guard import is_loopback

TOKEN = "correct-horse-battery-staple"
CLOSED = (
    "/",
    "/static/app.js",
    "/api/status",
    "/api/rows",
    "/api/openapi.json",
    "/api/asof?at=0",
    "/events",
    "/metrics",
)


def play(scene: Callable[[aiohttp.ClientSession], Awaitable[None]], **options: Any) -> None:
    async def run() -> None:
        server = LiveServer(Feed(first_id=0), Metrics(process=False), port=0, token=TOKEN, **options)
        await server.start()
        try:
            async with (
                asyncio.timeout(30),
                aiohttp.ClientSession(server.url, cookie_jar=aiohttp.CookieJar(unsafe=True)) as http,
            ):
                await scene(http)
        finally:
            await server.stop()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ({}, {}),
        ({}, {"token": ""}),
        ({}, {"token": "wrong"}),
        ({}, {"token": TOKEN + "x"}),
        ({}, {"token": TOKEN[:-1]}),
        ({}, {"token": "é"}),
        ({"Authorization": "Bearer wrong"}, {}),
        ({"Authorization": "Bearer wrong"}, {"token": TOKEN}),
        ({"Authorization": f"Basic {TOKEN}"}, {}),
        ({"Authorization": TOKEN}, {}),
        ({"Cookie": f"affect_token={TOKEN}"}, {}),
    ],
)
def test_without_the_token_every_route_but_health_is_401_in_json(
    headers: dict[str, str], query: dict[str, str]
) -> None:
    async def scene(http: aiohttp.ClientSession) -> None:
        for path in CLOSED:
            async with http.get(path, headers=headers, params=query, allow_redirects=False) as answer:
                assert answer.status == 401, path
                assert answer.headers["WWW-Authenticate"].startswith("Bearer")
                error = (await answer.json())["error"]
                assert error.startswith("token: expected 'Authorization: Bearer TOKEN'")
                assert TOKEN not in error
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await http.ws_connect("/ws", headers=headers, params=query)
        assert refused.value.status == 401
        for path, status in (("/livez", 200), ("/readyz", 503)):
            async with http.get(path, headers=headers, params=query) as answer:
                assert answer.status == status

    play(scene)


@pytest.mark.parametrize(
    "carried",
    [{"headers": {"Authorization": f"Bearer {TOKEN}"}}, {"headers": {"Authorization": f"bearer  {TOKEN}"}},
     {"params": {"token": TOKEN}}],
)  # fmt: skip
def test_header_and_query_open_routes_events_and_the_web_socket(carried: dict[str, Any]) -> None:
    async def scene(http: aiohttp.ClientSession) -> None:
        async with http.get("/api/status", **carried) as answer:
            assert answer.status == 200
        async with http.get("/events", **carried) as stream:
            assert stream.status == 200
            assert (await stream.content.readline()).startswith(b"retry")
        async with http.ws_connect("/ws", **carried) as ws:
            assert '"status"' in await ws.receive_str()

    play(scene)


def test_a_browser_that_opens_the_page_with_the_token_gets_a_cookie_and_a_clean_address() -> None:
    async def scene(http: aiohttp.ClientSession) -> None:
        async with http.get("/", params={"token": TOKEN}, allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Location"]) == (303, "/")
            cookie = answer.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert TOKEN not in cookie
        for path in ("/", "/static/app.js", "/api/status"):
            async with http.get(path) as answer:
                assert answer.status == 200, path
        async with http.get("/", headers={"Host": "evil.example"}) as answer:
            assert answer.status == 403

    play(scene)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("LOCALHOST", True),
     ("0.0.0.0", False), ("::", False), ("", False), ("10.0.0.1", False), ("signals.example", False),
     ("localhost.evil.example", False)],
)  # fmt: skip
def test_an_address_of_the_network_needs_a_token_or_the_word_that_it_may_do_without(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
    feed, metrics = Feed(), Metrics(process=False)
    if loopback:
        LiveServer(feed, metrics, host)
    else:
        with pytest.raises(UsageError, match=r"expected loopback .* token_env .* without_token = true") as refused:
            LiveServer(feed, metrics, host)
        assert refused.value.exit_code == 2
    LiveServer(feed, metrics, host, token=TOKEN)
    LiveServer(feed, metrics, host, without_token=True)


@pytest.mark.parametrize("token", ["", "short", "fifteen-letters", "with\nline-breaks-in-it", "kein-ASCII-schlüssel"])
def test_a_token_that_can_be_guessed_or_not_be_sent_is_refused(token: str) -> None:
    with pytest.raises(UsageError, match="token: expected at least 16 printable ASCII characters"):
        LiveServer(Feed(), Metrics(process=False), token=token)


def test_the_settings_name_the_variable_and_never_hold_the_token() -> None:
    env = {"FEED_TOKEN": f" {TOKEN}\n", "EMPTY": ""}
    assert secret("", "web.token_env", env) is None
    assert secret("FEED_TOKEN", "web.token_env", env) == TOKEN
    for name in ("EMPTY", "MISSING"):
        with pytest.raises(UsageError, match=f"web.token_env: the environment variable {name} is not set"):
            secret(name, "web.token_env", env)
    with pytest.raises(UsageError, match="expected the name of an environment variable") as refused:
        secret(TOKEN, "web.token_env", env)
    assert TOKEN not in str(refused.value)
    config = load_config(None, {"AFFECT_WEB__ALLOWED_HOSTS": "a.example,b.example", "AFFECT_WEB__TOKEN_ENV": "X"})
    assert (config.web.allowed_hosts, config.web.token_env) == (("a.example", "b.example"), "X")


@pytest.mark.parametrize(
    ("web", "says"),
    [
        (WebConfig(host="0.0.0.0", port=0), "expected loopback"),
        (WebConfig(port=0, token_env="AFFECT_TEST_NO_SUCH_VARIABLE"), "AFFECT_TEST_NO_SUCH_VARIABLE is not set"),
        (WebConfig(port=0, postgres_env="AFFECT_TEST_NO_SUCH_VARIABLE"), "web.postgres_env: the environment variable"),
    ],
)
def test_a_run_with_such_settings_ends_before_it_listens(web: WebConfig, says: str) -> None:
    config = Config(web=web, log=Config().log.__class__(url="memory://"))
    with pytest.raises(UsageError, match=says):
        asyncio.run(serve([config], 1.0, None, open_page=False))
