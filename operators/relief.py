"""The switch of a cascade: under overload the fast model answers what it is sure of, until the backlog is short."""

from __future__ import annotations

from collections.abc import Callable

from operators.errors import ConfigInvalid


class Relief:
    """Turns something on while too many posts wait. One object for all partitions.

    Args:
        above: posts waiting beyond which it is turned on; below a half of that it is turned off again.
        turn: told every change.

    Raises:
        ConfigInvalid: settings out of range.
    """

    def __init__(self, above: int, turn: Callable[[bool], None]) -> None:
        if above < 1:
            raise ConfigInvalid(f"cascade: expected above >= 1, got {above}")
        self._above = above
        self._turn = turn
        self.on = False
        self.changes = 0

    def observe(self, waiting: int) -> bool:
        """Take in how many posts wait; whether it is on from now on. Call about once a second."""
        on = waiting > self._above or (self.on and waiting >= self._above // 2)
        if on != self.on:
            self.on = on
            self.changes += 1
            self._turn(on)
        return on
