"""The one place that asks the machine what time it is."""

from __future__ import annotations

import time


class SystemClock:
    """Processing time from the machine's clock."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000
