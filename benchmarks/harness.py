"""What every benchmark shares: the machine and versions it prints, CPU time, and a plain table."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path


def machine() -> str:
    """CPU model, cores, Python and the versions that matter, on one line."""
    model = "unknown CPU"
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("numpy", "msgspec", "fastavro"))
    load = os.getloadavg()[0]
    return f"{model}, {os.cpu_count()} cores, load {load:.1f}, Python {platform.python_version()}, {versions}"


def cpu_seconds(act: Callable[[], object], repeat: int = 3) -> float:
    """Median process CPU seconds of `repeat` runs."""
    spent = []
    for _ in range(repeat):
        start = time.process_time()
        act()
        spent.append(time.process_time() - start)
    return statistics.median(spent)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table that reads the same in a terminal and in Markdown."""
    print(f"\n{title}\n{machine()}\n")
    cells = [list(map(str, columns)), *[list(map(str, row)) for row in rows]]
    widths = [max(len(row[k]) for row in cells) for k in range(len(columns))]
    for number, row in enumerate(cells):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |")
        if number == 0:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")
