"""The line to a Kafka cluster: connections, leaders, retries for a while, and Kafka's errors in our words.

aiokafka gives connections, wire formats and metadata. Its consumer and producer are not used: a consumer answers
"nothing came" both at the end of a partition and while the broker is down, and a producer goes on delivering what we
have given up; a log has to know which it is. A request here is answered, or raises.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import aiokafka.errors as kafka_errors
import cramjam  # noqa: F401  zstd for aiokafka, which finds out too late that it is not there
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection, collect_hosts
from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.structs import TopicPartition

from stream.errors import LogError, LogUnavailable

T = TypeVar("T")

RETRY_S = 0.1
MOVED = {3, 5, 6, 9, 56, 74, 75, 78, 103}
"""Codes that say: the metadata is old, ask again (leader moved, not there yet, starting)."""
WAIT = {7, 8, 13, 14, 15, 16, 19, 20, 27, 41, 51}
"""Codes that say: later (loading, no coordinator yet, too few replicas, timed out)."""
MECHANISMS = ("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN")
DENIED = {29: "topic", 30: "group", 31: "cluster", 53: "transactional id", 65: "delegation token"}

# Every failure comes back as an error of ours; aiokafka's own lines would repeat it ten times a second.
if logging.getLogger("aiokafka").level == logging.NOTSET:
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


@dataclass(frozen=True, slots=True)
class Access:
    """Where the cluster is and how one gets in. `password` is never shown.

    Args:
        bootstrap: "host:port[,host:port]".
        security: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL.
        mechanism: SCRAM-SHA-512, SCRAM-SHA-256 or PLAIN; with SASL only.
        cafile: PEM of the authority to trust; None = the system's.
    """

    bootstrap: str
    security: str = "PLAINTEXT"
    mechanism: str = "SCRAM-SHA-512"
    cafile: str | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    def check(self) -> Access:
        """Refuse what cannot work, before any connection is made."""
        if self.security not in ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"):
            raise LogError(f"security={self.security}: expected PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL")
        if self.mechanism not in MECHANISMS:
            raise LogError(f"mechanism={self.mechanism}: expected {', '.join(MECHANISMS)}")
        if self.security.startswith("SASL") and (self.user is None or self.password is None):
            raise LogError(
                f"security={self.security} needs a user and a password; set AFFECT_KAFKA_USER and AFFECT_KAFKA_PASSWORD"
            )
        return self

    def options(self) -> dict[str, Any]:
        """Keyword arguments of an aiokafka connection."""
        found: dict[str, Any] = {"security_protocol": self.security}
        if self.security.startswith("SASL"):
            found |= {
                "sasl_mechanism": self.mechanism,
                "sasl_plain_username": self.user,
                "sasl_plain_password": self.password,
            }
        if self.security.endswith("SSL"):
            try:
                found["ssl_context"] = ssl.create_default_context(cafile=self.cafile)
            except (OSError, ssl.SSLError) as error:
                raise LogError(f"cafile={self.cafile}: cannot be read as certificates ({error})") from error
        return found


class Refused(Exception):
    """A broker answered with an error code."""

    def __init__(self, code: int, about: str, detail: str | None = None) -> None:
        name = kafka_errors.for_code(code).__name__
        super().__init__(f"{about}: {name} [{code}]" + (f" {detail}" if detail else ""))
        self.code = code
        self.about = about


def expect(code: int, about: str, detail: str | None = None) -> None:
    """Raise `Refused` unless `code` is 0."""
    if code != 0:
        raise Refused(code, about, detail)


class Wire:
    """Connections to one cluster. Nothing is opened before the first request; one event loop owns it.

    Args:
        patience_s: how long a request is tried again (leader moves, restarts) before it is `LogUnavailable`.
    """

    def __init__(self, access: Access, patience_s: float = 10.0) -> None:
        self.access = access.check()
        self.patience_s = patience_s
        self.closed = False
        self._client: AIOKafkaClient | None = None
        self._opening = asyncio.Lock()
        self._coordinators: dict[str, int] = {}
        self._diagnosed_at = float("-inf")

    @property
    def where(self) -> str:
        return f"kafka://{self.access.bootstrap}"

    def new_client(self) -> AIOKafkaClient:
        """A client of its own, not yet connected."""
        return AIOKafkaClient(
            bootstrap_servers=self.access.bootstrap,
            client_id="affectstream",
            request_timeout_ms=max(5_000, int(self.patience_s * 1000)),
            metadata_max_age_ms=30_000,
            **self.access.options(),
        )

    async def client(self) -> AIOKafkaClient:
        """The connected client; connects if need be."""
        self.check_open()
        async with self._opening:
            if self._client is None:
                await self.knock()
                client = self.new_client()
                try:
                    await client.bootstrap()
                    await client.force_metadata_update()
                except BaseException:
                    await client.close()
                    raise
                self._client = client
            self.check_open()
            return self._client

    def check_open(self) -> None:
        if self.closed:
            raise LogError(f"{self.where}: log is closed; open a new one")

    async def close(self) -> None:
        self.closed = True
        async with self._opening:
            client, self._client = self._client, None
            if client is not None:
                await client.close()

    async def steady(self, act: Callable[[], Awaitable[T]], what: str) -> T:
        """`act`, again and again for `patience_s` while the trouble is one that passes.

        Raises:
            LogUnavailable: it did not pass in time.
            LogError: it never will (password, certificate, access list, a refused value).
        """
        deadline = time.monotonic() + self.patience_s
        while True:
            self.check_open()
            try:
                return await act()
            except (kafka_errors.KafkaError, Refused, OSError, TimeoutError) as error:
                self.check_open()
                self._judge(error, what)
                if not isinstance(error, Refused):
                    await self.diagnose()
                if time.monotonic() >= deadline:
                    raise LogUnavailable(
                        f"{self.where}: {what}: {_said(error)}; tried for {self.patience_s:g} s"
                    ) from error
                if not isinstance(error, Refused) or error.code in MOVED:
                    await self.refresh()
            await asyncio.sleep(RETRY_S)

    def _judge(self, error: BaseException, what: str) -> None:
        """Raise at once where trying again cannot help."""
        code = error.code if isinstance(error, Refused) else getattr(error, "errno", None)
        if code in DENIED and isinstance(error, Refused | kafka_errors.KafkaError):
            raise LogError(
                f"{self.where}: {what}: not allowed ({_said(error)}); give user {self.access.user!r} an access list "
                f"entry (ACL) for this {DENIED[code]}"
            ) from error
        if isinstance(error, Refused) and error.code not in MOVED | WAIT:
            raise LogError(f"{self.where}: {what}: {_said(error)}") from error
        refusal = _refusal(error, self.access)
        if refusal is not None:
            raise LogError(f"{self.where}: {refusal}") from error

    async def diagnose(self) -> None:
        """Where connections fail, find out whether that is for good: knock once more, and listen to the reason."""
        if time.monotonic() - self._diagnosed_at >= 1.0:
            self._diagnosed_at = time.monotonic()
            with contextlib.suppress(kafka_errors.KafkaError, OSError, TimeoutError):
                await self.knock()

    async def knock(self) -> None:
        """Connect to any of the servers and hang up.

        Raises:
            LogError: it can never work, and why.
            KafkaError, OSError, TimeoutError: it may work later.
        """
        options = self.access.options()
        failure: BaseException = kafka_errors.NodeNotReadyError("no server is given")
        for host, port, _ in collect_hosts(self.access.bootstrap):
            try:
                await _try(host, port, **options)
            except (kafka_errors.KafkaError, OSError, TimeoutError, ValueError) as error:
                failure = error
                refusal = _refusal(error, self.access)
                if refusal is None and not isinstance(error, ConnectionRefusedError):
                    refusal = await _other_language(host, port, self.access.security)
                if refusal is not None:
                    raise LogError(f"{self.where}: {host}:{port}: {refusal}") from error
            else:
                return
        raise failure

    async def refresh(self) -> None:
        """Fetch the metadata anew, as far as a broker answers."""
        client = self._client
        if client is not None:
            with contextlib.suppress(TimeoutError, asyncio.TimeoutError, kafka_errors.KafkaError):
                await asyncio.wait_for(client.force_metadata_update(), 3.0)

    async def ask(self, node: int, request: object) -> Any:
        """The answer of broker `node`."""
        client = await self.client()
        return await client.send(node, request)

    async def ask_any(self, request: object) -> Any:
        """The answer of whichever broker."""
        client = await self.client()
        node = client.get_random_node()
        if node is None:
            raise kafka_errors.NodeNotReadyError("no broker is known")
        return await client.send(node, request)

    async def ask_controller(self, request: object) -> Any:
        """The answer of the broker that makes topics."""
        client = await self.client()
        controller = client.cluster.controller
        if controller is None:
            raise kafka_errors.NodeNotReadyError("no controller is known")
        return await client.send(controller.nodeId, request)

    async def ask_coordinator(self, group: str, request: object) -> Any:
        """The answer of the broker that keeps `group`; `forget` it where the answer says it moved."""
        node = self._coordinators.get(group)
        if node is None:
            found = await self.ask_any(FindCoordinatorRequest(group, 0))
            expect(found.error_code, f"group {group!r}")
            node = self._coordinators[group] = found.coordinator_id
        try:
            return await self.ask(node, request)
        except BaseException:
            self.forget(group)
            raise

    def forget(self, group: str) -> None:
        self._coordinators.pop(group, None)

    async def leader(self, topic: str, partition: int) -> int:
        """The broker that leads a partition."""
        client = await self.client()
        leader: int | None = client.cluster.leader_for_partition(TopicPartition(topic, partition))
        if leader is None or leader < 0:
            raise Refused(5, f"{topic}[{partition}]", "no leader now")
        return leader

    async def brokers(self) -> int:
        """How many brokers there are."""
        return len((await self.client()).cluster.brokers())

    async def partitions(self) -> dict[str, int]:
        """How many partitions each topic has; as last heard."""
        cluster = (await self.client()).cluster
        return {name: len(cluster.partitions_for_topic(name) or ()) for name in cluster.topics()}

    async def count(self, topic: str, partition: int = 0) -> int | None:
        """How many partitions `topic` has, None = no such topic. Asks anew where `partition` seems not to be there."""

        async def look() -> int | None:
            found = (await self.client()).cluster.partitions_for_topic(topic)
            return None if found is None else len(found)

        count = await self.steady(look, "topics")
        if count is None or not 0 <= partition < count:
            # It has to be answered: "not there" is a strong word while no broker can be reached.
            await self.steady(self.heard, "topics")
            count = await self.steady(look, "topics")
        return count

    async def heard(self) -> None:
        """Fetch the metadata anew; raises where no broker answers."""
        client = await self.client()
        if not await asyncio.wait_for(client.force_metadata_update(), 5.0):
            raise kafka_errors.NodeNotReadyError("no broker answers")


def _said(error: BaseException) -> str:
    text = str(error)
    name = type(error).__name__
    return text if isinstance(error, Refused) else f"{name}: {text}" if text else name


def _refusal(error: BaseException, access: Access) -> str | None:
    """Why a connection can never work, naming the setting; None where it may."""
    if isinstance(error, kafka_errors.SaslAuthenticationFailed | kafka_errors.AuthenticationFailedError):
        return (
            f"the broker refuses user {access.user!r} ({access.mechanism}): wrong user or password; "
            f"see AFFECT_KAFKA_USER and AFFECT_KAFKA_PASSWORD"
        )
    if isinstance(error, kafka_errors.UnsupportedSaslMechanismError):
        known = " or ".join(m for m in MECHANISMS if m != access.mechanism)
        return f"mechanism={access.mechanism} is not one this broker takes; expected {known}"
    if isinstance(error, kafka_errors.IllegalSaslStateError):
        return f"security={access.security}: the broker asks for no password here; expected SSL or PLAINTEXT"
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"cafile={access.cafile}: the broker's certificate is not signed by it, or made out to another name "
            f"({error.verify_message})"
        )
    if isinstance(error, ssl.SSLError) and error.reason == "WRONG_VERSION_NUMBER":
        return f"security={access.security}: this port does not speak TLS; expected PLAINTEXT or SASL_PLAINTEXT"
    return None


async def _try(host: str, port: int, **options: Any) -> None:
    """Connect, log in, hang up, and see the line closed; raises what went wrong."""
    connection = AIOKafkaConnection(host, port, client_id="affectstream", request_timeout_ms=3_000, **options)
    try:
        await connection.connect()
    finally:
        closed = connection.close()
        if connection._protocol is not None:  # it got as far as a line
            await asyncio.wait((closed,), timeout=1.0)


async def _other_language(host: str, port: int, security: str) -> str | None:
    """Whether a port that hangs up speaks TLS where we do not, or the other way round; what to set instead."""
    if security.endswith("SSL"):
        try:
            await _try(host, port)
        except (kafka_errors.KafkaError, OSError, TimeoutError):
            return None
        return f"security={security}: this port does not speak TLS; expected PLAINTEXT or SASL_PLAINTEXT"
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, port, ssl=context), 2.0)
    except (OSError, TimeoutError):
        return None
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return f"security={security}: this port speaks TLS; expected SSL or SASL_SSL"
