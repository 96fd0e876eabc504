"""The demo as a process: what the page shows equals what the API says, and that equals the signals topic of the log."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from browsing import DASH, plain, shown, text, until

from operators.records import SignalRow
from stream.sqlite_log import SqliteLog
from stream.topics import SIGNALS
from stream.topology import build_codec

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]
ENTITY, WINDOW = "all:*", 60_000
SUM = re.compile(
    r"(\d+) posts in = (\d+) applied \+ (\d+) duplicate \+ (\d+) late \+ (\d+) rejected \+ (\d+) in flight; (\d+) rows"
)
Row = dict[str, Any]


def demo(*more: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-u", "-m", "stream.cli", "demo", "--headless", "--port", "0", *more]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


class Demo:
    """A running demo: ten scenario minutes are there at once, then it all but stands still."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.process = demo("--scenario", "panic", "--log", f"sqlite:///{log}", "--speed", "0.1")
        assert self.process.stdout is not None
        said = re.fullmatch(r"live page: (http://127\.0\.0\.1:\d+/)\n", self.process.stdout.readline())
        assert said is not None
        self.url = said[1]

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=5) as reply:
            return json.load(reply)

    def rows(self) -> list[Row]:
        return list(self.get(f"api/rows?entity={ENTITY}&window={WINDOW}&limit=5000")["rows"])

    def finals(self) -> dict[str, Row]:
        """The newest final row of each signal."""
        newest: dict[str, Row] = {}
        for row in sorted(self.rows(), key=lambda r: r["window_end"]):
            if row["status"] != "provisional":
                newest[row["signal"]] = row
        return newest

    def logged(self) -> dict[str, list[Row]]:
        """Every row on the signals topic, by id, in the order it was written."""

        async def read() -> dict[str, list[Row]]:
            log, codec, out = SqliteLog(self.log), build_codec(), dict[str, list[Row]]()
            try:
                begin, end = (await log.span(SIGNALS))[0]
                for record in await log.read(SIGNALS, 0, begin, end - begin):
                    row: SignalRow = codec.decode_signal(record.value)
                    out.setdefault(row.row_id, []).append(msgspec.to_builtins(row))
            finally:
                await log.close()
            return json.loads(json.dumps(out))  # as the API says them: lists for tuples

        return asyncio.run(read())

    def stop(self) -> tuple[int, str]:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGINT)
        _, err = self.process.communicate(timeout=30)
        return self.process.returncode, err


def eventually(holds: Callable[[], bool], what: str, seconds: float = 40.0) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if holds():
            return
        time.sleep(0.1)
    raise AssertionError(f"never: {what}")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    made = Demo(tmp_path_factory.mktemp("demo") / "demo.db")
    try:
        eventually(
            lambda: len({r["window_end"] for r in made.rows() if r["status"] != "provisional"}) >= 7, "7 windows"
        )
        eventually(lambda: bool(made.get("api/status")["in_flight"] < 5), "everything read")
        yield made
    finally:
        made.stop()


def row_id(row: Row) -> str:
    return f"{row['signal']}|{row['entity']}|{row['window_start']}|{row['window_end']}"


def test_what_the_api_says_is_what_the_log_holds(running: Demo) -> None:
    before = running.logged()
    rows = running.rows()
    after = running.logged()
    assert len(rows) >= 7 * 12
    for row in rows:
        written = after[row_id(row)]
        assert row in written
        newest = before.get(row_id(row), [row])[-1]
        assert (row["revision"], row["n"]) >= (newest["revision"], newest["n"])
    assert {row["n"] > 0 for row in rows} == {True}


def share(name: str, row: Row) -> str:
    if row["value"] is None:
        return f"{name.capitalize()} not enough posts (n < 20)"
    span = f"{row['lo'] * 100:.1f}{DASH}{row['hi']:.1%}"
    return f"{name.capitalize()} {row['value']:.1%} {span}".replace("%", " %")


def test_bars_table_and_sum_on_the_page_equal_the_api(running: Demo, chrome: tuple[asyncio.Runner, Any]) -> None:
    loop, browser = chrome

    async def bars(page: Any) -> list[tuple[Row, str, str]]:
        """(row, what the page shows, what it should show) for the seven emotions."""
        finals = await asyncio.to_thread(running.finals)
        names = ("joy", "surprise", "fear", "sadness", "anger", "disgust", "neutral")
        rows = {name: finals[f"market.{name}"] for name in names}
        return [(r, await text(page, f"#bars [data-signal='market.{n}']"), share(n, r)) for n, r in rows.items()]

    async def table(page: Any) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
        """Final lines of the mood table by window end: shown, and as the rows say."""
        cells = "[...document.querySelectorAll('[data-group=mood] tr')].map(r => [...r.cells].map(c => c.textContent))"
        lines = [[plain(words) for words in line] for line in await page.evaluate(cells)]
        assert lines[0] == ["Window end", "Status", "n", "Bullishness", "Valence"]
        rows = await asyncio.to_thread(running.rows)
        wanted: dict[str, list[str]] = {}
        for row in rows:
            if row["status"] != "provisional" and row["signal"] in ("market.bullishness", "market.valence"):
                clock = time.strftime("%H:%M:%S", time.gmtime(row["window_end"] / 1000))
                line = wanted.setdefault(clock, [row["status"], f"{row['n']:,}".replace(",", " "), "", ""])
                value = DASH if row["value"] is None else f"{row['value']:+.2f}".replace("-", "\u2212")
                line[2 if row["signal"] == "market.bullishness" else 3] = value
        return {line[0]: line[1:] for line in lines[1:] if line[1] != "provisional"}, wanted

    async def scene(page: Any) -> None:
        await page.goto(f"{running.url}?entity={ENTITY}&window={WINDOW}")
        await shown(page)
        for _ in range(20):  # a row may change between the two looks: they agree as soon as both saw the same one
            found = await bars(page)
            if all(said == wanted for _, said, wanted in found):
                break
            await asyncio.sleep(0.3)
        assert [said for _, said, _ in found] == [wanted for _, _, wanted in found]
        assert sum(row["value"] is not None for row, _, _ in found) == 7
        await page.click("[data-group=mood] summary")
        await page.wait_for_selector("[data-group=mood] tr")
        for _ in range(20):
            on_page, wanted = await table(page)
            if on_page == {clock: wanted[clock] for clock in on_page if clock in wanted}:
                break
            await asyncio.sleep(0.3)
        assert len(on_page) >= 7
        assert on_page == {clock: wanted[clock] for clock in on_page}
        await until(page, "document.querySelector('#sum .verdict.good') !== null")
        assert await text(page, "#sum .verdict") == "✓ every post accounted for"
        terms = ("consumed", "applied", "duplicate", "late", "rejected", "in_flight")
        for _ in range(30):
            status = await asyncio.to_thread(running.get, "api/status")
            said = re.findall(r"\d[\d ]*", await text(page, "#sum .sum-line"))
            numbers = [int(number.replace(" ", "")) for number in said]
            if numbers == [status[term] for term in terms]:
                break
            await asyncio.sleep(0.3)
        assert numbers == [status[term] for term in terms]
        assert numbers[0] == sum(numbers[1:]) > 1_000

    async def whole() -> None:
        window = await browser.new_context(viewport={"width": 1280, "height": 900}, timezone_id="UTC")
        try:
            async with asyncio.timeout(90):
                await scene(await window.new_page())
        finally:
            await window.close()

    loop.run(whole())


def conserved(err: str) -> list[int]:
    found = SUM.search(err)
    assert found is not None, err
    total, *parts, rows = map(int, found.groups())
    assert total == sum(parts)
    return [total, *parts, rows]


def test_a_signal_ends_it_cleanly_with_its_sum(running: Demo) -> None:
    """Last of this file: it ends the demo."""
    code, err = running.stop()
    assert code == 0, err
    total, applied, *_, rows = conserved(err)
    assert applied > 0.9 * total > 0
    assert rows > 1_000
    assert "Traceback" not in err


def test_five_seconds_of_one_scenario() -> None:
    made = demo("--seconds", "5", "--scenario", "launch")
    out, err = made.communicate(timeout=90)
    assert made.returncode == 0, err
    assert out.startswith("live page: http://127.0.0.1:")
    total, applied, *_, rows = conserved(err)
    assert total > 1_000
    assert applied > 500
    assert rows > 500
    assert "Traceback" not in err


def test_a_planted_panic_alarms_on_the_page_with_its_posts_and_a_link(chrome: tuple[asyncio.Runner, Any]) -> None:
    loop, browser = chrome
    made = demo("--scenario", "panic", "--speed", "60")
    assert made.stdout is not None
    url = made.stdout.readline().split()[-1]

    def told() -> list[Row]:
        with urllib.request.urlopen(f"{url}api/alerts?rule=fear-rising", timeout=30) as reply:
            return list(json.load(reply)["alerts"])

    async def page_of(link: str) -> None:
        window = await browser.new_context(viewport={"width": 1280, "height": 900}, timezone_id="UTC")
        try:
            page = await window.new_page()
            await page.goto(url.rstrip("/") + link)
            await page.wait_for_selector("#alerts .alert details", state="attached", timeout=60_000)
            assert "behind it" in await text(page, "#alerts .alert details summary")
        finally:
            await window.close()

    try:
        eventually(lambda: any(alert["posts"] for alert in told()), "an alert with its posts", 120)
        alert = next(alert for alert in told() if alert["posts"])
        assert alert["entity"].startswith("ticker:")
        assert all(post["text_masked"] and post["post_id"] for post in alert["posts"])
        loop.run(page_of(alert["link"]))
    finally:
        os.killpg(made.pid, signal.SIGINT)
        _, err = made.communicate(timeout=60)
    assert made.returncode == 0, err


def test_the_demo_plays_all_three_domains_in_one_process(chrome: tuple[asyncio.Runner, Any]) -> None:
    loop, browser = chrome
    made = demo()
    assert made.stdout is not None
    url = made.stdout.readline().split()[-1]

    async def whole() -> None:
        window = await browser.new_context(viewport={"width": 1280, "height": 900}, timezone_id="UTC")
        try:
            page = await window.new_page()
            await page.goto(url)
            for view in ("market", "crisis", "social"):
                await page.click(f"#tab-{view}")
                await page.wait_for_selector(f"#tiles [data-signal^='{view}.']", timeout=60_000)
            await page.click("#tab-crisis")
            await page.wait_for_selector("#heat .heat-cell", timeout=60_000)
            await page.wait_for_selector("#queue .urgent", timeout=60_000)
            await until(page, "document.querySelectorAll('#sum .verdict.good').length === 3", 60)
        finally:
            await window.close()

    try:
        loop.run(whole())
    finally:
        os.killpg(made.pid, signal.SIGINT)
        _, err = made.communicate(timeout=60)
    assert made.returncode == 0, err
    lines = [line for line in err.splitlines() if " posts in = " in line]
    names = [line.split(":")[0] for line in lines[:3]]
    assert names == ["market", "crisis", "social"]
    parts = [conserved(line) for line in lines]
    assert [sum(column) for column in zip(*parts[:3], strict=True)] == parts[3]
