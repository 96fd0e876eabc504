"""Pane cells as they travel between the two halves of a window, field for field as `schemas/pane_cells.avsc`."""

from __future__ import annotations

import msgspec
import numpy as np

from operators.errors import Rejected


class SourceCounts(msgspec.Struct, frozen=True):
    """Where the records of one source partition went so far, for `in = applied + duplicate + late + rejected`.

    Attributes:
        consumed, applied, duplicate, late, rejected: records since the partition's start.
        idle: nothing to read for longer than the idle time.
        closed: the source ended (a replay); nothing will come any more.
        partitions: partitions of the source topic.
    """

    consumed: int = 0
    applied: int = 0
    duplicate: int = 0
    late: int = 0
    rejected: int = 0
    idle: bool = False
    closed: bool = False
    partitions: int = 1


class PaneCells(msgspec.Struct, frozen=True):
    """Sums of one pane of one source partition, cumulative up to a stamp; a newer one replaces an older one.

    Attributes:
        offset: the stamp, last source offset counted.
        pane_start, watermark: epoch milliseconds.
        bucket: which share of the entities this message holds.
        entities, columns: names of the rows and columns of `values`.
        values: little-endian int64 [len(entities), len(columns)], row by row.
        author_rows, author_hashes, author_counts: little-endian int32 row of `values`, uint64 hash, int32 posts.
        author_sums: little-endian int64 [m, 1 + linear columns], for those authors whose entity has more than one post
            (the others have said all there is in `values`).
        text_rows, text_hashes, text_counts: little-endian int32 row of `values`, uint64 key, int32 posts.
        models: `name@version` of every model that scored these posts.
        late_rows, late_marks: little-endian int32 row of `values`, int64 watermark the late post met.
    """

    source_topic: str
    partition: int
    offset: int
    pane_start: int
    bucket: int
    watermark: int
    entities: tuple[str, ...]
    columns: tuple[str, ...]
    values: bytes
    author_rows: bytes = b""
    author_hashes: bytes = b""
    author_counts: bytes = b""
    author_sums: bytes = b""
    text_rows: bytes = b""
    text_hashes: bytes = b""
    text_counts: bytes = b""
    models: tuple[str, ...] = ()
    late_rows: bytes = b""
    late_marks: bytes = b""
    source: SourceCounts = SourceCounts()

    def check(self) -> None:
        """Make sure the byte columns fit together, so that reading them as arrays cannot fail.

        Raises:
            Rejected: `bad_shape`.
        """
        rows = len(self.entities)
        if len(self.values) != 8 * rows * len(self.columns):
            raise Rejected(
                "bad_shape", f"values: expected int64 [{rows}, {len(self.columns)}], got {len(self.values)} bytes"
            )
        authors, late = len(self.author_rows) // 4, len(self.late_rows) // 4
        sizes = (len(self.author_rows), len(self.author_hashes), len(self.author_counts))
        if sizes != (4 * authors, 8 * authors, 4 * authors):
            raise Rejected("bad_shape", f"authors: expected 4, 8 and 4 bytes each, got columns of {sizes} bytes")
        if (len(self.late_rows), len(self.late_marks)) != (4 * late, 8 * late):
            raise Rejected("bad_shape", f"late: expected 4 and 8 bytes each, got {len(self.late_rows)} and others")
        for name, column in (("author_rows", self.author_rows), ("late_rows", self.late_rows)):
            ids = np.frombuffer(column, "<i4")
            if len(ids) and not (int(ids.min()) >= 0 and int(ids.max()) < rows):
                raise Rejected("bad_shape", f"{name}: expected rows below {rows}, got {ids.min()} to {ids.max()}")
