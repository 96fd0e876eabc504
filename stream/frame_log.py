"""Frames on their way to their topics, and the seats of which none may be scored any more.

Only where `capture.mode` is topics. What is written lives there until the topics' retention is over, whatever happens.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Final

import msgspec

from operators.base import Clock
from operators.codec import Codec
from operators.frame_wire import Frame
from stream.base import CommitUnit, Log, Output, partition_of
from stream.capture import PICTURE
from stream.frame_record import KIND_OF, TOPIC_OF
from stream.worker import Pulse, commit

GROUP: Final = "affect-frames"
DAY_MS: Final = 86_400_000
MOST_BYTES: Final = 16 << 20
"""Of frames that wait for the log; beyond, they are not taken."""
BEHIND_MS: Final = {True: 2_000, False: 3_000}
"""How far the reading may be behind now for a picture (True) or a sound to be taken: what is on the topics is scored,
so what cannot be scored in time is left out at the door, as in private mode."""


class FrameLog:
    """Writes frames; knows the seats whose part was taken back.

    Args:
        codec: of the thread of the event loop. retention: of the topics, as the settings say it.

    Attributes:
        withdrawn: seats whose part was taken back, and when. read_ms: the reader has read what arrived before this.
    """

    def __init__(self, codec: Codec, retention: str, clock: Clock) -> None:
        self._codec = codec
        self._clock = clock
        self.retention = retention
        self.withdrawn: dict[str, int] = {}
        self.read_ms: int | None = None
        self._waiting: deque[tuple[Frame, Output]] = deque()
        self._bytes = 0
        self._sending_ms: int | None = None
        self._turn = asyncio.Lock()
        self._log: Log | None = None
        self._unsaid: dict[str, bytes | None] = {}
        self._partitions: Mapping[str, int] = {}

    async def open(self, log: Log, partitions: Mapping[str, int], kept_ms: int) -> None:
        """Begin. `partitions`: of every frames topic. Seats whose frames are all gone by now are forgotten."""
        self._log, self._partitions = log, partitions
        for key, held in (await log.restore(GROUP, "withdrawn/")).items():
            at_ms = msgspec.json.decode(held, type=int)
            if self._clock.now_ms() - at_ms > 2 * kept_ms + DAY_MS:
                self._unsaid[key] = None
            else:
                self.withdrawn[key.removeprefix("withdrawn/")] = at_ms

    def put(self, frame: Frame) -> bool:
        """Take a frame; False = it was not taken: too much waits, or its seat's part was taken back."""
        kind = KIND_OF[frame.codec]
        read_ms = frame.arrived_ms if self.read_ms is None else self.read_ms
        late = frame.arrived_ms - read_ms > BEHIND_MS[kind == PICTURE]
        if self._log is None or late or frame.seat in self.withdrawn or self._bytes + len(frame.body) > MOST_BYTES:
            return False
        topic, key = TOPIC_OF[kind], frame.room.encode()
        where = partition_of(key, self._partitions[topic])
        value = self._codec.encode(frame)
        self._waiting.append((frame, Output(topic, where, key, value, frame.arrived_ms)))
        self._bytes += len(frame.body)
        return True

    def settled_ms(self) -> int:
        """Whatever arrived before this is on the log."""
        waiting = [self._waiting[0][0].arrived_ms] if self._waiting else []
        sending = [] if self._sending_ms is None else [self._sending_ms]
        return min([self._clock.now_ms(), *waiting, *sending])

    def forget(self, seat: str) -> None:
        """Nothing more of a seat is written or scored, after a restart either (on the log at the next `flush`); what
        waits is dropped."""
        self.withdrawn[seat] = at_ms = self._clock.now_ms()
        self._unsaid[f"withdrawn/{seat}"] = msgspec.json.encode(at_ms)
        self._waiting = deque(one for one in self._waiting if one[0].seat != seat)
        self._bytes = sum(len(frame.body) for frame, _ in self._waiting)

    async def flush(self) -> None:
        """Append what waits, once what is on its way is there."""
        async with self._turn:
            log, waiting, unsaid = self._log, self._waiting, self._unsaid
            if log is None or not (waiting or unsaid):
                return
            self._waiting, self._bytes, self._unsaid = deque(), 0, {}
            self._sending_ms = waiting[0][0].arrived_ms if waiting else None
            unit = CommitUnit(GROUP, state=unsaid, outputs=[output for _, output in waiting])
            try:
                await commit(log, unit, Pulse(), "append frames")
            finally:
                self._sending_ms = None
