"""`python -m tests.stream.frame_process LOG FOLDER`: reads what lies on the frames topics of a log, to the end."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from stream.sqlite_log import SqliteLog
from tests.stream import kept_frames


async def main(path: str, folder: str) -> None:
    """Read to the end; print what became of the records."""
    clock = kept_frames.Clock(kept_frames.END)
    log = SqliteLog(path, clock=clock)
    reader = await kept_frames.alive(log, kept_frames.looks(Path(folder)), clock)
    await reader.catch_up()
    await log.close()
    print(json.dumps(dict(reader.counts)))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
