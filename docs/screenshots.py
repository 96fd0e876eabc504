"""Makes the pictures in this folder from the real demo in headless Chromium: `python docs/screenshots.py`.

Needs the `dev` extra (playwright) and /usr/bin/chromium. One `affect demo` plays all three scenarios, another one with
`text-affect` (extra `onnx`) slowly enough for an encoder on a core; each view is opened when its scenario is under way.
`--only text-affect` makes the pictures of that demo alone.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

HERE = Path(__file__).parent
CHROMIUM = "/usr/bin/chromium"
SIZE = {"width": 1280, "height": 820}
LARGEST = 250_000
"""Bytes: the pictures are loaded by everybody who opens the README."""

DRAWN_MS = 2_000
"""After the first chart: the others, the list of posts and the first live events."""

DEMOS: dict[str, tuple[list[str], dict[str, str]]] = {
    "hashed": (
        ["--speed", "20"],
        {
            "live-page.png": "?view=market",
            "live-page-crisis.png": "?view=crisis",
            "live-page-social.png": "?view=social",
        },
    ),
    "text-affect": (
        ["--engine", "text-affect", "--scenario", "panic", "--speed", "10"],
        {"live-page-text-affect.png": "?view=market"},
    ),
}
"""Engine -> options of `affect demo`, and picture -> what its page is asked for."""


def shoot(port: int, settle_s: float, options: list[str], pictures: dict[str, str]) -> None:
    """Play a demo, photograph every view after `settle_s` seconds."""
    command = [sys.executable, "-m", "stream.cli", "demo", "--headless", "--port", str(port), *options]
    demo = subprocess.Popen(command, cwd=HERE.parent, stdout=subprocess.PIPE, text=True)
    try:
        assert demo.stdout is not None
        url = demo.stdout.readline().split()[-1]
        time.sleep(settle_s)
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            for name, address in pictures.items():
                page = browser.new_page(viewport=SIZE, color_scheme="light", reduced_motion="reduce")
                page.goto(url + address)
                page.wait_for_selector("canvas", timeout=60_000)
                page.wait_for_selector("#link[data-state=live]", timeout=60_000)
                page.wait_for_timeout(DRAWN_MS)
                page.screenshot(path=HERE / name)
                page.close()
            browser.close()
    finally:
        demo.send_signal(signal.SIGINT)
        demo.wait(timeout=60)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8741)
    parser.add_argument("--settle", type=float, default=60.0, help="seconds the demo plays before the pictures")
    parser.add_argument("--only", choices=sorted(DEMOS), help="the pictures of this demo alone")
    args = parser.parse_args()
    chosen = [args.only] if args.only else sorted(DEMOS)
    for demo in chosen:
        shoot(args.port, args.settle, *DEMOS[demo])
    for name in (name for demo in chosen for name in DEMOS[demo][1]):
        size = (HERE / name).stat().st_size
        print(f"docs/{name}: {size / 1000:.0f} kB")
        if size > LARGEST:
            raise SystemExit(f"docs/{name}: expected at most {LARGEST} bytes, got {size}; lower SIZE")


if __name__ == "__main__":
    main()
