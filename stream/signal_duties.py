"""What the signal plane does with a row: newest values, roll-ups, alerts. A fold and a table each; no Faust.

A duty is fed rows, then settled: outputs first, then the state that says they were sent, then the rows are done with.
Whatever is cut short is fed again and changes nothing twice: an output repeated has the id it had.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from operators.alerts import Rules
from operators.codec import Codec
from operators.latest import Latest
from operators.records import SignalRow
from operators.rollup import Rollup
from stream.topics import ALERTS, ROLLUPS


class Message(NamedTuple):
    """One message for a topic of one partition."""

    topic: str
    key: bytes | None
    value: bytes


@dataclass(slots=True)
class Settled:
    """What rows came to. `state`: changes of the duty's table, None deletes."""

    outputs: list[Message] = field(default_factory=list)
    state: dict[str, bytes | None] = field(default_factory=dict)


class Duty(Protocol):
    """One fold over the signal topic. `table`: its name among `PLANE_TABLES`."""

    table: str

    def feed(self, row: SignalRow) -> None:
        """Take in the next row of the topic, perhaps again."""
        ...

    def settle(self) -> Settled:
        """What came of the rows since the last call."""
        ...

    def restore(self, state: Mapping[str, bytes]) -> None:
        """Begin anew with what the table holds."""
        ...


class LatestDuty:
    """Keeps the newest row of every identity, as Avro."""

    table = "latest"

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self.latest = Latest()

    def feed(self, row: SignalRow) -> None:
        self.latest.feed(row)

    def settle(self) -> Settled:
        encode = self._codec.encode
        changed = self.latest.changed().items()
        return Settled(state={key: None if row is None else encode(row) for key, row in changed})

    def restore(self, state: Mapping[str, bytes]) -> None:
        self.latest = Latest()
        for raw in state.values():
            self.latest.feed(self._codec.decode_signal(raw))
        self.latest.changed()


class RollupDuty:
    """Sends rows of sectors and of the market, keeps the windows they are made of."""

    table = "rollups"

    def __init__(self, codec: Codec, sectors: Mapping[str, str]) -> None:
        self._codec = codec
        self.rollup = Rollup(sectors)

    def feed(self, row: SignalRow) -> None:
        self.rollup.feed(row)

    def settle(self) -> Settled:
        rows = self.rollup.take()
        outputs = [Message(ROLLUPS, row.row_id.encode(), self._codec.encode(row)) for row in rows]
        return Settled(outputs, self.rollup.snapshot())

    def restore(self, state: Mapping[str, bytes]) -> None:
        self.rollup.restore(state)


class AlertDuty:
    """Sends alerts, keeps what the rules remember: the fold of `stream.alerting`, row by row the same.

    Args:
        make_rules: fresh rules.
    """

    table = "alerts"

    def __init__(self, codec: Codec, make_rules: Callable[[], Rules]) -> None:
        self._codec = codec
        self._make_rules = make_rules
        self._rules = make_rules()
        self._outputs: list[Message] = []
        self.sent = 0

    def feed(self, row: SignalRow) -> None:
        for alert in self._rules.feed(row):
            self._outputs.append(Message(ALERTS, alert.alert_id.encode(), self._codec.encode(alert)))

    def settle(self) -> Settled:
        outputs, self._outputs = self._outputs, []
        self.sent += len(outputs)
        return Settled(outputs, self._rules.snapshot())

    def restore(self, state: Mapping[str, bytes]) -> None:
        self._rules, self._outputs = self._make_rules(), []
        self._rules.restore(dict(state))
