"""Where dashboards go: the port that an adapter to a Grafana fills, and what is brought there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias
from urllib.parse import parse_qsl, unquote, urlsplit

from stream.errors import UsageError
from stream.panels import POSTGRES, PROMETHEUS, Json

Outcome: TypeAlias = Literal["made", "replaced", "unchanged"]


@dataclass(frozen=True, slots=True)
class DataSource:
    """What panels ask. `secret` goes to Grafana and is shown nowhere."""

    uid: str
    kind: str
    url: str
    user: str = ""
    settings: Json = field(default_factory=dict)
    secret: str | None = field(default=None, repr=False)

    def json(self) -> Json:
        """As Grafana's API takes it. It is called what its uid says, as the provisioned one is."""
        made: Json = {
            "uid": self.uid, "name": self.uid, "type": self.kind, "access": "proxy", "url": self.url,
            "user": self.user, "isDefault": False, "jsonData": self.settings,
        }  # fmt: skip
        return made if self.secret is None else made | {"secureJsonData": {"password": self.secret}}


class DashboardTarget(Protocol):
    """A Grafana. Every call may be made again and leaves the same behind.

    Raises, all of them: StreamError in one line, without a secret: refused, not there, or no Grafana.
    """

    async def health(self) -> str:
        """Its version, "" where it does not say."""

    async def folder(self, uid: str, title: str) -> Outcome:
        """Make the folder if it is missing."""

    async def data_source(self, source: DataSource) -> Outcome:
        """Make the data source, or bring the one of that uid up to date."""

    async def dashboard(self, dashboard: Json, folder_uid: str, overwrite: bool) -> Outcome:
        """Put a dashboard into the folder. Another one of its uid is an error and is kept, unless `overwrite`."""

    async def close(self) -> None:
        """Let go of the connection. Idempotent."""


def prometheus_source(url: str) -> DataSource:
    """Prometheus at `url`, as Grafana reaches it.

    Raises:
        UsageError: no such address.
    """
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname or "@" in url:
        raise UsageError("--prometheus: expected http(s)://HOST:PORT without a password, as Grafana reaches it")
    return DataSource(
        str(PROMETHEUS["uid"]), str(PROMETHEUS["type"]), url, settings={"httpMethod": "POST", "timeInterval": "10s"}
    )


def postgres_source(dsn: str) -> DataSource:
    """PostgreSQL by its connection string, `postgresql://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=...`.

    Raises:
        UsageError: it is none; the message does not show it.
    """
    try:
        parts = urlsplit(dsn)
        known, port = parts.scheme in ("postgresql", "postgres"), parts.port or 5432
    except ValueError:
        known, port = False, 0
    database = unquote(parts.path.lstrip("/")) if known else ""
    if not known or not parts.hostname or not parts.username or not database:
        raise UsageError("--postgres: expected postgresql://USER:PASSWORD@HOST:PORT/DATABASE in that variable")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    options = dict(parse_qsl(parts.query))
    return DataSource(
        str(POSTGRES["uid"]), str(POSTGRES["type"]), f"{host}:{port}", unquote(parts.username),
        {"database": database, "sslmode": options.get("sslmode", "verify-full")},
        unquote(parts.password) if parts.password else None,
    )  # fmt: skip
