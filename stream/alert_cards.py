"""An alert as people get it: with its id, a link to what the page shows, and the posts behind it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final
from urllib.parse import urlencode

import msgspec

from operators.records import Alert


class AlertPost(msgspec.Struct, frozen=True):
    """A post that moved the row an alert fired on. `text_masked` has no author, handle or link."""

    post_id: str
    text_masked: str
    label: str
    moved: float


class AlertCard(Alert, frozen=True, kw_only=True):
    """An alert with its id, a link to what the page shows of it, and the posts that moved its row most.

    `link`: null where nobody said where the page is. `posts`: empty while they are looked for, and where none is known.
    """

    id: str
    link: str | None
    posts: tuple[AlertPost, ...] = ()


PostsOf = Callable[[Alert], Awaitable[tuple[AlertPost, ...]]]
"""The posts behind an alert; empty where they cannot be had. Never raises for a log that is away."""

_FIELDS: Final = Alert.__struct_fields__


def link_of(alert: Alert, page: str) -> str | None:
    """What the page shows of an alert. `page`: its address; "/" = on the page itself, "" = there is none."""
    size = alert.window_end - alert.window_start
    shown = urlencode({"view": alert.domain, "entity": alert.entity, "window": size})
    return f"{page.rstrip('/')}/?{shown}" if page else None


def card_of(alert: Alert, page: str, posts: Sequence[AlertPost] = ()) -> AlertCard:
    """The card of an alert."""
    fields = {name: getattr(alert, name) for name in _FIELDS}
    return AlertCard(**fields, id=alert.alert_id, link=link_of(alert, page), posts=tuple(posts))
