"""What the page shows in a real Chromium equals the rows, to the last printed digit."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from browsing import (
    DASH,
    EMOTIONS,
    MINUS,
    STATUS,
    STEP,
    T0,
    Play,
    crisis,
    market,
    plain,
    row,
    shown,
    text,
    until,
)

from stream.feed import Feed, SpotPost
from stream.ops_status import OpsStatus
from stream.web import LiveServer

pytestmark = pytest.mark.browser


def test_big_numbers_and_bars_equal_the_newest_final_rows(play: Play) -> None:
    async def scene(feed: Feed, server: LiveServer, page: Any) -> None:
        await shown(page)
        tile = "#tiles [data-signal='market.{}']"
        lines = {
            "joy": f"Strongest emotion Joy 31.4 % interval 27.1{DASH}36.1 % n 1 042 · effective 991 · 871 authors Why?",
            "bullishness": "Bullishness +0.46 interval +0.38 to +0.52 n 1 042 · effective 991 · 871 authors Why?",
            "valence": f"Valence {MINUS}0.12 interval {MINUS}0.19 to +0.05 n 1 042 · effective 991 · 871 authors Why?",
            "agreement": f"Agreement 0.83 interval 0.79{DASH}0.86 n 1 042 · effective 991 · 871 authors Why?",
        }
        for name, line in lines.items():
            assert await text(page, tile.format(name)) == line
        for name, (value, lo, hi) in EMOTIONS.items():
            expected = f"{name.capitalize()} {value:.1%} {lo * 100:.1f}{DASH}{hi:.1%}".replace("%", " %")
            assert await text(page, f"#bars [data-signal='market.{name}']") == expected
        assert await text(page, "#asof") == f"14:13:00{DASH}14:14:00"
        assert await text(page, "#entity-n") == "n 1 042"
        assert await page.input_value("#entity") == "AAPL"
        assert await page.title() == "AAPL · Market · affectstream"

    play(scene)


def test_the_table_has_every_window_with_its_status_and_gaps_as_dashes(play: Play) -> None:
    async def scene(feed: Feed, server: LiveServer, page: Any) -> None:
        await shown(page)
        feed.publish(market(T0 + STEP, watermark=T0 + STEP, n=1_100, revision=2, status="revised"))
        feed.publish([row("market.valence", T0 + 2 * STEP, None, None, None, n=4, status="provisional")])
        await page.click("[data-group=mood] summary")
        await page.wait_for_selector("[data-group=mood] tr.revised")
        lines = [plain(await r.inner_text()).split("\t") for r in await page.query_selector_all("[data-group=mood] tr")]
        assert lines[0] == ["Window end", "Status", "n", "Bullishness", "Valence"]
        assert lines[1] == ["14:14:20", "provisional", "4", DASH, DASH]
        assert lines[2] == ["14:14:10", "revised", "1 100", "+0.46", f"{MINUS}0.12"]
        assert lines[3] == ["14:14:00", "final", "1 042", "+0.46", f"{MINUS}0.12"]
        assert len(lines) == 13
        assert "revised 2×" in await text(page, "#tiles [data-signal='market.valence']")

    play(scene)


def test_unknown_is_said_in_words_and_never_shown_as_zero(play: Play) -> None:
    async def scene(feed: Feed, server: LiveServer, page: Any) -> None:
        await shown(page)
        expected = "Strongest emotion not enough posts (n < 20) n 7 · effective 7 · 1 author"
        assert await text(page, "#tiles [data-signal='market.joy']") == expected
        assert await text(page, "#bars [data-signal='market.joy']") == "Joy not enough posts (n < 20)"
        assert "Too few posts in every window" in await text(page, ".chart[data-group=emotions] .frame")
        assert not re.search(r"\b0(\.0+)? %", await text(page, "#bars"))

    play(scene, path="?entity=ticker:KO&window=60000")


def test_what_lacks_a_past_is_not_said_to_lack_posts(play: Play) -> None:
    async def scene(feed: Feed, server: LiveServer, page: Any) -> None:
        await shown(page)
        feed.publish([row("market.buzz_z", T0 + STEP, None, None, None)])
        tile = "#tiles [data-signal='market.buzz_z']"
        await page.wait_for_selector(tile)
        assert "no usual value yet: it takes a day" in await text(page, tile)
        assert "known after a day" in await text(page, ".chart[data-group=past] .frame")

    play(scene)


def test_operations_show_the_sum_and_posts_show_text_as_text(play: Play) -> None:
    async def scene(feed: Feed, server: LiveServer, page: Any) -> None:
        await shown(page)
        line = "12 345 in = 12 000 applied + 210 duplicate + 100 late + 5 rejected + 30 in flight"
        assert await text(page, "#sum") == f"{line} ✓ every post accounted for"
        gauges = await text(page, "#gauges")
        wanted = (
            "Rate 412 posts/s",
            "Lag 1 234 posts",
            "Watermark 14:14:07",
            "Watermark delay 3.3 s",
            "Rows written 98 765",
        )
        for part in wanted:
            assert part in gauges
        assert await text(page, "#engine") == "hashed · hashed-bag@7c1f02ab no GPU found"
        assert await text(page, "#tabs [aria-selected=true]") == "Market"
        first, second = [plain(await p.inner_text()).split("\n") for p in await page.query_selector_all(".post")]
        head = [part for part in " ".join(first).split(" ") if part]
        assert head[:4] == ["Joy", "0.66", "14:13:58", "repost"]
        assert first[-1] == "<img src=x onerror=alert(1)> [user]"
        assert second[-1] == "older"
        feed.status(OpsStatus(consumed=10, applied=7, domain="market", ready=True, problem=None))
        await page.wait_for_selector(".verdict.bad")
        assert await text(page, ".verdict") == "✗ 3 posts unaccounted for"
        feed.status(OpsStatus(consumed=10, applied=10, domain="market", watermark_ms=T0, watermark_delay_s=-5224.5))
        await page.wait_for_selector(".verdict:not(.bad)")
        assert "Watermark delay 87 min ahead" in await text(page, "#gauges")

    play(scene)


def test_needs_are_rates_per_ten_thousand_and_ranked(play: Play) -> None:
    feed = Feed(first_id=0)
    for k in range(5):
        feed.publish(crisis(T0 - k * STEP))
    feed.status(msgspec.structs.replace(STATUS, domain="crisis"))

    async def scene(feed: Feed, server: LiveServer, page: Any) -> None:
        await shown(page)
        tile = await text(page, "#tiles [data-signal='crisis.need.water']")
        assert tile == f"Top need Water 654 per 10 000 interval 523{DASH}851 n 1 042 · effective 991 · 871 authors Why?"
        assert (await text(page, "#tiles [data-signal='crisis.without_place']")).startswith("Without a place 55.1 %")
        names = [plain(await b.inner_text()).split("\n")[0] for b in await page.query_selector_all("#bars .bar-name")]
        assert names == ["Water", "Food", "Shelter", "Medical help", "Money", "Tools"]
        assert await text(page, "#bars [data-signal='crisis.need.tools'] .bar-value") == "4.7"
        pressed = await page.query_selector_all("[data-group=needs] .chip[aria-pressed=true]")
        assert len(pressed) == 5

    play(scene, feed, path="")


def test_updates_arrive_and_an_older_revision_changes_nothing(play: Play) -> None:
    async def scene(feed: Feed, server: LiveServer, page: Any) -> None:
        await shown(page)
        assert await text(page, "#link") == "Live"
        tile = "#tiles [data-signal='market.valence'] .num"
        feed.publish([row("market.valence", T0, 0.777, 0.7, 0.8, revision=3, status="revised")])
        await until(page, f"document.querySelector(\"{tile}\").textContent === '+0.78'")
        feed.publish([row("market.valence", T0, 0.111, 0.1, 0.2, revision=2, status="revised")])
        feed.publish([row("market.bullishness", T0 + STEP, -0.5, -0.6, -0.4)])
        await until(
            page,
            f"document.querySelector(\"#tiles [data-signal='market.bullishness'] .num\").textContent === '{MINUS}0.50'",
        )
        assert await text(page, tile) == "+0.78"
        feed.spotlight("ticker:AAPL", [SpotPost(time_ms=T0, text_masked="fresh", label="anger", score=0.5)])
        await until(page, "document.querySelector('.post-text').textContent === 'fresh'")

    play(scene)
