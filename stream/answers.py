"""What the API answers, as types: the routes encode these, the API description has their schemas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from operators.records import SignalRow
from stream.alert_cards import AlertCard
from stream.archive_base import PublishedRow
from stream.feed import EventKind, SpotPost
from stream.history import COLUMN_TYPES, Columns
from stream.ops_status import OpsStatus
from stream.urgency import UrgentPost

if TYPE_CHECKING:
    Series = Columns
else:
    Series = msgspec.defstruct("Series", list(COLUMN_TYPES.items()), namespace={"__doc__": Columns.__doc__})


class SignalName(msgspec.Struct, frozen=True):
    """A signal that rows are held of."""

    signal: str
    domain: str


class Held(msgspec.Struct, frozen=True):
    """What the page's history holds. `windows`: sizes in milliseconds, rising."""

    signals: list[SignalName]
    windows: list[int]


class Entity(msgspec.Struct, frozen=True):
    """An entity; n and end of its newest settled window."""

    entity: str
    n: int
    window_end: int


class Entities(msgspec.Struct, frozen=True):
    """Entities, most posts first. `total`: how many match, shown or not."""

    entities: list[Entity]
    total: int


class Posts(msgspec.Struct, frozen=True):
    """Posts that moved an entity, newest first."""

    entity: str
    posts: list[SpotPost]


class SeriesOfEntity(msgspec.Struct, frozen=True):
    """History of an entity, by signal. `last_id`: the newest event that is in it."""

    entity: str
    window_ms: int
    last_id: int
    series: dict[str, Series]


class Rows(msgspec.Struct, frozen=True):
    """Newest row of every window asked for, newest window first. `last_id`: the newest event that is in it."""

    last_id: int
    rows: list[SignalRow]


class Alerts(msgspec.Struct, frozen=True):
    """The newest alerts, newest window first."""

    alerts: list[AlertCard]


class AsOf(msgspec.Struct, frozen=True):
    """What was known at `at_ms`: of each window the newest row published then or before, newest window first.

    `source`: `log` or `postgres`. `reaches_back_to_ms`: when the oldest row it still holds was published: what was
    known before that cannot be told.
    """

    at_ms: int
    source: str
    reaches_back_to_ms: int | None
    rows: list[PublishedRow]


class Revisions(msgspec.Struct, frozen=True):
    """The published versions of one row in order, at most the newest ones asked for. `total`: how many there are."""

    row_id: str
    source: str
    reaches_back_to_ms: int | None
    total: int
    versions: list[PublishedRow]


class Problem(msgspec.Struct, frozen=True):
    """Why there is no answer: what was expected, and what came."""

    error: str


if TYPE_CHECKING:
    OpsAnswer = OpsStatus
else:
    _FIELDS = [(f.name, f.type) for f in msgspec.structs.fields(OpsStatus) if f.name != "domains"]
    _SUMS = [("accounted", int), ("conserved", bool)]
    DomainStatus = msgspec.defstruct(
        "DomainStatus", [*_FIELDS, *_SUMS], namespace={"__doc__": "How one of several domains is doing; see Status."}
    )
    OpsAnswer = msgspec.defstruct(
        "Status",
        [*_FIELDS, *_SUMS, ("domains", list[DomainStatus])],
        namespace={"__doc__": OpsStatus.__doc__},
    )


class RowsEvent(msgspec.Struct, frozen=True):
    """Rows of one commit, the newest of each window."""

    rows: list[SignalRow]


class QueueEvent(msgspec.Struct, frozen=True):
    """Requests for help that are new in the urgency queue, newest and most urgent first; not yet matched."""

    posts: list[UrgentPost]


class AlertsEvent(msgspec.Struct, frozen=True):
    """Alerts as they fire, whatever entity and window was asked for; each comes again once its posts are found."""

    alerts: list[AlertCard]


class ReasonEvent(msgspec.Struct, frozen=True):
    """`reset`: what was missed is no longer held, load history again. `dropped`: too slow, the last event."""

    reason: str


EVENTS: Final[dict[EventKind, type[msgspec.Struct]]] = {
    "rows": RowsEvent,
    "posts": Posts,
    "queue": QueueEvent,
    "alerts": AlertsEvent,
    "status": OpsAnswer,
    "reset": ReasonEvent,
    "dropped": ReasonEvent,
}
"""The data of each kind of event."""
