"""Why a row has its value: its posts are read back, the window and the one before are put together again and compared.

The windows are made by the operators that made them live, so the value explained is the row's own wherever all its
posts could be read. Under load shedding it is not: all posts are read here, not the part that was scored then.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np

from operators.domain import Norms, Sums
from operators.explain import Groups, decompose, influence, values
from operators.masking import mask
from operators.names import WHOLE
from operators.records import F64, PostBatch
from operators.reread import Window, window_again
from operators.rising import rising
from operators.trail import Trail
from operators.window import WindowSpec
from stream.archive_base import row_id_parts
from stream.base import Log
from stream.contribution import By, ContributingPost, Contribution, Explain, GroupPart, Parts, RisingWord
from stream.errors import UsageError
from stream.live import SPOT_TASK
from stream.looking_back import LookedBack, Wanted, look_back
from stream.topology import Topology

MOST_GROUPS = 12
"""The lightest groups beyond are one, `others`."""
QUIET = ("related", "aid_related", "direct_report")
"""Labels that say nothing of a post by being its strongest."""


@dataclass(frozen=True, slots=True)
class _Row:
    """What is to be explained. `at`: position of the signal among the values."""

    id: str
    entity: str
    end: int
    window: WindowSpec
    at: int
    past: bool


async def contributing(
    log: Log,
    topology: Topology,
    row_id: str,
    top: int = 5,
    most: int = 20_000,
    by: By = "auto",
    sealed_only: bool = False,
) -> Contribution:
    """Why the row has its value, and why that is another one than in the window before.

    Reads at most `most` records of the input topic, from its end backwards; the model gives way to the run's own use of
    it between any 500 posts, sums are worked out in a thread.

    Args:
        row_id: `signal|entity|window_start|window_end`. top: posts at most. by: what posts are grouped by.
        sealed_only: the rows are those of a replay.

    Raises:
        UsageError: the run has no such signal or window. LogError: the log cannot be read.
    """
    row = _row(topology, row_id)
    start = row.end - 2 * row.window.size_ms
    chain = [operator for operator in topology.parts.chain if operator not in (topology.score, topology.shed)]
    wanted = Wanted(row.entity, start, row.end, most)
    found = await look_back(log, topology.parts, wanted, chain, topology.score)
    usual: tuple[Norms | None, Norms | None] = (None, None)
    if row.past:
        kept = await log.restore(topology.windows.group, f"{topology.windows.lane}/trail/")
        usual = await asyncio.to_thread(_usual, topology, row, kept, sealed_only)
    return await asyncio.to_thread(_worked_out, topology, row, found, usual, top, by)


def explainer(log: Log, topology: Topology, turn: asyncio.Lock, most: int = 20_000) -> Explain:
    """`contributing` on one log and run; of those that share `turn` one works at a time."""

    async def explain(row_id: str, top: int, by: By) -> Contribution:
        async with turn:
            return await contributing(log, topology, row_id, top, most, by)

    return explain


def _row(topology: Topology, row_id: str) -> _Row:
    """The row as the run knows it.

    Raises:
        UsageError: it does not.
    """
    try:
        signal, entity, start, end = row_id_parts(row_id)
    except ValueError as problem:
        raise UsageError(f"ID: {problem}") from None
    windows, domain = topology.windows, topology.parts.domain
    size = end - start
    window = next((w for w in windows.windows if w.size_ms == size), None)
    if window is None or end % window.hop_ms:
        raise UsageError(f"ID: no window of {start} to {end}; there is: {', '.join(w.text for w in windows.windows)}")
    history = domain.history
    past = () if history is None or size < history.least_ms else history.signals
    names = (*domain.signals, *past)
    if signal not in names:
        raise UsageError(f"ID: no signal {signal!r}; there is: {', '.join(names)}")
    return _Row(row_id, entity, end, window, names.index(signal), signal in past)


def _usual(topology: Topology, row: _Row, kept: dict[str, bytes], sealed_only: bool) -> tuple[Norms | None, Norms]:
    """What was usual for the entity in the window before and in this one, from what the window stage has kept."""
    windows, history = topology.windows, topology.parts.domain.history
    assert history is not None, row.id
    trail = Trail(history, windows.windows, windows.lateness, sealed_only)
    cut = len(f"{windows.lane}/trail/")
    trail.restore({key[cut:]: part for key, part in kept.items()})
    ends = (row.end - row.window.size_ms, row.end)
    before, now = (trail.norms(row.window, end, [row.entity]) for end in ends)
    return before, now


def _worked_out(
    topology: Topology, row: _Row, found: LookedBack, usual: tuple[Norms | None, Norms | None], top: int, by: By
) -> Contribution:
    domain, size = topology.parts.domain, row.window.size_ms
    before, now = (
        window_again(domain, row.window, topology.parts.lateness, row.entity, end, found.posts)
        for end in (row.end - size, row.end)
    )
    value, lo, hi = _published(topology, row, now, usual[1])
    previous = _published(topology, row, before, usual[0])[0]
    notes = list(found.missing)
    if topology.relief is not None:
        notes.append("under overload a faster model may have answered some of these posts")
    if topology.shed is not None:
        notes.append("under load shedding the row was made of a part of these posts")
    if now is None:
        notes.append("no posts in this window")
    by = _chosen(row, found, by)
    parts: Parts | None = None
    groups: tuple[GroupPart, ...] = ()
    if now is not None and before is not None and None not in (value, previous):
        pair, names = _grouped(row, before, now, usual, by)
        _, found_parts = decompose(domain, *pair)
        parts = Parts(*found_parts[0, row.at].tolist())
        groups = _groups(topology, row, pair, names, before, now, by)
    return Contribution(
        id=row.id,
        value=value,
        lo=lo,
        hi=hi,
        n=0 if now is None else int(now.frame.n[0]),
        previous=previous,
        previous_n=0 if before is None else int(before.frame.n[0]),
        change=None if value is None or previous is None else value - previous,
        parts=parts,
        by=by,
        groups=groups,
        posts=() if now is None else _posts(topology, row, now, usual[1], top),
        words=() if now is None or before is None else tuple(
            RisingWord(*rise) for rise in rising(before.posts, now.posts)
        ),
        complete=not found.missing,
        notes=tuple(notes),
    )  # fmt: skip


def _published(
    topology: Topology, row: _Row, window: Window | None, usual: Norms | None
) -> tuple[float | None, float | None, float | None]:
    """Value and interval as a row has them: None below the minimum, or where there is none."""
    if window is None or window.frame.n_eff[0] < topology.windows.minimum:
        return None, None, None
    derived = values(topology.parts.domain, window.frame.sums, usual)
    found = [float(part[0, row.at]) for part in (derived.value, derived.lo, derived.hi)]
    return (found[0], found[1], found[2]) if isfinite(found[0]) else (None, None, None)


def _grouped(
    row: _Row, before: Window, now: Window, usual: tuple[Norms | None, Norms | None], by: By
) -> tuple[tuple[Groups, Groups], list[str]]:
    """Both windows parted in the same groups, and the names of these."""
    keys = [_keys(window.posts, row.entity, by) for window in (before, now)]
    total: Counter[str] = Counter()
    for window, names in zip((before, now), keys, strict=True):
        for name, weight in zip(names, window.weight.tolist(), strict=True):
            total[name] += weight
    kept = sorted(total, key=lambda name: (-total[name], name))
    if len(kept) > MOST_GROUPS:
        kept = [*kept[: MOST_GROUPS - 1], "others"]
    out = []
    for window, names, norms in zip((before, now), keys, usual, strict=True):
        at = np.array([kept.index(name) if name in kept else len(kept) - 1 for name in names], np.int64)
        weight = np.zeros((1, len(kept)))
        columns = np.zeros((1, len(kept), window.channels.shape[1]))
        np.add.at(weight[0], at, window.weight)
        np.add.at(columns[0], at, window.channels * (window.weight / 1e6)[:, None])
        out.append(Groups(window.frame.sums, weight, columns, norms))
    return (out[0], out[1]), kept


def _chosen(row: _Row, found: LookedBack, by: By) -> By:
    """What posts are grouped by where it is left to us."""
    if by != "auto":
        return by
    if row.entity == WHOLE:
        return "entity"
    return "source" if len({source for batch in found.posts for source in batch.sources}) > 1 else "copy"


def _keys(posts: Sequence[PostBatch], entity: str, by: By) -> list[str]:
    """The group of each post about `entity`."""
    out: list[str] = []
    for batch in posts:
        if by == "entity":
            named: dict[int, str] = {}
            for at, name in zip(batch.link_rows.tolist(), batch.link_names, strict=True):
                if name not in (entity, WHOLE):
                    named.setdefault(at, name)  # the first one: a post is in one group
            out += [named.get(at, "nothing else") for at in range(len(batch))]
        elif by == "source":
            out += [source or "unknown" for source in batch.sources or [None] * len(batch)]
        elif by == "language":
            out += ["unknown" if lang in ("", "und") else lang for lang in batch.langs]
        elif by == "author":
            out += ["known" if author else "unknown" for author in batch.authors.tolist()]
        else:
            out += ["copy" if copy else "first" for copy in (batch.reposts | batch.near).tolist()]
    return out


def _groups(
    topology: Topology,
    row: _Row,
    pair: tuple[Groups, Groups],
    names: list[str],
    before: Window,
    now: Window,
    by: By,
) -> tuple[GroupPart, ...]:
    counts = [Counter(n if n in names else names[-1] for n in _keys(w.posts, row.entity, by)) for w in (before, now)]
    shares = [(groups.weight / groups.weight.sum())[0].tolist() for groups in pair]
    alone = [
        _alone(topology, row, groups, [count[name] for name in names])
        for groups, count in zip(pair, counts, strict=True)
    ]
    return tuple(
        GroupPart(name, counts[1][name], counts[0][name], shares[1][k], shares[0][k], alone[1][k], alone[0][k])
        for k, name in enumerate(names)
    )


def _alone(topology: Topology, row: _Row, groups: Groups, n: list[int]) -> list[float | None]:
    """The value each group has by itself; None for few posts, and for what is no sum over posts."""
    k = len(n)
    count = np.maximum(np.array(n, np.int64), 1)
    sums = Sums(
        count,
        count.astype(np.float64),
        np.rint(groups.weight[0]).astype(np.int64),
        np.rint(groups.columns[0]).astype(np.int64),
        groups.sums.whole.repeat(k),
        np.full(k, np.nan),
        np.full(k, np.nan),
    )
    usual = None if groups.usual is None else Norms(groups.usual.mean.repeat(k, 0), groups.usual.sd.repeat(k, 0))
    with np.errstate(invalid="ignore"):
        value: F64 = values(topology.parts.domain, sums, usual).value[:, row.at]
    enough = [posts >= topology.windows.minimum and isfinite(v) for posts, v in zip(n, value.tolist(), strict=True)]
    return [v if good else None for v, good in zip(value.tolist(), enough, strict=True)]


def _posts(
    topology: Topology, row: _Row, window: Window, usual: Norms | None, top: int
) -> tuple[ContributingPost, ...]:
    """The posts that moved the value most, the first of equals first."""
    domain = topology.parts.domain
    moved = influence(domain, window.frame.sums, window.weight, window.channels, usual)[:, row.at]
    task = SPOT_TASK[domain.name]
    head = topology.model.spec.head(task)
    labels = head.labels if head is not None else ()
    loud = [k for k, label in enumerate(labels) if label not in QUIET]
    where = [(batch, k) for batch in window.posts for k in range(len(batch))]
    out = []
    for k in np.argsort(-np.abs(moved), kind="stable")[:top].tolist():
        batch, at = where[k]
        strongest = loud[int(batch.scores[task][at, loud].argmax())]
        out.append(
            ContributingPost(
                post_id=batch.ids[at],
                partition=batch.partition,
                offset=int(batch.offsets[at]),
                time_ms=int(batch.times_ms[at]),
                moved=float(moved[k]),
                label=labels[strongest],
                text_masked=mask(batch.texts[at]),
            )
        )
    return tuple(out)
