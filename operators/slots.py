"""One level of slots: the partials of every window that moves by the same hop."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from operators.blocks import CellTable, merged
from operators.panes import KEEP_TEXTS
from operators.records import I32, I64, Bools
from operators.voices import LEADING, Voices, VoiceTable, group_voices, no_voices


class SlotLevel:
    """Sums and author counts per (slot, entity), slots `hop_ms` long. Only slots with posts exist.

    Args:
        hop_ms: length of a slot.
        width: columns of a cell. linear: linear columns of the domain.
        keep_authors: bound of the author sample per entity.
    """

    def __init__(self, hop_ms: int, width: int, linear: int, keep_authors: int) -> None:
        self.hop_ms = hop_ms
        self._width = width
        self._linear = linear
        self._keep = keep_authors
        self._cells: dict[int, CellTable] = {}
        self._voices: dict[int, VoiceTable] = {}
        self._texts: dict[int, VoiceTable] = {}
        self._models: dict[int, set[str]] = {}
        self._unsealed: set[int] = set()

    def __len__(self) -> int:
        return len(self._cells)

    def slot_of(self, time_ms: int) -> int:
        """Start of the slot that holds `time_ms`."""
        return time_ms // self.hop_ms * self.hop_ms

    def add(self, slot: int, ids: I32, values: I64, voices: Voices, texts: Voices) -> None:
        """Add sums (int64 [k, width]) of entities `ids` and rows of their authors and texts to a slot."""
        cells = self._cells.get(slot)
        if cells is None:
            cells = self._cells[slot] = CellTable(self._width)
        cells.add(ids, values)
        if len(voices.ids):
            table = self._voices.get(slot)
            if table is None:
                table = self._voices[slot] = VoiceTable(LEADING + self._linear, self._keep)
                self._unsealed.add(slot)
            table.add(voices)
        if len(texts.ids):
            table = self._texts.get(slot)
            if table is None:
                table = self._texts[slot] = VoiceTable(1, KEEP_TEXTS, buckets=False)
            table.add(texts)

    def scored_by(self, slot: int, models: Iterable[str]) -> None:
        """These models have scored posts of a slot."""
        self._models.setdefault(slot, set()).update(models)

    def models(self, slots: Iterable[int]) -> tuple[str, ...]:
        """Every model that has scored posts of these slots, sorted."""
        return tuple(sorted({name for s in slots for name in self._models.get(s, ())}))

    def window(self, slots: Iterable[int], wanted: Bools | None = None) -> tuple[I32, I64, Voices]:
        """The sum over several slots: sorted ids (int32 [k]), values (int64 [k, width]), posts and weight by author.

        `wanted`: bool by entity id, leaves the others out (None = all).
        """
        starts = list(slots)
        ids, values = merged([self._cells[s] for s in starts if s in self._cells], self._width, wanted)
        tables = [self._voices[s].counts() for s in starts if s in self._voices]
        if wanted is not None:
            tables = [t.take(wanted[t.ids]) for t in tables]
        if not tables:
            return ids, values, no_voices(LEADING)
        return ids, values, tables[0] if len(tables) == 1 else group_voices(tables, self._keep)

    def texts(self, slots: Iterable[int], wanted: Bools | None = None) -> Voices:
        """The sample of texts over several slots."""
        tables = [self._texts[s].settle() for s in slots if s in self._texts]
        if wanted is not None:
            tables = [t.take(wanted[t.ids]) for t in tables]
        return group_voices(tables, KEEP_TEXTS, buckets=False) if tables else no_voices(1)

    def repeated(self, slots: Iterable[int]) -> list[Voices]:
        """Rows of the authors with two posts and more in a slot, table by table."""
        return [self._voices[s].repeated() for s in slots if s in self._voices]

    def seats(self, slots: Iterable[int], ids: I32) -> Voices:
        """Sums of every author over several slots that are not sealed yet; ids are positions in `ids` (sorted)."""
        tables = [self._voices[s].every() for s in slots if s in self._voices]
        if not tables:
            return no_voices(LEADING + self._linear)
        found = group_voices(tables, self._keep)
        found = found.take(np.isin(found.ids, ids))
        return Voices(np.searchsorted(ids, found.ids).astype(np.int32), found.hashes, found.sums)

    def seal_before(self, time_ms: int) -> None:
        """Nothing will be added to slots that end at or before `time_ms`: hold them in less memory."""
        for slot in [s for s in self._unsealed if s + self.hop_ms <= time_ms]:
            self._unsealed.discard(slot)
            self._voices[slot].seal()

    def drop_before(self, time_ms: int) -> None:
        """Forget slots that start before `time_ms`."""
        for start in [s for s in self._cells if s < time_ms]:
            del self._cells[start]
            self._voices.pop(start, None)
            self._texts.pop(start, None)
            self._models.pop(start, None)
            self._unsealed.discard(start)

    def cells_held(self) -> int:
        """Rows in memory, for the metric."""
        return int(np.sum([len(t.settle()[0]) for t in self._cells.values()], dtype=np.int64))
