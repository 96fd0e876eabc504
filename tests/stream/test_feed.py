"""The feed: bounded history, newest row wins, resume without loss, a slow reader harms nobody."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.records import SignalRow
from stream.feed import Feed, FeedEvent, OpsStatus, SpotPost, Subscription
from stream.history import History, SeriesKey


def row(end: int = 60_000, **given_: Any) -> SignalRow:
    fields: dict[str, Any] = {
        "signal": "market.joy", "domain": "market", "entity": "ticker:AAPL", "window_start": end - 60_000,
        "window_end": end, "value": 0.25, "lo": 0.2, "hi": 0.3, "n": 40, "n_eff": 38.5, "authors": 30, "buzz": 40.0,
        "status": "final", "revision": 0, "watermark": end, "model": "m@1", "ontology": "o1", "reasons": ("a",),
    }  # fmt: skip
    return SignalRow(**{**fields, **given_})


KEY = SeriesKey("market.joy", "ticker:AAPL", 60_000)


async def take(reader: Subscription, count: int) -> list[FeedEvent]:
    async with asyncio.timeout(2):
        return [await anext(reader) for _ in range(count)]


async def rows_until_end(reader: Subscription) -> list[dict[str, Any]]:
    async with asyncio.timeout(2):
        return [r for e in [e async for e in reader] if e.kind == "rows" for r in msgspec.json.decode(e.data)["rows"]]


@given(
    st.lists(
        st.tuples(
            st.integers(1, 30),
            st.integers(0, 4),
            st.integers(0, 50),
            st.one_of(st.none(), st.floats(-1, 1, allow_nan=False)),
        ),
        max_size=60,
    )
)
def test_history_gives_back_the_newest_row_of_every_window_exactly(
    steps: list[tuple[int, int, int, float | None]],
) -> None:
    history = History()
    newest: dict[int, SignalRow] = {}
    for window, revision, n, value in steps:
        given_row = row(window * 10_000 + 60_000, revision=revision, n=n, value=value, lo=value, hi=None)
        held = newest.get(given_row.window_end)
        is_newer = held is None or (revision, n) >= (held.revision, held.n)
        assert history.put(given_row) is is_newer
        if is_newer:
            newest[given_row.window_end] = given_row
    assert history.rows(KEY) == [newest[end] for end in sorted(newest)]
    assert len(history) == len(newest)


def test_final_replaces_provisional_of_the_same_revision_and_never_the_other_way() -> None:
    history = History()
    history.put(row(status="provisional", watermark=30_000))
    assert history.put(row(status="final"))
    assert not history.put(row(status="provisional", watermark=30_000))
    assert [r.status for r in history.rows(KEY)] == ["final"]


def test_null_is_kept_as_null_in_rows_and_columns() -> None:
    history = History()
    history.put(row(value=None, lo=None, hi=None))
    columns = history.columns(KEY)
    assert (columns["value"], columns["lo"], columns["hi"]) == ([None], [None], [None])
    assert history.rows(KEY)[0].value is None


def test_windows_per_series_are_bounded_and_the_oldest_go() -> None:
    history = History(max_windows=5)
    for k in range(12):
        history.put(row(60_000 + k * 10_000))
    assert history.columns(KEY)["window_end"] == [60_000 + k * 10_000 for k in range(7, 12)]


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 30)), max_size=300))
def test_rows_and_series_never_exceed_their_bounds(puts: list[tuple[int, int]]) -> None:
    history = History(max_windows=10, max_series=8, max_rows=40)
    for entity, window in puts:
        history.put(row(window * 60_000, entity=f"ticker:{entity}"))
        assert len(history) <= 40
        assert len(history.keys()) <= 8
    assert len(history) == sum(len(history.rows(k)) for k in history.keys())  # noqa: SIM118 - not a mapping
    assert {e for e, _, _ in history.entities()} == {k.entity for k in history.keys()}  # noqa: SIM118


def test_entities_come_by_n_of_the_newest_settled_window() -> None:
    history = History()
    history.put(row(60_000, n=10))
    history.put(row(70_000, n=99, status="provisional"))
    history.put(row(60_000, n=50, entity="ticker:TSLA"))
    history.put(row(3_600_000, n=7, window_start=0, entity="ticker:KO"))
    assert history.entities(60_000) == [("ticker:TSLA", 50, 60_000), ("ticker:AAPL", 10, 60_000), ("ticker:KO", 0, 0)]
    assert history.windows() == [60_000, 3_600_000]
    assert history.signals() == [("market.joy", "market")]


def test_a_reader_gets_what_comes_after_it_subscribed_in_order() -> None:
    async def scene() -> None:
        feed = Feed(first_id=10)
        feed.publish([row(60_000)])
        reader = feed.subscribe()
        feed.publish([row(70_000), row(80_000)])
        feed.status(OpsStatus(consumed=3, applied=3, ready=True, problem=None))
        status, rows, again = await take(reader, 3)
        assert (status.kind, rows.kind, again.kind) == ("status", "rows", "status")
        assert rows.id == feed.last_id == 12
        assert [r["window_end"] for r in msgspec.json.decode(rows.data)["rows"]] == [70_000, 80_000]
        assert msgspec.json.decode(again.data)["conserved"] is True

    asyncio.run(scene())


@pytest.mark.parametrize("seen", range(7))
def test_resume_gives_exactly_what_was_missed(seen: int) -> None:
    async def scene() -> None:
        feed = Feed(first_id=100)
        for k in range(6):
            feed.publish([row(60_000 + k * 10_000)])
        reader = feed.subscribe(100 + seen)
        feed.publish([row(999_000)])
        feed.close()
        ends = [r["window_end"] for r in await rows_until_end(reader)]
        assert ends == [60_000 + k * 10_000 for k in range(seen, 6)] + [999_000]

    asyncio.run(scene())


@pytest.mark.parametrize("last_id", [-1, 3, 10_000])
def test_resume_from_what_is_no_longer_held_says_reset(last_id: int) -> None:
    async def scene() -> None:
        feed = Feed(first_id=0, ring_events=4)
        for k in range(10):
            feed.publish([row(60_000 + k * 10_000)])
        first, second = await take(feed.subscribe(last_id), 2)
        assert (first.kind, first.id, second.kind) == ("reset", 10, "status")

    asyncio.run(scene())


def test_the_status_after_a_replay_never_skips_rows_still_to_come() -> None:
    async def scene() -> None:
        feed = Feed(first_id=0)
        for k in range(5):
            feed.publish([row(60_000 + k * 10_000)])
        ids = [e.id for e in await take(feed.subscribe(2), 4)]
        assert ids == [3, 4, 5, 5]

    asyncio.run(scene())


def test_a_slow_reader_is_dropped_with_a_reason_and_the_others_lose_nothing() -> None:
    async def scene() -> None:
        feed = Feed(first_id=0, queue_events=8)
        slow, quick = feed.subscribe(), feed.subscribe()
        await take(quick, 1)
        got = 0
        for k in range(50):
            feed.publish([row(60_000 + k * 10_000)])
            got += len(await take(quick, 1))
        assert got == 50
        assert feed.readers == 1
        events = [e async for e in slow if e.kind != "status"]
        assert [e.kind for e in events] == ["dropped"]
        assert "8 events waiting" in msgspec.json.decode(events[0].data)["reason"]

    asyncio.run(scene())


def test_a_reader_of_one_entity_and_window_gets_nothing_else() -> None:
    async def scene() -> None:
        feed = Feed(first_id=0, queue_events=4)
        reader = feed.subscribe(entity="ticker:AAPL", window_ms=60_000)
        for k in range(20):  # more than the queue holds: unwanted rows must not fill it
            feed.publish([row(60_000 + k * 10_000, entity="ticker:TSLA"), row(3_600_000 + k, window_start=k)])
        feed.publish([row(70_000), row(70_000, entity="ticker:TSLA")])
        feed.close()
        assert [r["entity"] for r in await rows_until_end(reader)] == ["ticker:AAPL"]

    asyncio.run(scene())


def test_refused_rows_make_no_event() -> None:
    feed = Feed(first_id=0)
    feed.publish([row(revision=2)])
    feed.publish([row(revision=1)])
    assert feed.last_id == 1
    assert feed.history.rows(KEY)[0].revision == 2


def test_ids_rise_over_restarts() -> None:
    before = Feed()
    before.publish([row()])
    assert Feed().last_id >= before.last_id


def test_the_ring_is_bounded_by_rows() -> None:
    async def scene() -> None:
        feed = Feed(first_id=0, ring_rows=10)
        for k in range(8):
            feed.publish([row(60_000 + (k * 5 + j) * 10_000) for j in range(5)])
        assert (await take(feed.subscribe(5), 1))[0].kind == "reset"
        assert (await take(feed.subscribe(6), 1))[0].kind == "rows"

    asyncio.run(scene())


def spot(time_ms: int, text: str = "t") -> SpotPost:
    return SpotPost(time_ms=time_ms, text_masked=text, label="joy", score=0.9)


def test_spotlight_keeps_the_newest_posts_first_bounded_in_count_entities_and_length() -> None:
    feed = Feed(first_id=0, max_posts=3, max_entities=2, max_text=10)
    feed.spotlight("ticker:A", [spot(k) for k in range(5)])
    assert [p.time_ms for p in feed.posts("ticker:A")] == [4, 3, 2]
    feed.spotlight("ticker:B", [spot(1, "x" * 500)])
    assert feed.posts("ticker:B")[0].text_masked == "x" * 9 + "…"
    feed.spotlight("ticker:A", [spot(9)])
    feed.spotlight("ticker:C", [spot(1)])
    assert (feed.posts("ticker:B"), len(feed.posts("ticker:A")), len(feed.posts("ticker:C"))) == ([], 3, 1)


@pytest.mark.parametrize(("late", "holds"), [(2, True), (3, False)])
def test_conservation_is_worked_out_from_the_five_terms(late: int, holds: bool) -> None:
    status = OpsStatus(consumed=20, applied=10, duplicate=4, late=late, rejected=1, in_flight=3)
    assert status.conserved is holds
