"""The door to `grafana-api`: dashboards, folder, data sources into a Grafana, by calls that Grafana 13 still has.

The library is of 2020 and blocks, so it runs in a thread. Used of it: folders and dashboards by uid, and its raw call
for `/datasources/uid/...` and `/health`; not its data sources by number, which Grafana 13 switches off.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from engines.errors import MissingExtra
from stream.dashboard_target import DataSource, Outcome
from stream.errors import StreamError, UsageError
from stream.panels import Json

T = TypeVar("T")

WAITS_S: Final = (0.25, 0.5, 1.0, 2.0)
"""Before each further try of a call that a later one may not fail at; then it is given up."""
LONGEST_S: Final = 10.0
"""A call may take so long."""
AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
TAKEN: Final = (HTTPStatus.CONFLICT, HTTPStatus.PRECONDITION_FAILED)


class GrafanaApi:
    """A Grafana at `url`, as `DashboardTarget` wants it. One call at a time.

    Args:
        url: http(s)://HOST[:PORT][/PATH], no password in it; plain http only to this machine unless `plain_http`, since
            the token would be read on the way.
        token: of a service account that may edit; never in a message.

    Raises:
        UsageError: no such address, or no token. MissingExtra: `grafana-api` is not installed.
    """

    def __init__(self, url: str, token: str, plain_http: bool = False, waits_s: tuple[float, ...] = WAITS_S) -> None:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            host, port = "", None
        if not host or parts.scheme not in ("http", "https") or "@" in parts.netloc or parts.query:
            raise UsageError("--url: expected http(s)://HOST:PORT of a Grafana, without user, password or query")
        if parts.scheme == "http" and host not in LOOPBACK and not plain_http:
            raise UsageError(f"--url http://{host}: the token would be read on the way; use https (or --plain-http)")
        if not token.isascii() or not token.isprintable() or not token or " " in token:
            raise UsageError("token: expected the token of a service account: printable ASCII, no spaces")
        try:
            from grafana_api.grafana_face import GrafanaFace
        except ImportError as missing:
            raise MissingExtra(f"{missing.name} is not installed: pip install 'affectstream[grafana]'") from None
        prefix = f"{parts.path.strip('/')}/" if parts.path.strip("/") else ""
        name = f"[{host}]" if ":" in host else host
        self.where = f"{parts.scheme}://{name}{f':{port}' if port else ''}{f'/{prefix}' if prefix else ''}".rstrip("/")
        self._face: Any = GrafanaFace(
            auth=token, host=name, port=port, url_path_prefix=prefix, protocol=parts.scheme, timeout=LONGEST_S
        )
        self._face.api.s.max_redirects = 0  # followed, a POST would become a GET
        self._waits_s = waits_s

    async def health(self) -> str:
        """See `DashboardTarget`. Needs no token; a wrong one is found out by the first call that does."""
        told = await self._call(lambda: self._face.api.GET("/health"))
        if not isinstance(told, dict) or "database" not in told:
            raise StreamError(f"{self.where}: /api/health is not that of a Grafana; check --url")
        return str(told.get("version", ""))

    async def folder(self, uid: str, title: str) -> Outcome:
        if await self._call(lambda: self._face.folder.get_folder(uid), missing=True) is not None:
            return "unchanged"
        made = await self._call(lambda: self._face.folder.create_folder(title, uid), taken=True)
        if made is None and await self._call(lambda: self._face.folder.get_folder(uid), missing=True) is None:
            raise StreamError(f"{self.where}: a folder {title!r} with another uid is in the way; rename or remove it")
        return "made"

    async def data_source(self, source: DataSource) -> Outcome:
        path, body = f"/datasources/uid/{source.uid}", source.json()
        if await self._call(lambda: self._face.api.GET(path), missing=True) is None:
            if await self._call(lambda: self._face.datasource.create_datasource(body), taken=True) is not None:
                return "made"
            if await self._call(lambda: self._face.api.GET(path), missing=True) is None:
                raise StreamError(
                    f"{self.where}: a data source {source.uid!r} with another uid is in the way; rename or remove it"
                )
        # What Grafana holds tells no secret, so nothing says that it is up to date: it is written each time.
        await self._call(lambda: self._face.api.PUT(path, json=body))
        return "replaced"

    async def dashboard(self, dashboard: Json, folder_uid: str, overwrite: bool) -> Outcome:
        uid = str(dashboard["uid"])
        held = await self._call(lambda: self._face.dashboard.get_dashboard(uid), missing=True)
        if held is not None and _build(held.get("dashboard")) == _build(dashboard):
            return "unchanged"
        body = {
            "dashboard": dashboard | {"id": None}, "folderUid": folder_uid, "overwrite": overwrite,
            "message": "affect dashboards push",
        }  # fmt: skip
        if await self._call(lambda: self._face.dashboard.update_dashboard(body), taken=True) is None:
            raise StreamError(
                f"{self.where}: dashboard {uid!r} is there already and is another one; look at what was changed in it, "
                "then say --overwrite to replace it"
            )
        return "made" if held is None else "replaced"

    async def close(self) -> None:
        await asyncio.to_thread(self._face.api.s.close)

    async def _call(self, act: Callable[[], T], missing: bool = False, taken: bool = False) -> T | None:
        """Do it in a thread, again where that may help. None: it is not there (`missing`) or in the way (`taken`)."""
        return await asyncio.to_thread(self._steadily, act, missing, taken)

    def _steadily(self, act: Callable[[], T], missing: bool, taken: bool) -> T | None:
        from grafana_api.grafana_api import GrafanaException

        for wait_s in (*self._waits_s, None):
            try:
                return act()
            except GrafanaException as refused:
                status = int(refused.status_code)
                if (missing and status == HTTPStatus.NOT_FOUND) or (taken and status in TAKEN):
                    return None
                trouble, hopeless = self._meaning(status, refused.message), status not in AGAIN
            except (OSError, TypeError, ValueError) as problem:
                # What requests raises are OSErrors. The library looks for "message" in whatever came: an answer that is
                # no JSON object ends in one of the other two.
                name, hopeless = type(problem).__name__, not _may_pass(problem)
                trouble = f"{self.where}: {_SAID.get(name, f'no answer as a Grafana gives it ({name})')}; check --url"
            if hopeless or wait_s is None:
                break
            time.sleep(wait_s)
        raise StreamError(trouble)

    def _meaning(self, status: int, said: str) -> str:
        """One line of a refusal."""
        if status == HTTPStatus.UNAUTHORIZED:
            return f"{self.where}: 401, the token is wrong, expired or of another Grafana"
        if status == HTTPStatus.FORBIDDEN:
            return f"{self.where}: 403, the token's service account may not do this; data sources need the role Admin"
        if status == HTTPStatus.NOT_FOUND:
            return f"{self.where}: 404, no such route; check --url, it ends before /api"
        return f"{self.where}: {re.sub(r'[^ -~]+', ' ', str(said))[:200]}"


_SAID: Final = {
    "ConnectionError": "nobody answers",
    "ConnectTimeout": "nobody answers",
    "ReadTimeout": f"no answer in {LONGEST_S:.0f} s",
    "SSLError": "its certificate is not trusted here",
    "TooManyRedirects": "it redirects elsewhere",
}


def _may_pass(problem: Exception) -> bool:
    return type(problem).__name__ in ("ConnectionError", "ConnectTimeout", "ReadTimeout", "TypeError")


def _build(dashboard: object) -> str | None:
    """The tag that says which build of ours it is; None: it is not ours."""
    tags = dashboard.get("tags") if isinstance(dashboard, dict) else None
    return next((t for t in tags or () if str(t).startswith("build-")), None)
