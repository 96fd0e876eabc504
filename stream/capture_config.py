"""Settings of cameras and microphones: the door of edge boxes, and what becomes of frames."""

from __future__ import annotations

import msgspec

from operators.window import parse_span
from stream.errors import UsageError

MODES = ("private", "topics")
"""What becomes of frames: scored where they arrive, or written to topics and scored from there."""
SHORTEST_KEPT_MS, LONGEST_KEPT_MS = 60_000, 86_400_000
"""Of frames on topics: long enough to start anew in the middle, and no archive."""


class CaptureConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """bind: tcp://HOST:PORT where edge boxes (`affect capture`) come in, "" = nowhere. keys: folder of their keys.

    mode: `private`, frames are scored where they arrive and thrown away; `topics`, they are written to the frames
    topics and scored from there, which the policy gate never allows in education or at work. retention: of these
    topics.
    """

    bind: str = ""
    keys: str = ""
    mode: str = "private"
    retention: str = "10m"

    def check(self, classroom: bool) -> None:
        """Refuse what cannot work. `classroom`: the run is one with its page.

        Raises:
            UsageError, ConfigInvalid: names the setting, what was expected and what was given.
        """
        if self.bind and not (classroom and self.keys):
            raise UsageError(
                "capture.bind: expected domain classroom, web.enabled and capture.keys (affect engine keys)"
            )
        if self.mode not in MODES:
            raise UsageError(f"capture.mode: expected one of {', '.join(MODES)}, got {self.mode!r}")
        if self.mode == "topics" and not classroom:
            raise UsageError("capture.mode: 'topics' needs domain classroom and web.enabled; take it out")
        if not SHORTEST_KEPT_MS <= parse_span(self.retention) <= LONGEST_KEPT_MS:
            raise UsageError(f"capture.retention: expected 1m to 24h, got {self.retention!r}")


def spelt(span: str) -> str:
    """A duration of the settings for people: 10m = 10 minutes."""
    words = {"s": "second", "m": "minute", "h": "hour", "d": "day"}
    count, unit = int(span.strip()[:-1]), words[span.strip()[-1]]
    return f"{count} {unit}{'' if count == 1 else 's'}"
