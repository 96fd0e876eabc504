"""Several domains in one process: each has its own sum, posts and entities; together they are ready, or say why not."""

from __future__ import annotations

import json

import msgspec

from operators.records import SignalRow
from stream.feed import Feed, SpotPost
from stream.metrics import Metrics
from stream.ops_status import OpsStatus, status_json, together

MARKET = OpsStatus(
    domain="market", consumed=10, applied=8, late=2, rows=5, watermark_ms=500, watermark_delay_s=1.0, ready=True,
    problem=None, engine="numpy", model="m@1",
)  # fmt: skip
CRISIS = OpsStatus(
    domain="crisis", consumed=4, applied=3, in_flight=1, rows=7, watermark_ms=300, watermark_delay_s=9.0, ready=True,
    problem=None, sampled=0.5,
)  # fmt: skip


def row(domain: str, entity: str, n: int) -> SignalRow:
    return SignalRow(
        signal=f"{domain}.joy", domain=domain, entity=entity, window_start=0, window_end=60_000, value=0.1, lo=0.0,
        hi=0.2, n=n, n_eff=n, authors=n, buzz=n, status="final", revision=0, watermark=60_000, model="m", ontology="o",
    )  # fmt: skip


def test_counts_add_up_and_the_worst_watermark_counts() -> None:
    both = together([MARKET, CRISIS])
    assert (both.consumed, both.applied, both.late, both.in_flight, both.rows) == (14, 11, 2, 1, 12)
    assert (both.watermark_ms, both.watermark_delay_s, both.sampled) == (300, 9.0, 0.5)
    assert both.ready
    assert both.problem is None
    assert both.conserved


def test_one_alone_is_told_as_it_is() -> None:
    assert together([MARKET]) is MARKET


def test_errors_that_cancel_out_over_domains_are_still_errors() -> None:
    one, more = (msgspec.structs.replace(part, applied=part.applied + d) for part, d in ((MARKET, 1), (CRISIS, -1)))
    both = together([one, more])
    assert both.consumed == both.accounted
    assert not both.conserved


def test_one_that_is_not_ready_is_named() -> None:
    both = together([MARKET, msgspec.structs.replace(CRISIS, ready=False, problem="log away")])
    assert not both.ready
    assert both.problem == "crisis: log away"


def test_the_feed_keeps_statuses_by_domain_and_forgets_the_nameless_one() -> None:
    feed = Feed(first_id=0)
    feed.status(OpsStatus())
    feed.status(MARKET)
    assert feed.ops == MARKET
    feed.status(CRISIS)
    feed.status(msgspec.structs.replace(MARKET, consumed=11, applied=9))
    told = json.loads(status_json(feed.ops))
    assert told["consumed"] == 15
    assert [(part["domain"], part["consumed"], part["conserved"]) for part in told["domains"]] == [
        ("market", 11, True),
        ("crisis", 4, True),
    ]


def test_posts_and_entities_of_one_name_are_kept_apart_by_domain() -> None:
    feed = Feed(first_id=0)
    for k, domain in enumerate(("market", "crisis")):
        feed.spotlight("all:*", [SpotPost(time_ms=k, text_masked=domain, label="x", score=0.5)], domain)
    assert [post.text_masked for post in feed.posts("all:*", "market")] == ["market"]
    assert [post.text_masked for post in feed.posts("all:*")] == ["crisis", "market"]
    feed.publish([row("market", "all:*", 30), row("crisis", "all:*", 40), row("crisis", "place:Houma", 5)])
    assert feed.history.entities(60_000, "market") == [("all:*", 30, 60_000)]
    assert feed.history.entities(60_000, "crisis") == [("all:*", 40, 60_000), ("place:Houma", 5, 60_000)]


def test_prometheus_gets_sums_and_every_engine() -> None:
    metrics = Metrics(process=False)
    metrics.status(MARKET)
    metrics.status(CRISIS)
    metrics.in_flight(100, 1, "market")
    metrics.in_flight(20, 0, "crisis")
    told = metrics.exposition().decode()
    assert "affect_records_in_total 14.0" in told
    assert "affect_in_flight_bytes 120.0" in told
    assert 'domain="market"' in told
    assert 'domain="crisis"' in told
