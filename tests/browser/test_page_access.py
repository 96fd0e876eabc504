"""Every view by the rules of axe-core (WCAG 2.2 A and AA, best practices), in both themes, wide and narrow."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from browsing import T0, Play, row, shown, three_views

from stream.feed import Feed
from stream.web import LiveServer

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def axe() -> str:
    """The source of axe-core, out of the installed package: none of it is in this repository."""
    found = find_spec("axe_playwright_python")
    if found is None:
        pytest.skip("axe-core is missing: pip install affectstream[dev]")
    assert found.submodule_search_locations
    return (Path(found.submodule_search_locations[0]) / "axe.min.js").read_text(encoding="utf-8")


async def problems(page: Any, axe: str) -> list[str]:
    await page.evaluate(f"() => {{ {axe} }}")
    found = await page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    assert len(found["passes"]) > 20
    return [
        f"{v['id']}: {n['html'][:120]} {n['failureSummary'][:300]}" for v in found["violations"] for n in v["nodes"]
    ]


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 375)])
def test_axe_finds_nothing_in_any_view(play: Play, axe: str, scheme: str, width: int) -> None:
    async def scene(feed: Feed, server: LiveServer, page: Any) -> None:
        for view in ("market", "crisis", "social"):
            await page.click(f"#tab-{view}")
            await page.wait_for_selector(f"#tiles [data-signal^='{view}.']")
            if view == "crisis":
                await page.wait_for_selector("#heat .heat-cell")
            await page.click("#charts summary >> nth=0")
            assert (view, await problems(page, axe)) == (view, [])
        await page.click(".why >> nth=0")
        await page.wait_for_selector("#why .trouble, #why .why-part")
        assert await problems(page, axe) == []

    feed = three_views()
    feed.publish([row("market.valence", T0, 0.2, 0.1, 0.3, entity="all:*", revision=1, capped=0.2, sampled=0.5)])
    play(scene, feed, path="?view=market", color_scheme=scheme, viewport={"width": width, "height": 812})


def test_axe_finds_nothing_where_there_is_nothing_to_show(play: Play, axe: str) -> None:
    async def scene(feed: Feed, server: LiveServer, page: Any) -> None:
        await page.wait_for_selector("#empty:not([hidden])")
        assert await problems(page, axe) == []
        await page.click("#tab-social")
        await page.wait_for_selector("#tab-social[aria-selected=true]")
        assert await problems(page, axe) == []

    play(scene, Feed(first_id=0), path="")


def test_axe_finds_what_is_wrong(play: Play, axe: str) -> None:
    """The check itself: an unnamed button and pale text are told."""

    async def scene(feed: Feed, server: LiveServer, page: Any) -> None:
        await shown(page)
        await page.evaluate(
            "() => { const b = document.createElement('button'); document.querySelector('#board').append(b);"
            " document.querySelector('#sum').style.color = '#eee';"
            " document.querySelector('#sum .sum-line').style.color = '#eee'; }"
        )
        told = " ".join(await problems(page, axe))
        assert "button-name" in told
        assert "color-contrast" in told

    play(scene, three_views(), path="?view=market", color_scheme="light")
