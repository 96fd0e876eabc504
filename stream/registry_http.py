"""The door to a Confluent-compatible schema registry: the genuine client, on a leash.

The client (confluent-kafka) reads bodies of any size, waits for ever by default and sleeps between retries. Here its
session is replaced by one whose bodies and times are bounded, that follows no redirect and unpacks no compression.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final, TypeVar
from urllib.parse import urlsplit

import httpx2
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from operators.errors import ConfigInvalid, SchemaUnknown
from stream.errors import UsageError
from stream.registry_base import RegistryUnavailable

T = TypeVar("T")

MAX_BODY: Final = 1 << 20
"""Largest answer. The largest schema admitted is 256 KiB of text, at most doubled by JSON quoting."""

NOT_THERE: Final = frozenset({40401, 40402, 40403})
"""Error codes of a registry that has no such subject, version or schema; any other 404 is not from a registry."""

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class RegistryAccess:
    """Who we are to the registry: a user and password, or a bearer token, or nobody. Never shown."""

    user: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> RegistryAccess:
        """From AFFECT_REGISTRY_USER and AFFECT_REGISTRY_PASSWORD, or AFFECT_REGISTRY_TOKEN.

        Raises:
            UsageError: a user without a password, or both ways at once.
        """
        given = os.environ if env is None else env
        names = [f"AFFECT_REGISTRY_{n}" for n in ("USER", "PASSWORD", "TOKEN")]
        user, password, token = (given.get(n) or None for n in names)
        if (user is None) != (password is None):
            raise UsageError("schema registry: AFFECT_REGISTRY_USER and AFFECT_REGISTRY_PASSWORD go together; set both")
        if user is not None and token is not None:
            raise UsageError("schema registry: expected a user or a token, got both; unset AFFECT_REGISTRY_TOKEN")
        return cls(user, password, token)


class RegistryHttp:
    """A schema registry over HTTP. Not thread-safe: one call at a time.

    Args:
        url: `http(s)://HOST[:PORT][/PATH]`, without user and password.
        access: who we are.
        ca: file of certificate authorities, "" = the usual ones.
        timeout_s: longest wait for one read or connect.
        deadline_s: longest a call takes in all; bounds a registry that sends a byte now and then.
        max_body: largest answer, bytes.

    Raises:
        UsageError: an address that cannot work, or a secret that would travel in the clear.
    """

    def __init__(
        self,
        url: str,
        access: RegistryAccess = RegistryAccess(),
        ca: str = "",
        timeout_s: float = 2.0,
        deadline_s: float = 4.0,
        max_body: int = MAX_BODY,
    ) -> None:
        self._address = _checked(url, access)
        self._timeout_s, self._deadline_s, self._max_body = timeout_s, deadline_s, max_body
        settings: dict[str, object] = {"url": self._address, "max.retries": 0, "timeout": timeout_s}
        if ca:
            settings["ssl.ca.location"] = ca
        if access.user is not None:
            settings["basic.auth.user.info"] = f"{access.user}:{access.password}"
        self._headers = {"Accept-Encoding": "identity"}
        if access.token is not None:
            self._headers["Authorization"] = f"Bearer {access.token}"
        try:
            self._client = SchemaRegistryClient(settings)
        except OSError as problem:
            raise UsageError(f"registry.ca: cannot be read: {problem.strerror or problem}") from None
        self._session()

    @property
    def address(self) -> str:
        """The url."""
        return self._address

    def close(self) -> None:
        """Close the connections. Idempotent."""
        self._client._rest_client.session.close()

    def schema(self, schema_id: int) -> str | None:
        """See `RemoteRegistry`."""
        found = self._call(lambda: self._client.get_schema(schema_id))
        return None if found is None else _avro_text(found, f"schema id {schema_id}")

    def find(self, subject: str, schema: str) -> int | None:
        """See `RemoteRegistry`."""
        found = self._call(lambda: self._client.lookup_schema(subject, Schema(schema, "AVRO")))
        return None if found is None else self._id(found.schema_id)

    def register(self, subject: str, schema: str) -> int:
        """See `RemoteRegistry`."""
        found = self._call(lambda: self._client.register_schema_full_response(subject, Schema(schema, "AVRO")))
        return self._id(None if found is None else found.schema_id)

    def latest(self, subject: str) -> tuple[int, str] | None:
        """See `RemoteRegistry`."""
        self._client.clear_latest_caches()  # type: ignore[no-untyped-call]
        found = self._call(lambda: self._client.get_latest_version(subject))
        if found is None:
            return None
        return self._id(found.schema_id), _avro_text(found.schema, f"subject {subject!r}")

    def _session(self) -> None:
        """Give the client a session on the leash. It is asked a few times in a life, so no connection is kept."""
        rest = self._client._rest_client
        rest.session.close()
        limits = httpx2.Limits(max_keepalive_connections=0)
        rest.session = httpx2.Client(
            transport=_Bounded(httpx2.HTTPTransport(verify=rest.verify, limits=limits), self._max_body),
            auth=rest.auth,
            headers=self._headers,
            timeout=self._timeout_s,
            follow_redirects=False,
        )

    def _id(self, given: object) -> int:
        if type(given) is not int or not 0 <= given < 2**31:
            raise self._unusable(f"expected a schema id, got {given!r:.40}")
        return given

    def _call(self, act: Callable[[], T]) -> T | None:
        try:
            return self._in_time(act)
        except SchemaRegistryError as problem:
            self._refuse(problem)
            return None
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as problem:
            # Not chained: a foreign trace may quote headers.
            raise self._unusable(f"{type(problem).__name__}: {problem}") from None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as problem:
            raise self._unusable(f"no answer of a schema registry ({type(problem).__name__})") from None

    def _refuse(self, problem: SchemaRegistryError) -> None:
        """Raise what an error answer means; returns where it means that there is no such thing."""
        status, code = problem.http_status_code, problem.error_code
        said = f"{problem.error_message!r:.200}"
        if status == 404 and code in NOT_THERE:
            return
        if status in (401, 403):
            raise UsageError(
                f"schema registry {self._address} answers {status}: not allowed; see AFFECT_REGISTRY_USER and "
                "AFFECT_REGISTRY_PASSWORD, or AFFECT_REGISTRY_TOKEN, and the rights of that account"
            )
        if status in (409, 422):
            raise ConfigInvalid(f"schema registry {self._address} refuses the schema: {said}")
        if 300 <= status < 400:
            raise self._unusable(f"it redirects ({status}), which is not followed; set registry.url to the final place")
        if status == 404:
            raise self._unusable("404, but not as a schema registry says it; check the path in registry.url")
        raise self._unusable(f"status {status}: {said}")

    def _unusable(self, why: str) -> RegistryUnavailable:
        return RegistryUnavailable(f"schema registry {self._address}: {why:.300}")

    def _in_time(self, act: Callable[[], T]) -> T:
        """Run `act` for at most the deadline. Its thread ends with the session it reads from."""
        done: Future[T] = Future()

        def run() -> None:
            try:
                done.set_result(act())
            except BaseException as problem:  # carried over to the caller's thread
                done.set_exception(problem)

        threading.Thread(target=run, daemon=True, name="affect-registry").start()
        try:
            return done.result(self._deadline_s)
        except TimeoutError:
            if done.done():
                raise
            self._session()
            raise self._unusable(f"no whole answer within {self._deadline_s:g} s") from None


def _checked(url: str, access: RegistryAccess) -> str:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if parts.username is not None or parts.password is not None:
        raise UsageError("registry.url: expected no user or password in it; set AFFECT_REGISTRY_USER and _PASSWORD")
    if parts.scheme not in ("http", "https") or host is None or parts.query or parts.fragment or "," in url:
        raise UsageError(f"registry.url: expected http(s)://HOST[:PORT][/PATH], got {url!r}")
    secret = access.password is not None or access.token is not None
    if secret and parts.scheme == "http" and host not in LOOPBACK:
        raise UsageError(f"registry.url {url!r}: a password or token would travel in the clear; use https://")
    return url.rstrip("/")


def _avro_text(found: Schema, what: str) -> str:
    if found.schema_type not in (None, "AVRO"):
        raise SchemaUnknown(f"{what}: expected an Avro schema, got {found.schema_type!r:.40}")
    if found.references:
        raise SchemaUnknown(f"{what}: refers to other subjects; register it as one whole schema")
    if not isinstance(found.schema_str, str):
        raise SchemaUnknown(f"{what}: the registry's answer holds no schema text")
    return found.schema_str


class _Bounded(httpx2.BaseTransport):
    """A transport that lets at most `max_bytes` of a body through, and none that is packed."""

    def __init__(self, inner: httpx2.BaseTransport, max_bytes: int) -> None:
        self._inner = inner
        self._max_bytes = max_bytes

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        response = self._inner.handle_request(request)
        if response.headers.get("content-encoding", "identity") != "identity":
            response.close()
            raise httpx2.RemoteProtocolError("a packed body, which was not asked for")
        stream = response.stream
        assert isinstance(stream, httpx2.SyncByteStream)
        bounded = _BoundedStream(stream, self._max_bytes)
        return httpx2.Response(
            response.status_code, headers=response.headers, stream=bounded, extensions=response.extensions
        )

    def close(self) -> None:
        self._inner.close()


class _BoundedStream(httpx2.SyncByteStream):
    def __init__(self, inner: httpx2.SyncByteStream, max_bytes: int) -> None:
        self._inner = inner
        self._left = max_bytes

    def __iter__(self) -> Iterator[bytes]:
        for part in self._inner:
            self._left -= len(part)
            if self._left < 0:
                raise httpx2.RemoteProtocolError("a body longer than any schema")
            yield part

    def close(self) -> None:
        self._inner.close()
