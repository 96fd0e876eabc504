"""Blocks and progress as wire messages, and back. A message with `pane_start` below zero is progress."""

from __future__ import annotations

import numpy as np

from operators.cells import BEFORE_FAST, FAST, FIXED, WEIGHT, N, PaneBlock, Progress
from operators.cells_wire import PaneCells, SourceCounts
from operators.domain import Domain
from operators.errors import Rejected
from operators.records import I32, I64
from operators.voices import LEADING, Voices

NO_PANE = -1


def block_message(lane: str, block: PaneBlock, domain: Domain) -> PaneCells:
    """`block` as the message that carries it."""
    rows, hashes, sums = block.voices
    said = block.values[rows, N] > 1
    return PaneCells(
        source_topic=lane,
        partition=block.partition,
        offset=block.stamp,
        pane_start=block.pane_start,
        bucket=0,
        watermark=0,
        entities=tuple(block.names),
        columns=FIXED + domain.columns,
        values=block.values.astype("<i8").tobytes(),
        author_rows=rows.astype("<i4").tobytes(),
        author_hashes=hashes.astype("<u8").tobytes(),
        author_counts=np.minimum(sums[:, 0], 2**31 - 1).astype("<i4").tobytes(),
        author_sums=sums[said, 1:].astype("<i8").tobytes(),
        text_rows=block.texts.ids.astype("<i4").tobytes(),
        text_hashes=block.texts.hashes.astype("<u8").tobytes(),
        text_counts=np.minimum(block.texts.sums[:, 0], 2**31 - 1).astype("<i4").tobytes(),
        models=block.models,
        late_rows=block.late_rows.astype("<i4").tobytes(),
        late_marks=block.late_marks.astype("<i8").tobytes(),
    )


def progress_message(lane: str, progress: Progress) -> PaneCells:
    """`progress` as the message that carries it."""
    counts = SourceCounts(
        consumed=progress.consumed,
        applied=progress.applied,
        duplicate=progress.duplicate,
        late=progress.late,
        rejected=progress.rejected,
        idle=progress.idle,
        closed=progress.closed,
        partitions=progress.partitions,
    )
    return PaneCells(
        source_topic=lane,
        partition=progress.partition,
        offset=progress.consumed - 1,
        pane_start=NO_PANE,
        bucket=0,
        watermark=progress.watermark_ms,
        entities=(),
        columns=(),
        values=b"",
        source=counts,
    )


def _sums(pane: int, values: I64, rows: I32, counts: I64, told: I64, linear: int) -> I64:
    """Posts, weight and linear columns of every author; those that were not sent are the entity's own."""
    out = np.empty((len(rows), LEADING + linear), np.int64)
    said = values[rows, N] > 1
    out[:, 0] = counts
    alone = values[rows[~said]]
    out[~said, 1] = alone[:, WEIGHT]
    out[~said, LEADING:] = alone[:, len(FIXED) : len(FIXED) + linear]
    if len(told) != int(said.sum()) * (1 + linear):
        raise Rejected("bad_cells", f"pane {pane}: expected sums of {int(said.sum())} authors, got {len(told)} numbers")
    out[said, 1:] = told.reshape(-1, 1 + linear)
    return out


def read_message(cells: PaneCells, domain: Domain) -> PaneBlock | Progress:
    """What a message carries.

    Raises:
        Rejected: `bad_cells`, its buffers do not fit together.
    """
    if cells.pane_start < 0:
        c = cells.source
        return Progress(
            partition=cells.partition,
            partitions=c.partitions,
            consumed=c.consumed,
            applied=c.applied,
            duplicate=c.duplicate,
            late=c.late,
            rejected=c.rejected,
            watermark_ms=cells.watermark,
            idle=c.idle,
            closed=c.closed,
        )
    older = cells.columns == BEFORE_FAST + domain.columns
    if cells.columns != FIXED + domain.columns and not older:
        raise Rejected(
            "bad_cells",
            f"pane {cells.pane_start} of partition {cells.partition}: its columns are not those of {domain.name!r} "
            "today; another version wrote it: start with another group name",
        )
    try:
        values = np.frombuffer(cells.values, "<i8").astype(np.int64).reshape(len(cells.entities), len(cells.columns))
        values = np.insert(values, FAST, 0, axis=1) if older else values
        rows = np.frombuffer(cells.author_rows, "<i4").astype(np.int32)
        hashes = np.frombuffer(cells.author_hashes, "<u8").astype(np.uint64)
        counts = np.frombuffer(cells.author_counts, "<i4").astype(np.int64)
        sums = np.frombuffer(cells.author_sums, "<i8").astype(np.int64)
        texts = Voices(
            np.frombuffer(cells.text_rows, "<i4").astype(np.int32),
            np.frombuffer(cells.text_hashes, "<u8").astype(np.uint64),
            np.frombuffer(cells.text_counts, "<i4").astype(np.int64)[:, None],
        )
        late_rows = np.frombuffer(cells.late_rows, "<i4").astype(np.int32)
        late_marks = np.frombuffer(cells.late_marks, "<i8").astype(np.int64)
    except ValueError as error:
        raise Rejected("bad_cells", f"pane {cells.pane_start} of partition {cells.partition}: {error}") from error
    sound = len(rows) == len(hashes) == len(counts) and len(late_rows) == len(late_marks)
    sound = sound and len({len(column) for column in texts}) == 1
    inside = all(len(r) == 0 or (r.min() >= 0 and r.max() < len(cells.entities)) for r in (rows, texts.ids, late_rows))
    if not (sound and inside):
        raise Rejected("bad_cells", f"pane {cells.pane_start} of partition {cells.partition}: rows do not fit")
    return PaneBlock(
        partition=cells.partition,
        stamp=cells.offset,
        pane_start=cells.pane_start,
        names=list(cells.entities),
        values=values,
        voices=Voices(rows, hashes, _sums(cells.pane_start, values, rows, counts, sums, domain.linear)),
        texts=texts,
        late_rows=late_rows,
        late_marks=late_marks,
        models=cells.models,
    )
