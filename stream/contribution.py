"""Why a value moved, as it travels: its parts, groups, posts and words, and whoever can work them out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal, get_args

import msgspec

By = Literal["auto", "entity", "source", "language", "author", "copy"]
"""What posts are grouped by: what else they are about, where they come from, their language, whether the author is
known, first or copy. auto = entity for the whole stream; else source where there are several, else copy."""
BYS = get_args(By)


class Parts(msgspec.Struct, frozen=True):
    """What a change is made of; the four add up to it.

    `level`: the same groups speak differently (and what is no sum over posts: concentration, copies). `mix`: other
    groups speak. `volume`: more or fewer speak. `past`: something else is usual now (signals that compare with it).
    """

    level: float
    mix: float
    volume: float
    past: float


class GroupPart(msgspec.Struct, frozen=True):
    """A group of posts: its share of the weight, and the value it has alone, in both windows; None = too few posts."""

    group: str
    n: int
    n_before: int
    share: float
    share_before: float
    value: float | None
    value_before: float | None


class ContributingPost(msgspec.Struct, frozen=True):
    """A post and how much it moved the value: the value with its share of the totals less that without."""

    post_id: str
    partition: int
    offset: int
    time_ms: int
    moved: float
    label: str
    text_masked: str


class RisingWord(msgspec.Struct, frozen=True):
    """A word or emoji that rose: how many wrote it now and before, and how sure the rise is (standard errors)."""

    word: str
    now: int
    before: int
    z: float


class Contribution(msgspec.Struct, frozen=True):
    """Why a row has its value, worked out again from the posts.

    `previous`: the value of the window before (same entity and size); None, as `value`, below the minimum sample.
    `parts` is None where one of them is. `posts`: those that moved it most. `complete`: everything that can belong to
    both windows was read; if not, `notes` say why and figures may differ from the row's. `by` is never `auto`.
    """

    id: str
    value: float | None
    lo: float | None
    hi: float | None
    n: int
    previous: float | None
    previous_n: int
    change: float | None
    parts: Parts | None
    by: By
    groups: tuple[GroupPart, ...]
    posts: tuple[ContributingPost, ...]
    words: tuple[RisingWord, ...]
    complete: bool
    notes: tuple[str, ...] = ()


Explain = Callable[[str, int, By], Awaitable[Contribution]]
"""(row id, posts wanted, groups) -> why. Raises UsageError: no such signal or window; LogError: the log is away."""
