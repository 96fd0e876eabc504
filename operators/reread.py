"""One window of one entity, put together again from its posts: the same panes, slots and voices, hence the same value.

Beside it what each post weighs in it, once the voices of loud authors are hushed: the windows only know sums of that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from operators.cells import Progress
from operators.clock import BEGINNING, Lateness
from operators.domain import Domain
from operators.frames import SignalFrame
from operators.panes import KEEP_AUTHORS, PaneStore, weights
from operators.records import F64, I64, U64, PostBatch
from operators.rolling import Rolling
from operators.voices import BUCKETS, TOP, Voices, fade_after, fold_like, group_voices, loud, no_voices
from operators.window import WindowSpec


@dataclass(frozen=True, slots=True)
class Window:
    """A window of one entity, n posts.

    Attributes:
        frame: its signals, one row. posts: what it was made of, by partition, in offset order.
        channels: int64 [n, columns] of all posts, in that order. weight: float64 [n], what each weighs, millionths.
    """

    frame: SignalFrame
    posts: tuple[PostBatch, ...]
    channels: I64
    weight: F64


def window_again(
    domain: Domain,
    window: WindowSpec,
    lateness: Lateness,
    entity: str,
    end: int,
    posts: Sequence[PostBatch],
    keep_authors: int = KEEP_AUTHORS,
) -> Window | None:
    """The window of `entity` that ends at `end`.

    Args:
        posts: linked and scored, without duplicates and late ones, at most one batch of a partition; of these the posts
            about `entity` inside the window count. keep_authors: bound of the author sample, that of the run.

    Returns:
        The window; None where it has no post.
    """
    mine = [found for batch in posts if len(found := about(batch, entity, end - window.size_ms, end))]
    if not mine:
        return None
    rolling = Rolling(domain, (window,), lateness, keep_authors)
    channels = []
    for batch in mine:
        panes = PaneStore(batch.partition, domain, lateness, keep_authors)
        channels.append(domain.channels(batch))
        alone = replace(batch, link_rows=np.arange(len(batch), dtype=np.int32), link_names=[entity] * len(batch))
        panes.fold(alone, channels[-1], np.full(len(batch), BEGINNING, np.int64))
        for block in panes.drain(int(batch.offsets[-1])):
            rolling.ingest(block)
    for k, batch in enumerate(mine):
        rolling.mark(Progress(batch.partition, len(mine), k, 0, 0, 0, 0, 0, closed=True))
    frame = next(frame for frame in rolling.emit(sealed_only=True) if frame.end_ms == end)
    authors = np.concatenate([b.authors for b in mine])
    slots = np.concatenate([b.times_ms // window.hop_ms for b in mine])
    weight = np.concatenate([weights(b) for b in mine])
    heard = heard_weight(authors, slots, weight, fade_after(window.size_ms), keep_authors)
    return Window(frame, tuple(mine), np.concatenate(channels), heard)


def about(batch: PostBatch, entity: str, start: int, end: int) -> PostBatch:
    """The posts about `entity` with a time in [start, end), with all their links (a post's places tell of it too)."""
    keep = np.zeros(len(batch), np.bool_)
    links = list(zip(batch.link_rows.tolist(), batch.link_names, strict=True))
    keep[[row for row, name in links if name == entity]] = True
    keep &= (batch.times_ms >= start) & (batch.times_ms < end)
    if bool(keep.all()):
        return batch
    number = (np.cumsum(keep) - 1).tolist()
    kept = [(number[row], name) for row, name in links if keep[row]]
    return replace(
        batch.take(keep),
        link_rows=np.array([row for row, _ in kept], np.int32),
        link_names=[name for _, name in kept],
        scores={task: table[keep] for task, table in batch.scores.items()},
        text_keys=batch.text_keys[keep] if len(batch.text_keys) else batch.text_keys,
        inverse=batch.inverse[keep] if len(batch.inverse) else batch.inverse,
    )


def heard_weight(authors: U64, slots: I64, weight: I64, fade: int, keep: int = KEEP_AUTHORS) -> F64:
    """What each post weighs in a window once loud authors are hushed (`voices.loud`), millionths.

    Args:
        authors: uint64 [n], 0 = unknown. slots: int64 [n], the slot of the window each post lies in.
        weight: int64 [n], before hushing. fade: posts after which a voice fades. keep: bound of the author sample.
    """
    out = weight.astype(np.float64)
    tables: list[tuple[I64, Voices]] = []
    for slot in np.unique(slots[authors != 0]).tolist():
        rows = np.flatnonzero((slots == slot) & (authors != 0))
        said = np.column_stack((np.ones(len(rows), np.int64), weight[rows]))
        tables.append((rows, group_voices([Voices(np.zeros(len(rows), np.int32), authors[rows], said)], keep)))
    counts = group_voices([table for _, table in tables], keep) if tables else no_voices(2)
    keys, factor = loud(counts, keep, fade)
    for rows, table in tables if len(keys) else ():
        bucketed = TOP + authors[rows] % np.uint64(BUCKETS)
        own = np.where(np.isin(authors[rows], table.hashes), authors[rows], bucketed)
        held = table.take(table.sums[:, 0] > 1)  # who spoke once in a slot is not hushed in it
        if len(held.ids) == 0:
            continue
        at = np.minimum(np.searchsorted(held.hashes, own), len(held.hashes) - 1)
        mine = fold_like(held, counts, keep).keys()[at]
        found = np.minimum(np.searchsorted(keys, mine), len(keys) - 1)
        hit = (held.hashes[at] == own) & (keys[found] == mine)
        out[rows[hit]] *= factor[found[hit]]
    return out
