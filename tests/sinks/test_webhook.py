"""One signed POST over real sockets: what each answer means, what is never shown, where nothing is sent."""

from __future__ import annotations

import os
import re
import shutil
import ssl
import subprocess
import time
from email.utils import formatdate
from pathlib import Path

import pytest
from aiohttp import web
from receiver import cut, flood, hang, receiving
from signal_rows import looped

from stream.errors import UsageError
from stream.system_clock import SystemClock
from stream.webhook import Webhook

SECRET = b"canary-secret-0123456789"
CLOCK = SystemClock()
PAGE = Path(__file__).parents[2] / "docs" / "getting-signals-out.md"


@looped
async def test_the_five_lines_of_the_documentation_verify_a_delivery() -> None:
    found = re.search(r"```python\n(import hashlib.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    given: dict[str, object] = {}
    exec(found[1], given)
    genuine = given["genuine"]
    assert callable(genuine)
    async with receiving() as server:
        hook = Webhook(f"{server.url}/hook?token=canary", SECRET, CLOCK)
        for key in ("rule|market.fear|ticker:A|0|60000", "rule|ticker:Ü\n\r|x: y"):
            assert (await hook.post(key, b'{"a":"\xc3\x9c"}')).verdict == "delivered"
        await hook.close()
        await hook.close()
    first, second = server.got
    assert first.path == "/hook?token=canary"
    assert first.headers["Content-Type"] == "application/json"
    assert first.headers["Idempotency-Key"] == "rule|market.fear|ticker:A|0|60000"
    assert second.headers["Idempotency-Key"] == "rule|ticker:%C3%9C%0A%0D|x: y"
    assert genuine(SECRET, first.headers, first.body)
    assert not genuine(SECRET, first.headers, first.body + b" ")
    assert not genuine(b"another-secret-012345", first.headers, first.body)
    later = str(int(first.headers["Affect-Timestamp"]) + 1)
    assert not genuine(SECRET, {**first.headers, "Affect-Timestamp": later}, first.body)
    assert abs(time.time() - int(later)) < 60


@looped
async def test_without_a_secret_nothing_is_signed() -> None:
    async with receiving() as server:
        hook = Webhook(server.url, None, CLOCK)
        assert (await hook.post("k", b"{}")).verdict == "delivered"
        await hook.close()
    assert "Affect-Signature" not in server.got[0].headers


@looped
async def test_what_each_answer_means() -> None:
    def after(wait: str, status: int = 503) -> web.Response:
        return web.Response(status=status, headers={"Retry-After": wait})

    async with receiving() as server:
        hook = Webhook(server.url, SECRET, CLOCK, timeout_s=2.0)

        async def say(reply: object) -> tuple[str, float | None]:
            server.replies = [reply]  # type: ignore[list-item]
            answer = await hook.post("k", b"{}")
            assert "canary" not in answer.said
            assert answer.said.startswith(server.url)
            return answer.verdict, answer.wait_s

        for status in (200, 201, 202, 204):
            assert await say(status) == ("delivered", None)
        for status in (500, 502, 503, 504, 408, 425, 429):
            assert await say(status) == ("again", None)
        for status in (400, 401, 403, 404, 410, 413, 422, 301, 302, 303, 304):
            assert await say(status) == ("refused", None)
        assert await say(after("7")) == ("again", 7.0)
        assert await say(after("999999999", 429)) == ("again", 3_600.0)
        for nonsense in ("-5", "soon", "1e3", "9" * 5_000, "Mon, 99 Foo 2000"):
            assert await say(after(nonsense)) == ("again", None), nonsense
        assert await say(after(formatdate(0, usegmt=True))) == ("again", 0.0)
        verdict, wait = await say(after(formatdate(time.time() + 100, usegmt=True)))
        assert verdict == "again"
        assert wait is not None
        assert 60 < wait <= 100
        assert await say(hang) == ("again", None)
        assert await say(cut) == ("again", None)
        assert await say(flood) == ("delivered", None)
        assert await say(200) == ("delivered", None)
        await hook.close()
    assert len(server.got) == 35
    gone = Webhook(f"{server.url}/?token=canary", SECRET, CLOCK)
    answer = await gone.post("k", b"{}")
    await gone.close()
    assert answer.verdict == "again"
    assert answer.said == f"{server.url}: Connect call failed ('127.0.0.1', {server.url.rsplit(':', 1)[1]})"


@looped
async def test_redirects_within_the_origin_are_followed_and_no_others() -> None:
    async with receiving() as server, receiving() as other:
        hook = Webhook(f"{server.url}/a", SECRET, CLOCK)

        def to(place: str, status: int = 308) -> web.Response:
            return web.Response(status=status, headers={"Location": place})

        server.replies = [to("/b"), to(f"{server.url}/c", 307), 204]
        assert (await hook.post("k", b"{}")).verdict == "delivered"
        assert [got.path for got in server.got] == ["/a", "/b", "/c"]
        assert {got.body for got in server.got} == {b"{}"}
        for place in (
            other.url, f"//{other.url[7:]}/x", server.url.replace("http", "https"), "ftp://x/", "http://[",
            server.url.replace("127.0.0.1", "localhost"),
        ):  # fmt: skip
            server.replies = [to(place)]
            answer = await hook.post("k", b"{}")
            assert answer.verdict == "refused", place
            assert "redirect" in answer.said
        server.replies = [to(other.url, 302)]
        assert (await hook.post("k", b"{}")).verdict == "refused"
        server.replies = [to("/a") for _ in range(9)]
        answer = await hook.post("k", b"{}")
        assert (answer.verdict, "more than 3 redirects" in answer.said) == ("refused", True)
        await hook.close()
    assert other.got == []


@pytest.fixture
def unknown(tmp_path: Path) -> ssl.SSLContext:
    """A server's certificate that it signed itself."""
    if shutil.which("openssl") is None and os.environ.get("CI") != "true":
        pytest.skip("no openssl here to make a certificate")
    words = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    made = ["openssl", *words.split(), "-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "cert")]
    subprocess.run(made, check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    return context


@looped
async def test_a_certificate_nobody_vouches_for_is_not_trusted(unknown: ssl.SSLContext) -> None:
    async with receiving(unknown) as server:
        hook = Webhook(f"{server.url}/?token=canary", SECRET, CLOCK)
        answer = await hook.post("k", b"{}")
        await hook.close()
    assert answer == (
        "again",
        f"{server.url}: its certificate is not trusted here; SSL_CERT_FILE names other authorities",
        None,
    )
    assert server.got == []


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("canary", "expected https://HOST/PATH"),
        ("https://", "expected https://HOST/PATH"),
        ("https:///canary", "expected https://HOST/PATH"),
        ("https://h:99999/canary", "expected https://HOST/PATH"),
        ("http://[::1/canary", "expected https://HOST/PATH"),
        ("ftp://h/canary", "got ftp://"),
        ("http://example.com/canary", "http would show alerts"),
        ("http://canary@10.0.0.1/", "http would show alerts"),
        ("http://localhost.example.com/canary", "http would show alerts"),
        ("http://127.0.0.1.example.com/canary", "http would show alerts"),
        ("http://0.0.0.0/canary", "http would show alerts"),
    ],
)
def test_addresses_that_are_refused(url: str, said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)) as refused:
        Webhook(url, SECRET, CLOCK)
    assert "canary" not in str(refused.value)


def test_addresses_that_are_not_and_secrets_that_are() -> None:
    for url in ("https://example.com/x", "http://localhost:1/", "http://127.0.0.9/", "http://[::1]:8/x"):
        Webhook(url, SECRET, CLOCK)
    Webhook("http://example.com/", SECRET, CLOCK, plain_http=True)
    with pytest.raises(UsageError, match="at least 16 bytes, got 15"):
        Webhook("https://example.com/", b"x" * 15, CLOCK)
