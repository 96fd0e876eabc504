"""A file of posts as rough as real ones: out of order, sent twice, cut short. Seeded, so every run has the same one."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import NamedTuple

START_MS = 1_790_000_040_000
WORDS = [
    "buy",
    "sell",
    "moon",
    "crash",
    "bull",
    "bear",
    "hold",
    "calls",
    "puts",
    "earnings",
    "rally",
    "dip",
    "green",
    "red",
    "up",
    "down",
    "today",
    "scared",
    "happy",
]
TICKERS = ["AAPL", "TSLA", "NVDA", "GME", "KO"]


class Rough(NamedTuple):
    """The file, and what is in it: lines in all, distinct posts, repeats, lines that are no JSON."""

    path: Path
    lines: int
    posts: int
    repeats: int
    broken: int


def write_rough(path: Path, posts: int, seed: int = 3, step_ms: int = 250) -> Rough:
    """27 % of the posts up to 20 s out of order, 2 % sent twice, 1 % of the lines cut short."""
    rng = random.Random(seed)
    arrivals: list[tuple[int, int, str]] = []
    for k in range(posts):
        at = START_MS + k * step_ms
        post: dict[str, object] = {"id": f"p{k}", "text": " ".join(rng.choices(WORDS, k=8)) + f" {k}", "created_at": at}
        if rng.random() < 0.9:
            post["author"] = f"a{rng.randrange(posts // 20 + 1)}"
        if rng.random() < 0.95:
            post["tickers"] = rng.sample(TICKERS, rng.choice((1, 1, 2)))
        arrivals.append((at + (rng.randint(1, 20_000) if rng.random() < 0.27 else 0), k, json.dumps(post)))
    again = [(at + rng.randint(0, 20_000), k, line) for at, k, line in arrivals if rng.random() < 0.02]
    lines: list[str] = []
    broken = 0
    for _, _, line in sorted(arrivals + again):
        lines.append(line)
        if rng.random() < 0.01:
            lines.append(line[: rng.randrange(1, len(line) - 1)])
            broken += 1
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Rough(path, len(lines), posts, len(again), broken)
