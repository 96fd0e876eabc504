"""The door to aiohttp's client: one signed HTTP POST at a time, and what came of it in three words.

Nothing of the address but scheme, host and port is ever shown: paths and queries of webhooks are often secrets.
"""

from __future__ import annotations

import hmac
import re
from email.utils import parsedate_to_datetime
from hashlib import sha256
from ipaddress import ip_address
from typing import Final, Literal, NamedTuple
from urllib.parse import quote

import aiohttp
from yarl import URL

from operators.base import Clock
from stream.errors import UsageError

MOST_WAIT_S: Final = 3_600.0
"""Longest Retry-After that is honoured; a server that asks for more is asked again after this."""

MOST_HOPS: Final = 3
"""Redirects followed, all within the same origin."""

LEAST_SECRET: Final = 16
"""Shortest secret, bytes: a shorter one can be guessed from one signature."""

AGAIN: Final = frozenset({408, 425, 429})
"""Statuses below 500 that a later try may not meet."""


class Answer(NamedTuple):
    """What came of a delivery. `said`: one line without secrets. `wait_s`: the server asked for so much patience."""

    verdict: Literal["delivered", "again", "refused"]
    said: str
    wait_s: float | None = None


def sign(secret: bytes, timestamp_s: int, body: bytes) -> str:
    """The `Affect-Signature` of a body sent at `timestamp_s`: `v1=` and the hex HMAC-SHA256 of `TIMESTAMP.BODY`.

    >>> sign(b"0123456789abcdef", 1, b"{}")[:12]
    'v1=2af693cb5'
    """
    return "v1=" + hmac.new(secret, b"%d." % timestamp_s + body, sha256).hexdigest()


class Webhook:
    """An address that takes POSTs. One event loop owns it; the connection is kept and made anew when lost.

    Args:
        url: https://, or http:// to this machine. Never shown whole.
        secret: signs every request; None = unsigned.
        clock: wall clock, for signatures and Retry-After dates.
        timeout_s: longest a delivery may take, redirects apart.
        plain_http: allow http:// to other machines.

    Raises:
        UsageError: no such address, plain http to another machine, or a secret that is too short.
    """

    def __init__(
        self, url: str, secret: bytes | None, clock: Clock, timeout_s: float = 10.0, plain_http: bool = False
    ) -> None:
        try:
            self._url = URL(url)
            self.where = str(self._url.origin())
        except ValueError:
            raise UsageError("webhook: expected https://HOST/PATH, got no such address") from None
        if self._url.scheme not in ("http", "https"):
            raise UsageError(f"webhook: expected https://HOST/PATH, got {self._url.scheme}://...")
        if self._url.scheme == "http" and not plain_http and not _is_here(self._url.host or ""):
            raise UsageError(
                f"webhook {self.where}: http would show alerts to the network; use https (or --plain-http)"
            )
        if secret is not None and len(secret) < LEAST_SECRET:
            raise UsageError(f"webhook secret: expected at least {LEAST_SECRET} bytes, got {len(secret)}")
        self._secret = secret
        self._clock = clock
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._held: aiohttp.ClientSession | None = None

    async def post(self, key: str, body: bytes) -> Answer:
        """Send JSON `body` once. `key`: equal for every delivery of the same thing, so that a receiver can tell."""
        url = self._url
        for _ in range(MOST_HOPS + 1):
            try:
                async with self._session().post(
                    url, data=body, headers=self._headers(key, body), allow_redirects=False
                ) as answer:
                    status, headers = answer.status, answer.headers  # the body is not read: it is of no use here
            except (aiohttp.ClientError, OSError, TimeoutError) as problem:
                return Answer("again", f"{self.where}: {self._meaning(problem)}")
            place = headers.get("Location")
            if status not in (307, 308) or place is None:
                return self._verdict(status, headers.get("Retry-After"))
            try:
                url = url.join(URL(place))
                near = url.origin() == self._url.origin()
            except ValueError:
                near = False
            if not near:
                return Answer("refused", f"{self.where}: {status}, a redirect to another origin; not followed")
        return Answer("refused", f"{self.where}: more than {MOST_HOPS} redirects")

    async def close(self) -> None:
        """Close the connection. Idempotent."""
        held, self._held = self._held, None
        if held is not None:
            await held.close()

    def _session(self) -> aiohttp.ClientSession:
        if self._held is None:
            self._held = aiohttp.ClientSession(
                timeout=self._timeout, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False
            )
        return self._held

    def _headers(self, key: str, body: bytes) -> dict[str, str]:
        now = self._clock.now_ms() // 1000
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "affectstream",
            "Idempotency-Key": quote(key, safe="|:*.-_@ "),
            "Affect-Timestamp": str(now),
        }
        if self._secret is not None:
            headers["Affect-Signature"] = sign(self._secret, now, body)
        return headers

    def _verdict(self, status: int, wait: str | None) -> Answer:
        said = f"{self.where}: {status}"
        if 200 <= status < 300:
            return Answer("delivered", said)
        if status >= 500 or status in AGAIN:
            return Answer("again", said, self._patience(wait))
        if 300 <= status < 400:
            return Answer("refused", f"{said}, a redirect that would not carry the alert; not followed")
        return Answer("refused", said)

    def _patience(self, wait: str | None) -> float | None:
        """Seconds a Retry-After header asks for; None where there is none that can be read."""
        if wait is None:
            return None
        if re.fullmatch(r"[0-9]{1,9}", wait.strip()):
            return min(float(wait), MOST_WAIT_S)
        try:
            left = parsedate_to_datetime(wait).timestamp() - self._clock.now_ms() / 1000
        except (ValueError, OverflowError):
            return None
        return min(max(left, 0.0), MOST_WAIT_S)

    def _meaning(self, problem: BaseException) -> str:
        # Not str(problem): some of aiohttp's messages hold the whole address.
        if isinstance(problem, aiohttp.ClientConnectorCertificateError):
            return "its certificate is not trusted here; SSL_CERT_FILE names other authorities"
        if isinstance(problem, TimeoutError):
            return f"no answer within {self._timeout.total:g} s"
        if isinstance(problem, OSError) and problem.strerror:
            return problem.strerror[:200]
        return f"no answer ({type(problem).__name__})"


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
