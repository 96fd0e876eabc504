"""A window put together again: what posts weigh adds up to what the windows have, also where authors are sampled."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import batch_of

from engines.stub import stub_spec
from operators.clock import Lateness
from operators.market import market
from operators.records import MICRO, PostBatch
from operators.reread import about, window_again
from operators.window import WindowSpec

DOMAIN = market(stub_spec())
LATENESS = Lateness(0, 600_000, 10_000)


def scored(authors: list[int], times: list[int], partition: int = 0) -> PostBatch:
    n = len(authors)
    rng = np.random.default_rng(n)
    emotions = rng.dirichlet(np.ones(7), n) * MICRO
    stance = rng.dirichlet(np.ones(3), n) * MICRO
    links = [(k, name) for k in range(n) for name in ("ticker:A", "all:*")]
    batch = batch_of(["x"] * n, times=times, authors=authors, links=links, partition=partition)
    return replace(batch, scores={"emtract7": emotions.astype(np.int32), "bullbear3": stance.astype(np.int32)})


posts = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 179_999)), min_size=1, max_size=60)


@settings(max_examples=40, deadline=None)
@given(given_posts=posts, keep=st.sampled_from((2, 4096)), window=st.sampled_from((60_000, 180_000)))
def test_weights_of_posts_add_up_to_that_of_the_window(
    given_posts: list[tuple[int, int]], keep: int, window: int
) -> None:
    # Hashes spread over the whole range: the sample of authors goes by the smallest.
    authors = [author * (2**61) for author, _ in given_posts]
    batches = [scored(authors[k::2], [t for _, t in given_posts][k::2], k) for k in range(2) if authors[k::2]]
    found = window_again(DOMAIN, WindowSpec(window, 60_000), LATENESS, "ticker:A", 180_000, batches, keep)
    inside = sum(1 for _, t in given_posts if 180_000 - window <= t < 180_000)
    assert (0 if found is None else int(found.frame.n[0])) == inside
    if found is not None:
        assert len(found.weight) == inside
        assert found.weight.sum() == pytest.approx(found.frame.sums.weight[0], abs=60)
        joined = (found.channels[:, : DOMAIN.linear] * found.weight[:, None] / MICRO).sum(axis=0)
        np.testing.assert_allclose(joined, found.frame.sums.columns[0, : DOMAIN.linear], rtol=0, atol=60)


def test_only_what_is_about_the_entity_and_inside_counts() -> None:
    batch = batch_of(
        ["a", "b", "c"], times=[0, 59_999, 60_000], links=[(0, "place:X"), (0, "all:*"), (1, "all:*"), (2, "place:X")]
    )
    kept = about(batch, "place:X", 0, 60_000)
    assert (kept.ids, kept.link_names, kept.link_rows.tolist()) == (["i0"], ["place:X", "all:*"], [0, 0])
    assert about(batch, "all:*", 0, 60_000).link_names == ["place:X", "all:*", "all:*"]


def test_no_post_no_window() -> None:
    assert window_again(DOMAIN, WindowSpec(60_000, 60_000), LATENESS, "ticker:B", 60_000, [scored([1], [5])]) is None
