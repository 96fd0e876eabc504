"""Who spoke: bounded tables against plain dictionaries, effective sizes by hand, loud authors hushed."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.records import MICRO
from operators.voices import (
    BUCKETS,
    TOP,
    Crowd,
    Totals,
    Voices,
    VoiceTable,
    crowd,
    distinct,
    fold_like,
    group_voices,
    hush,
    loud,
    no_voices,
)

Pairs = list[tuple[int, int]]
pairs = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 12)), max_size=60)


def said(given_pairs: Pairs, sign: int = 1, score: int = 500_000) -> Voices:
    """One post a pair: count, weight one, one score."""
    n = len(given_pairs)
    rows = np.tile(np.array([sign, sign * MICRO, sign * score], np.int64), (n, 1))
    return Voices(
        np.array([p[0] for p in given_pairs], np.int32), np.array([p[1] for p in given_pairs], np.uint64), rows
    )


def counted(part: Voices) -> dict[tuple[int, int], int]:
    return {(i, h): row[0] for i, h, row in zip(*(column.tolist() for column in part), strict=True)}


@given(st.lists(pairs, min_size=1, max_size=5), st.integers(1, 15))
def test_kept_authors_have_the_smallest_hashes_and_the_rest_share_buckets(parts: list[Pairs], keep: int) -> None:
    """However the posts were cut into parts: what is kept is what one look at everything would keep."""
    held = VoiceTable(3, keep)
    for k, part in enumerate(parts):
        held.add(said(part))
        if k % 2:
            held.settle()
    everything = Counter(pair for part in parts for pair in part)
    want: dict[tuple[int, int], int] = defaultdict(int)
    for entity in {pair[0] for pair in everything}:
        smallest = sorted(h for i, h in everything if i == entity)[:keep]
        for (i, h), n in everything.items():
            if i == entity:
                want[(entity, h if h in smallest else TOP + h % BUCKETS)] += n
    assert counted(held.settle()) == want
    assert held.settle().sums[:, 2].sum() == 500_000 * sum(everything.values())


@given(pairs, pairs, st.integers(1, 6))
def test_what_is_taken_back_is_gone(before: Pairs, more: Pairs, keep: int) -> None:
    """A block is replaced by a later one of the same pane: old out, new in, as if only the new had come."""
    old, new = group_voices([said(before)], keep), group_voices([said(before + more)], keep)
    held = VoiceTable(3, keep)
    held.add(old)
    held.add(Voices(old.ids, old.hashes, -old.sums))
    held.add(new)
    assert counted(held.settle()) == counted(new)


def people(posts: Voices, n: list[int], unknown: list[int], keep: int = 100) -> Crowd:
    held = group_voices([posts], keep)
    counts = Voices(held.ids, held.hashes, held.sums[:, :2])
    keys, factor = loud(counts, keep, 4)
    removed = group_voices([hush(fold_like(held, counts, keep), keys, factor)], 2**31) if len(keys) else no_voices(3)
    size, none = np.array(n, np.int64), np.array(unknown, np.int64)
    totals = Totals(np.arange(len(n), dtype=np.int32), size, none, none * MICRO, size * MICRO)
    return crowd(totals, counts, removed, keep)


def test_crowd_by_hand() -> None:
    """Entity 0: authors with 4, 2, 1 posts and 3 unknown. Entity 1: unknown only. Entity 2: one author, 5 posts."""
    got = people(said([(0, 7)] * 4 + [(0, 8)] * 2 + [(0, 9)] + [(2, 7)] * 5 + [(9, 1)]), [10, 6, 5], [3, 6, 0])
    assert got.authors.tolist() == [3 + 3, 6, 1]
    assert got.weight.tolist() == [6 * MICRO, 6 * MICRO, 409_600]  # beyond four posts a voice fades: (4/5)^4
    assert got.n_eff.tolist() == pytest.approx([6.0, 6.0, 1.0])
    assert got.hhi.tolist() == pytest.approx([(16 + 4 + 1 + 3) / 100, 6 / 36, 1.0])


def test_ten_thousand_posts_of_one_author_weigh_less_than_one() -> None:
    """500 people say 0.5, the bot says 1."""
    crowd_of = said([(0, k) for k in range(1, 501)])
    bot = said([(0, 9_999)] * 10_000, score=MICRO)
    both = Voices(*(np.concatenate(p) for p in zip(crowd_of, bot, strict=True)))
    got = people(both, [10_500], [0], keep=1024)
    total = both.sums[:, 2].sum() - got.removed.sums[:, 2].sum()
    assert got.weight[0] / MICRO == pytest.approx(500, abs=0.01)
    assert total / got.weight[0] == pytest.approx(0.5, abs=1e-6)
    assert got.n_eff[0] == pytest.approx(500, rel=1e-3)
    assert got.hhi[0] > 0.9


def test_a_bot_outside_the_sample_is_found_in_its_bucket() -> None:
    rng = np.random.default_rng(2)
    hashes = rng.integers(1, 2**63, 5_000, np.uint64)
    crowd_of = said([(0, int(h)) for h in hashes])
    bot = said([(0, 2**64 - 5_000)] * 10_000, score=MICRO)
    both = Voices(*(np.concatenate(p) for p in zip(crowd_of, bot, strict=True)))
    got = people(both, [15_000], [0], keep=1024)
    value = (both.sums[:, 2].sum() - got.removed.sums[:, 2].sum()) / got.weight[0]
    assert value == pytest.approx(0.5, abs=0.005)  # the interval of 5 000 posts is three times as wide
    assert got.hhi[0] > 0.3


def test_crowd_without_any_known_author() -> None:
    got = people(no_voices(3), [8], [8])
    assert (got.authors.tolist(), got.n_eff.tolist(), got.hhi.tolist()) == ([8], [8.0], [1 / 8])


@pytest.mark.parametrize(("authors", "posts"), [(20_000, 1), (50_000, 2)])
def test_beyond_the_sample_authors_and_n_eff_are_estimated_within_ten_percent(authors: int, posts: int) -> None:
    hashes = np.random.default_rng(1).integers(1, TOP, authors, np.uint64)
    rows = np.tile(np.array([posts, posts * MICRO, 0], np.int64), (authors, 1))
    got = people(Voices(np.zeros(authors, np.int32), hashes, rows), [authors * posts], [0], keep=1024)
    assert got.authors[0] == pytest.approx(authors, rel=0.1)
    assert got.n_eff[0] == pytest.approx(authors, rel=0.1)
    assert got.hhi[0] == pytest.approx(1 / authors, rel=0.1)


def test_after_sealing_counts_stay_and_only_repeated_authors_keep_their_sums() -> None:
    held = VoiceTable(3, 100)
    held.add(said([(0, 1), (0, 2), (0, 2), (1, 3)]))
    before = held.counts()
    repeated = held.repeated()
    held.seal()
    held.seal()
    assert counted(held.counts()) == counted(before) == {(0, 1): 1, (0, 2): 2, (1, 3): 1}
    assert counted(held.repeated()) == counted(repeated) == {(0, 2): 2}
    assert held.repeated().sums.tolist() == [[2, 2 * MICRO, MICRO]]


@given(pairs)
def test_distinct_is_exact_below_the_bound(given_pairs: Pairs) -> None:
    table = group_voices([said(given_pairs)], 64, buckets=False)
    got = distinct(np.arange(4, dtype=np.int32), table, 64)
    assert got.tolist() == [len({h for i, h in given_pairs if i == e}) for e in range(4)]


def test_distinct_beyond_the_bound_is_near() -> None:
    hashes = np.random.default_rng(4).integers(1, 2**64, 30_000, np.uint64)
    rows = Voices(np.zeros(30_000, np.int32), hashes, np.ones((30_000, 1), np.int64))
    table = group_voices([rows], 256, buckets=False)
    assert len(table.ids) == 256
    assert distinct(np.zeros(1, np.int32), table, 256)[0] == pytest.approx(30_000, rel=0.2)
