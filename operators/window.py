"""Windows: half-open, aligned to the epoch, sliding by a hop that divides their size."""

from __future__ import annotations

import re
from dataclasses import dataclass

from operators.errors import ConfigInvalid

_UNITS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_SPAN = re.compile(r"^(\d+)(s|m|h|d)$")


def parse_span(text: str) -> int:
    """Milliseconds of `10s`, `5m`, `1h`, `2d`.

    Raises:
        ConfigInvalid: anything else.
    """
    found = _SPAN.match(text.strip())
    if found is None or int(found[1]) == 0:
        raise ConfigInvalid(f"duration: expected a number and a unit such as 10s, 5m, 24h, 2d, got {text!r}")
    return int(found[1]) * _UNITS[found[2]]


def format_span(ms: int) -> str:
    """The shortest text `parse_span` reads back: 90000 -> `90s`, 3600000 -> `1h`; 24 h stays `24h`."""
    for unit in ("h", "m", "s"):
        if ms % _UNITS[unit] == 0:
            return f"{ms // _UNITS[unit]}{unit}"
    return f"{ms}ms"


@dataclass(frozen=True, slots=True)
class WindowSpec:
    """A rolling window of `size_ms` that moves by `hop_ms`; `[end - size, end)` with `end` a multiple of the hop."""

    size_ms: int
    hop_ms: int

    @staticmethod
    def parse(text: str, pane_ms: int) -> WindowSpec:
        """`1m` (tumbling) or `5m/1m` (size/hop).

        Raises:
            ConfigInvalid: the hop does not divide the size, or the pane does not divide the hop.
        """
        size_text, _, hop_text = text.partition("/")
        size = parse_span(size_text)
        hop = parse_span(hop_text) if hop_text else size
        if size % hop or hop % pane_ms:
            raise ConfigInvalid(
                f"window {text!r}: expected size a multiple of hop and hop a multiple of the pane "
                f"({format_span(pane_ms)}), got size {format_span(size)}, hop {format_span(hop)}"
            )
        return WindowSpec(size, hop)

    @property
    def text(self) -> str:
        size, hop = format_span(self.size_ms), format_span(self.hop_ms)
        return size if size == hop else f"{size}/{hop}"

    def ends_of_slot(self, slot: int) -> range:
        """Ends of every window that holds the slot `[slot, slot + hop)`."""
        return range(slot + self.hop_ms, slot + self.size_ms + 1, self.hop_ms)

    def slots_of_window(self, end: int) -> range:
        """Starts of the slots that make the window ending at `end`."""
        return range(end - self.size_ms, end, self.hop_ms)


DEFAULT_WINDOWS = ("1m", "5m/1m", "1h/5m", "24h/1h")
