"""`affect capture`: an edge box; its camera and microphone are one seat of a room."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from stream.capture import PICTURE, SOUND
from stream.core_dumps import forbid_core_dumps
from stream.edge_source import SLICE_S, Pictures, slices
from stream.errors import UsageError
from stream.system_clock import SystemClock

MOST_FPS = 10.0
PATIENCE_S = 15.0
TOLD = """Whoever sits here must have been told that their face or voice is looked at, and have agreed, before this
runs.
"""
NOTICE = """Pictures and sound are scored where they arrive and thrown away; only values of the room are told, never of
a seat. --withdraw takes this seat's part back.
"""
KEPT = """This run KEEPS pictures and sound: they are stored in its log for {kept} and scored from there. Whoever sits
here must have agreed to that too. --withdraw: nothing more is scored, what was stored stays until its time is over.
"""
TEXT = f"""{TOLD}{NOTICE}
A run may keep frames in its log (capture.mode); nothing is sent to one unless --kept is given.

  affect engine keys DIR --client box1        at the engine; set capture.bind and capture.keys = "DIR"
  affect capture --to tcp://HOST:8646 --keys DIR/for-box1 --seat box1 --video camera:0
  affect capture --to tcp://HOST:8646 --keys DIR/for-box1 --seat box1 --withdraw
"""


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the verb."""
    capture = verbs.add_parser(
        "capture",
        help="send a camera or a recording to a lesson (edge box)",
        description=TEXT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    capture.add_argument("--to", required=True, metavar="ADDR", help="tcp://HOST:PORT of the run (its capture.bind)")
    capture.add_argument("--keys", required=True, type=Path, metavar="DIR", help="this box's keys (affect engine keys)")
    capture.add_argument("--seat", required=True, metavar="NAME", help="what this box calls its seat")
    capture.add_argument("--room", default="1", metavar="NAME", help="room of the lesson (default: 1)")
    capture.add_argument("--video", default=None, metavar="FILE", help="a video file, or camera:N")
    capture.add_argument("--audio", default=None, metavar="FILE", help="a .wav or .flac file, at most five minutes")
    capture.add_argument("--fps", type=float, default=5.0, help="pictures a second, at most 10 (default: 5)")
    capture.add_argument("--seconds", type=float, default=None, help="stop after so many (default: at the end)")
    capture.add_argument("--kept", action="store_true", help="send to a run that keeps frames in its log, too")
    capture.add_argument("--withdraw", action="store_true", help="take this seat's part back, send nothing")
    capture.set_defaults(run=run_capture)


def run_capture(args: argparse.Namespace) -> int:
    """Send until the recording ends, for `--seconds`, or until SIGTERM or SIGINT."""
    if not 0 < args.fps <= MOST_FPS:
        raise UsageError(f"--fps: expected more than 0 and at most {MOST_FPS:.0f}, got {args.fps}")
    if not args.withdraw and args.video is None and args.audio is None:
        raise UsageError("expected --video or --audio (or --withdraw): there is nothing to send")
    forbid_core_dumps()
    # pyzmq comes with an extra: the other verbs of the command line do without.
    from stream.edge_box import EdgeBox

    with EdgeBox(args.to, args.keys, args.room, args.seat, SystemClock()) as box:
        if args.withdraw:
            box.ask("withdraw", PATIENCE_S)
            print(f"seat {args.seat} of room {args.room}: its part was taken back")
            return 0
        sys.stderr.write(TOLD)
        sounds = [] if args.audio is None else slices(args.audio)
        box.ask("join", PATIENCE_S)  # before the camera is opened
        sys.stderr.write(KEPT.format(kept=box.kept) if box.kept else NOTICE)
        if box.kept and not args.kept:
            box.ask("withdraw", PATIENCE_S)
            why = f"this run keeps pictures and sound for {box.kept}; nothing was sent"
            raise UsageError(f"{why}; give --kept if all who sit here have agreed")
        stopped: list[int] = []
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda n, _: stopped.append(n))
        pictures = None if args.video is None else Pictures(args.video)
        try:
            _play(box.send, box.listen, pictures, sounds, args.fps, args.seconds, lambda: bool(stopped))
        finally:
            if pictures is not None:
                pictures.close()
            said = ", ".join(f"{count} {name}" for name, count in box.told.items())
            print(f"{box.counts['sent']} sent, {box.counts['dropped']} dropped; there: {said or 'nothing said yet'}")
    return 0


def _play(
    send: Callable[[int, bytes, int | None], None],
    listen: Callable[[float], None],
    pictures: Pictures | None,
    sounds: list[bytes],
    fps: float,
    seconds: float | None,
    stopped: Callable[[], bool],
) -> None:
    """Send every picture and slice when its time has come; pictures whose time has passed are left out."""
    started, began_ms = time.monotonic(), SystemClock().now_ms()
    seen = heard = 0
    while not stopped() and (pictures is not None or heard < len(sounds)):
        elapsed = time.monotonic() - started
        if seconds is not None and elapsed >= seconds:
            return
        look = seen / fps if pictures is not None else elapsed + 1
        hear = (heard + 1) * SLICE_S if heard < len(sounds) else elapsed + 1
        listen(max(0.0, min(look, hear) - elapsed))
        elapsed = time.monotonic() - started
        if pictures is not None and elapsed >= look:
            data = pictures.at(elapsed)
            if data is None:
                pictures = None
            else:
                send(PICTURE, data, None)
                seen = max(seen + 1, int(elapsed * fps))
        if heard < len(sounds) and elapsed >= hear:
            send(SOUND, sounds[heard], began_ms + round(heard * SLICE_S * 1000))
            heard += 1
