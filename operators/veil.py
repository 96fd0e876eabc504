"""The veil: what of a room may be told, so that no seat can be read out of it. A fold over sealed windows.

- Nothing from fewer than k consenting seats (k-seat rule), and nothing on a signal on which fewer than k had something
  to say.
- The highest and the lowest seat are left out (trimmed mean, Tukey and McLaughlin 1963), so that none dominates; values
  are rounded to 0.05, interval ends outwards; counts are told in bands of five.
- Differencing guard: the seats counted must be those counted before, or differ by k or more from every set of seats
  counted in this room so far. Where the seats that are there do not make such a set, some are left out until they do,
  chosen by hash; where that is not possible either, the values told last come again, marked stale. After `MOST_SETS`
  sets no new one is told: many overlapping sums can be solved even where no two of them differ by little (Dinur and
  Nissim 2003).

What was told depends on the windows alone and their order, so a replay tells the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final, NamedTuple

import msgspec
import numpy as np

from operators import interval
from operators.domain import Derived, SeatRule
from operators.frames import SignalFrame
from operators.records import F64, I64, U64, Bools
from operators.voices import LEADING

STEP: Final = 0.05
BAND: Final = 5
MOST_SETS: Final = 8
"""Sets of seats told of a room before it falls still."""
FORGET_MS: Final = 12 * 3_600_000
"""A room without seats for so long begins anew: the next lesson has new seats."""
MOST_ROOMS: Final = 4_096
ORDERS: Final = 8
"""Orders in which seats are tried to be left out."""
ROOM: Final = "room:"

STALE: Final = "stale: values of an earlier window, as too few seats came or went"
FEW: Final = "fewer than {k} seats"
FEW_SAID: Final = "fewer than {k} seats had something to say"
LATER: Final = "nothing told yet: too few seats came or went"

_MIX = 0x9E3779B97F4A7C15


Column = list[float | None]
"""A number per signal, None = not told."""


class _Row(NamedTuple):
    """What is told of a room: numbers per signal, seats counted, remarks by signal, notes on all of it."""

    value: Column
    lo: Column
    hi: Column
    seats: int
    remarks: dict[int, str]
    notes: tuple[str, ...] = ()


class _Told(msgspec.Struct, array_like=True):
    """What is remembered of a room: sets of seats told (the newest last), and the values told last."""

    heard_ms: int
    sets: list[list[int]]
    value: list[float | None] = []
    lo: list[float | None] = []
    hi: list[float | None] = []
    seats: int = 0


class Veil:
    """What has been told of every room. `rule`: the domain's. State is kept with the commits, as a `Trail`'s is."""

    def __init__(self, rule: SeatRule) -> None:
        self._rule = rule
        self._rooms: dict[str, _Told] = {}
        self._changed: set[str] = set()

    def tell(self, frame: SignalFrame) -> SignalFrame:
        """The frame as it may be told: rooms alone, values and counts veiled. Sealed windows, by their end, rising."""
        rooms = [k for k, name in enumerate(frame.names) if name.startswith(ROOM)]
        self._forget(frame.end_ms)
        told = [self._room(frame, k) for k in rooms]
        shape = (len(rooms), len(self._rule.low))
        value, lo, hi = (
            np.array([_floats(column) for column in columns], np.float64).reshape(shape)
            for columns in ([t.value for t in told], [t.lo for t in told], [t.hi for t in told])
        )
        remarks = {(row, col): text for row, t in enumerate(told) for col, text in t.remarks.items()}
        notes = {row: (self._rule.note, *t.notes) for row, t in enumerate(told)}
        n = np.array([t.seats // BAND * BAND for t in told], np.int64)
        return replace(
            frame,
            names=[frame.names[k] for k in rooms],
            n=n,
            n_eff=n.astype(np.float64),
            authors=n,
            revision=np.zeros(len(rooms), np.int64),
            capped=np.zeros(len(rooms)),
            sampled=np.ones(len(rooms)),
            buzz=n.astype(np.float64),
            derived=Derived(value, lo, hi, notes=notes, remarks=remarks),
            seats=None,
        )

    def _room(self, frame: SignalFrame, k: int) -> _Row:
        """What is told of the room in row `k`."""
        rule, seats = self._rule, frame.seats
        assert seats is not None, "a domain with seats has frames with seats"
        mine = seats.ids == k
        hashes, sums = seats.hashes[mine], seats.sums[mine][:, LEADING:]
        there = rule.present(sums)
        hashes, sums = hashes[there], sums[there]
        unknown: Column = [None] * len(rule.low)
        if len(hashes) < rule.k:
            return _Row(unknown, unknown, unknown, 0, dict.fromkeys(range(len(unknown)), FEW.format(k=rule.k)))
        room = self._rooms.setdefault(frame.names[k], _Told(frame.end_ms, []))
        room.heard_ms = frame.end_ms
        self._changed.add(frame.names[k])
        chosen = self._choose(room, hashes, frame.end_ms)
        if chosen is not None:
            counted = np.isin(hashes, np.array(sorted(chosen), np.uint64))
            room.value, room.lo, room.hi = self._values(sums[counted])
            room.seats = len(chosen)
        elif not room.value:
            return _Row(unknown, unknown, unknown, 0, dict.fromkeys(range(len(unknown)), LATER))
        gaps = {s: FEW_SAID.format(k=rule.k) for s, v in enumerate(room.value) if v is None}
        return _Row(room.value, room.lo, room.hi, room.seats, gaps, () if chosen is not None else (STALE,))

    def _choose(self, room: _Told, hashes: U64, salt: int) -> frozenset[int] | None:
        """The largest set of the seats that are there which may be told; None where there is none. It is noted."""
        here = frozenset(hashes.tolist())
        before = [frozenset(held) for held in room.sets]
        last = before[-1] if before and before[-1] <= here else None
        if last is not None and len(last) == len(here):
            return last
        # Seats that came are let in k at a time: sets are few, and none is to be spent on less.
        best = self._search(here, before, salt, self._rule.k if last is None else len(last) + self._rule.k)
        if best is None:
            return last
        if len(before) >= MOST_SETS:
            return last
        room.sets.append(sorted(best))
        return best

    def _search(
        self, here: frozenset[int], before: Sequence[frozenset[int]], salt: int, least: int
    ) -> frozenset[int] | None:
        """The largest part of `here` with `least` seats or more that differs by k seats or more from all `before`."""
        k = self._rule.k
        if len(here) < least:
            return None
        orders = [sorted(here, key=partial(_rank, salt + turn)) for turn in range(ORDERS)]
        for size in range(len(here), least - 1, -1):
            for ranked in orders[: 1 if size == len(here) else ORDERS]:
                part = frozenset(ranked[:size])
                if all(len(part ^ other) >= k for other in before):
                    return part
        return None

    def _values(self, sums: I64) -> tuple[Column, Column, Column]:
        """Trimmed, rounded values of the seats' sums with intervals, None where fewer than k had something to say."""
        rule, m = self._rule, len(sums)
        ranked = np.sort(rule.values(sums), axis=0)
        said = rule.told_by(sums).sum(axis=0)
        kept = ranked[1:-1]
        mean = kept.mean(axis=0)
        bent = np.concatenate((kept[:1], kept, kept[-1:]))  # winsorised: the extremes moved to their neighbours
        square = mean * mean + bent.var(axis=0)
        low = np.array(rule.low)
        lo, hi = _interval(mean, square, float(m - 2), low)
        value = np.rint(mean / STEP) * STEP
        lo, hi = np.floor(lo / STEP + 1e-9) * STEP, np.ceil(hi / STEP - 1e-9) * STEP
        untold = said < rule.k
        return _column(value, untold), _column(lo, untold), _column(hi, untold)

    def _forget(self, now_ms: int) -> None:
        old = sorted(name for name, room in self._rooms.items() if room.heard_ms + FORGET_MS < now_ms)
        spare = len(self._rooms) - MOST_ROOMS
        if spare > 0:
            old += sorted(self._rooms.keys() - set(old), key=lambda name: (self._rooms[name].heard_ms, name))[:spare]
        for name in old:
            del self._rooms[name]
            self._changed.add(name)

    def changes(self) -> dict[str, bytes | None]:
        """What changed since the last call, by room; None = let go."""
        out: dict[str, bytes | None] = {}
        for name in sorted(self._changed):
            room = self._rooms.get(name)
            out[name] = None if room is None else msgspec.msgpack.encode(room)
        self._changed.clear()
        return out

    def restore(self, parts: Mapping[str, bytes]) -> None:
        """Take back everything `changes` ever said."""
        self._rooms = {name: msgspec.msgpack.decode(part, type=_Told) for name, part in parts.items()}
        self._changed.clear()


def _interval(mean: F64, square: F64, n: float, low: F64) -> tuple[F64, F64]:
    """`interval.mean`, column by column: signals differ in where their range begins."""
    size = np.full(len(mean), n)
    wide = interval.mean(mean, square, size, -1.0, 1.0)
    unit = interval.mean(mean, square, size, 0.0, 1.0)
    return np.where(low < 0, wide[0], unit[0]), np.where(low < 0, wide[1], unit[1])


def _rank(salt: int, seat: int) -> int:
    return ((seat ^ salt) * _MIX) % 2**64


def _column(values: F64, untold: Bools) -> Column:
    # A decimal with two places, and no minus before a nought.
    return [None if no else round(v, 2) + 0.0 for v, no in zip(values.tolist(), untold.tolist(), strict=True)]


def _floats(values: Column) -> list[float]:
    return [np.nan if value is None else value for value in values]
