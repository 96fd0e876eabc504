"""Frames by way of a log: writer and reader of one process, from the making of the topics to the last commit."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Final

from operators.base import Clock
from operators.window import parse_span
from stream.base import Log
from stream.capture_desk import CaptureDesk
from stream.config import Config
from stream.errors import UsageError
from stream.frame_log import FrameLog
from stream.frame_reader import FrameReader, Lane
from stream.topics import FRAMES, frame_topics
from stream.topology import build_codec
from stream.worker import STOP_S, Pulse, finish, steadily

log_ = logging.getLogger("affect.capture")

TURN_S: Final = 0.1
COMMIT_EVERY: Final = 300
"""Turns after which the reader commits though nothing came: at a commit a log drops what is too old."""


class FrameStrand:
    """Carries frames over the topics of a log.

    Args:
        config: of the classroom domain, `capture.mode` topics. clock: that of the lesson.

    Example:
        strand = FrameStrand(config, clock)
        looks = capture_desk(config, keeper=strand.frames)
        await strand.start(log, looks, partitions)
    """

    def __init__(self, config: Config, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._codec = build_codec(config.registry)
        self._kept_ms = parse_span(config.capture.retention)
        self.frames = FrameLog(self._codec, config.capture.retention, clock)
        self.reader: FrameReader | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = False

    @property
    def alive(self) -> bool:
        """Whether frames are read."""
        return self._task is not None and not self._task.done()

    async def start(self, log: Log, desk: CaptureDesk, partitions: int) -> None:
        """Read what an earlier process has left unread, then carry what comes. `partitions`: of the lesson's topic.

        Raises:
            UsageError: somebody made a frames topic that keeps longer than people are told.
        """
        config, pulse = self._config, Pulse()
        await steadily(partial(log.ensure, frame_topics(self._kept_ms)), pulse, "frames topics")
        there = {spec.name: spec for spec in await steadily(log.topics, pulse, "frames topics")}
        for name in FRAMES:
            spec = there[name]
            if not 0 <= spec.retention_ms <= self._kept_ms or spec.compact:
                kept = "for ever" if spec.retention_ms < 0 or spec.compact else f"for {spec.retention_ms // 1000} s"
                raise UsageError(
                    f"topic {name!r} keeps frames {kept}, people are told {config.capture.retention}"
                    " (capture.retention); set retention.ms of the topic, or say so in the settings"
                )
        counts = {name: there[name].partitions for name in FRAMES}
        await steadily(partial(self.frames.open, log, counts, self._kept_ms), pulse, "frames")
        reader = FrameReader(desk, self.frames, self._codec, self._clock, config.topic, config.classroom.rooms)
        lanes: list[Lane] = [(name, k) for name in FRAMES for k in range(counts[name])]
        await steadily(partial(reader.open, log, lanes, partitions), pulse, "frames")
        await reader.catch_up()
        self.reader = reader
        self._task = asyncio.create_task(self._run(reader), name="frames")

    async def stop(self) -> None:
        """Write what waits, finish the step in hand, commit; what was not read is for the next process. Idempotent."""
        self._stopping = True
        task, self._task = self._task, None
        if task is None:
            return
        await finish([task], STOP_S)
        if not task.cancelled() and task.exception() is None and self.reader is not None:
            await self.frames.flush()
            await self.reader.commit()
            said = ", ".join(f"{count} {name}" for name, count in self.reader.counts.items())
            log_.info("frames: %s", said)

    async def _run(self, reader: FrameReader) -> None:
        writing = asyncio.create_task(self._write(), name="frames-write")
        try:
            turns = 0
            while not self._stopping:
                if writing.done():
                    writing.result()
                ended = await reader.step()
                turns += 1
                if turns % COMMIT_EVERY == 0:
                    await reader.commit()
                if ended:
                    await asyncio.sleep(TURN_S)
        except Exception:  # the lesson goes on without cameras: what is not read is soon not written (`BEHIND_MS`)
            log_.exception("frames are not read any more: it failed")
            raise
        finally:
            writing.cancel()
            await asyncio.wait({writing})

    async def _write(self) -> None:
        while True:
            await self.frames.flush()
            await asyncio.sleep(TURN_S)
