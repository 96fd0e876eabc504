"""Bounded: a hundred thousand keys, the four windows and two hours of posts fit into 512 MiB, the model left out."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

CHILD = """
import json, re, sys
from pathlib import Path
import numpy as np
from operators.cell_messages import block_message, progress_message, read_message
from operators.cells import Progress
from operators.clock import EventClock, Lateness
from operators.domain import Domain
from operators.market import COLUMNS, SIGNALS, SQUARE_OF, derive
from operators.panes import PaneStore
from operators.records import MICRO, PostBatch
from operators.rolling import Rolling
from operators.window import DEFAULT_WINDOWS, WindowSpec

SPREAD = np.uint64(0x9E3779B97F4A7C15)  # hashes fill their range
RATE, KEYS, HOURS = int(sys.argv[1]), int(sys.argv[2]), 2
lateness = Lateness()
windows = [WindowSpec.parse(text, lateness.pane_ms) for text in DEFAULT_WINDOWS]
domain = Domain("market", (), COLUMNS, SIGNALS, lambda b: np.zeros((len(b), len(COLUMNS)), np.int64), derive, SQUARE_OF)
clock, store, rolling = EventClock(lateness), PaneStore(0, domain, lateness), Rolling(domain, windows, lateness)
rng = np.random.default_rng(1)
n, rows, seen, offset = RATE * 60, 0, set(), 0
for minute in range(HOURS * 60):
    times = np.sort(rng.integers(0, 60_000, n)) + minute * 60_000 + 1_700_000_040_000
    times -= np.where(rng.random(n) < 0.27, rng.integers(0, 20_000, n), 0)
    keys = rng.integers(0, KEYS, n)
    seen.update(keys.tolist())
    links = [name for k in keys.tolist() for name in (f"ticker:K{k}", "all:*")]
    batch = PostBatch(
        0, np.arange(offset, offset + n), [""] * n, [""] * n, times,
        rng.integers(1, 50_000, n).astype(np.uint64) * SPREAD,
        [], [], [], [], np.zeros(n, np.bool_), np.zeros(n, np.bool_), np.repeat(np.arange(n, dtype=np.int32), 2), links,
    )
    marks, keep = clock.advance(times)
    assert keep.all()
    store.fold(batch, rng.integers(0, MICRO, (n, len(COLUMNS))), marks)
    offset += n
    for block in store.drain(offset - 1):
        rolling.ingest(read_message(block_message("lane", block, domain), domain))
    rolling.mark(Progress(0, 1, offset, offset, 0, 0, 0, clock.watermark_ms))
    store.expire(clock.watermark_ms)
    if minute % 2:
        rows += sum(len(frame.names) * len(SIGNALS) for frame in rolling.emit())
# Of this program alone: getrusage counts what the parent held when it forked, too.
peak = int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
found = {"peak": peak, "keys": len(seen), "rows": rows, "posts": offset, "kept": len(store)}
print(json.dumps({**found, **rolling.memory()}))
"""


def run(rate: int, keys: int) -> dict[str, float]:
    """`rate` posts a second about `keys` keys for two hours; what was held in the end, and the peak in MiB."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(rate), str(keys)], capture_output=True, text=True, check=False, timeout=560
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.timeout(600)
def test_a_hundred_thousand_keys_stay_under_512_mib() -> None:
    found = run(rate=70, keys=100_000)
    assert found["posts"] == 70 * 7_200
    assert found["keys"] > 99_000
    assert found["entities"] == found["keys"] + 1
    assert found["rows"] > 10_000_000
    assert found["kept"] <= 70  # ten minutes of panes, and those of the disorder
    assert found["panes"] <= 70
    assert found["peak"] < 512, found
    print(found)
