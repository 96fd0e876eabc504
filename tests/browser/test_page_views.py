"""Three views of one process: tabs, crisis panels, corrected shares, what to beware of, the way to the reasons."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from browsing import (
    DASH,
    MINUS,
    STATUS,
    STEP,
    T0,
    Play,
    market,
    row,
    shown,
    text,
    three_views,
    until,
)

from operators.records import Alert
from stream.alert_cards import AlertPost, card_of
from stream.contribution import By, ContributingPost, Contribution, Parts, RisingWord
from stream.feed import Feed
from stream.web import LiveServer

pytestmark = pytest.mark.browser
TILES = "#tiles [data-signal='{}']"


def test_a_tab_shows_its_domain_by_click_key_address_and_history(play: Play) -> None:
    async def scene(feed: Feed, server: LiveServer, page: Any) -> None:
        await shown(page)
        assert await text(page, "#tabs [aria-selected=true]") == "Market"
        assert await page.get_attribute("#view", "role") == "tabpanel"
        assert await page.get_attribute("#view", "aria-labelledby") == "tab-market"
        assert f"{MINUS}0.12" in await text(page, TILES.format("market.valence"))
        assert "a market post" in await text(page, "#posts")
        assert await page.is_hidden("#crisis")
        await page.focus("#tab-market")
        await page.keyboard.press("ArrowRight")
        await page.wait_for_selector(TILES.format("crisis.need.water"))
        assert await page.evaluate("document.activeElement.id") == "tab-crisis"
        assert "view=crisis" in page.url
        assert "a crisis post" in await text(page, "#posts")
        assert await page.query_selector("#tiles [data-signal^='market.']") is None
        await page.keyboard.press("End")
        await page.wait_for_selector(TILES.format("social.valence"))
        assert await page.title() == "Everything · Social · affectstream"
        await page.go_back()
        await page.wait_for_selector(TILES.format("crisis.need.water"))
        await page.reload()
        await page.wait_for_selector(TILES.format("crisis.need.water"))
        feed.publish([row("crisis.need.water", T0 + STEP, 0.0777, 0.06, 0.09, entity="all:*")])
        feed.publish([row("market.valence", T0 + STEP, 0.9, 0.8, 1.0, entity="all:*")])
        await until(page, "document.querySelector('#tiles .num').textContent === '777'")
        assert await page.query_selector("#tiles [data-signal^='market.']") is None

    play(scene, three_views(), path="?entity=all:*&window=60000")


def test_a_view_without_an_engine_says_how_to_start_it(play: Play) -> None:
    async def scene(feed: Feed, server: LiveServer, page: Any) -> None:
        await shown(page)
        assert await text(page, "#tab-social") == "Social not running"
        await page.click("#tab-social")
        await page.wait_for_selector("#away:not([hidden])")
        words = await text(page, "#away")
        assert words.startswith("Social is not running here")
        assert "affect demo --scenario launch" in words
        assert 'domain = "social"' in words
        assert await page.is_hidden("#board")
        await page.click("#tab-market")
        await shown(page)
        assert await page.is_hidden("#away")

    play(scene)


def test_operations_have_a_sum_for_every_domain(play: Play) -> None:
    async def scene(feed: Feed, server: LiveServer, page: Any) -> None:
        await shown(page)
        feed.status(msgspec.structs.replace(STATUS, domain="crisis", consumed=12_347))
        await page.wait_for_selector("#sum .bad")
        lines = [await text(page, f"#sum > :nth-child({k})") for k in range(1, 7)]
        rest = "in = 12 000 applied + 210 duplicate + 100 late + 5 rejected + 30 in flight"
        assert lines == [
            f"Market 12 345 {rest}", "✓ every post accounted for",
            f"Crisis 12 347 {rest}", "✗ 2 posts unaccounted for",
            f"Social 12 345 {rest}", "✓ every post accounted for",
        ]  # fmt: skip
        feed.status(msgspec.structs.replace(STATUS, domain="social", ready=False, problem="log away"))
        assert await text(page, "#link") == "Live"
        await page.click("#tab-social")
        await page.wait_for_selector("#link[data-state=waiting]")
        await until(page, "document.querySelector('#notice').textContent.includes('log away')")

    play(scene, three_views(), path="?view=market")


def test_needs_by_place_have_numbers_and_keys_and_the_queue_masked_posts(play: Play) -> None:
    async def scene(feed: Feed, server: LiveServer, page: Any) -> None:
        await page.wait_for_selector("#heat .heat-cell")
        heads = [await cell.inner_text() for cell in await page.query_selector_all("#heat tbody th")]
        assert heads == ["Everything", "Houston", "Port Arthur", "Biloxi"]
        cell = "#heat [data-place='place:Houston'][data-need='{}']"
        assert await text(page, cell.format("water")) == "654"
        assert await text(page, cell.format("tools")) == "4.7"
        assert await page.get_attribute(cell.format("water"), "data-heat") == "6"
        assert await page.get_attribute(cell.format("tools"), "data-heat") == "1"
        assert await text(page, "#heat [data-place='place:Biloxi'][data-need=water]") == DASH
        assert "too few posts to say (n 7)" in await page.get_attribute(
            "#heat [data-place='place:Biloxi'][data-need=water]", "aria-label"
        )
        assert await page.evaluate("document.querySelectorAll('#heat [tabindex=\"0\"]').length") == 1
        await page.focus("#heat [tabindex='0']")
        for key in ("ArrowDown", "ArrowRight", "ArrowRight", "ArrowLeft"):
            await page.keyboard.press(key)
        line = await text(page, "#heat-line")
        assert line.startswith("Water, Houston: 654 per 10 000 posts · interval 523 to 851 · about 68 posts")
        await page.keyboard.press("Enter")
        await page.wait_for_selector("#why[open]")
        assert await text(page, "#why-title") == "Why: Water"
        assert (await text(page, "#why-sub")).startswith("Houston, ")
        await page.keyboard.press("Escape")
        await page.wait_for_selector("#why:not([open])", state="attached")
        assert await page.evaluate("document.activeElement.dataset.need") == "water"
        posts = [await text(page, f"#queue li:nth-child({k})") for k in (1, 2, 3)]
        assert posts[0].endswith("no offer found [user] we have no water <b>left</b>")
        assert posts[0].startswith("0.71 Water Houston 14:14:00")
        assert "an offer was found" in posts[1]
        assert "nobody knows where" in posts[2]
        await page.click("#heat .place >> nth=1")
        await until(page, "document.querySelectorAll('#queue li').length === 1")
        assert await page.get_attribute("#heat .place >> nth=1", "aria-current") == "true"
        assert "entity=place%3AHouston" in page.url

    play(scene, three_views(), path="?view=crisis")


def test_corrected_shares_replace_those_read_and_the_rest_stays(play: Play) -> None:
    async def scene(feed: Feed, server: LiveServer, page: Any) -> None:
        await shown(page)
        assert await page.is_hidden("#shares")
        fixed = row("market.joy", T0 + STEP, 0.32, 0.3, 0.34, corrected=0.4123, corrected_lo=0.38, corrected_hi=0.44)
        feed.publish([fixed])
        await page.wait_for_selector("#shares:not([hidden])")
        assert "32.0 %" in await text(page, TILES.format("market.joy"))
        await page.focus("#shares input")
        await page.keyboard.press("ArrowRight")
        await until(page, "document.querySelector('#tiles .num').textContent.startsWith('41.2')")
        tile = await text(page, TILES.format("market.joy"))
        assert tile.startswith(f"Strongest emotion Joy 41.2 % interval 38.0{DASH}44.0 %")
        assert "corrected" in tile
        assert "they can be farther off than the shares as read" in await text(page, "#warnings")
        assert "corrected" not in await text(page, TILES.format("market.valence"))
        await page.reload()
        await until(page, "document.querySelector('#tiles .num')?.textContent.startsWith('41.2')")

    play(scene)


def test_loud_authors_shed_load_and_provisional_rows_are_said(play: Play) -> None:
    async def scene(feed: Feed, server: LiveServer, page: Any) -> None:
        await shown(page)
        tile = TILES.format("market.valence")
        assert "provisional" in await text(page, tile)
        assert await page.evaluate(f'getComputedStyle(document.querySelector("{tile}")).borderTopStyle') == "dashed"
        assert "window, provisional" in await text(page, "#mix-title")
        assert await page.is_hidden("#warnings")
        feed.publish([row("market.valence", T0 + STEP, 0.2, 0.1, 0.3, capped=0.1234, sampled=0.625)])
        await page.wait_for_selector("#warnings [data-kind=capped]")
        assert "12 % of this window's weight was taken" in await text(page, "#warnings [data-kind=capped]")
        assert "63 % of this window's posts were scored" in await text(page, "#warnings [data-kind=sampled]")
        assert await page.evaluate(f'getComputedStyle(document.querySelector("{tile}")).borderTopStyle') == "solid"

    feed = Feed(first_id=0)
    feed.publish(market(T0, status="provisional", watermark=T0 - 7_000))
    feed.status(STATUS)
    play(scene, feed)


def test_time_that_stands_still_is_said(play: Play) -> None:
    async def scene(feed: Feed, server: LiveServer, page: Any) -> None:
        await page.clock.install()
        await page.reload()
        await page.clock.run_for(1_000)
        await shown(page)
        for _ in range(13):
            await page.clock.run_for(5_000)
            feed.status(STATUS)
        await page.clock.run_for(2_000)
        await page.wait_for_selector("#warnings [data-kind=quiet]")
        assert "No posts for 1 min: event time stands still at 14:14:07" in await text(page, "#warnings")
        assert await text(page, "#link") == "Live"

    play(scene)


def test_the_reasons_of_a_value_are_one_click_or_key_away_and_their_absence_is_said(play: Play) -> None:
    async def scene(feed: Feed, server: LiveServer, page: Any) -> None:
        await shown(page)
        asked: list[str] = []
        page.on("request", lambda r: asked.append(r.url) if "/api/explain" in r.url else None)
        await page.click(TILES.format("market.valence") + " .why")
        await page.wait_for_selector("#why[open]")
        facts = await text(page, "#why .facts")
        assert facts.startswith(f"Value {MINUS}0.12, interval {MINUS}0.19 to +0.05 Sample n 1 042, effective 991")
        await page.wait_for_selector("#why .trouble")
        await page.click("#why-close")
        await page.click("[data-group=mood] summary")
        await page.focus("[data-group=mood] tr.final button")
        await page.keyboard.press("Enter")
        await page.wait_for_selector("#why[open]")
        assert await text(page, "#why-title") == "Why: Bullishness"
        await page.keyboard.press("Escape")
        await page.focus("[data-group=mood] .frame")
        await page.keyboard.press("End")
        await page.keyboard.press("Enter")
        await page.wait_for_selector("#why[open]")
        assert "Status provisional" in await text(page, "#why .facts")
        assert len(asked) == 3
        assert f"market.valence%7Cticker%3AAAPL%7C{T0 - 60_000}%7C{T0}" in asked[0]

    play(scene)


def alert(**given: Any) -> Alert:
    fields: dict[str, Any] = {
        "rule": "fear", "kind": "threshold", "severity": "critical", "signal": "market.fear", "domain": "market",
        "entity": "ticker:AAPL", "window_start": T0 - 60_000, "window_end": T0, "value": 0.6, "lo": 0.5, "hi": 0.7,
        "n": 812, "measure": 0.6, "reference": 0.5, "status": "final", "revision": 0,
        "message": "fear of AAPL is 60 %, above <50 %>", "row_id": f"market.fear|ticker:AAPL|{T0 - 60_000}|{T0}",
    }  # fmt: skip
    return Alert(**{**fields, **given})


async def reasons(row_id: str, top: int, by: By) -> Contribution:
    posts = tuple(ContributingPost(f"p{k}", 0, k, T0 - 9_000, 0.00321, "fear", f"[user] sells <{k}>") for k in range(2))
    return Contribution(
        id=row_id, value=0.3141, lo=0.27, hi=0.36, n=1_042, previous=0.2641, previous_n=900, change=0.05,
        parts=Parts(level=0.06, mix=-0.01, volume=0.0, past=0.0), by=by, groups=(), posts=posts,
        words=(RisingWord("halt", 41, 3, 5.5),), complete=False, notes=("older records are no longer held",),
    )  # fmt: skip


def test_alerts_come_with_severity_link_posts_and_a_way_to_the_reasons(play: Play) -> None:
    async def scene(feed: Feed, server: LiveServer, page: Any) -> None:
        await shown(page)
        await page.wait_for_selector("#alerts .alert")
        first = await text(page, "#alerts .alert")
        assert first == "critical Fear, AAPL 14:14:00 fear of AAPL is 60 %, above <50 %> Why?"
        link = await page.get_attribute("#alerts .alert a", "href")
        assert link == "/?view=market&entity=ticker%3AAAPL&window=60000"
        posts = (AlertPost("p1", "[user] sells", "fear", 0.01),)
        feed.alert([card_of(alert(), "/", posts)])
        await page.click("#alerts summary")
        assert await text(page, "#alerts details") == "1 post behind it [user] sells"
        feed.alert([card_of(alert(rule="joy", severity="info", window_end=T0 + STEP), "javascript:alert(1)")])
        await until(page, "document.querySelectorAll('#alerts .alert').length === 2")
        assert await page.query_selector("#alerts .alert[data-severity=info] a") is None
        feed.alert([card_of(alert(rule="need", domain="crisis", signal="crisis.need.water"), "/")])
        await page.click("#alerts .alert[data-severity=critical] .link-button")
        await page.wait_for_selector("#why .why-part")
        assert await text(page, "#why-title") == "Why: Fear"
        assert len(await page.query_selector_all("#alerts .alert")) == 2

    feed = three_views()
    feed.alert([card_of(alert(), "/")])
    play(scene, feed, path="?view=market", explainers={"market": reasons})


@pytest.mark.parametrize("width", [1280, 375])
def test_reasons_are_parts_that_add_up_posts_and_words(play: Play, width: int) -> None:
    async def scene(feed: Feed, server: LiveServer, page: Any) -> None:
        await shown(page)
        await page.click(TILES.format("market.joy") + " .why")
        await page.wait_for_selector("#why .why-part")
        sections = [await text(page, f"#why .why-part >> nth={k}") for k in range(3)]
        assert sections[0] == (
            "It moved by +5.0 points 26.4 % in the window before, 31.4 % now"
            " Level: the same voices speak differently +6.0 points"
            f" Mix: other voices speak {MINUS}1.0 points Volume: more or fewer speak +0.0 points"
        )
        assert sections[1].startswith("Posts that moved it most +0.321 points Fear 14:13:51 [user] sells <0>")
        assert sections[2] == "Words that rose halt 3 → 41"
        assert await text(page, "#why .trouble") == "older records are no longer held"
        assert await page.evaluate("(b => b.scrollWidth <= b.clientWidth)(document.querySelector('#why-body'))")

    play(scene, explainers={"market": reasons}, viewport={"width": width, "height": 812})
