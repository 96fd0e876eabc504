"""Dedupe against a plain per-post model, whatever the batches, the saves and the moments of expiry."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from operators import dedupe
from operators.dedupe import Dedupe
from operators.errors import ConfigInvalid
from operators.records import PostBatch

HORIZON = 1_000


def batch_of(posts: list[tuple[str, str, int]], start: int = 0) -> PostBatch:
    """(id, text, time) each, at offsets from `start` on."""
    n = len(posts)
    no = np.zeros(n, np.bool_)
    return PostBatch(
        partition=0,
        offsets=np.arange(start, start + n, dtype=np.int64),
        ids=[p[0] for p in posts],
        texts=[p[1] for p in posts],
        times_ms=np.array([p[2] for p in posts], np.int64),
        authors=np.zeros(n, np.uint64),
        langs=[""] * n,
        tickers=[None] * n,
        places=[None] * n,
        events=[None] * n,
        reposts=no,
        near=no,
    )


@dataclass
class Model:
    """The definition, one post at a time, forgetting nothing."""

    ids: dict[str, int] = field(default_factory=dict)
    texts: dict[str, int] = field(default_factory=dict)

    def step(self, post: tuple[str, str, int]) -> str:
        """`dup`, `repost` or `new`."""
        name, text, ms = post
        if name in self.ids and abs(ms - self.ids[name]) <= HORIZON:
            return "dup"
        self.ids[name] = ms
        if text in self.texts and abs(ms - self.texts[text]) <= HORIZON:
            return "repost"
        self.texts[text] = ms
        return "new"


def outcomes(found: Dedupe, batch: PostBatch) -> list[str]:
    emit = found.run(batch)
    kept = dict(zip(emit.batch.offsets.tolist(), emit.batch.reposts.tolist(), strict=True))
    assert emit.duplicates == len(batch) - len(kept)
    return ["dup" if o not in kept else "repost" if kept[o] else "new" for o in batch.offsets.tolist()]


posts_st = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.sampled_from(["x", "y", "z zz", ""]), st.integers(0, 3 * HORIZON)),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(posts=posts_st, cuts=st.lists(st.integers(1, 9), min_size=1, max_size=40), near=st.booleans(), data=st.data())
def test_equals_the_model_for_any_cut_save_and_restart(
    posts: list[tuple[str, str, int]], cuts: list[int], near: bool, data: st.DataObject
) -> None:
    model, found, saved = Model(), Dedupe(HORIZON, near=near), {}
    expected = [model.step(p) for p in posts]
    got: list[str] = []
    for size in cuts * 40:
        if len(got) == len(posts):
            break
        got += outcomes(found, batch_of(posts[len(got) : len(got) + size], len(got)))
        what = data.draw(st.sampled_from(["go", "save", "restart"]))
        if what != "go":
            for key, value in found.snapshot().items():
                if value is None:
                    del saved[key]
                else:
                    saved[key] = value
        if what == "restart":
            found = Dedupe(HORIZON, near=near)
            found.restore(saved)
    assert got == expected


@settings(max_examples=150, deadline=None)
@given(posts=posts_st, at=st.integers(0, 40), zombie=st.integers(0, 40), steps=st.lists(st.integers(1, 9), min_size=1))
def test_a_chunk_that_an_owner_thought_dead_saves_late_changes_nothing(
    posts: list[tuple[str, str, int]], at: int, zombie: int, steps: list[int]
) -> None:
    """Both go on from the same saved state; the zombie's one chunk, shorter or longer, lands after the successor's.

    Left out: an id or text that comes back after more than the horizon. The zombie may have saved its second coming;
    a copy of the first, still to be read, is then not seen.
    """
    same = [(a, b) for a in posts for b in posts if a[0] == b[0] or a[1] == b[1]]
    assume(all(abs(a[2] - b[2]) <= HORIZON for a, b in same))
    at = min(at, len(posts))
    model, saved = Model(), dict[str, bytes | None]()
    expected = [model.step(p) for p in posts]
    first = Dedupe(HORIZON)
    got = outcomes(first, batch_of(posts[:at], 0))
    saved.update(first.snapshot())
    late, successor = Dedupe(HORIZON), Dedupe(HORIZON)
    for one in (late, successor):
        one.restore({k: v for k, v in saved.items() if v is not None})
    outcomes(late, batch_of(posts[at : at + zombie], at))
    for size in steps:
        part = posts[len(got) : len(got) + size]
        got += outcomes(successor, batch_of(part, len(got)))
        saved.update(successor.snapshot())
    saved.update(late.snapshot())
    third = Dedupe(HORIZON)
    third.restore({k: v for k, v in saved.items() if v is not None})
    got += outcomes(third, batch_of(posts[len(got) :], len(got)))
    assert got == expected


@settings(max_examples=60, deadline=None)
@given(posts=posts_st, seed=st.integers(0, 9))
def test_expiry_changes_nothing_within_the_horizon(posts: list[tuple[str, str, int]], seed: int) -> None:
    """Times rise with a jitter below the horizon; advancing after every post gives what never advancing gives."""
    rng = np.random.default_rng(seed)
    spread = [(i, t, 700 * k + int(rng.integers(0, HORIZON))) for k, (i, t, _) in enumerate(posts)]
    model, eager = Model(), Dedupe(HORIZON, near=False)
    top = 0
    for k, post in enumerate(spread):
        assert outcomes(eager, batch_of([post], k)) == [model.step(post)]
        eager.snapshot()
        top = max(top, post[2])
        eager.advance(top - HORIZON)
    eager.advance(10**9)
    assert eager.remembered == 0


def test_expired_chunks_become_tombstones_and_are_not_restored() -> None:
    found = Dedupe(HORIZON)
    found.run(batch_of([("a", "one two three", 0)]))
    first = found.snapshot()
    assert sorted(first) == [f"{kind}/{0:020d}-{1:020d}" for kind in ("ids", "texts")]
    assert all(first.values())
    found.run(batch_of([("b", "four five six", 5 * HORIZON)], 1))
    found.advance(5 * HORIZON)
    second = found.snapshot()
    assert second.pop(f"ids/{0:020d}-{1:020d}") is None
    assert second.pop(f"texts/{0:020d}-{1:020d}") is None
    assert list(second) == [f"{kind}/{1:020d}-{2:020d}" for kind in ("ids", "texts")]
    assert found.snapshot() == {}


def test_a_replayed_record_is_no_duplicate_of_itself() -> None:
    posts = [("a", "one", 0), ("b", "two", 1), ("a", "one", 2), ("c", "two", 3)]
    found = Dedupe(HORIZON)
    first = outcomes(found, batch_of(posts))
    again = Dedupe(HORIZON)
    again.restore({k: v for k, v in found.snapshot().items() if v is not None})
    assert first == ["new", "new", "dup", "repost"]
    assert outcomes(again, batch_of(posts[1:], 1)) == first[1:]
    assert outcomes(again, batch_of([("a", "new", 4)], 4)) == ["dup"]


@settings(max_examples=40, deadline=None)
@given(posts=posts_st.filter(bool), data=st.data())
def test_replay_over_state_ahead_of_the_offsets(posts: list[tuple[str, str, int]], data: st.DataObject) -> None:
    posts = [(i, t, ms % HORIZON) for i, t, ms in posts]
    found = Dedupe(HORIZON)
    first = outcomes(found, batch_of(posts))
    at = data.draw(st.integers(0, len(posts) - 1))
    ahead = Dedupe(HORIZON)
    ahead.restore({k: v for k, v in found.snapshot().items() if v is not None})
    assert outcomes(ahead, batch_of(posts[at:], at)) == first[at:]


BASE = "Shelves empty everywhere downtown tonight, three families near Oak Street need bottled water and blankets"


@pytest.mark.parametrize(
    "text",
    [
        "RT @someone: " + BASE,
        BASE + " https://t.co/abc123",
        BASE.upper() + "!!!",
        BASE.replace("three", "seven"),
        "@mayor " + BASE + " 12345",
        BASE + " please",
        BASE.replace("tonight, ", ""),
    ],
)
def test_small_edits_are_near_and_stay(text: str) -> None:
    emit = Dedupe().run(batch_of([("a", BASE, 0), ("b", text, 1)]))
    assert emit.batch.near.tolist() == [False, True]
    assert emit.batch.reposts.tolist() == [False, False]
    assert emit.duplicates == 0


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (BASE, "My grandmother waits on her roof, please send a boat to the end of Mill Street before dark"),
        ("$AAPL looks strong today", "$TSLA looks weak today"),
        ("so happy", "so sad"),
        ("http://a.b", "http://c.d"),
        ("", "@user"),
    ],
)
def test_different_texts_are_not_near(one: str, other: str) -> None:
    emit = Dedupe().run(batch_of([("a", one, 0), ("b", other, 1)]))
    assert emit.batch.near.tolist() == [False, False]


def test_reposts_are_near_and_near_can_be_switched_off() -> None:
    posts = [("a", BASE, 0), ("b", BASE, 1), ("c", BASE + " please", 2)]
    on, off = Dedupe().run(batch_of(posts)).batch, Dedupe(near=False).run(batch_of(posts)).batch
    assert on.near.tolist() == [False, True, True]
    assert on.reposts.tolist() == off.reposts.tolist() == off.near.tolist() == [False, True, False]


WORDS = "alpha bravo charlie delta echo foxtrot golf hotel india juliet kilo lima mike november oscar papa"
near_posts = st.lists(
    st.tuples(st.lists(st.sampled_from(WORDS.split()), max_size=9).map(" ".join), st.integers(0, 2 * HORIZON)),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(rows=near_posts, cuts=st.lists(st.integers(1, 7), min_size=1, max_size=25), save=st.booleans())
def test_near_does_not_depend_on_cuts_or_restarts(rows: list[tuple[str, int]], cuts: list[int], save: bool) -> None:
    posts = [(f"id{k}", text, ms) for k, (text, ms) in enumerate(rows)]
    whole = Dedupe(HORIZON).run(batch_of(posts)).batch.near.tolist()
    found, got, saved = Dedupe(HORIZON), [], {}
    for size in cuts * 25:
        if len(got) == len(posts):
            break
        got += found.run(batch_of(posts[len(got) : len(got) + size], len(got))).batch.near.tolist()
        if save:
            saved.update(found.snapshot())
            found = Dedupe(HORIZON)
            found.restore({k: v for k, v in saved.items() if v is not None})
    assert got == whole


def test_bounded_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dedupe, "CHUNK", 10)
    found = Dedupe(HORIZON, max_ids=50, max_texts=50)
    for k in range(0, 400, 8):
        found.run(batch_of([(f"id{j}", f"text {j}", 0) for j in range(k, k + 8)], k))
    assert found.remembered <= 50 + 18
    assert found.dropped == 400 - found.remembered
    assert outcomes(found, batch_of([("id399", "t", 0), ("id349", "t", 0)], 400)) == ["dup", "new"]


def test_the_bound_does_not_depend_on_cuts() -> None:
    rng = np.random.default_rng(5)
    posts = [(f"id{int(k)}", "t", 0) for k in rng.integers(0, 60, 600)]
    whole = outcomes(Dedupe(HORIZON, max_ids=20, near=False), batch_of(posts))
    found = Dedupe(HORIZON, max_ids=20, near=False)
    parts: list[str] = []
    for k in range(0, 600, 7):
        parts += outcomes(found, batch_of(posts[k : k + 7], k))
    assert parts == whole
    assert 0 < whole.count("dup") < 600


def test_state_is_small() -> None:
    found = Dedupe(near=False)
    found.run(batch_of([(f"id{k}", f"text {k}", k) for k in range(5_000)]))
    assert sum(len(v or b"") for v in found.snapshot().values()) < 5_000 * 49


def test_state_of_the_other_setting_is_taken() -> None:
    found = Dedupe()
    found.run(batch_of([("a", BASE, 0)]))
    saved = {k: v for k, v in found.snapshot().items() if v is not None}
    plain = Dedupe(near=False)
    plain.restore(saved)
    assert outcomes(plain, batch_of([("b", BASE, 1)], 1)) == ["repost"]


def test_empty_batch_and_wrong_bounds() -> None:
    assert Dedupe().run(batch_of([])).duplicates == 0
    with pytest.raises(ConfigInvalid, match="max_ids"):
        Dedupe(max_ids=0)
