"""The files the page is made of: our own from `stream/page`, the charting library out of its installed package."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from stream.errors import StreamError

TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}
CHARTS = {"uplot.js": "uPlot.iife.js", "uplot.css": "uPlot.min.css"}


class Asset(NamedTuple):
    """One file to serve. `etag` is quoted, as the header wants it."""

    body: bytes
    content_type: str
    etag: str


def made_asset(body: bytes, content_type: str) -> Asset:
    """A file of these bytes."""
    return Asset(body, content_type, f'"{hashlib.sha256(body).hexdigest()[:20]}"')


def _asset(path: Path) -> Asset:
    return made_asset(path.read_bytes(), TYPES[path.suffix])


def load_assets() -> dict[str, Asset]:
    """Every file of the page by name, charting library included (as `uplot.js` and `uplot.css`). Read once, at start.

    Raises:
        StreamError: a file is missing: the package was installed without its data, or without `uplot-python`.
    """
    page = Path(__file__).with_name("page")
    found = {p.name: _asset(p) for p in sorted(page.glob("*")) if p.suffix in TYPES}
    if "index.html" not in found:
        raise StreamError(f"live page: expected index.html in {page}, got none; reinstall the package affectstream")
    spec = find_spec("uplot")  # finds the folder without importing it: the import pulls in IPython
    roots = [] if spec is None else list(spec.submodule_search_locations or ())
    for name, built in CHARTS.items():
        path = next((p for root in roots if (p := Path(root) / "static" / built).is_file()), None)
        if path is None:
            raise StreamError(
                f"live page: expected {built} in the installed package uplot-python, got none in "
                f"{roots or 'any folder'}; run: pip install --force-reinstall uplot-python"
            )
        found[name] = _asset(path)
    return found
