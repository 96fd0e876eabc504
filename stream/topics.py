"""The topics of the engine and how each should be set up."""

from __future__ import annotations

from stream.base import TopicSpec

PANES = "affect.panes.v1"
SIGNALS = "affect.signals.v1"
ALERTS = "affect.alerts.v1"
DEAD_LETTER = "affect.dead-letter.v1"
LATE = "affect.late.v1"
SCORES = "affect.scores.v1"
ROLLUPS = "affect.rollups.v1"

PLANE = "affect-signals"
"""The Faust app of `affect signals serve`: its consumer group, and how its tables' changelogs begin."""
PLANE_TABLES = ("latest", "rollups", "alerts")

PARTICIPATION = "affect.participation.v1"
POSTS = ("affect.posts.social.v1", "affect.posts.finance.v1", "affect.posts.crisis.v1")
FRAMES = ("affect.frames.video.v1", "affect.frames.audio.v1")

MEANING = {
    "affect.posts.social.v1": "posts, social domain (JSON or Avro), keyed by post id",
    "affect.posts.finance.v1": "posts, market domain",
    "affect.posts.crisis.v1": "posts, crisis domain",
    PARTICIPATION: "what seats of a lesson do: buttons, answers, scores of chat; no text, no names",
    "affect.frames.video.v1": "pictures of cameras; only where capture.mode is topics",
    "affect.frames.audio.v1": "sound of microphones; only where capture.mode is topics",
    SCORES: "scored posts (optional)",
    PANES: "pane cells: mergeable partials per source partition",
    SIGNALS: "signal rows",
    ALERTS: "alerts",
    ROLLUPS: "signal rows of sectors and of the market, by `affect signals serve`",
    f"{PLANE}-latest-changelog": "its table of newest rows",
    f"{PLANE}-rollups-changelog": "its table of the windows being rolled up",
    f"{PLANE}-alerts-changelog": "its table of what the alert rules remember",
    DEAD_LETTER: "where an unusable message lies, and why",
    LATE: "posts too late for any window",
}


def engine_topics(input_topic: str, partitions: int, retention_ms: int) -> list[TopicSpec]:
    """The topics one run reads and writes. Input is kept for ever (old event times must not vanish)."""
    return [
        TopicSpec(input_topic, partitions),
        TopicSpec(PANES, 1, retention_ms, compact=True),
        TopicSpec(SIGNALS, 1, retention_ms),
        TopicSpec(ALERTS, 1, retention_ms),
        TopicSpec(DEAD_LETTER, 1, retention_ms),
        TopicSpec(LATE, 1, retention_ms),
    ]


def frame_topics(retention_ms: int) -> list[TopicSpec]:
    """The topics of pictures and sound, where a run keeps them at all."""
    return [TopicSpec(name, 1, retention_ms) for name in FRAMES]


def plane_topics(retention_ms: int) -> list[TopicSpec]:
    """The topics of `affect signals serve`. All have one partition, as the signal topic has.

    Faust makes none of them: what it would make itself has neither the settings nor, at the first event, a leader.
    """
    return [
        TopicSpec(SIGNALS, 1, retention_ms),
        TopicSpec(ALERTS, 1, retention_ms),
        TopicSpec(DEAD_LETTER, 1, retention_ms),
        TopicSpec(ROLLUPS, 1, retention_ms),
        *(TopicSpec(f"{PLANE}-{table}-changelog", 1, -1, compact=True) for table in PLANE_TABLES),
    ]
