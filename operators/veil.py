"""The veil: what of a room may be told, so that no seat can be read out of it. A fold over sealed windows.

- Nothing from fewer than k consenting seats (k-seat rule), and nothing on a signal on which fewer than k had something
  to say.
- The highest and the lowest seat are left out (trimmed mean, Tukey and McLaughlin 1963), so that none dominates; values
  are rounded to 0.05, interval ends outwards; counts are told in bands of five.
- Signals that only some seats contribute to by what they have (a camera, a microphone) are strands of their own, each
  with its own set of seats: turning a camera on is joining, turning it off is leaving.
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
from operators.domain import Derived, SeatRule, Strand
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
    """What is told of a strand of a room: numbers per signal of it, seats counted, remarks by signal, notes on all."""

    value: Column
    lo: Column
    hi: Column
    seats: int
    remarks: dict[int, str]
    notes: tuple[str, ...] = ()


class _Told(msgspec.Struct, array_like=True):
    """What is remembered of a strand of a room: sets of seats told (the newest last), and the values told last."""

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
        """The frame as it may be told: rooms alone, values and counts veiled; a row per room and strand. Sealed
        windows, by their end, rising."""
        strands = self._rule.strands
        rooms = [k for k, name in enumerate(frame.names) if name.startswith(ROOM)]
        self._forget(frame.end_ms)
        told = [(strand, self._strand(frame, k, strand)) for k in rooms for strand in strands]
        shape = (len(told), len(self._rule.low))
        columns = [np.full(shape, np.nan) for _ in range(3)]
        remarks: dict[tuple[int, int], str | None] = {}
        for row, (strand, said) in enumerate(told):
            remarks |= {(row, col): None for col in range(shape[1]) if col not in strand.signals}
            for s, col in enumerate(strand.signals):
                for out, part in zip(columns, (said.value, said.lo, said.hi), strict=True):
                    value = part[s]
                    out[row, col] = np.nan if value is None else value
            remarks |= {(row, col): text for col, text in said.remarks.items()}
        notes = {row: (self._rule.note, *said.notes) for row, (_, said) in enumerate(told)}
        n = np.array([said.seats // BAND * BAND for _, said in told], np.int64)
        return replace(
            frame,
            names=[frame.names[k] for k in rooms for _ in strands],
            n=n,
            n_eff=n.astype(np.float64),
            authors=n,
            revision=np.zeros(len(told), np.int64),
            capped=np.zeros(len(told)),
            sampled=np.ones(len(told)),
            buzz=n.astype(np.float64),
            derived=Derived(*columns, notes=notes, remarks=remarks),
            seats=None,
            fast=None,
        )

    def _strand(self, frame: SignalFrame, k: int, strand: Strand) -> _Row:
        """What is told of a strand of the room in row `k`."""
        rule, seats = self._rule, frame.seats
        assert seats is not None, "a domain with seats has frames with seats"
        mine = seats.ids == k
        hashes, sums = seats.hashes[mine], seats.sums[mine][:, LEADING:]
        there = strand.present(sums)
        hashes, sums = hashes[there], sums[there]
        unknown: Column = [None] * len(strand.signals)
        if len(hashes) < rule.k:
            return _Row(unknown, unknown, unknown, 0, dict.fromkeys(strand.signals, FEW.format(k=rule.k)))
        name = frame.names[k] + (f"#{strand.name}" if strand.name else "")
        room = self._rooms.setdefault(name, _Told(frame.end_ms, []))
        room.heard_ms = frame.end_ms
        self._changed.add(name)
        chosen = self._choose(room, hashes, frame.end_ms)
        if chosen is not None:
            counted = np.isin(hashes, np.array(sorted(chosen), np.uint64))
            room.value, room.lo, room.hi = self._values(sums[counted], strand)
            room.seats = len(chosen)
        elif not room.value:
            return _Row(unknown, unknown, unknown, 0, dict.fromkeys(strand.signals, LATER))
        told = dict(zip(strand.signals, room.value, strict=True))
        gaps = {s: FEW_SAID.format(k=rule.k) for s, value in told.items() if value is None}
        remarks = {**rule.flags(told), **gaps}
        return _Row(room.value, room.lo, room.hi, room.seats, remarks, () if chosen is not None else (STALE,))

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

    def _values(self, sums: I64, strand: Strand) -> tuple[Column, Column, Column]:
        """Trimmed, rounded values of the seats' sums with intervals, by signal of the strand; None where fewer than k
        had something to say."""
        rule = self._rule
        numbers, said = rule.values(sums), rule.told_by(sums)
        told = [self._mean(numbers[:, s], said[:, s], rule.own[s], rule.low[s]) for s in strand.signals]
        value, lo, hi = zip(*told, strict=True)
        return list(value), list(lo), list(hi)

    def _mean(
        self, numbers: F64, said: Bools, own: bool, low: float
    ) -> tuple[float | None, float | None, float | None]:
        """Value and interval of one signal, from the number of each seat, float64 [m], and who has something to say."""
        if said.sum() < self._rule.k:
            return None, None, None
        ranked = np.sort(numbers[said] if own else numbers)
        kept = ranked[1:-1]
        mean = float(kept.mean())
        bent = np.concatenate((kept[:1], kept, kept[-1:]))  # winsorised: the extremes moved to their neighbours
        square = mean * mean + float(bent.var())
        lo, hi = interval.mean(np.array([mean]), np.array([square]), np.array([len(kept)], np.float64), low, 1.0)
        ends = np.floor(lo[0] / STEP + 1e-9) * STEP, np.ceil(hi[0] / STEP - 1e-9) * STEP
        return _decimal(np.rint(mean / STEP) * STEP), _decimal(ends[0]), _decimal(ends[1])

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
        for name, room in self._rooms.items():
            strand = next((one for one in self._rule.strands if one.name == name.partition("#")[2]), None)
            if strand is None or len(room.value) != len(strand.signals):
                # Another version told other signals. The sets stay: they were told.
                room.value, room.lo, room.hi = [], [], []
        self._changed.clear()


def _rank(salt: int, seat: int) -> int:
    return ((seat ^ salt) * _MIX) % 2**64


def _decimal(value: float) -> float:
    """Two places, and no minus before a nought."""
    return round(float(value), 2) + 0.0
