"""How the page looks: it fits, colours have contrast, themes and motion follow the person. Screenshots go to the folder
named by AFFECT_SHOTS, else to pytest's temporary folder."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from browsing import (
    Play,
    shown,
    three_views,
)

from stream.feed import Feed
from stream.web import LiveServer

pytestmark = pytest.mark.browser


def contrast(one: tuple[float, ...], two: tuple[float, ...]) -> float:
    """WCAG 2.1 contrast ratio of two sRGB colours, 0..255."""

    def light(colour: tuple[float, ...]) -> float:
        parts = [c / 255 for c in colour]
        r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    high, low = sorted((light(one), light(two)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 375])
@pytest.mark.parametrize("domain", ["market", "crisis", "social"])
def test_it_fits_and_has_its_picture_taken(play: Play, tmp_path: Path, scheme: str, width: int, domain: str) -> None:
    feed = three_views()

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

    play(scene, feed, path=f"?view={domain}", color_scheme=scheme, viewport={"width": width, "height": 812})


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
