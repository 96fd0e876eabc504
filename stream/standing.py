"""How far every source partition is, where another process has the windows: the newest marks of the pane topic."""

from __future__ import annotations

from operators.cell_messages import read_message
from operators.cells import Progress
from stream.base import Log
from stream.scoring import Parts
from stream.topics import PANES

READ_PANES = 5_000


class Standing:
    """Follows the progress marks of one lane. Nothing is read before `catch_up` is called.

    Attributes:
        marks: newest progress of each source partition.
    """

    def __init__(self, log: Log, parts: Parts) -> None:
        self._log = log
        self._parts = parts
        self._at = 0
        self.marks: dict[int, Progress] = {}

    async def catch_up(self) -> None:
        """Read what was added since the last call. Raises what the log raises."""
        end = (await self._log.span(PANES))[0][1]
        mine = f"{self._parts.lane}/".encode()
        while self._at < end:
            records = await self._log.read(PANES, 0, self._at, READ_PANES)
            if not records:
                return
            for record in records:
                key = record.key or b""
                if key.startswith(mine) and key.endswith(b"/progress"):
                    mark = read_message(self._parts.codec.decode_panes(record.value), self._parts.domain)
                    if isinstance(mark, Progress):
                        known = self.marks.get(mark.partition)
                        if known is None or known.consumed <= mark.consumed:
                            self.marks[mark.partition] = mark
            self._at = records[-1].offset + 1
