"""Getting in: what a wrong password, authority, protocol or access list says, and how soon."""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from aiokafka.protocol.admin import CreateAclsRequest

from stream.base import CommitUnit, Output, TopicSpec
from stream.errors import LogError, LogUnavailable
from stream.kafka import KafkaLog
from stream.kafka_wire import Access, Wire

pytestmark = pytest.mark.broker

ANY, ALLOW, LITERAL, PREFIXED = 1, 3, 3, 4
TOPIC, GROUP, CLUSTER = 2, 3, 4
READ, WRITE, CREATE, DESCRIBE = 3, 4, 5, 8


def access(cluster: Any, **changed: Any) -> Access:
    given: dict[str, Any] = {
        "bootstrap": cluster.bootstrap,
        "security": "SASL_SSL",
        "cafile": str(cluster.cafile),
        "user": "admin",
        "password": "admin-pw",
    }
    return Access(**(given | changed))


def refused(at: Access, said: str) -> None:
    """Every way in says `said`, at once, and not as something to try again."""

    async def test() -> None:
        for call in (
            lambda log: log.ensure([TopicSpec("t")]),
            lambda log: log.read("t", 0, 0, 1),
            lambda log: log.commit(CommitUnit("g", state={"k": b"v"})),
        ):
            log = KafkaLog(at)
            begin = time.monotonic()
            with pytest.raises(LogError, match=said) as caught:
                await call(log)
            assert not isinstance(caught.value, LogUnavailable)
            assert time.monotonic() - begin < 5
            assert "admin-pw" not in str(caught.value)
            await log.close()

    asyncio.run(test())


def test_a_wrong_password_or_user_names_the_variables(guarded: Any) -> None:
    refused(access(guarded, password="wrong"), "refuses user 'admin'.*AFFECT_KAFKA_PASSWORD")
    refused(access(guarded, user="nobody"), "refuses user 'nobody'.*AFFECT_KAFKA_USER")


def test_a_wrong_mechanism_is_named(guarded: Any) -> None:
    refused(access(guarded, mechanism="PLAIN"), "mechanism=PLAIN.*SCRAM-SHA-512")


def test_an_unknown_authority_names_the_setting(guarded: Any, tmp_path: Path) -> None:
    importlib.import_module("affect_kafka_broker").certificates(tmp_path)
    refused(access(guarded, cafile=str(tmp_path / "ca.pem")), f"cafile={tmp_path}/ca.pem: .*not signed by it")
    refused(access(guarded, cafile=None), "cafile=None")


def test_a_file_of_certificates_that_is_none_is_named(guarded: Any, tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("")
    for name in ("empty.pem", "absent.pem"):
        refused(access(guarded, cafile=str(tmp_path / name)), f"cafile={tmp_path}/{name}: cannot be read")


def test_the_wrong_protocol_is_told_from_a_broker_that_is_away(guarded: Any, kafka_bootstrap: str) -> None:
    refused(access(guarded, security="PLAINTEXT"), "security=PLAINTEXT: this port speaks TLS")
    refused(access(guarded, bootstrap=kafka_bootstrap), "security=SASL_SSL: this port does not speak TLS")


async def grant(cluster: Any, resource: int, name: str, operations: Sequence[int], pattern: int = PREFIXED) -> None:
    wire = Wire(access(cluster))
    for operation in operations:
        request = CreateAclsRequest(resource, name, pattern, "User:affect", "*", operation, ALLOW)
        answer = await wire.ask_controller(request)
        assert [found[0] for found in answer.creation_responses] == [0], answer
    await wire.close()
    await asyncio.sleep(0.6)  # until every part of the broker knows


def test_a_missing_access_list_entry_is_named_and_enough_of_them_let_everything_work(guarded: Any, prefix: str) -> None:
    async def must_fail(act: Callable[[], Awaitable[Any]], said: str) -> None:
        begin = time.monotonic()
        with pytest.raises(LogError, match=said) as caught:
            await act()
        assert not isinstance(caught.value, LogUnavailable), caught.value
        assert time.monotonic() - begin < 5

    class Owner:
        async def assigned(self, partitions: Sequence[int], generation: int) -> None: ...

        async def revoked(self, partitions: Sequence[int]) -> None: ...

    async def test() -> None:
        mine = access(guarded, user="affect", password="affect-pw")
        admin, log = KafkaLog(access(guarded), prefix), KafkaLog(mine, prefix)
        unit = CommitUnit("g", {("t", 0): 1}, {"k": b"v"}, [Output("t", 0, b"a", b"a", 5)])
        await must_fail(lambda: log.ensure([TopicSpec("t")]), "not allowed.*user 'affect'.*ACL.*topic")
        await admin.ensure([TopicSpec("t")])
        await must_fail(lambda: log.read("t", 0, 0, 1), "no topic 't'")  # it may not even know of it
        await grant(guarded, TOPIC, prefix, [DESCRIBE])
        await must_fail(lambda: log.read("t", 0, 0, 1), "not allowed.*for this topic")
        await must_fail(lambda: log.commit(CommitUnit("g", outputs=unit.outputs)), "not allowed")
        await grant(guarded, TOPIC, prefix, [READ, WRITE])
        assert await log.read("t", 0, 0, 1) == []
        await must_fail(lambda: log.committed("g", "t"), "not allowed.*for this group")
        await must_fail(lambda: log.join("g", "t", Owner()), "ACL. of user .affect. for this group")
        await grant(guarded, GROUP, prefix, [READ])
        await log.commit(unit)
        assert [r.value for r in await log.read("t", 0, 0, 9)] == [b"a"]
        assert await log.committed("g", "t") == [1]
        assert await log.restore("g", "") == {"k": b"v"}
        member = await log.join("g", "t", Owner())
        assert member.partitions == (0,)
        await member.leave()
        await log.close()
        await admin.close()

    asyncio.run(test())
