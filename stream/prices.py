"""Daily prices from a CSV file with the columns ticker, date, open, close."""

from __future__ import annotations

import csv
import gzip
from collections import defaultdict
from datetime import date
from pathlib import Path

from stream.errors import UsageError
from stream.research import Bar

NEEDED = ("ticker", "date", "open", "close")


def read_prices(path: Path) -> dict[str, list[Bar]]:
    """Ticker -> bars, rising by day.

    Raises:
        UsageError: the file cannot be read, a column is missing, or a line is no price; names the line.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    bars: dict[str, list[Bar]] = defaultdict(list)
    try:
        with opener(path, "rt", encoding="utf-8", newline="") as lines:
            table = csv.DictReader(lines)
            missing = [name for name in NEEDED if name not in (table.fieldnames or ())]
            if missing:
                raise UsageError(f"prices {path}: expected the columns {', '.join(NEEDED)}; {missing} are not there")
            for row in table:
                try:
                    bar = Bar(date.fromisoformat(row["date"]), float(row["open"]), float(row["close"]))
                except (ValueError, TypeError) as error:
                    raise UsageError(f"prices {path}, line {table.line_num}: {error}") from None
                if not (bar.open > 0 and bar.close > 0):
                    raise UsageError(f"prices {path}, line {table.line_num}: expected prices above 0, got {row}")
                bars[row["ticker"]].append(bar)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise UsageError(f"prices {path}: cannot be read: {error}") from None
    return {ticker: sorted(found, key=lambda bar: bar.day) for ticker, found in bars.items()}
