"""Who spoke: posts, weight and sums by (entity, author), bounded per entity, so that one loud author can be hushed.

Per entity the `keep` authors with the smallest hashes are held one by one: a bottom-k sample (Cohen and Kaplan 2007),
exact while an entity has no more authors. The others share `BUCKETS` buckets by hash. Both are functions of the set of
posts alone: an author once outside the k smallest stays outside, so any order, cut or retraction gives the same table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from operators.records import F64, I32, I64, MICRO, U64, Bools

BUCKETS = 4096
TOP = 2**64 - BUCKETS
"""Hashes from here on name buckets; they sort behind every author."""

LEADING = 2
"""Columns every row of sums starts with: posts, weight in millionths. The domain's linear columns follow."""

FADES = ((300_000, 4), (3_600_000, 8))
"""Posts of one author after which the voice fades, for windows up to so many milliseconds; `FADE` for longer ones."""
FADE = 24

_MIX = np.uint64(0x9E3779B97F4A7C15)


class Voices(NamedTuple):
    """Rows sorted by (id, hash), pairs unique.

    Attributes:
        ids: int32 [m], entity. hashes: uint64 [m], author or bucket. sums: int64 [m, width].
    """

    ids: I32
    hashes: U64
    sums: I64

    def take(self, rows: Bools) -> Voices:
        """The rows where `rows` is true."""
        return Voices(self.ids[rows], self.hashes[rows], self.sums[rows])

    def keys(self) -> U64:
        """uint64 [m], one number for each (entity, author); unsorted. Two pairs meet with chance 2^-64."""
        mixed: U64 = self.hashes ^ (self.ids.astype(np.uint64) * _MIX)
        return mixed


def no_voices(width: int) -> Voices:
    """An empty table."""
    return Voices(np.zeros(0, np.int32), np.zeros(0, np.uint64), np.zeros((0, width), np.int64))


def group_voices(parts: Sequence[Voices], keep: int, buckets: bool = True) -> Voices:
    """Sum rows by (entity, author); authors beyond the `keep` smallest hashes of an entity go to its buckets, if any.

    Sums may be negative (taking back); pairs without posts go.
    """
    ids = np.concatenate([p.ids for p in parts])
    hashes = np.concatenate([p.hashes for p in parts])
    width = parts[0].sums.shape[1]
    if len(ids) == 0:
        return no_voices(width)
    order = np.lexsort((hashes, ids))
    ids, hashes = ids[order], hashes[order]
    first = np.flatnonzero(np.concatenate(([True], (ids[1:] != ids[:-1]) | (hashes[1:] != hashes[:-1]))))
    grouped = np.empty((len(first), width), np.int64)
    for k in range(width):  # column by column: the rows of all parts side by side would take twice their memory
        grouped[:, k] = np.add.reduceat(np.concatenate([p.sums[:, k] for p in parts])[order], first)
    held = Voices(ids[first], hashes[first], grouped)
    live = held.sums[:, 0] != 0
    if not live.all():
        held = held.take(live)
    over = (_ranks(held.ids) >= keep) & (held.hashes < TOP)
    if not over.any():
        return held
    if not buckets:
        return held.take(~over)
    folded = np.where(over, TOP + held.hashes % np.uint64(BUCKETS), held.hashes)
    return group_voices([Voices(held.ids, folded, held.sums)], keep)


def _ranks(ids: I32) -> I64:
    """Position of each row within its entity; `ids` is sorted."""
    starts = np.flatnonzero(np.concatenate(([True], ids[1:] != ids[:-1])))[: len(ids)]
    return np.arange(len(ids)) - np.repeat(starts, np.diff(np.append(starts, len(ids))))


class VoiceTable:
    """Voices of one slot or pane, built like a log-structured merge: adds are appended, `settle` folds them together.

    Args:
        width: columns of a row. keep: authors held one by one per entity. buckets: the others share buckets; without
            them they go, and what is left is a sample.
    """

    __slots__ = ("_buckets", "_counts", "_keep", "_parts", "_pending", "_settled")

    def __init__(self, width: int, keep: int, buckets: bool = True) -> None:
        self._keep = keep
        self._buckets = buckets
        self._settled = no_voices(width)
        self._counts: Voices | None = None
        self._parts: list[Voices] = []
        self._pending = 0

    def add(self, part: Voices) -> None:
        """Add rows; pairs may repeat, sums may be negative (taking back what was added). Not after `seal`."""
        if len(part.ids):
            self._parts.append(part)
            self._pending += len(part.ids)
            if self._pending > len(self._settled.ids) + 4096:
                self.settle()

    def settle(self) -> Voices:
        """All rows; once sealed, the repeated ones alone."""
        if self._parts:
            self._settled = group_voices([self._settled, *self._parts], self._keep, self._buckets)
            self._parts, self._pending = [], 0
        return self._settled

    def every(self) -> Voices:
        """All rows, before they are sealed."""
        assert self._counts is None, "sealed: the sums of authors with a single post are gone"
        return self.settle()

    def counts(self) -> Voices:
        """Posts and weight of every row."""
        held = self.settle()
        return self._counts or Voices(held.ids, held.hashes, held.sums[:, :LEADING])

    def repeated(self) -> Voices:
        """The rows of two posts and more: what can be hushed."""
        held = self.settle()
        return held.take(held.sums[:, 0] > 1)

    def seal(self) -> None:
        """Nothing will be added any more: forget the sums of authors with a single post. Idempotent."""
        if self._counts is None:
            held = self.counts()
            self._counts = Voices(held.ids, held.hashes, held.sums.copy())
            self._settled = self.repeated()


class Crowd(NamedTuple):
    """What is known of the authors of each entity, k entities.

    Attributes:
        authors: int64 [k], distinct; each post without an author counts as one.
        weight: int64 [k], weight that counts, millionths. n_eff: float64 [k], effective sample size.
        hhi: float64 [k], concentration of posts over authors (Herfindahl and Hirschman), in (0, 1].
        removed: rows of what was taken from loud authors: sums [m, width], to be subtracted from the cells.
    """

    authors: I64
    weight: I64
    n_eff: F64
    hhi: F64
    removed: Voices


class Totals(NamedTuple):
    """Per entity, sorted by id: int32 [k] and int64 [k] each; weights in millionths, squares of weights as well."""

    ids: I32
    n: I64
    unknown: I64
    unknown_square: I64
    weight: I64


def fade_after(size_ms: int) -> int:
    """Posts of one author in a window of `size_ms` after which the voice fades."""
    return next((posts for longest, posts in FADES if size_ms <= longest), FADE)


def loud(counts: Voices, keep: int, fade: int) -> tuple[U64, F64]:
    """The pairs with more than one post: keys (uint64, sorted) and the factor on each post's weight, in (0, 1).

    One author, one voice: the posts of an author weigh one together. Beyond `fade` posts, more than people write in
    such a window, the voice fades as (fade / posts)^4, a redescending influence (Hampel 1974): a bot's ten thousand
    posts weigh next to nothing, and so do those of fifty accounts. A bucket weighs as many voices as it has authors;
    one that holds far more posts than buckets do fades likewise.
    """
    posts = counts.sums[:, 0].astype(np.float64)
    factor = 1 / np.maximum(posts, 1.0) * np.minimum(fade / np.maximum(posts, 1.0), 1.0) ** 4
    bucket = counts.hashes >= TOP
    if bucket.any():
        each, usual = _buckets(counts, keep, fade)
        limit = 2 * usual + 4 * np.sqrt(usual * each) + fade
        faded = np.where(posts > limit, np.maximum(usual, 1.0) / posts, 1.0) ** 4
        factor = np.where(bucket, faded / each, factor)
    over = factor < 1
    keys, factor = counts.take(over).keys(), factor[over]
    order = np.argsort(keys)
    return keys[order], factor[order]


def _buckets(counts: Voices, keep: int, fade: int) -> tuple[F64, F64]:
    """Posts an author of the row's entity writes, and posts a bucket of it holds, as the sample has it (>= 1, >= 0)."""
    ids, at = np.unique(counts.ids, return_inverse=True)
    single = counts.hashes < TOP
    own = at[single]
    distinct = np.maximum(np.bincount(own, minlength=len(ids)), 1)
    each = np.bincount(own, weights=np.minimum(counts.sums[single, 0], fade), minlength=len(ids)) / distinct
    each = np.maximum(each, 1.0)
    rest = np.maximum((keep - 1) / _share(own, counts.hashes[single], len(ids)) - keep, 0.0)
    return each[at], (each * rest / BUCKETS)[at]


def _share(at: I64, hashes: U64, k: int) -> F64:
    """Share of the hash space up to the largest hash held, per entity: the sampling rate of a full bottom-k sample."""
    largest = np.zeros(k, np.float64)
    np.maximum.at(largest, at, hashes.astype(np.float64))
    return np.maximum(largest / 2.0**64, 1e-12)


def fold_like(rows: Voices, counts: Voices, keep: int) -> Voices:
    """`rows` of single slots, with those authors in buckets that `counts` of the whole window holds in buckets."""
    single = counts.hashes < TOP
    ids, at = np.unique(counts.ids[single], return_inverse=True)
    limit = np.zeros(len(ids), np.uint64)
    np.maximum.at(limit, at, counts.hashes[single])
    limit[np.bincount(at, minlength=len(ids)) < keep] = TOP
    known = np.isin(rows.ids, ids)
    rows = rows.take(known)
    over = (rows.hashes > limit[np.searchsorted(ids, rows.ids)]) & (rows.hashes < TOP)
    folded = np.where(over, TOP + rows.hashes % np.uint64(BUCKETS), rows.hashes) if over.any() else rows.hashes
    return Voices(rows.ids, folded, rows.sums)


def hush(repeated: Voices, keys: U64, factor: F64) -> Voices:
    """What is to be taken from the cells so that loud pairs count with their factor.

    Args:
        repeated: rows of any slots, pairs may repeat. keys, factor: of `loud`, at least one.
    """
    own = repeated.keys()
    at = np.minimum(np.searchsorted(keys, own), len(keys) - 1)
    hit = keys[at] == own
    found = repeated.take(hit)
    kept = np.rint(found.sums * factor[at[hit], None]).astype(np.int64)
    return Voices(found.ids, found.hashes, found.sums - kept)


def crowd(totals: Totals, counts: Voices, removed: Voices, keep: int) -> Crowd:
    """Authors, weight, effective sample size and concentration per entity.

    Args:
        totals: of the entities. counts: posts and weight by author, of these and possibly other entities.
        removed: from `hush`. keep: the bound of the sample.

    n_eff is Kish's (1965): squared weight over the sum of squared weights of authors, so posts of one author are taken
    as one opinion. Where an entity has more authors than the sample, squares are scaled up from it.
    """
    ids = totals.ids
    counts = counts.take(np.isin(counts.ids, ids))
    removed = removed.take(np.isin(removed.ids, ids))
    weight = counts.sums[:, 1].copy()
    if len(removed.ids):
        keys = counts.keys()
        order = np.argsort(keys)
        np.subtract.at(weight, order[np.searchsorted(keys[order], removed.keys())], removed.sums[:, 1])
    left = totals.weight.copy()
    np.subtract.at(left, np.searchsorted(ids, removed.ids), removed.sums[:, 1])

    single = counts.hashes < TOP
    at = np.searchsorted(ids, counts.ids)
    own = at[single]
    k = len(ids)
    distinct = np.bincount(own, minlength=k).astype(np.float64)
    squares = np.bincount(own, weights=(weight[single] / MICRO) ** 2, minlength=k)
    posts: F64 = np.bincount(own, weights=counts.sums[single, 0].astype(np.float64) ** 2, minlength=k).astype(
        np.float64
    )
    full = distinct >= keep
    if full.any():
        share = _share(own, counts.hashes[single], k)[full]
        distinct[full] = np.floor((keep - 1) / share)
        squares[full] = squares[full] / share
        posts[full] = posts[full] / share
        posts = posts + _excess(at[~single], counts.sums[~single, 0].astype(np.float64), k)
    n = np.maximum(totals.n.astype(np.float64), 1.0)
    below = squares + totals.unknown_square / MICRO
    n_eff = np.where(below > 0, (left / MICRO) ** 2 / np.where(below > 0, below, 1.0), 0.0)
    return Crowd(
        authors=distinct.astype(np.int64) + totals.unknown,
        weight=left,
        n_eff=np.minimum(n_eff, n),
        hhi=np.minimum((posts + totals.unknown) / n**2, 1.0),
        removed=removed,
    )


def _excess(at: I64, posts: F64, k: int) -> F64:
    """Sum over buckets of the squared posts beyond what chance puts there: the loud authors the sample missed."""
    mean = np.bincount(at, weights=posts, minlength=k)[at] / BUCKETS
    beyond = np.maximum(posts - mean - 4 * np.sqrt(mean), 0.0)
    return np.bincount(at, weights=beyond**2, minlength=k).astype(np.float64)


def distinct(ids: I32, sample: Voices, keep: int) -> F64:
    """How many different hashes each entity of `ids` (sorted) has, from a bottom-k sample: exact below `keep`."""
    sample = sample.take(np.isin(sample.ids, ids))
    at = np.searchsorted(ids, sample.ids)
    found = np.bincount(at, minlength=len(ids)).astype(np.float64)
    full = found >= keep
    if full.any():
        found[full] = (keep - 1) / _share(at, sample.hashes, len(ids))[full]
    return found
