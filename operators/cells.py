"""Pane cells: the mergeable partials that source partitions hand to the windows.

A block holds everything one source partition knows about one pane so far: it is cumulative and stamped with the last
offset it counted. Of two blocks for the same (partition, pane) the one with the higher stamp replaces the other, so
blocks may be sent again after a crash, or by a zombie, and change nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from operators.records import I32, I64
from operators.voices import Voices

FIXED = ("n", "unknown_authors", "scored", "weight", "unknown_square", "fast")
"""Columns every cell starts with; the domain's columns follow, each post's times its weight.

Posts; those without an author; those that were scored (all but the shed ones); sum of weights; sum of squared weights
of posts without an author (these two in millionths); those that a cascade answered without its better model.
"""
N, UNKNOWN, SCORED, WEIGHT, UNKNOWN_SQUARE, FAST = range(len(FIXED))
BEFORE_FAST = FIXED[:FAST]
"""The columns of cells written before there was a cascade."""


@dataclass(frozen=True, slots=True)
class PaneBlock:
    """One pane of one source partition.

    Attributes:
        partition, stamp: source partition and last source offset counted.
        pane_start: start of the pane, epoch ms.
        names: entity names of the k rows; the row number is the local id below.
        values: int64 [k, 6 + domain columns], the columns of `FIXED` and the domain's.
        voices: known authors; ids are local rows, sums = posts, weight, the domain's linear columns.
        texts: posts by text key; ids are local rows, sums = posts.
        late_rows, late_marks: posts that met a watermark at or past the pane's end: row int32, watermark int64.
            Grows at the end only.
        models: `name@version` of every model that scored these posts, sorted. Empty = not known.
    """

    partition: int
    stamp: int
    pane_start: int
    names: list[str]
    values: I64
    voices: Voices
    texts: Voices
    late_rows: I32
    late_marks: I64
    models: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Progress:
    """Where one source partition stands; travels behind its blocks.

    The first five conserve: `consumed = applied + duplicate + late + rejected` at every commit.

    Attributes:
        partition: which one; partitions: how many there are in all.
        consumed: next source offset. watermark_ms: of this partition.
        idle: nothing to read and nothing came for a while: does not hold the others back.
        closed: the input has ended here: watermark counts as infinite.
    """

    partition: int
    partitions: int
    consumed: int
    applied: int
    duplicate: int
    late: int
    rejected: int
    watermark_ms: int
    idle: bool = False
    closed: bool = False
