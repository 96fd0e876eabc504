"""Any sequence of commits and reads: every log answers as a plain Python model of it does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from stream.base import CommitUnit, Log, Output, Record, TopicSpec
from stream.errors import UnknownTopic

NewLog = Callable[[], Log]
TOPICS = {"t": 2, "u": 1}
PLACES = st.sampled_from([(t, p) for t, n in TOPICS.items() for p in range(n)])
GROUPS = st.sampled_from(["g", "h"])
KEYS = st.sampled_from(["", "a", "a/1", "a/2", "b"])
OUTPUTS = st.builds(
    lambda place, key, value, ts: Output(*place, key, value, ts),
    PLACES,
    st.none() | st.binary(max_size=3),
    st.binary(max_size=8),
    st.integers(-(2**53), 2**53),
)


class Model(RuleBasedStateMachine):
    new_log: NewLog

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.Runner()
        self.log = self.new_log()
        self.loop.run(self.log.ensure([TopicSpec(t, n) for t, n in TOPICS.items()]))
        self.records: dict[tuple[str, int], list[Record]] = {(t, p): [] for t, n in TOPICS.items() for p in range(n)}
        self.offsets: dict[tuple[str, str, int], int] = {}
        self.state: dict[str, dict[str, bytes]] = {"g": {}, "h": {}}

    @rule(
        group=GROUPS,
        outputs=st.lists(OUTPUTS, max_size=6),
        offsets=st.dictionaries(PLACES, st.integers(0, 50), max_size=3),
        state=st.dictionaries(KEYS, st.none() | st.binary(max_size=4), max_size=3),
        broken=st.sampled_from([False, False, False, True]),
    )
    def commit(
        self,
        group: str,
        outputs: list[Output],
        offsets: dict[tuple[str, int], int],
        state: dict[str, bytes | None],
        broken: bool,
    ) -> None:
        if broken:
            unit = CommitUnit(group, offsets, state, [*outputs, Output("nope", 0, None, b"", 0)])
            with pytest.raises(UnknownTopic):
                self.loop.run(self.log.commit(unit))
            return
        self.loop.run(self.log.commit(CommitUnit(group, offsets, state, outputs)))
        for topic, partition, key, value, ts in outputs:
            lane = self.records[topic, partition]
            lane.append(Record(len(lane), key, value, ts))
        self.offsets.update({(group, t, p): offset for (t, p), offset in offsets.items()})
        for name, part in state.items():
            if part is None:
                self.state[group].pop(name, None)
            else:
                self.state[group][name] = part

    @rule(place=PLACES, offset=st.integers(-2, 40), limit=st.integers(1, 12))
    def read(self, place: tuple[str, int], offset: int, limit: int) -> None:
        begin = max(0, offset)
        assert self.loop.run(self.log.read(*place, offset, limit)) == self.records[place][begin : begin + limit]

    @rule(group=GROUPS, prefix=KEYS)
    def restore(self, group: str, prefix: str) -> None:
        expected = {k: v for k, v in self.state[group].items() if k.startswith(prefix)}
        assert self.loop.run(self.log.restore(group, prefix)) == expected

    @invariant()
    def spans_and_offsets_agree(self) -> None:
        for topic, count in TOPICS.items():
            spans = [(0, len(self.records[topic, p])) for p in range(count)]
            assert self.loop.run(self.log.span(topic)) == spans
            for group in ("g", "h"):
                expected = [self.offsets.get((group, topic, p), 0) for p in range(count)]
                assert self.loop.run(self.log.committed(group, topic)) == expected

    def teardown(self) -> None:
        self.loop.run(self.log.close())
        self.loop.close()


def test_a_log_behaves_as_its_model(new_log: NewLog) -> None:
    class Case(Model):
        pass

    Case.new_log = staticmethod(new_log)
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Case,
        settings=settings(
            max_examples=25, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
