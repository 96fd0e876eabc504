"""The desk: bounds, credit, deadlines, order; and that every request ends in one place."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.base import TensorBatch
from engines.desk import Desk, Refused, Terms, Waiting


def ragged(*lengths: int) -> TensorBatch:
    """Rows of so many entries."""
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    return TensorBatch(len(lengths), {"ids": np.zeros(int(offsets[-1]), np.int32), "offsets": offsets})


def flat(rows: int) -> TensorBatch:
    return TensorBatch(rows, {"x": np.zeros((rows, 2), np.float32)})


def numbers(chosen: list[Waiting]) -> list[int]:
    return [w.number for w in chosen]


def put(desk: Desk, number: int, batch: TensorBatch, deadline: float = 10.0, client: bytes = b"a") -> None:
    desk.take_in(client, number, batch, "f", deadline, 0.0)


def test_the_earliest_deadline_goes_first_whoever_asks() -> None:
    desk = Desk(Terms(max_batch=1))
    for number, deadline, client in ((1, 9.0, b"a"), (2, 3.0, b"b"), (3, 6.0, b"c")):
        put(desk, number, flat(1), deadline, client)
    assert [numbers(desk.choose()) for _ in range(4)] == [[2], [3], [1], []]


def test_a_batch_is_of_one_kin_and_of_like_lengths() -> None:
    """The first by deadline; then the nearest in length as long as they fit; another kind of tensor never."""
    desk = Desk(Terms(max_batch=4))
    put(desk, 1, ragged(10), 1.0)
    put(desk, 2, ragged(99, 99), 2.0, b"b")
    put(desk, 3, ragged(11, 12), 8.0, b"c")
    put(desk, 4, ragged(12), 9.0, b"d")
    put(desk, 5, flat(1), 3.0, b"e")
    assert numbers(desk.choose()) == [1, 3, 4]
    assert numbers(desk.choose()) == [2]
    assert numbers(desk.choose()) == [5]


def test_max_wait_holds_a_batch_back_until_it_is_full_or_old() -> None:
    desk = Desk(Terms(max_batch=4, max_wait_s=2.0))
    assert desk.wait_s(0.0) is None
    put(desk, 1, flat(3))
    assert desk.wait_s(0.5) == 1.5
    assert desk.wait_s(2.0) == 0.0
    put(desk, 2, flat(1))
    assert desk.wait_s(0.5) == 0.0
    assert Desk(Terms()).wait_s(0.0) is None


def test_what_is_too_late_is_refused_and_never_scored() -> None:
    desk = Desk(Terms())
    put(desk, 1, flat(1), 1.0)
    put(desk, 2, flat(1), 5.0)
    assert numbers(desk.expired(1.0)) == [1]
    assert numbers(desk.choose()) == [2]
    assert desk.counts["refused_DeadlineExceeded"] == 1
    put(desk, 3, flat(1))  # its credit is back


def test_bounds_are_kept_and_named() -> None:
    terms = Terms(max_batch=3, max_rows=6, max_clients=3, credit=2, silence_s=10.0)
    desk = Desk(terms)
    put(desk, 1, flat(2))
    put(desk, 2, flat(2))
    with pytest.raises(Refused) as refused:
        put(desk, 3, flat(1))
    assert refused.value.error == "NoCredit"
    with pytest.raises(Refused) as refused:
        put(desk, 3, flat(3), client=b"b")
    assert refused.value.error == "QueueFull"
    with pytest.raises(Refused) as refused:
        put(desk, 3, flat(4), client=b"b")
    assert refused.value.error == "ShapeMismatch"
    desk.greet(b"c", 0.0)
    with pytest.raises(Refused) as refused:
        desk.greet(b"d", 5.0)
    assert refused.value.error == "TooManyClients"
    desk.greet(b"d", 11.0)  # b and c have nothing open and were silent; a has requests in the queue
    assert set(desk.clients) == {b"a", b"d"}


@pytest.mark.parametrize(
    "batch",
    [
        TensorBatch(2, {"x": np.zeros((3, 1))}),
        TensorBatch(1, {"x": np.zeros(())}),
        TensorBatch(2, {"ids": np.zeros(3, np.int32), "offsets": np.array([0, 3], np.int64)}),
        TensorBatch(2, {"ids": np.zeros(3, np.int32), "offsets": np.array([0, 4, 3], np.int64)}),
        TensorBatch(2, {"ids": np.zeros(3, np.int32), "offsets": np.array([1, 2, 3], np.int64)}),
        TensorBatch(2, {"ids": np.zeros(3, np.int32), "offsets": np.array([0, 1, 2], np.int64)}),
        TensorBatch(2, {"ids": np.zeros(3, np.int32), "offsets": np.array([0, 1, 3], np.int32)}),
        TensorBatch(2, {"ids": np.zeros(3, np.int32), "offsets": np.array([0, 2**62, 3], np.int64)}),
    ],
)
def test_tensors_without_the_rows_they_claim_are_not_queued(batch: TensorBatch) -> None:
    desk = Desk(Terms())
    with pytest.raises(Refused) as refused:
        put(desk, 1, batch)
    assert refused.value.error == "ShapeMismatch"
    assert desk.queue == []


steps = st.lists(
    st.tuples(
        st.sampled_from(["done", "lost", "late", "foreign", "choose", "choose", "ask", "ask", "ask", "ask"]),
        st.integers(0, 3),
    ),
    max_size=60,
)


@given(steps)
def test_every_request_ends_in_one_place_and_nothing_leaks(moves: list[tuple[str, int]]) -> None:
    desk, now, number = Desk(Terms(max_batch=3, max_rows=7, credit=2, max_clients=3)), 0.0, 0
    running: list[Waiting] = []
    for what, k in moves:
        now += 0.5
        client = bytes([65 + k])
        if what == "ask":
            number += 1
            try:
                desk.take_in(client, number, flat(1 + k), "f" if k else "g", 1.0 + k, now)
            except Refused:
                continue
        elif what == "choose":
            running += desk.choose()
        elif what == "late":
            desk.expired(now)
        elif what == "foreign":
            desk.foreign("f")
        elif what == "lost":
            desk.lost(client)
        elif running:
            desk.answered(running.pop(), "EngineLost" if k == 0 else "")
        refused = sum(count for name, count in desk.counts.items() if name.startswith("refused_"))
        assert desk.counts["asked"] == desk.counts["answered"] + refused + len(desk.queue) + desk.running
        assert desk.running == len(running)
        assert sum(w.batch.rows for w in desk.queue) == desk._rows <= 7
        assert sum(w.size for w in desk.queue) == desk._bytes
        assert all(0 <= known.open <= 2 for known in desk.clients.values())
