"""The gate's last question: do the *signals* stay where they were? A bundled scenario replayed with both models.

The whole pipeline runs, with the posts, windows and intervals a user would see; what is compared is every value that
both replays published. A value that moves by more than a tenth of its 95 % interval says something else than the
reference did.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from engines.base import TextModel
from engines.precisions import SignalGate
from operators.records import SignalRow
from stream.memory import MemoryLog
from stream.replaying import replay, replay_config
from stream.scenario import generate

TENTH: Final = 0.1
PLAYS: Final = ("panic", "hurricane", "launch")
WINDOWS: Final = ("1m", "5m")
START_MS: Final = 1_790_000_000_000
SEED: Final = 20_261
"""A seed of its own: no calibration text comes from this run of the scenarios."""

Rows = Mapping[str, SignalRow]


@dataclass(frozen=True, slots=True)
class Play:
    """One replay: so many minutes of a scenario at so many posts a minute."""

    scenario: str
    minutes: int = 10
    posts_per_minute: int = 60

    def __str__(self) -> str:
        return f"{self.scenario}, {self.minutes} minutes of {self.posts_per_minute} posts"


def replayed(model: TextModel, play: Play) -> Rows:
    """Final rows of the play, by row id, as `affect replay` gives them."""
    return asyncio.run(_replayed(model, play))


def compared(play: Play, reference: Rows, candidate: Rows) -> SignalGate:
    """How far the candidate's rows lie from the reference's, in interval widths of the reference."""
    moved: dict[str, float] = {}
    lost = len(reference.keys() ^ candidate.keys())
    for key in reference.keys() & candidate.keys():
        first, second = reference[key], candidate[key]
        if first.value is None or second.value is None:
            lost += (first.value is None) is not (second.value is None)
            continue
        distance = abs(second.value - first.value)
        width = 0.0 if first.lo is None or first.hi is None else first.hi - first.lo
        moved[key] = distance / width if width > 0 else (0.0 if distance <= 1e-9 else float("inf"))
    by_signal: dict[str, list[float]] = {}
    for key, share in moved.items():
        by_signal.setdefault(reference[key].signal, []).append(share)
    typical = {signal: _root_mean_square(shares) for signal, shares in by_signal.items()}
    worst = max(moved, key=lambda key: moved[key], default="")
    loudest = max(typical, key=lambda signal: typical[signal], default="")
    return SignalGate(
        str(play),
        len(moved),
        sum(share > TENTH for share in moved.values()),
        lost,
        _root_mean_square(list(moved.values())),
        moved.get(worst, 0.0),
        worst,
        loudest,
        typical.get(loudest, 0.0),
    )


def _root_mean_square(values: Sequence[float]) -> float:
    return float(np.sqrt(np.mean(np.square(values)))) if values else 0.0


async def _replayed(model: TextModel, play: Play) -> Rows:
    scenario = generate(play.scenario, SEED, play.minutes, play.posts_per_minute, START_MS)
    config = replay_config(scenario.domain, windows=WINDOWS)
    with tempfile.TemporaryDirectory(prefix="affect-gate-") as folder:
        posts = Path(folder) / "posts.jsonl"
        posts.write_bytes(b"".join(msgspec.json.encode(post) + b"\n" for post in scenario.posts))
        log = MemoryLog()
        try:
            rows, _ = await replay(log, config, posts, model=model)
        finally:
            await log.close()
    found = (msgspec.json.decode(line, type=SignalRow) for line in rows.lines())
    return {row.row_id: row for row in found}


def plays(names: Sequence[str] = PLAYS) -> list[Play]:
    """The replays of the gate."""
    return [Play(name) for name in names]
