"""Event time of one partition: the running watermark, who is late, and by how much.

The watermark at a post is `max(event time of the posts before it in this partition) - disorder`. It depends on offsets
alone, so the same log gives the same verdicts whatever the batches, the workers or the speed of reading.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from operators.errors import ConfigInvalid
from operators.records import I64, Bools

BEGINNING = -(2**62)
"""Watermark before any post: older than everything."""


@dataclass(frozen=True, slots=True)
class Lateness:
    """How much disorder is expected, and how long panes are kept for posts that are later still.

    Attributes:
        disorder_ms: the watermark trails the newest post by this much.
        allowed_ms: a post is taken in while its pane ended less than this before the watermark; later ones go to the
            late output.
        pane_ms: length of a pane.
    """

    disorder_ms: int = 30_000
    allowed_ms: int = 600_000
    pane_ms: int = 10_000

    def __post_init__(self) -> None:
        if self.disorder_ms < 0 or self.allowed_ms < 0 or self.pane_ms <= 0:
            raise ConfigInvalid(
                f"lateness: expected disorder >= 0, allowed >= 0 and pane > 0 ms, got {self.disorder_ms}, "
                f"{self.allowed_ms}, {self.pane_ms}"
            )


class EventClock:
    """The event clock of one partition. Never goes back."""

    __slots__ = ("lateness", "newest_ms")

    def __init__(self, lateness: Lateness, newest_ms: int = BEGINNING) -> None:
        self.lateness = lateness
        self.newest_ms = newest_ms

    @property
    def watermark_ms(self) -> int:
        """No post older than this is expected any more."""
        return self.newest_ms - self.lateness.disorder_ms if self.newest_ms > BEGINNING else BEGINNING

    def advance(self, times_ms: I64) -> tuple[I64, Bools]:
        """Take in posts in offset order.

        Returns:
            marks: int64 [n], the watermark each post met on arrival.
            keep: bool [n], false where the post's pane was let go already (late).
        """
        if len(times_ms) == 0:
            return times_ms, np.zeros(0, np.bool_)
        newest = np.maximum.accumulate(np.concatenate((np.array([self.newest_ms], np.int64), times_ms)))
        self.newest_ms = int(newest[-1])
        marks = np.where(newest[:-1] > BEGINNING, newest[:-1] - self.lateness.disorder_ms, BEGINNING)
        pane_ends = (times_ms // self.lateness.pane_ms + 1) * self.lateness.pane_ms
        return marks, pane_ends + self.lateness.allowed_ms > marks
