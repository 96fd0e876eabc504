"""Topics on a real broker: made as asked, and what somebody made otherwise is named and left alone."""

from __future__ import annotations

import pytest

from stream.base import TopicSpec
from stream.cli import main
from stream.errors import LogError
from stream.kafka import KafkaLog
from stream.kafka_wire import Access
from tests.broker.logs import make, run

pytestmark = pytest.mark.broker


class Hasty(KafkaLog):
    """A log that looked for topics before somebody else made them."""

    looked = False

    async def _counts(self) -> dict[str, int]:
        if self.looked:
            return await super()._counts()
        self.looked = True
        return {}


def test_a_topic_made_meanwhile_is_checked_as_one_that_was_there(kafka_bootstrap: str, prefix: str) -> None:
    async def test() -> None:
        await make(kafka_bootstrap, f"{prefix}t", 2, {"retention.ms": "-1"})
        for partitions in (2, 3):
            log = Hasty(Access(kafka_bootstrap), prefix)
            try:
                if partitions == 2:
                    await log.ensure([TopicSpec("t", 2)])
                    assert [(s.name, s.partitions) for s in await log.topics()] == [("t", 2)]
                else:
                    with pytest.raises(LogError, match="has 2 partitions, asked for 3"):
                        await log.ensure([TopicSpec("t", 3)])
            finally:
                await log.close()

    run(test)


@pytest.mark.parametrize(
    ("spec", "configs", "said"),
    [
        (TopicSpec("t", 2), {}, r"retention.ms is 604800000 with .*CreateTime.*expected retention.ms -1"),
        (TopicSpec("t", 2, 86_400_000), {}, r"retention.ms is 604800000 with .*CreateTime"),
        (TopicSpec("t", 2), {"cleanup.policy": "compact"}, "cleanup.policy is compact, expected delete"),
        (TopicSpec("t", 2, compact=True), {"retention.ms": "-1"}, "cleanup.policy is delete, expected compact"),
        (TopicSpec("t", 3), {"retention.ms": "-1"}, "has 2 partitions, asked for 3"),
    ],
)
def test_a_topic_somebody_made_otherwise_is_named_and_left_alone(
    kafka_bootstrap: str,
    prefix: str,
    spec: TopicSpec,
    configs: dict[str, str],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def test() -> None:
        await make(kafka_bootstrap, f"{prefix}t", 2, configs)
        log = KafkaLog(Access(kafka_bootstrap), prefix)
        try:
            before = await log.topics()
            with pytest.raises(LogError, match=said) as caught:
                await log.ensure([TopicSpec("fresh"), spec])
            assert not caught.value.retriable
            assert await log.topics() == before
        finally:
            await log.close()

    run(test)


def test_topics_apply_makes_checks_and_names_what_is_wrong(
    kafka_bootstrap: str, prefix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    apply = ["topics", "apply", "--log", f"kafka://{kafka_bootstrap}?prefix={prefix}", "--domain", "market"]
    assert main([*apply, "--partitions", "2"]) == 0
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines()} == {"made"}
    assert main([*apply, "--partitions", "2"]) == 0
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines()} == {"ok"}
    assert main([*apply, "--partitions", "3"]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("wrong    affect.posts.finance.v1")
    assert "has 2 partitions, asked for 3" in err
