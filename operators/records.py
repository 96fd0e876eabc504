"""The records that flow: posts in, signal rows out, and what leaves by the side. Units live in names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
F64 = NDArray[np.float64]
Bools = NDArray[np.bool_]

MICRO = 1_000_000
"""Scores travel as integers in millionths: sums are exact, so no order, batch size or worker count changes a digit."""

Status = Literal["provisional", "final", "revised"]


class Post(msgspec.Struct, frozen=True, kw_only=True):
    """One post as a user sends it (a JSON line or an Avro record); unknown fields pass.

    Attributes:
        id: unique name of the post; the same id again is a duplicate.
        text: what was written.
        created_at: epoch milliseconds, or ISO 8601 text (naive = UTC); None = arrival time.
        author: opaque; kept only as a keyed hash; None = unknown, each its own.
        tickers, place, event: taken as given; linking runs only where they are None.
    """

    id: str
    text: str
    created_at: int | float | str | None = None
    author: str | None = None
    lang: str | None = None
    tickers: tuple[str, ...] | None = None
    place: str | None = None
    event: str | None = None
    followers: int | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True)
class PostBatch:
    """`n` posts of one partition in offset order, as columns. Operators return a copy with more columns filled.

    Attributes:
        partition: source partition.
        offsets: int64 [n], rising.
        ids, texts: n strings each.
        times_ms: int64 [n], event time, epoch milliseconds UTC.
        authors: uint64 [n], keyed hash; 0 = unknown.
        langs: n ISO 639-1 codes, "" = not known yet.
        tickers: n tuples, None = not given; places, events: n strings or None.
        reposts: bool [n], the same text was seen before under another id (counted, not scored again).
        near: bool [n], a near-duplicate of an earlier text.
        link_rows, link_names: post `link_rows[k]` is about entity `link_names[k]` (`ticker:AAPL`); rows rise.
        scores: task -> int32 [n, labels], calibrated probabilities in millionths.
        text_keys: uint64 [n], equal for texts of the same words (numbers, links, punctuation and order apart).
            Empty = not known.
        inverse: int64 [n], 10^6 over the chance with which the post was chosen for scoring; 0 = shed, not scored
            (its scores are zeros). Empty = every post was scored.
        sources: n strings or None, where each was posted (a forum, a channel). Empty = not known.
        models: `name@version` of every model that scored these posts, sorted: several where one replaced another.
        fast: bool [n], posts that a cascade answered without its better model. Empty = none.
    """

    partition: int
    offsets: I64
    ids: list[str]
    texts: list[str]
    times_ms: I64
    authors: U64
    langs: list[str]
    tickers: list[tuple[str, ...] | None]
    places: list[str | None]
    events: list[str | None]
    reposts: Bools
    near: Bools
    link_rows: I32 = field(default_factory=lambda: np.zeros(0, np.int32))
    link_names: list[str] = field(default_factory=list)
    scores: Mapping[str, I32] = field(default_factory=dict)
    text_keys: U64 = field(default_factory=lambda: np.zeros(0, np.uint64))
    inverse: I64 = field(default_factory=lambda: np.zeros(0, np.int64))
    sources: list[str | None] = field(default_factory=list)
    models: tuple[str, ...] = ()
    fast: Bools = field(default_factory=lambda: np.zeros(0, np.bool_))

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, keep: Bools) -> PostBatch:
        """The rows where `keep` (bool [n]) is true. Call before links and scores are filled."""
        if bool(keep.all()):
            return self
        rows = np.flatnonzero(keep).tolist()
        return PostBatch(
            partition=self.partition,
            offsets=self.offsets[keep],
            ids=[self.ids[k] for k in rows],
            texts=[self.texts[k] for k in rows],
            times_ms=self.times_ms[keep],
            authors=self.authors[keep],
            langs=[self.langs[k] for k in rows],
            tickers=[self.tickers[k] for k in rows],
            places=[self.places[k] for k in rows],
            events=[self.events[k] for k in rows],
            reposts=self.reposts[keep],
            near=self.near[keep],
            sources=[self.sources[k] for k in rows] if self.sources else [],
        )


class SignalRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One value of one signal for one entity and window: the contract of architecture section 6.

    `value`, `lo`, `hi` are None below the minimum sample, never 0 for unknown. Windows are half-open
    `[window_start, window_end)` in epoch milliseconds UTC. `watermark` = how far event time is complete inside the
    window (= `window_end` once final). `revision` = number of late posts the window took in; of two rows for the same
    window the one with the higher `(revision, n)` is newer.

    `buzz` = weighted posts (n where every post counts in full). `capped` = share of the weight taken from authors who
    posted often; `sampled` = share of the posts that was scored (below 1 under overload, the others weigh more).
    `corrected`, `corrected_lo`, `corrected_hi`: the share with the model's known confusions undone; None where they are
    not known.
    """

    signal: str
    domain: str
    entity: str
    window_start: int
    window_end: int
    value: float | None
    lo: float | None
    hi: float | None
    n: int
    n_eff: float
    authors: int
    buzz: float
    status: Status
    revision: int
    watermark: int
    model: str
    ontology: str
    reasons: tuple[str, ...] = ()
    capped: float = 0.0
    sampled: float = 1.0
    corrected: float | None = None
    corrected_lo: float | None = None
    corrected_hi: float | None = None

    @property
    def row_id(self) -> str:
        """`signal|entity|window_start|window_end`: deterministic, the key of the row wherever it goes."""
        return f"{self.signal}|{self.entity}|{self.window_start}|{self.window_end}"


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """Where an unusable message lies and why; the payload stays in its own topic and is never copied."""

    topic: str
    partition: int
    offset: int
    reason: str
    detail: str
    size_bytes: int
    time_ms: int


class LatePost(msgspec.Struct, frozen=True, kw_only=True):
    """A post that came after its windows were let go: named, counted, in no signal."""

    topic: str
    partition: int
    offset: int
    post_id: str
    event_time_ms: int
    late_by_ms: int


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that fired on a signal row.

    Attributes:
        kind: `threshold`, `change`, `burst` or `cusum`. severity: `info`, `warning` or `critical`.
        value, lo, hi, n, status, revision: of the row as it was then.
        measure: what went beyond the limit: the value, the change, the z of a burst, or the sum of a cusum.
        reference: what it was compared with: the limit, the value of the window before, or the usual count.
        message: one line for people.
    """

    rule: str
    kind: str
    severity: str
    row_id: str
    signal: str
    domain: str
    entity: str
    window_start: int
    window_end: int
    value: float
    lo: float | None
    hi: float | None
    n: int
    measure: float
    reference: float
    status: Status
    revision: int
    message: str

    @property
    def alert_id(self) -> str:
        """`rule|row_id`: deterministic; a rule alerts once for a window, so one seen twice is a copy."""
        return f"{self.rule}|{self.row_id}"
