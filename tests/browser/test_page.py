"""The live page in a real headless Chromium: what it shows equals the rows, and it can be used and trusted.

Screenshots go to the folder named by AFFECT_SHOTS, else to pytest's temporary folder.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from operators.records import SignalRow
from stream.feed import Feed, OpsStatus, SpotPost
from stream.metrics import Metrics
from stream.web import LiveServer

pytestmark = pytest.mark.browser
api = pytest.importorskip("playwright.async_api", reason="playwright is not installed: pip install affectstream[dev]")

CHROMIUM = next((p for p in ("/usr/bin/chromium", "/usr/bin/chromium-browser") if Path(p).exists()), None)
FLAGS = [
    *(["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []),
    "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
NBSP, THIN, MINUS, DASH = "\u00a0", "\u202f", "\u2212", "\u2013"

MINUTE, STEP = 60_000, 10_000
T0 = 1_790_000_040_000  # 14:14:00 UTC, a whole minute
EMOTIONS = {
    "joy": (0.3141, 0.2713, 0.3607), "surprise": (0.0487, 0.0312, 0.0752), "fear": (0.1823, 0.1476, 0.2231),
    "sadness": (0.0951, 0.0698, 0.1283), "anger": (0.0713, 0.0496, 0.1014), "disgust": (0.0322, 0.0187, 0.0549),
    "neutral": (0.2563, 0.2163, 0.3009),
}  # fmt: skip
STATUS = OpsStatus(
    rate_per_s=412.4, consumed=12_345, applied=12_000, duplicate=210, late=100, rejected=5, in_flight=30, lag=1_234,
    watermark_ms=T0 + 7_000, watermark_delay_s=3.25, rows=98_765, partitions=4, engine="hashed",
    model="hashed-bag@7c1f02ab", engine_reason="no GPU found", domain="market", uptime_s=75.0, ready=True,
    problem=None,
)  # fmt: skip


def row(signal: str, end: int, value: float | None, lo: float | None, hi: float | None, **given: Any) -> SignalRow:
    fields: dict[str, Any] = {
        "domain": signal.split(".")[0], "entity": "ticker:AAPL", "window_start": end - MINUTE, "n": 1_042,
        "n_eff": 990.5, "authors": 871, "buzz": 1_042.0, "status": "final", "revision": 0, "watermark": end,
        "model": "m@1", "ontology": "o1",
    }  # fmt: skip
    return SignalRow(signal=signal, window_end=end, value=value, lo=lo, hi=hi, **{**fields, **given})


def market(end: int, **given: Any) -> list[SignalRow]:
    made = [row(f"market.{name}", end, *numbers, **given) for name, numbers in EMOTIONS.items()]
    made.append(row("market.valence", end, -0.1234, -0.1871, 0.0517, **given))
    made.append(row("market.bullishness", end, 0.4567, 0.3811, 0.5217, **given))
    made.append(row("market.agreement", end, 0.8321, 0.7914, 0.8633, **given))
    return made


def crisis(end: int, **given: Any) -> list[SignalRow]:
    needs = {
        "water": 0.06543,
        "food": 0.04218,
        "shelter": 0.03107,
        "medical_help": 0.0222,
        "tools": 0.00047,
        "money": 0.0118,
    }
    made = [
        row(f"crisis.need.{need}", end, p, p * 0.8, p * 1.3, entity="place:Port Arthur", **given)
        for need, p in needs.items()
    ]
    shares = {"request": (0.1612, 0.13, 0.2), "offer": (0.0433, 0.03, 0.06), "without_place": (0.5512, 0.5, 0.6)}
    return made + [row(f"crisis.{s}", end, *v, entity="place:Port Arthur", **given) for s, v in shares.items()]


def filled() -> Feed:
    feed = Feed(first_id=0)
    for k in range(30):
        feed.publish(market(T0 - (30 - k) * STEP))
    feed.publish(market(T0))
    feed.publish(market(T0 + STEP, status="provisional", watermark=T0 + 7_000, n=777))
    feed.publish([row("market.joy", T0, 0.5, 0.45, 0.55, entity="ticker:TSLA", n=640)])
    feed.publish([row("market.joy", T0, None, None, None, entity="ticker:KO", n=7, n_eff=6.5, authors=1)])
    for size in (5 * MINUTE, 60 * MINUTE):
        feed.publish([row("market.joy", T0, 0.2049, 0.19, 0.22, window_start=T0 - size, n=5_000)])
    posts = [
        SpotPost(time_ms=T0 - 9_000, text_masked="older", label="fear", score=0.871, lang="en"),
        SpotPost(
            time_ms=T0 - 2_000,
            text_masked="<img src=x onerror=alert(1)> [user]",
            label="joy",
            score=0.6642,
            repost=True,
        ),
    ]
    feed.spotlight("ticker:AAPL", posts)
    feed.status(STATUS)
    return feed


@pytest.fixture(scope="module")
def chrome() -> Iterator[tuple[asyncio.Runner, Any]]:
    if CHROMIUM is None:
        pytest.skip("no Chromium at /usr/bin/chromium; on Debian: apt-get install chromium")
    with asyncio.Runner() as loop:

        async def launch() -> tuple[Any, Any]:
            player = await api.async_playwright().start()
            return player, await player.chromium.launch(executable_path=CHROMIUM, args=FLAGS)

        player, browser = loop.run(launch())
        yield loop, browser

        async def quit_all() -> None:
            await browser.close()
            await player.stop()

        loop.run(quit_all())


@asynccontextmanager
async def opened(browser: Any, feed: Feed, path: str = "", **context: Any) -> AsyncIterator[tuple[LiveServer, Any]]:
    """A server on a free port and a page on it. On leaving: the page raised nothing and asked no other host."""
    server = LiveServer(feed, Metrics(process=False), port=0)
    await server.start()
    options = {"viewport": {"width": 1280, "height": 900}, "timezone_id": "America/New_York", **context}
    window = await browser.new_context(**options)
    wrong: list[str] = []
    page = await window.new_page()
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda m: wrong.append(m.text) if "Content Security Policy" in m.text else None)
    page.on("request", lambda r: wrong.append(r.url) if not r.url.startswith(server.url) else None)
    try:
        await page.goto(server.url + path)
        yield server, page
    finally:
        await window.close()
        await server.stop()
    assert wrong == []


Scene = Callable[[Feed, LiveServer, Any], Awaitable[None]]
Play = Callable[..., None]


@pytest.fixture
def play(chrome: tuple[asyncio.Runner, Any]) -> Play:
    loop, browser = chrome

    def run(
        scene: Scene, feed: Feed | None = None, path: str = "?entity=ticker:AAPL&window=60000", **context: Any
    ) -> None:
        async def whole() -> None:
            held = filled() if feed is None else feed
            async with asyncio.timeout(60), opened(browser, held, path, **context) as (server, page):
                await scene(held, server, page)

        loop.run(whole())

    return run


async def shown(page: Any) -> None:
    await page.wait_for_selector("#board:not([hidden]) .chart canvas", timeout=10_000)


async def until(page: Any, expression: str, seconds: float = 15.0) -> None:
    """Wait until a JavaScript expression holds; Playwright's own wait calls eval in the page, which the CSP forbids."""
    for _ in range(int(seconds / 0.05)):
        if await page.evaluate(expression):
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"never became true: {expression}")


async def text(page: Any, selector: str) -> str:
    return re.sub(r"\s+", " ", (await page.inner_text(selector)).replace(NBSP, " ").replace(THIN, " ")).strip()


def plain(words: str) -> str:
    return words.replace(NBSP, " ").replace(THIN, " ")


def test_big_numbers_and_bars_equal_the_newest_final_rows(play: Play) -> None:
    async def scene(feed: Feed, server: LiveServer, page: Any) -> None:
        await shown(page)
        tile = "#tiles [data-signal='market.{}']"
        lines = {
            "joy": f"Strongest emotion Joy 31.4 % interval 27.1{DASH}36.1 % n 1 042 · 871 authors",
            "bullishness": "Bullishness +0.46 interval +0.38 to +0.52 n 1 042 · 871 authors",
            "valence": f"Valence {MINUS}0.12 interval {MINUS}0.19 to +0.05 n 1 042 · 871 authors",
            "agreement": f"Agreement 0.83 interval 0.79{DASH}0.86 n 1 042 · 871 authors",
        }
        for name, line in lines.items():
            assert await text(page, tile.format(name)) == line
        for name, (value, lo, hi) in EMOTIONS.items():
            expected = f"{name.capitalize()} {value:.1%} {lo * 100:.1f}{DASH}{hi:.1%}".replace("%", " %")
            assert await text(page, f"#bars [data-signal='market.{name}']") == expected
        assert await text(page, "#asof") == f"14:13:00{DASH}14:14:00"
        assert await text(page, "#entity-n") == "n 1 042"
        assert await page.input_value("#entity") == "AAPL"
        assert await page.title() == "AAPL · affectstream"

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
        expected = "Strongest emotion not enough posts (n < 20) n 7 · 1 author"
        assert await text(page, "#tiles [data-signal='market.joy']") == expected
        assert await text(page, "#bars [data-signal='market.joy']") == "Joy not enough posts (n < 20)"
        assert "Too few posts in every window" in await text(page, ".chart[data-group=emotions] .frame")
        assert not re.search(r"\b0(\.0+)? %", await text(page, "#bars"))

    play(scene, path="?entity=ticker:KO&window=60000")


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
        assert await text(page, "#domain") == "Market emotion"
        first, second = [plain(await p.inner_text()).split("\n") for p in await page.query_selector_all(".post")]
        head = [part for part in " ".join(first).split(" ") if part]
        assert head[:4] == ["Joy", "0.66", "14:13:58", "repost"]
        assert first[-1] == "<img src=x onerror=alert(1)> [user]"
        assert second[-1] == "older"
        feed.status(OpsStatus(consumed=10, applied=7, domain="market", ready=True, problem=None))
        await page.wait_for_selector(".verdict.bad")
        assert await text(page, ".verdict") == "✗ 3 posts unaccounted for"

    play(scene)


def test_needs_are_rates_per_ten_thousand_and_ranked(play: Play) -> None:
    feed = Feed(first_id=0)
    for k in range(5):
        feed.publish(crisis(T0 - k * STEP))
    feed.status(STATUS)

    async def scene(feed: Feed, server: LiveServer, page: Any) -> None:
        await shown(page)
        tile = await text(page, "#tiles [data-signal='crisis.need.water']")
        assert tile == f"Top need Water 654 per 10 000 interval 523{DASH}851 n 1 042 · 871 authors"
        assert (await text(page, "#tiles [data-signal='crisis.without_place']")).startswith("Without a place 55.1 %")
        names = [plain(await b.inner_text()).split("\n")[0] for b in await page.query_selector_all("#bars .bar-name")]
        assert names == ["Water", "Food", "Shelter", "Medical help", "Money", "Tools"]
        assert await text(page, "#bars [data-signal='crisis.need.tools'] .bar-value") == "4.7"
        pressed = await page.query_selector_all("[data-group=needs] .chip[aria-pressed=true]")
        assert len(pressed) == 5

    play(scene, feed, path="")


async def focus_by_tab(page: Any, selector: str) -> None:
    for _ in range(40):
        await page.keyboard.press("Tab")
        if await page.evaluate("s => document.activeElement.matches(s)", selector):
            return
    raise AssertionError(f"Tab never reached {selector}")


def test_everything_works_by_keyboard_alone(play: Play) -> None:
    async def scene(feed: Feed, server: LiveServer, page: Any) -> None:
        await shown(page)
        await page.keyboard.press("Tab")
        assert await page.evaluate("document.activeElement.textContent") == "Skip to the signals"
        await focus_by_tab(page, "#entity")
        await page.keyboard.type("tsl")
        assert await page.get_attribute("#entity", "aria-expanded") == "true"
        active = await page.get_attribute("#entity", "aria-activedescendant")
        assert await text(page, f"#{active}") == "TSLA 640"
        await page.keyboard.press("Enter")
        await until(page, "document.title.startsWith('TSLA')")
        assert "entity=ticker%3ATSLA" in page.url
        assert "50.0 %" in await text(page, "#tiles [data-signal='market.joy']")
        await page.keyboard.press("ArrowDown")
        for _ in range(3):
            await page.keyboard.press("ArrowUp")
        await page.keyboard.press("Enter")
        await until(page, "document.title.startsWith('AAPL')")
        await page.keyboard.type("zzz")
        assert await text(page, "#entity-list") == "Nothing called “zzz”"
        await page.keyboard.press("Escape")
        assert await page.input_value("#entity") == "AAPL"
        await focus_by_tab(page, "#windows input")
        await page.keyboard.press("ArrowRight")
        await until(page, "location.search.includes('window=300000')")
        await until(page, "document.querySelector('#tiles').innerText.includes('20.5')")
        await page.keyboard.press("ArrowLeft")
        await page.wait_for_selector("[data-group=mood] .frame canvas")
        await focus_by_tab(page, "[data-group=mood] .frame")
        await page.keyboard.press("End")
        await page.keyboard.press("ArrowLeft")
        said = await page.text_content("[data-group=mood] .frame [aria-live]")
        assert "to 14:14:00 · final" in said
        assert f"Valence, {MINUS}0.12" in said
        outline = await page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"
        await page.focus("[data-group=emotions] .chip[data-signal='market.neutral']")
        await page.keyboard.press("Space")
        assert await page.get_attribute(".chip[data-signal='market.neutral']", "aria-pressed") == "true"

    play(scene)


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


def test_the_page_resumes_after_the_server_was_away(play: Play) -> None:
    async def scene(feed: Feed, server: LiveServer, page: Any) -> None:
        await shown(page)
        asked: list[str] = []
        page.on("request", lambda r: asked.append(r.url))
        await server.stop()
        await page.wait_for_selector("#link[data-state=reconnecting]")
        assert "values below are the last ones received" in await text(page, "#notice")
        assert await text(page, "#tiles [data-signal='market.valence'] .num") == f"{MINUS}0.12"
        feed.publish([row("market.valence", T0 + STEP, 0.31, 0.2, 0.4)])
        missed = feed.last_id
        await server.start()
        await page.wait_for_selector("#link[data-state=live]", timeout=15_000)
        await until(
            page, "document.querySelector(\"#tiles [data-signal='market.valence'] .num\").textContent === '+0.31'"
        )
        assert any(f"last_id={missed - 1}" in url for url in asked if "/events" in url)
        assert not any("/api/series" in url for url in asked)
        assert await page.is_hidden("#notice")

    play(scene)


def test_a_new_process_on_the_same_port_makes_the_page_load_history_again(play: Play) -> None:
    async def scene(feed: Feed, server: LiveServer, page: Any) -> None:
        await shown(page)
        port = server.port
        await server.stop()
        await page.wait_for_selector("#link[data-state=reconnecting]")
        later = Feed(first_id=5_000_000)
        later.publish([row("market.valence", T0 + STEP, 0.64, 0.6, 0.7)])
        later.status(STATUS)
        second = LiveServer(later, Metrics(process=False), port=port)
        await second.start()
        try:
            await until(
                page,
                "document.querySelector(\"#tiles [data-signal='market.valence'] .num\").textContent === '+0.64'",
            )
        finally:
            await second.stop()

    play(scene)


def test_empty_and_not_ready_are_said_in_words_and_the_page_fills_by_itself(play: Play) -> None:
    async def scene(feed: Feed, server: LiveServer, page: Any) -> None:
        await page.wait_for_selector("#empty:not([hidden])")
        await page.wait_for_selector("#link[data-state=waiting]")
        assert await text(page, "#empty") == "The engine is not ready yet It says: log locked, stop the other process."
        feed.status(STATUS)
        await page.wait_for_selector("#link[data-state=live]")
        await until(page, "document.querySelector('#empty-title').textContent === 'No signals yet'")
        assert "waiting for posts" in await text(page, "#empty")
        feed.publish(market(T0))
        await shown(page)
        assert await page.is_hidden("#empty")

    feed = Feed(first_id=0)
    feed.status(OpsStatus(ready=False, problem="log locked, stop the other process"))
    play(scene, feed, path="")


def test_silence_is_called_stale(play: Play) -> None:
    async def scene(feed: Feed, server: LiveServer, page: Any) -> None:
        await page.clock.install()
        await page.reload()
        await page.clock.run_for(1_000)
        await shown(page)
        assert await text(page, "#link") == "Live"
        await page.clock.run_for(17_000)
        await page.wait_for_selector("#link[data-state=stale]")
        assert await text(page, "#link") == "Stale"
        assert "Nothing new from the engine for 15 seconds" in await text(page, "#notice")
        feed.status(STATUS)
        await page.wait_for_selector("#link[data-state=live]")

    play(scene)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 375])
@pytest.mark.parametrize("domain", ["market", "crisis"])
def test_it_fits_and_has_its_picture_taken(play: Play, tmp_path: Path, scheme: str, width: int, domain: str) -> None:
    feed = filled()
    if domain == "crisis":
        feed = Feed(first_id=0)
        for k in range(30, -1, -1):
            feed.publish(crisis(T0 - k * STEP))
        feed.status(STATUS)

    async def scene(feed: Feed, server: LiveServer, page: Any) -> None:
        await shown(page)
        await page.click("#board summary >> nth=0")
        assert await page.evaluate("document.documentElement.scrollWidth") == width
        assert await page.evaluate("document.documentElement.dataset.theme") == scheme
        red = int((await page.evaluate("getComputedStyle(document.body).backgroundColor")).split("(")[1].split(",")[0])
        assert (red < 60) == (scheme == "dark")
        outside = await page.evaluate(
            "w => [...document.querySelectorAll('body *')].filter("
            "e => !e.closest('.scroll, .hidden, .skip, .u-wrap, .segments')"
            " && e.getClientRects().length && e.getBoundingClientRect().right > w + 1)"
            ".map(e => e.outerHTML.slice(0, 90))",
            width,
        )
        assert outside == []
        target = Path(os.environ.get("AFFECT_SHOTS", tmp_path)) / f"page-{domain}-{scheme}-{width}.png"
        await page.screenshot(path=target, full_page=True)
        assert target.stat().st_size > 20_000

    play(scene, feed, path="", color_scheme=scheme, viewport={"width": width, "height": 812})


def contrast(one: tuple[float, ...], two: tuple[float, ...]) -> float:
    """WCAG 2.1 contrast ratio of two sRGB colours, 0..255."""

    def light(colour: tuple[float, ...]) -> float:
        parts = [c / 255 for c in colour]
        r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    high, low = sorted((light(one), light(two)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_signal_colours_have_contrast_aa(play: Play, scheme: str) -> None:
    async def scene(feed: Feed, server: LiveServer, page: Any) -> None:
        await shown(page)
        tokens = await page.evaluate(
            "() => { const s = getComputedStyle(document.documentElement); const out = {};"
            " for (const sheet of document.styleSheets) for (const rule of sheet.cssRules)"
            " for (const name of rule.style ?? []) if (name.startsWith('--'))"
            " out[name] = s.getPropertyValue(name).trim();"
            " return out; }"
        )
        colours = {
            k: tuple(int(v[i : i + 2], 16) for i in (1, 3, 5))
            for k, v in tokens.items()
            if re.fullmatch("#[0-9a-f]{6}", v)
        }
        inks = [k for k in colours if k.startswith("--c-")] + [
            "--ink",
            "--ink-2",
            "--ink-3",
            "--accent",
            "--good",
            "--warn",
            "--bad",
        ]
        assert len(inks) > 30
        weak = {(i, g): round(contrast(colours[i], colours[g]), 2) for i in inks for g in ("--card",)}
        weak |= {
            (i, "--page"): round(contrast(colours[i], colours["--page"]), 2) for i in ("--ink", "--ink-3", "--accent")
        }
        weak |= {(i, f"{i}-soft"): round(contrast(colours[i], colours[f"{i}-soft"]), 2) for i in ("--accent", "--warn")}
        assert {pair: ratio for pair, ratio in weak.items() if ratio < 4.5} == {}

    play(scene, color_scheme=scheme)


def test_the_theme_can_be_switched_is_remembered_and_motion_is_respected(play: Play) -> None:
    async def scene(feed: Feed, server: LiveServer, page: Any) -> None:
        await shown(page)
        assert await page.get_attribute("#theme", "aria-label") == "Switch to dark theme"
        await page.click("#theme")
        await page.reload()
        await shown(page)
        assert await page.evaluate("document.documentElement.dataset.theme") == "dark"
        assert await page.evaluate("getComputedStyle(document.querySelector('.dot')).animationName") == "none"

    play(scene, color_scheme="light", reduced_motion="reduce")


def test_every_control_has_a_name(play: Play) -> None:
    async def scene(feed: Feed, server: LiveServer, page: Any) -> None:
        await shown(page)
        nameless = await page.evaluate(
            "[...document.querySelectorAll('button, input, a, summary, [tabindex=\"0\"]')].filter(e =>"
            " !(e.getAttribute('aria-label') || e.labels?.length || e.textContent.trim()"
            " || e.getAttribute('aria-labelledby')))"
            ".map(e => e.outerHTML.slice(0, 80))"
        )
        assert nameless == []
        ids = await page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
        assert len(ids) == len(set(ids))
        levels = await page.evaluate(
            "[...document.querySelectorAll('h1, h2')].filter(e => e.checkVisibility()).map(e => e.tagName)"
        )
        assert levels[0] == "H1"

    play(scene)
