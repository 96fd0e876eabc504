"""The final signals of a file of posts, counted the slow way: an oracle that shares no window code with the engine.

Input is the file and what `affect score` says of its texts. Sums are exact fractions of a million.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import math
import random
import re
import subprocess
import sys
from collections import defaultdict
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import numpy as np

from operators.cues import OFFERS, RESPONDERS, RUMOURS
from operators.entities import Linker
from operators.records import PostBatch

TUMBLING = ((60_000, 60_000), (300_000, 300_000), (3_600_000, 3_600_000), (86_400_000, 86_400_000))
TASKS = {
    "market": ("emtract7", "bullbear3"),
    "crisis": ("disaster_message", "sentiment3", "crisis_info6", "parrott"),
    "social": ("goemotions28",),
}
MINIMUM = 20
Post = dict[str, object]
Scores = dict[str, list[dict[str, int]]]
MICRO = 1_000_000
RowKey = tuple[str, str, int, int]


def read_posts(path: Path) -> list[Post]:
    """The lines of a (gzipped) JSON-lines file."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as lines:  # type: ignore[operator]
        return [json.loads(line) for line in lines]


def score_file(path: Path, task: str, engine: str = "hashed") -> list[dict[str, int]]:
    """What `affect score` says of every line, in order, in millionths."""
    done = subprocess.run(
        [sys.executable, "-m", "stream.cli", "score", "--task", task, "--engine", engine, "--input", str(path)],
        capture_output=True,
        check=True,
    )
    lines = (json.loads(line)["scores"] for line in done.stdout.splitlines())
    return [{label: round(p * MICRO) for label, p in scores.items()} for scores in lines]


def own_time(post: Post) -> int | None:
    given = post.get("created_at")
    if given is None:
        return None
    if isinstance(given, int | float):
        return int(given)
    moment = datetime.fromisoformat(str(given))
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1000)


def times_of(posts: list[Post], rank_s: float | None) -> list[int]:
    """Event times: by rank, or each post's own; a post without one takes the newest read so far."""
    known = [t for t in map(own_time, posts) if t is not None]
    start = known[0] if known else 0
    if rank_s is not None:
        return [start + round(k * rank_s * 1000) for k in range(len(posts))]
    out, newest = [], start
    for post in posts:
        mine = own_time(post)
        newest = max(newest, mine) if mine is not None else newest
        out.append(mine if mine is not None else newest)
    return out


def entities_of(posts: list[Post], domain: str) -> list[list[str]]:
    """Entities of each post, as the linking operator names them."""
    n = len(posts)
    tickers: list[tuple[str, ...] | None] = []
    for post in posts:
        given = post.get("tickers", [post["ticker"]] if "ticker" in post else None)
        tickers.append(None if given is None else tuple(str(t).lstrip("$").upper() for t in given))  # type: ignore[attr-defined]
    batch = PostBatch(
        partition=0,
        offsets=np.arange(n, dtype=np.int64),
        ids=[str(p["id"]) for p in posts],
        texts=[str(p["text"]) for p in posts],
        times_ms=np.zeros(n, np.int64),
        authors=np.zeros(n, np.uint64),
        langs=[""] * n,
        tickers=tickers,
        places=[p.get("place") for p in posts],  # type: ignore[misc]
        events=[p.get("event") for p in posts],  # type: ignore[misc]
        reposts=np.zeros(n, np.bool_),
        near=np.zeros(n, np.bool_),
    )
    linked = asyncio.run(Linker(domain).process(batch)).batch
    out: list[list[str]] = [[] for _ in posts]
    for row, name in zip(linked.link_rows.tolist(), linked.link_names, strict=True):
        out[row].append(name)
    return out


def disordered(posts: list[Post], times: list[int]) -> list[Post]:
    """Each post with its time; 27 % moved up to 20 s, 2 % sent twice."""
    rng = random.Random(5)
    stamped = [{**post, "created_at": at} for post, at in zip(posts, times, strict=True)]
    arrival = [(at + (rng.randint(1, 20_000) if rng.random() < 0.27 else 0), k) for k, at in enumerate(times)]
    arrival += [(at + rng.randint(0, 20_000), k) for k, at in enumerate(times) if rng.random() < 0.02]
    return [stamped[k] for _, k in sorted(arrival)]


def window_ends(time_ms: int, size: int, hop: int) -> range:
    first = time_ms // hop * hop + hop
    return range(first, first + size, hop)


def expected(
    posts: list[Post],
    times: list[int],
    entities: list[list[str]],
    scores: Scores,
    domain: str,
    windows: tuple[tuple[int, int], ...] = TUMBLING,
) -> dict[RowKey, tuple[int, float | None]]:
    """n and value of every (signal, entity, window start, window end)."""
    members: dict[tuple[str, int, int], list[int]] = defaultdict(list)
    seen: set[str] = set()
    for k, post in enumerate(posts):
        if str(post["id"]) in seen:
            continue
        seen.add(str(post["id"]))
        for size, hop in windows:
            for end in window_ends(times[k], size, hop):
                for entity in entities[k]:
                    members[(entity, end - size, end)].append(k)
    placed = [any(e.startswith("place:") for e in names) for names in entities]
    out: dict[RowKey, tuple[int, float | None]] = {}
    for (entity, start, end), rows in members.items():
        enough = len(rows) >= MINIMUM
        values = VALUES[domain](scores, rows, placed) if enough else dict.fromkeys(NAMES[domain])
        if entity != "all:*":
            values.pop("without_place", None)
        if domain == "market" and enough and end - start >= 300_000:  # the streams are too short for a past
            values |= dict.fromkeys(PAST)
        for signal, value in values.items():
            out[(f"{domain}.{signal}", entity, start, end)] = (len(rows), value)
    return out


def market_values(scores: Scores, rows: list[int], _: list[bool]) -> dict[str, float]:
    n = len(rows)
    emtract, stance = scores["emtract7"], scores["bullbear3"]
    total = {label: sum(emtract[k][label] for k in rows) for label in EMTRACT.values()}
    bull, bear = sum(stance[k]["bullish"] for k in rows), sum(stance[k]["bearish"] for k in rows)
    out = {word: float(Fraction(total[label], n * MICRO)) for word, label in EMTRACT.items()}
    minus = total["sad"] + total["anger"] + total["disgust"] + total["fear"]
    b, lean = float(Fraction(bull - bear, bull + bear)), float(Fraction(bull - bear, n * MICRO))
    out["valence"] = float(Fraction(total["happy"] - minus, n * MICRO))
    out["bullishness"] = b
    out["agreement"] = 1 - math.sqrt(max(0.0, 1 - b * b))
    out["disagreement"] = math.sqrt(max(0.0, 1 - lean * lean))
    out["buzz"] = math.log1p(n)
    out["panic"] = sum(1 for k in rows if emtract[k]["fear"] > 700_000) / n
    out["conviction"] = sum(1 for k in rows if max(stance[k]["bullish"], stance[k]["bearish"]) > 800_000) / n
    out["concentration"] = 1 / n  # the streams have no authors: each post is its own
    out["near_duplicates"] = math.nan
    return out


def crisis_values(scores: Scores, rows: list[int], placed: list[bool]) -> dict[str, float | None]:
    labels, types, felt, cues = (scores[k] for k in ("disaster_message", "crisis_info6", "parrott", "cues"))
    n = len(rows) * MICRO

    def share(table: list[dict[str, int]], label: str) -> float:
        return float(Fraction(sum(table[k][label] for k in rows), n))

    out: dict[str, float | None] = {f"need.{need}": share(labels, need) for need in NEEDS}
    for kind in ("request", "offer"):
        out[kind] = share(labels, kind)
    out["without_place"] = sum(1 for k in rows if not placed[k]) / len(rows)
    given = sum(max(labels[k]["offer"], MICRO - labels[k]["request"] if cues[k]["offers"] else 0) for k in rows)
    out["offered"] = float(Fraction(given, n))
    out["balance"] = math.log((1 + sum(labels[k]["request"] for k in rows) / MICRO) / (1 + given / MICRO))
    named = [scores["sentiment3"][k] for k in rows if cues[k]["responders"]]
    plus, minus = sum(post["positive"] for post in named), sum(post["negative"] for post in named)
    out["attitude"] = float(Fraction(plus - minus, plus + minus)) if plus + minus else None
    out["response"] = len(named) / len(rows)
    for name, label in INFO.items():
        out[f"info.{name}"] = share(types, label)
    out["info.other"] = max(0.0, float(1 - Fraction(sum(types[k][label] for k in rows for label in INFO.values()), n)))
    out |= {name: share(felt, name) for name in ("fear", "sadness", "anger", "joy")}
    out["rumour_cue"] = sum(cues[k]["rumours"] for k in rows) / len(rows)
    return out


def cues_of(posts: list[Post]) -> list[dict[str, int]]:
    """Which lists of phrases each post has one of, looked for with a regular expression."""
    finders = {}
    for name, phrases in (("responders", RESPONDERS), ("offers", OFFERS), ("rumours", RUMOURS)):
        spaced = [phrase.split() for phrase in phrases.replace("\n", "|").split("|") if phrase]
        ways = ["".join(words) for words in spaced] + [r"[^a-z0-9]+".join(words) for words in spaced]
        finders[name] = re.compile(rf"(?<![^\W_])(?:{'|'.join(ways)})(?![^\W_])")
    texts = [str(post["text"]).lower() for post in posts]
    return [{name: int(finder.search(text) is not None) for name, finder in finders.items()} for text in texts]


EMTRACT = {"neutral": "neutral", "joy": "happy", "sadness": "sad", "anger": "anger", "disgust": "disgust",
           "surprise": "surprise", "fear": "fear"}  # fmt: skip
NEEDS = ("water", "food", "shelter", "medical_help", "medical_products", "clothing", "transport", "electricity",
         "search_and_rescue", "security", "missing_people", "money", "tools")  # fmt: skip
INFO = {"affected_people": "Affected individuals", "infrastructure": "Infrastructure and utilities",
        "donations": "Donations and volunteering", "caution": "Caution and advice",
        "sympathy": "Sympathy and support"}  # fmt: skip
PAST = ("buzz_z", "fear_greed", "shock", "hype")
"""Null for want of a baseline; against a past they are checked by tests/operators/test_trail.py."""
NAMES = {
    "market": (
        *EMTRACT,
        "valence",
        "bullishness",
        "agreement",
        "disagreement",
        "buzz",
        "panic",
        "conviction",
        "concentration",
        "near_duplicates",
    ),
    "crisis": (
        *(f"need.{need}" for need in NEEDS),
        "request",
        "offer",
        "without_place",
        "offered",
        "balance",
        "attitude",
        "response",
        *(f"info.{name}" for name in INFO),
        "info.other",
        "fear",
        "sadness",
        "anger",
        "joy",
        "rumour_cue",
    ),
}
VALUES = {"market": market_values, "crisis": crisis_values}


def disagreements(
    rows: dict[RowKey, tuple[int, float | None]], want: dict[RowKey, tuple[int, float | None]], tolerance: float = 1e-9
) -> list[str]:
    """Where two sets of rows differ: keys exactly, n exactly, values to `tolerance`. At most ten lines."""
    out = [f"missing {key}" for key in list(want.keys() - rows.keys())[:5]]
    out += [f"unexpected {key}" for key in list(rows.keys() - want.keys())[:5]]
    for key in want.keys() & rows.keys():
        (n, value), (n_want, value_want) = rows[key], want[key]
        if value is None or value_want is None:
            same = value is value_want
        elif math.isnan(value_want):  # a share that is not counted here: tests/operators/test_panes.py
            same = 0 <= value <= 1
        else:
            same = abs(value - value_want) <= tolerance
        if n != n_want or not same:
            out.append(f"{key}: got {rows[key]}, expected {want[key]}")
        if len(out) >= 10:
            break
    return out


def read_rows(path: Path) -> dict[RowKey, tuple[int, float | None]]:
    """Rows of a replay's output."""
    out = {}
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            out[(row["signal"], row["entity"], row["window_start"], row["window_end"])] = (row["n"], row["value"])
    return out
