"""What the browser tests share: known rows, a page opened on them, and patience."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from operators.records import SignalRow
from stream.contribution import Explain
from stream.feed import Feed, SpotPost
from stream.metrics import Metrics
from stream.ops_status import OpsStatus
from stream.urgency import Offer, UrgentPost
from stream.web import LiveServer

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


def social(end: int, **given: Any) -> list[SignalRow]:
    names = {"joy": 0.31, "love": 0.14, "surprise": 0.12, "anger": 0.09, "sadness": 0.05, "fear": 0.04, "neutral": 0.2}
    made = [row(f"social.{name}", end, p, p * 0.8, p * 1.2, entity="all:*", **given) for name, p in names.items()]
    made.append(row("social.valence", end, 0.3312, 0.28, 0.38, entity="all:*", **given))
    made.append(row("social.entropy", end, 0.7142, 0.68, 0.75, entity="all:*", **given))
    for name, p in {"cheerfulness": 0.2, "relief": 0.04, "pride": 0.03, "rage": 0.02}.items():
        made.append(row(f"social.secondary.{name}", end, p, p * 0.8, p * 1.2, entity="all:*", **given))
    return made


REQUESTS = [
    UrgentPost(
        id=f"u{k}", time_ms=T0 - 1_000 * k, urgency=0.71 - 0.1 * k, request=0.8, fear=0.7, sadness=0.2, need=need,
        places=places, text_masked=f"[user] we have no {need} <b>left</b>", lang="en",
    )
    for k, (need, places) in enumerate([("water", ("place:Houston",)), ("food", ("place:Port Arthur",)),
                                        ("unspecified", ())])
]  # fmt: skip


def three_views() -> Feed:
    """All three domains in one process, each with its own status; crisis with places and requests for help."""
    feed = filled()
    for k in range(30, -1, -1):
        end = T0 - k * STEP
        feed.publish([msgspec.structs.replace(r, entity="all:*", n=2_000) for r in market(end)])
        for place, n in {"all:*": 4_000, "place:Houston": 1_500, "place:Port Arthur": 300}.items():
            feed.publish([msgspec.structs.replace(r, entity=place, n=n) for r in crisis(end)])
        feed.publish(social(end))
    feed.publish([msgspec.structs.replace(r, entity="place:Biloxi", n=7, value=None, lo=None, hi=None)
                  for r in crisis(T0) if ".need." in r.signal])  # fmt: skip
    offers = [Offer("o1", T0, "food", ("place:Port Arthur",))]
    feed.urge(REQUESTS, offers, T0)
    feed.spotlight("all:*", [SpotPost(time_ms=T0, text_masked="a market post", label="joy", score=0.7)], "market")
    feed.spotlight("all:*", [SpotPost(time_ms=T0, text_masked="a crisis post", label="water", score=0.9)], "crisis")
    for domain in ("crisis", "social"):
        feed.status(msgspec.structs.replace(STATUS, domain=domain))
    return feed


@asynccontextmanager
async def opened(
    browser: Any, feed: Feed, path: str = "", explainers: Mapping[str, Explain] | None = None, **context: Any
) -> AsyncIterator[tuple[LiveServer, Any]]:
    """A server on a free port and a page on it. On leaving: the page raised nothing and asked no other host."""
    server = LiveServer(feed, Metrics(process=False), port=0, explainers=explainers)
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


async def shown(page: Any) -> None:
    await page.wait_for_selector("#board:not([hidden]) .chart canvas", timeout=30_000)


async def until(page: Any, expression: str, seconds: float = 30.0) -> None:
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
