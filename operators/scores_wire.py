"""Scores of single posts as they travel (the optional topic `affect.scores.v1`), as `schemas/score.avsc`."""

from __future__ import annotations

import msgspec


class TaskScores(msgspec.Struct, frozen=True):
    """Calibrated probabilities of one task, in millionths; `micros[k]` belongs to `labels[k]`."""

    task: str
    labels: tuple[str, ...]
    micros: tuple[int, ...]


class PostScores(msgspec.Struct, frozen=True, kw_only=True):
    """What a model said about one post. `model` is `name@version`; the text is not copied."""

    source_topic: str
    partition: int
    offset: int
    post_id: str
    event_time_ms: int
    model: str
    tasks: tuple[TaskScores, ...] = ()
