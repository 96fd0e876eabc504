"""Whether the uncertainty is true: coverage on a thousand seeded windows, and what a bot and a ring can move.

    python benchmarks/bench_trust.py [--scenarios 1000]

Scores come from a calibrated stub: of the posts it gives joy p, a share p is joyful. The planted truth of a window is
the mix its authors were drawn from. Everything runs through the pane store, the wire message, the windows and the
domain, as in the engine; nothing is mocked but the model.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.harness import table
from engines.stub import stub_spec
from operators.cell_messages import block_message, read_message
from operators.cells import PaneBlock, Progress
from operators.clock import BEGINNING, Lateness
from operators.domain import Domain
from operators.market import EMOTIONS, market
from operators.panes import PaneStore
from operators.records import MICRO, PostBatch
from operators.rolling import Rolling
from operators.window import WindowSpec

LATENESS = Lateness(0, 60_000, 10_000)
WINDOW = WindowSpec(300_000, 300_000)
START = 1_700_000_100_000
GUARDS = ("market.concentration", "market.near_duplicates")
"""Signals that are there to show a bot: they are meant to move."""


@dataclass(frozen=True, slots=True)
class Posts:
    """Posts of one window: author hash (0 = unknown), emotion and stance probabilities, key of the text."""

    authors: np.ndarray
    emotion: np.ndarray
    stance: np.ndarray
    texts: np.ndarray

    def __add__(self, other: Posts) -> Posts:
        return Posts(*(np.concatenate((getattr(self, f), getattr(other, f))) for f in self.__slots__))


@dataclass(frozen=True, slots=True)
class Told:
    """The row values of one window: `value`, `lo`, `hi` by signal, n_eff, capped."""

    value: np.ndarray
    lo: np.ndarray
    hi: np.ndarray
    n_eff: float
    capped: float


def window(domain: Domain, posts: Posts, random: np.random.Generator) -> Told:
    """The posts, in random order over the window and three partitions, through the engine's own path."""
    n = len(posts.authors)
    order = random.permutation(n)
    rolling = Rolling(domain, (WINDOW,), LATENESS)
    for partition in range(3):
        rows = order[partition::3]
        store = PaneStore(partition, domain, LATENESS)
        if len(rows):
            batch = _batch(partition, posts, rows, random)
            store.fold(batch, domain.channels(batch), np.full(len(rows), BEGINNING, np.int64))
        for block in store.drain(max(len(rows) - 1, 0)):
            got = read_message(block_message("lane", block, domain), domain)
            assert isinstance(got, PaneBlock)
            rolling.ingest(got)
        rolling.mark(Progress(partition, 3, len(rows), len(rows), 0, 0, 0, START, closed=True))
    (frame,) = list(rolling.emit())
    derived = frame.derived
    return Told(derived.value[0], derived.lo[0], derived.hi[0], float(frame.n_eff[0]), float(frame.capped[0]))


def _batch(partition: int, posts: Posts, rows: np.ndarray, random: np.random.Generator) -> PostBatch:
    n = len(rows)
    none: list[None] = [None] * n
    scores = {
        "emtract7": np.rint(posts.emotion[rows] * MICRO).astype(np.int32),
        "bullbear3": np.rint(posts.stance[rows] * MICRO).astype(np.int32),
    }
    return PostBatch(
        partition, np.arange(n, dtype=np.int64), [""] * n, [""] * n, START + random.integers(0, WINDOW.size_ms, n),
        posts.authors[rows].astype(np.uint64), [""] * n, list(none), list(none), list(none),
        np.zeros(n, np.bool_), np.zeros(n, np.bool_), np.arange(n, dtype=np.int32), ["ticker:X"] * n, scores,
        text_keys=posts.texts[rows],
    )  # fmt: skip


def crowd(random: np.random.Generator, authors: int, mix: np.ndarray, stance: np.ndarray, sharp: float) -> Posts:
    """`authors` people with one opinion each, drawn around the mix; two in ten post two to five times."""
    times = np.where(random.random(authors) < 0.2, random.integers(2, 6, authors), 1)
    rows = np.repeat(np.arange(authors), times)
    return Posts(
        random.integers(1, 2**63, authors, dtype=np.uint64)[rows],
        random.dirichlet(mix * sharp + 1e-3, authors)[rows],
        random.dirichlet(stance * sharp + 1e-3, authors)[rows],
        random.integers(1, 2**63, len(rows), dtype=np.uint64),
    )


def loud(random: np.random.Generator, accounts: int, posts: int, copies: bool) -> Posts:
    """`accounts` that say fear and bearish with all their might, `posts` in all."""
    rows = np.arange(posts) % accounts
    afraid, bearish = np.eye(7)[list(EMOTIONS).index("fear")], np.array([0.0, 0.0, 1.0])
    texts = np.full(posts, 7, np.uint64) if copies else random.integers(1, 2**63, posts, dtype=np.uint64)
    authors = random.integers(1, 2**63, accounts, dtype=np.uint64)[rows]
    return Posts(authors, np.tile(afraid, (posts, 1)), np.tile(bearish, (posts, 1)), texts)


def planted(mix: np.ndarray, stance: np.ndarray) -> dict[str, float]:
    """The true value of the signals that are means of posts."""
    names = list(EMOTIONS)
    minus = sum(mix[names.index(word)] for word in ("sadness", "anger", "disgust", "fear"))
    return {
        **{f"market.{name}": float(mix[k]) for k, name in enumerate(names)},
        "market.valence": float(mix[names.index("joy")] - minus),
        "market.bullishness": float((stance[0] - stance[2]) / (stance[0] + stance[2])),
    }


def coverage(domain: Domain, scenarios: int) -> dict[str, tuple[int, int]]:
    """How often the interval held the planted value: signal -> (held, windows)."""
    held: dict[str, tuple[int, int]] = {}
    for seed in tqdm(range(scenarios), desc="coverage", unit="window", disable=None):
        random = np.random.default_rng(seed)
        mix, stance = random.dirichlet(np.full(7, 2.0)), random.dirichlet(np.full(3, 4.0))
        sharp = float(random.choice([1.0, 3.0, 10.0]))
        told = window(domain, crowd(random, int(random.integers(40, 600)), mix, stance, sharp), random)
        for name, truth in planted(mix, stance).items():
            k = domain.signals.index(name)
            hit, of = held.get(name, (0, 0))
            held[name] = (hit + bool(told.lo[k] <= truth <= told.hi[k]), of + 1)
    return held


def attack(domain: Domain, accounts: int, posts: int, copies: bool, windows: int) -> tuple[float, str, float, int]:
    """(largest move in half intervals, which signal, capped share, nulls) over crowds of 50 to 5000 people."""
    worst, which, capped, nulls = 0.0, "", 0.0, 0
    for seed in tqdm(range(windows), desc=f"{accounts} accounts", unit="window", disable=None):
        random = np.random.default_rng(10_000 + seed)
        mix, stance = random.dirichlet(np.full(7, 2.0)), random.dirichlet(np.full(3, 4.0))
        people = crowd(random, int(np.exp(random.uniform(np.log(50), np.log(5_000)))), mix, stance, 3.0)
        before = window(domain, people, random)
        after = window(domain, people + loud(random, accounts, posts, copies), random)
        nulls += after.n_eff < 20
        capped = max(capped, after.capped)
        for k, name in enumerate(domain.signals):
            if name in GUARDS or not np.isfinite(before.value[k]):
                continue
            moved = after.value[k] - before.value[k]
            room = before.hi[k] - before.value[k] if moved > 0 else before.value[k] - before.lo[k]
            if abs(moved) > worst * max(room, 1e-12):
                worst, which = abs(moved) / max(room, 1e-12), name
    return worst, which, capped, nulls


def main() -> int:
    """Run and print both tables; 1 where a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenarios", type=int, default=1000)
    parser.add_argument("--windows", type=int, default=40, help="crowds attacked (default: 40)")
    options = parser.parse_args()
    domain = market(stub_spec())
    found = coverage(domain, options.scenarios)
    total = sum(h for h, _ in found.values()) / sum(n for _, n in found.values())
    rows = [[name, f"{h / n:.1%}"] for name, (h, n) in found.items()]
    table("Coverage of the 95 % interval", ["signal", "held the truth"], [*rows, ["all", f"{total:.1%}"]])
    attacks = {
        "a bot, 10 000 posts": (1, 10_000, False),
        "a ring of 50, 10 000 posts": (50, 10_000, False),
        "a ring of 50, 500 posts": (50, 500, False),
        "fifty people, one post each (no defence: shown as copies)": (50, 50, True),
    }
    told, broken = [], not 0.93 <= total <= 0.97
    for name, (accounts, posts, copies) in attacks.items():
        worst, which, capped, nulls = attack(domain, accounts, posts, copies, options.windows)
        told.append([name, f"{worst:.2f}", which, f"{capped:.1%}", str(nulls)])
        broken |= accounts != posts and (worst > 1 or nulls > 0)
    columns = ["attack", "largest move / interval", "of", "weight taken", "made null"]
    table(f"Attacks on {options.windows} crowds of 50 to 5 000 authors", columns, told)
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
