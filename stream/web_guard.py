"""Who may ask: this machine's names, the page's own origin, and whoever has the token where there is one."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import socket
from urllib.parse import urlsplit

from aiohttp import web

from stream.errors import UsageError
from stream.web_ask import Handler, error_answer

WILDCARDS = ("0.0.0.0", "::", "")
SHORTEST_TOKEN = 16
PAGES = ("/", "/teach")
"""Where a token in the address becomes a cookie."""


def is_loopback(host: str) -> bool:
    """True where only programs of this machine can reach `host`."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Guard:
    """Decides on every request before its handler sees it.

    Args:
        host: address listened on; its name is a good one, and so are loopback's and `allowed_hosts`. (A `Host` of
            another name is refused, so that no web site can read the feed by pointing its own name here.)
        token: None = none is asked for. Compared in constant time; a right one in the address of the page becomes a
            cookie no script can read, and leaves the address.
        without_token: the network may read without a token; someone decided so.
        open_paths: answered without a token: health.

    Raises:
        UsageError: the network would read without a token and nobody said it may, or the token is too short.
    """

    def __init__(
        self,
        host: str,
        allowed_hosts: tuple[str, ...] = (),
        token: str | None = None,
        without_token: bool = False,
        open_paths: frozenset[str] = frozenset(),
    ) -> None:
        if token is None and not without_token and not is_loopback(host):
            raise UsageError(
                f"address {host or '*'}: expected loopback (127.0.0.1) where no token is asked for, as everyone on the "
                "network could read the signals; set [web] token_env to the name of an environment variable that "
                "holds a token, or without_token = true"
            )
        if token is not None and (len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable()):
            raise UsageError(
                f"token: expected at least {SHORTEST_TOKEN} printable ASCII characters, got {len(token)}; make one "
                "with: openssl rand -hex 24"
            )
        self._token = None if token is None else _digest(token)
        self._cookie = "" if token is None else f"affect_{_digest('cookie ' + token)[:8]}"
        self._pass = "" if token is None else _digest("page " + token)
        self._open = open_paths
        self._allowed = {"localhost", "127.0.0.1", "::1", host.lower(), *(h.lower() for h in allowed_hosts)}
        self._wildcard = host in WILDCARDS
        if self._wildcard:
            self._allowed.add(socket.gethostname().lower())

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse foreign names and origins, and who has no token; say errors as JSON."""
        if not self._known(request.headers.get("Host", "")):
            return error_answer(
                403, "Host: expected this machine's name or address; set [web] allowed_hosts to add one"
            )
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc.lower() != request.headers["Host"].lower():
            return error_answer(403, "Origin: expected this page's own, got another site's")
        if self._token is not None and request.path not in self._open:
            refused = self._without_token(request)
            if refused is not None:
                return refused
            if request.path in PAGES and "token" in request.query:
                return self._logged_in(request.path)
        try:
            return await handler(request)
        except web.HTTPException as err:
            return error_answer(err.status, f"{request.path[:80]}: {err.reason}")

    def _known(self, header: str) -> bool:
        try:
            name = (urlsplit(f"//{header}").hostname or "").lower()
        except ValueError:
            return False
        if name in self._allowed:
            return True
        return self._wildcard and _is_address(name)  # a bare address cannot be another site's name

    def _without_token(self, request: web.Request) -> web.Response | None:
        """The refusal of a request without the token; None where it has it."""
        scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
        given = bearer.strip() if scheme.lower() == "bearer" else request.query.get("token", "")
        if self._token is not None and hmac.compare_digest(_digest(given), self._token):
            return None
        if hmac.compare_digest(request.cookies.get(self._cookie, "").encode(), self._pass.encode()):
            return None
        got = "another one" if given else "none"
        return error_answer(
            401,
            f"token: expected 'Authorization: Bearer TOKEN' or ?token=TOKEN, got {got}; browsers: open /?token=TOKEN",
            {"WWW-Authenticate": 'Bearer realm="affectstream"', "Cache-Control": "no-store"},
        )

    def _logged_in(self, page: str) -> web.Response:
        answer = web.Response(status=303, headers={"Location": page, "Cache-Control": "no-store"})
        answer.set_cookie(self._cookie, self._pass, httponly=True, samesite="Strict", path="/")
        return answer


def _digest(text: str) -> str:
    # Digests are of one length, so that comparing them tells nothing, not even how long the token is.
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
