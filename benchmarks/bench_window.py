"""Windows alone: events per CPU-second at 1e2, 1e4 and 1e5 keys, beside a per-event Python loop in the same run.

    python benchmarks/bench_window.py [--events 400000] [--batch 4096]

Both sides fold the same scored posts (12 columns, one entity each) into 10 s panes and then into a rolling window of
5 minutes that moves by one minute. Ours is the pane store plus the rolling stage, as the engine runs them.
"""

from __future__ import annotations

import argparse
import resource
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.harness import cpu_seconds, table
from operators.cells import Progress
from operators.clock import EventClock, Lateness
from operators.domain import Domain, Sums
from operators.market import COLUMNS, SIGNALS, derive
from operators.panes import PaneStore
from operators.records import MICRO, PostBatch
from operators.rolling import Rolling
from operators.window import WindowSpec

LATENESS = Lateness(30_000, 60_000, 10_000)
WINDOW = WindowSpec(300_000, 60_000)
SPAN_MS = 1_200_000


def make(events: int, keys: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times (27 % up to 20 s out of order), keys and columns."""
    rng = np.random.default_rng(seed)
    times = np.sort(rng.integers(0, SPAN_MS, events)) + 1_700_000_000_000
    moved = rng.random(events) < 0.27
    times = times - np.where(moved, rng.integers(0, 20_000, events), 0)
    names = rng.integers(0, keys, events)
    values = rng.integers(0, MICRO, (events, len(COLUMNS)))
    return times.astype(np.int64), names, values.astype(np.int64)


def ours(times: np.ndarray, names: list[str], values: np.ndarray, batch: int) -> int:
    """Pane store and rolling stage; returns rows emitted."""
    domain = Domain("market", (), COLUMNS, SIGNALS, lambda b: values, derive)
    clock, store = EventClock(LATENESS), PaneStore(0, len(COLUMNS), LATENESS)
    rolling = Rolling(domain, (WINDOW,), LATENESS)
    rows = 0
    for start in range(0, len(times), batch):
        end = min(start + batch, len(times))
        n = end - start
        posts = PostBatch(
            0, np.arange(start, end), names[start:end], names[start:end], times[start:end], np.zeros(n, np.uint64),
            [], [], [], [], np.zeros(n, np.bool_), np.zeros(n, np.bool_),
            np.arange(n, dtype=np.int32), names[start:end],
        )  # fmt: skip
        marks, _ = clock.advance(posts.times_ms)
        store.fold(posts, values[start:end], marks)
        if (start // batch) % 4 == 3 or end == len(times):
            for block in store.drain(end - 1):
                rolling.ingest(block)
            closed = end == len(times)
            rolling.mark(Progress(0, 1, end, end, 0, 0, 0, clock.watermark_ms, False, closed))
            rows += sum(len(f.names) for f in rolling.emit(provisional=False))
            store.expire(clock.watermark_ms)
    return rows


def loop(times: np.ndarray, names: list[str], values: np.ndarray) -> int:
    """The same job, one event at a time, in plain Python: windows in a dict, closed by the watermark."""
    windows: dict[int, dict[str, list[int]]] = defaultdict(dict)
    newest, rows = 0, 0
    width = values.shape[1]
    for at, name, columns in zip(times.tolist(), names, values.tolist(), strict=True):
        first = at // 60_000 * 60_000 + 60_000
        for end in range(first, first + 300_000, 60_000):
            window = windows[end]
            cell = window.get(name)
            if cell is None:
                cell = window[name] = [0] * (width + 1)
            cell[0] += 1
            for k, x in enumerate(columns):
                cell[k + 1] += x
        if at > newest:
            newest = at
            for end in [e for e in windows if e <= newest - 30_000]:
                rows += close(windows.pop(end))
    return rows + sum(close(window) for window in windows.values())


def close(window: dict[str, list[int]]) -> int:
    """Derive the same values for the rows of one window."""
    matrix = np.array(list(window.values()), np.int64)
    n = matrix[:, 0]
    derive(Sums(n, n.astype(np.float64), matrix[:, 1:], np.zeros(len(n), np.bool_)))
    return len(n)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=400_000)
    parser.add_argument("--batch", type=int, default=4096)
    args = parser.parse_args()
    out = []
    for keys in (100, 10_000, 100_000):
        times, ids, values = make(args.events, keys)
        names = [f"ticker:K{k}" for k in ids.tolist()]
        got: list[int] = []
        fast = cpu_seconds(lambda t=times, n=names, v=values, g=got: g.append(ours(t, n, v, args.batch)))  # type: ignore[misc]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        want: list[int] = []
        slow = cpu_seconds(lambda t=times, n=names, v=values, w=want: w.append(loop(t, n, v)), repeat=1)  # type: ignore[misc]
        if got[0] != want[0]:
            raise SystemExit(f"{keys} keys: {got[0]} rows, the loop has {want[0]}: not the same job")
        out.append(
            (f"{keys:.0e}", f"{args.events / fast:,.0f}", f"{args.events / slow:,.0f}", f"{slow / fast:.1f}x", got[0],
             f"{peak:.0f}")
        )  # fmt: skip
    table(
        f"rolling window 5m/1m, {args.events:,} events, batches of {args.batch}",
        ("keys", "ours, events/cpu-s", "Python loop, events/cpu-s", "ratio", "rows (both)", "peak MiB"),
        out,
    )


if __name__ == "__main__":
    main()
