"""Writes docs/openapi.json and docs/asyncapi.json from the routes: python docs/api_files.py (tests compare them)."""

from __future__ import annotations

import json
from pathlib import Path

from stream.api_description import asyncapi, openapi
from stream.feed import Feed
from stream.metrics import Metrics
from stream.web import LiveServer

HERE = Path(__file__).parent


def rendered() -> dict[str, str]:
    """File name -> content."""
    routes = LiveServer(Feed(), Metrics(process=False)).routes
    made = {"openapi.json": openapi(routes), "asyncapi.json": asyncapi(routes)}
    return {name: json.dumps(body, indent=1, ensure_ascii=False) + "\n" for name, body in made.items()}


if __name__ == "__main__":
    for name, content in rendered().items():
        (HERE / name).write_text(content, encoding="utf-8")
