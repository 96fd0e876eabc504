"""The words of the sinks: a signal row with the place and time it was published at, and what takes such rows in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from operators.records import SignalRow


@dataclass(frozen=True, slots=True)
class Published:
    """A row of the signal topic. `recorded_ms`: when it was appended, epoch milliseconds."""

    row: SignalRow
    recorded_ms: int


class RowSink(Protocol):
    """Takes signal rows in, so that taking the same ones in again changes nothing."""

    async def write(self, rows: Sequence[Published]) -> None:
        """Make all of `rows` durable, or none.

        Raises:
            LogUnavailable: nothing was written; the same rows may be written again later.
            LogError: they never can be; the message says what to change.
        """
        ...

    async def close(self) -> None:
        """Let connections go. Idempotent."""
        ...
