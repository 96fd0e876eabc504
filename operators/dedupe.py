"""Duplicates, reposts and near-duplicates of one partition, as a fold over its records in offset order.

Two posts are tied when their event times lie at most `horizon_ms` apart and the earlier offset came first. The tie
hangs on the two posts alone (and on `limit` entries between them), never on where batches are cut, when state was saved
or when the watermark moved: entries are let go only 2 * horizon behind the watermark, where no post that can still
count (event time >= watermark - horizon) reaches them.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from operators.base import Emit
from operators.errors import ConfigInvalid
from operators.fingerprint import BANDS, SKETCH, U8, hash64, likeness, pack
from operators.records import I64, U64, Bools, PostBatch

CHUNK = 65_536
"""An unsaved run of entries is closed at this length, so that old ones go even if nobody saves."""
NEAR_SHARE = 11
"""Of the 16 bytes of two sketches, at least so many equal: word sets of Jaccard likeness of about 0.7 and more."""


class _Chunk(NamedTuple):
    """A closed run of entries, serials `[first, end)`, newest event time `latest_ms`; `saved`: name in a snapshot."""

    first: int
    end: int
    latest_ms: int
    saved: str | None


class _Seen:
    """First sightings of keys: entry = (offset, event time, `width` keys, `extra` bytes), numbered by a serial.

    The first key of an entry names it; the others only point to it. Key 0 is "no key".
    """

    def __init__(self, horizon_ms: int, limit: int, width: int, extra: int) -> None:
        self.horizon_ms, self.limit, self.width, self.extra = horizon_ms, limit, width, extra
        self.first: dict[int, int] = {}
        self.base = self.next = self.open = 0
        self.offsets, self.times, self.keys = array("q"), array("q"), [array("Q") for _ in range(width)]
        self.bytes = bytearray()
        self.chunks: deque[_Chunk] = deque()
        self.gone: list[str] = []
        self.evicted = 0
        self.watermark_ms: int | None = None
        self.owns = self.fresh = np.zeros(0, np.int64)

    def fold(self, names: U64, offsets: I64, times: I64) -> Bools:
        """Take the next rows in, by name.

        Returns:
            bool [n], whether the name was seen before; such a row makes no entry. `self.owns` keeps, for every row, the
            serial of its own entry, or -1, for `tie`.
        """
        first, claim, start = self.first, self.first.setdefault, self.next
        serial = start
        fresh: list[int] = []
        known = np.zeros(len(names), np.bool_)
        owns = np.full(len(names), -1, np.int64)
        for k, name in enumerate(names.tolist()):
            own = claim(name, serial)
            if own == serial:
                serial += 1
                fresh.append(k)
                continue
            at, ms = int(offsets[k]), int(times[k])
            if own >= start:
                was_at, was_ms = int(offsets[fresh[own - start]]), int(times[fresh[own - start]])
            else:
                was_at, was_ms = self.offsets[own - self.base], self.times[own - self.base]
            if was_at < at and abs(ms - was_ms) <= self.horizon_ms and serial - own <= self.limit:
                known[k] = True
            elif was_at == at:
                owns[k] = own
            else:
                first[name] = serial
                serial += 1
                fresh.append(k)
        rows = np.array(fresh, np.int64)
        owns[rows] = np.arange(start, serial)
        self.offsets.frombytes(offsets[rows].tobytes())
        self.times.frombytes(times[rows].tobytes())
        self.keys[0].frombytes(names[rows].tobytes())
        self.next = serial
        self.owns, self.fresh = owns, rows
        return known

    def keep_more(self, others: U64, extra: U8) -> None:
        """The other columns (uint64 [n, width - 1], uint8 [n, extra]) of the rows that `fold` made entries of."""
        for column, keys in zip(self.keys[1:], others[self.fresh].T, strict=True):
            column.frombytes(np.ascontiguousarray(keys).tobytes())
        self.bytes += extra[self.fresh].tobytes()

    def tie(self, keys: U64) -> tuple[I64, I64]:
        """Look the rows of the last `fold` up by another key: (rows, serials of the entries that had it first)."""
        use = np.flatnonzero((keys != 0) & (self.owns >= 0))
        first, claim = self.first, self.first.setdefault
        rows, serials = [], []
        for k, key, own in zip(use.tolist(), keys[use].tolist(), self.owns[use].tolist(), strict=True):
            tie = claim(key, own)
            if tie == own:
                continue
            if self._reaches(tie, own):
                rows.append(k)
                serials.append(tie)
            else:
                first[key] = own
        return np.array(rows, np.int64), np.array(serials, np.int64)

    def _reaches(self, tie: int, own: int) -> bool:
        """Whether entry `tie` came before entry `own` and still counts for it."""
        a, b = tie - self.base, own - self.base
        near = abs(self.times[a] - self.times[b]) <= self.horizon_ms
        return near and self.offsets[a] < self.offsets[b] and own - tie <= self.limit

    def extra_of(self, serials: I64) -> U8:
        """uint8 [len(serials), extra]: the bytes kept with those entries."""
        table = np.frombuffer(self.bytes, np.uint8).reshape(-1, self.extra)
        return np.asarray(table[serials - self.base])

    def _close(self) -> None:
        """Close the open run of entries as a chunk, if there is one."""
        if self.next == self.open:
            return
        times = np.frombuffer(self.times, np.int64)[self.open - self.base :]
        latest = int(times.max())
        if self.watermark_ms is not None:
            # A stamp from the far future must not keep its chunk, and all behind it, for ever.
            latest = min(latest, self.watermark_ms + self.horizon_ms)
        del times
        self.chunks.append(_Chunk(self.open, self.next, latest, None))
        self.open = self.next

    def trim(self) -> None:
        """Keep within the bounds; called after each batch."""
        if self.next - self.open >= CHUNK:
            self._close()
        while self.chunks and self.next - self.chunks[0].end >= self.limit:
            self.evicted += self.chunks[0].end - self.chunks[0].first
            self._drop()

    def _drop(self) -> None:
        """Let go of the oldest chunk."""
        chunk = self.chunks.popleft()
        count = chunk.end - self.base
        for column in self.keys:
            for serial, key in enumerate(column[:count], self.base):
                if self.first.get(key) == serial:
                    del self.first[key]
            del column[:count]
        del self.offsets[:count], self.times[:count], self.bytes[: count * self.extra]
        self.base = chunk.end
        if chunk.saved is not None:
            self.gone.append(chunk.saved)

    def advance(self, watermark_ms: int) -> None:
        if self.watermark_ms is None or watermark_ms > self.watermark_ms:
            self.watermark_ms = watermark_ms
        while self.chunks and self.chunks[0].latest_ms < self.watermark_ms - 2 * self.horizon_ms:
            self._drop()

    def snapshot(self) -> dict[str, bytes | None]:
        """New chunks by name, first and end serial; those no longer needed as None."""
        self._close()
        parts: dict[str, bytes | None] = dict.fromkeys(self.gone)
        self.gone.clear()
        for k in range(len(self.chunks) - 1, -1, -1):
            chunk = self.chunks[k]
            if chunk.saved is not None:
                break
            name = f"{chunk.first:020d}-{chunk.end:020d}"
            parts[name] = self._pack(chunk)
            self.chunks[k] = chunk._replace(saved=name)
        return parts

    def _pack(self, chunk: _Chunk) -> bytes:
        a, b = chunk.first - self.base, chunk.end - self.base
        head = np.array([chunk.first, b - a, self.width, self.extra, chunk.latest_ms], np.int64)
        columns = (self.offsets, self.times, *self.keys)
        return b"".join(
            (head.tobytes(), *(c[a:b].tobytes() for c in columns), self.bytes[a * self.extra : b * self.extra])
        )

    def restore(self, parts: Mapping[str, bytes]) -> None:
        """Take chunks back.

        An owner that was thought dead may have saved one more chunk than its successor took over. What a serial stands
        for hangs on the log alone, so where chunks overlap they say the same: what is known already is passed over.
        """
        heads = {name: np.frombuffer(part, np.int64, 5).tolist() for name, part in parts.items()}
        for name in sorted(parts, key=lambda name: (heads[name][0], -heads[name][1])):
            first, count, *_, latest = heads[name]
            if self.offsets and first > self.next:  # what lies before was let go by a later owner
                while self.chunks:
                    self._drop()
                self.base = self.next = self.open = first
            if not self.offsets:
                self.base = self.next = self.open = first
            known = self.next - first
            if known >= count:
                self.gone.append(name)
                continue
            start = self.next
            self._append(parts[name], known)
            self.next = self.open = first + count
            self.chunks.append(_Chunk(start, self.next, latest, name))
            for column in self.keys:
                self._take_back(start, column[start - self.base :], column is self.keys[0])

    def _append(self, part: bytes, known: int) -> None:
        """Append a chunk's entries but for its first `known`; one with other columns lacks those of likeness."""
        _, count, width, extra, _ = np.frombuffer(part, np.int64, 5).tolist()
        columns = np.frombuffer(part, np.uint64, count * (2 + width), 40).reshape(2 + width, count)[:, known:]
        more = part[40 + 8 * count * (2 + width) + known * extra :]
        same, none = extra == self.extra, bytes(8 * (count - known))
        self.offsets.frombytes(columns[0].tobytes())
        self.times.frombytes(columns[1].tobytes())
        for k, column in enumerate(self.keys):
            column.frombytes(columns[2 + k].tobytes() if k == 0 or same else none)
        self.bytes += more if same else bytes((count - known) * self.extra)

    def _take_back(self, start: int, keys: array[int], named: bool) -> None:
        """Point restored keys at their entries, as `fold` and `tie` did: a name at its newest, others at the first."""
        for serial, key in enumerate(keys, start):
            tie = self.first.get(key)
            if key and (named or tie is None or not self._reaches(tie, serial)):
                self.first[key] = serial


class Dedupe:
    """Drop posts whose id was seen, mark reposts and near-duplicates. One object per partition.

    - the same id again: a duplicate, dropped and counted in `Emit.duplicates`;
    - another id with the very same text: a repost (`PostBatch.reposts`), stays;
    - another text with nearly the same words: `PostBatch.near`, stays; reposts are near as well.

    A record whose own offset is the remembered one (replayed after a crash with state ahead of the offsets) is no
    duplicate of itself.

    Args:
        horizon_ms: how far apart in event time two posts may lie and still be tied; keep it at or above the time for
            which windows are retained, so that what it lets go is late anyhow.
        max_ids: so many newest ids are remembered; older ones are let go and counted in `dropped`.
        max_texts: the same for texts; each costs up to six keys.
        near: whether near-duplicates are looked for; without it `near` equals `reposts`.

    Raises:
        ConfigInvalid: a bound below 1.
    """

    def __init__(
        self, horizon_ms: int = 600_000, max_ids: int = 2_000_000, max_texts: int = 200_000, near: bool = True
    ) -> None:
        if min(horizon_ms, max_ids, max_texts) < 1:
            raise ConfigInvalid(
                f"dedupe: expected horizon_ms, max_ids and max_texts >= 1, got {horizon_ms}, {max_ids}, {max_texts}"
            )
        self._near = near
        self._ids = _Seen(horizon_ms, max_ids, 1, 0)
        self._texts = _Seen(horizon_ms, max_texts, 2 + BANDS if near else 1, SKETCH if near else 0)

    @property
    def remembered(self) -> int:
        """Ids held now."""
        return self._ids.next - self._ids.base

    @property
    def dropped(self) -> int:
        """Ids let go because of `max_ids`, since the start of this object."""
        return self._ids.evicted

    async def process(self, batch: PostBatch) -> Emit:
        """Drop duplicates, fill `reposts` and `near`."""
        return self.run(batch)

    def run(self, batch: PostBatch) -> Emit:
        """`process` as a plain function."""
        if not len(batch):
            return Emit(batch)
        seen = self._ids.fold(hash64(pack(batch.ids)), batch.offsets, batch.times_ms)
        self._ids.trim()
        rest = batch.take(~seen)
        reposts, near, keys = self._mark(rest)
        return Emit(replace(rest, reposts=reposts, near=near, text_keys=keys), duplicates=int(seen.sum()))

    def _mark(self, batch: PostBatch) -> tuple[Bools, Bools, U64]:
        """(reposts, near, text keys), bool, bool and uint64 [n]."""
        packed, texts = pack(batch.texts), self._texts
        keys = hash64(packed, 1)
        reposts = texts.fold(keys, batch.offsets, batch.times_ms)
        near = reposts.copy()
        if self._near:
            like = likeness(packed)
            texts.keep_more(np.column_stack([like.words, like.bands]), like.sketch)
            keys = np.where(like.words != 0, like.words, keys)
            rows, _ = texts.tie(like.words)
            near[rows] = True
            for band in like.bands.T:
                rows, serials = texts.tie(band)
                alike = (texts.extra_of(serials) == like.sketch[rows]).sum(axis=1) >= NEAR_SHARE
                near[rows[alike]] = True
        texts.trim()
        return reposts, near, keys

    def advance(self, watermark_ms: int) -> None:
        """Let go of what no post at or after `watermark_ms - horizon_ms` can reach: no result changes."""
        self._ids.advance(watermark_ms)
        self._texts.advance(watermark_ms)

    def snapshot(self) -> dict[str, bytes | None]:
        """Entries new since the last call, under `ids/` and `texts/` + serial; expired chunks as None."""
        both = {"ids": self._ids.snapshot(), "texts": self._texts.snapshot()}
        return {f"{prefix}/{name}": part for prefix, parts in both.items() for name, part in parts.items()}

    def restore(self, parts: Mapping[str, bytes]) -> None:
        """Take every chunk back, into an object that has processed nothing."""
        for prefix, seen in (("ids/", self._ids), ("texts/", self._texts)):
            seen.restore({name.removeprefix(prefix): part for name, part in parts.items() if name.startswith(prefix)})
