"""One level of slots: the partials of every window that moves by the same hop."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from operators.blocks import NO_AUTHORS, AuthorTable, CellTable, Triples, group_authors, merged
from operators.records import I32, I64, Bools


class SlotLevel:
    """Sums and author counts per (slot, entity), slots `hop_ms` long. Only slots with posts exist.

    Args:
        hop_ms: length of a slot.
        width: columns of a cell.
        keep_authors: bound of the author sample per entity.
    """

    def __init__(self, hop_ms: int, width: int, keep_authors: int) -> None:
        self.hop_ms = hop_ms
        self._width = width
        self._keep = keep_authors
        self._cells: dict[int, CellTable] = {}
        self._authors: dict[int, AuthorTable] = {}

    def __len__(self) -> int:
        return len(self._cells)

    def slot_of(self, time_ms: int) -> int:
        """Start of the slot that holds `time_ms`."""
        return time_ms // self.hop_ms * self.hop_ms

    def add(self, slot: int, ids: I32, values: I64, authors: Triples) -> None:
        """Add sums (int64 [k, width]) of entities `ids` and author counts to a slot."""
        cells = self._cells.get(slot)
        if cells is None:
            cells = self._cells[slot] = CellTable(self._width)
        cells.add(ids, values)
        if len(authors[0]):
            table = self._authors.get(slot)
            if table is None:
                table = self._authors[slot] = AuthorTable(self._keep)
            table.add(authors)

    def window(self, slots: Iterable[int], wanted: Bools | None = None) -> tuple[I32, I64, Triples]:
        """The sum over several slots: sorted ids (int32 [k]), values (int64 [k, width]), author counts.

        `wanted`: bool by entity id, leaves the others out (None = all).
        """
        starts = list(slots)
        ids, values = merged([self._cells[s] for s in starts if s in self._cells], self._width, wanted)
        tables = [self._authors[s].settle() for s in starts if s in self._authors]
        if wanted is not None:
            masks = [wanted[t[0]] for t in tables]
            tables = [(t[0][m], t[1][m], t[2][m]) for t, m in zip(tables, masks, strict=True)]
        if not tables:
            return ids, values, NO_AUTHORS
        return ids, values, tables[0] if len(tables) == 1 else group_authors(tables, self._keep)

    def drop_before(self, time_ms: int) -> None:
        """Forget slots that start before `time_ms`."""
        for start in [s for s in self._cells if s < time_ms]:
            del self._cells[start]
            self._authors.pop(start, None)

    def cells_held(self) -> int:
        """Rows in memory, for the metric."""
        return int(np.sum([len(t.settle()[0]) for t in self._cells.values()], dtype=np.int64))
