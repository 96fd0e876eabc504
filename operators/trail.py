"""The trail: what was, so that a window can be compared with its own past. A fold over sealed windows, by size.

A window is folded in once no post can change it any more. What is usual for a window is read from windows of the same
size that ended at least 24 hours before it, so a live run and a replay compare it with the same past, and nothing looks
ahead. `changes` gives what is to be kept with the commit, `restore` takes it back.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from operators.clock import Lateness
from operators.domain import History, Norms
from operators.past import DAY, Past
from operators.records import F64, Bools
from operators.window import WindowSpec

MOST = 2_048
"""Entities with a past, per window size: 50 kB each at the most."""


class _Mark(msgspec.Struct, frozen=True, array_like=True):
    """How far a size has been folded, and which values it keeps."""

    end: int
    tracked: tuple[str, ...]


class _Members(msgspec.Struct, frozen=True, array_like=True):
    """The entities with a past: hour of the first and of the newest published window."""

    names: list[str]
    since: list[int]
    heard: list[int]


class _Hour(msgspec.Struct, frozen=True, array_like=True):
    """Sums of an hour: little-endian int64 [names, width], compressed."""

    names: list[str]
    sums: bytes


class Trail:
    """The pasts of all window sizes that have one.

    Args:
        history: of the domain. windows: of the run; shorter ones than `history.least_ms` have no past.
        lateness: of the run: a baseline must be sealed when a window closes. sealed_only: every window is sealed before
            it is told (replay).
        most: entities per size.
    """

    def __init__(
        self,
        history: History,
        windows: Sequence[WindowSpec],
        lateness: Lateness,
        sealed_only: bool = False,
        most: int = MOST,
    ) -> None:
        self._history = history
        age = DAY if sealed_only else max(DAY, lateness.allowed_ms + lateness.pane_ms)
        self._make = {w: (w, len(history.tracked), age, most) for w in windows if w.size_ms >= history.least_ms}
        self._pasts = {w: Past(*args) for w, args in self._make.items()}
        self._sent: set[str] = set()
        self._gone: set[str] = set()

    def covers(self, window: WindowSpec) -> bool:
        """Whether windows of this size have a past."""
        return window in self._pasts

    def ends(self) -> dict[WindowSpec, int]:
        """How far each size has been folded."""
        return {window: past.end for window, past in self._pasts.items()}

    def fold(self, window: WindowSpec, end: int, names: Sequence[str], values: F64, published: Bools) -> None:
        """Take in a slice of a sealed window; see `Past.fold`."""
        self._pasts[window].fold(end, names, values, published)

    def norms(self, window: WindowSpec, end: int, names: Sequence[str]) -> Norms:
        """What is usual for these entities in the window that ends at `end`."""
        return self._pasts[window].norms(end, names)

    def memory(self) -> dict[str, int]:
        """What is held, over all sizes: entities, hours, bytes of their sums."""
        pasts = self._pasts.values()
        return {
            "entities": sum(len(p.rows) for p in pasts),
            "hours": sum(len(p.hours) for p in pasts),
            "bytes": sum(block.nbytes for p in pasts for block in p.hours.values()),
        }

    def changes(self) -> dict[str, bytes | None]:
        """What changed since the last call, by key; None = let go."""
        out: dict[str, bytes | None] = dict.fromkeys(sorted(self._gone))
        for past in self._pasts.values():
            past.settle()
            mine = _prefix(past.window)
            for hour in sorted(past.dirty):
                key = f"{mine}{hour}"
                if hour in past.hours:
                    out[key] = _encode_hour(past, hour)
                elif key in self._sent:
                    out[key] = None
            if past.dirty:
                out[f"{mine}at"] = msgspec.msgpack.encode(_Mark(past.end, self._history.tracked))
            if past.moved:
                rows = list(past.rows.values())
                members = _Members(list(past.rows), past.since[rows].tolist(), past.heard[rows].tolist())
                out[f"{mine}members"] = msgspec.msgpack.encode(members)
            past.dirty, past.moved = set(), False
        self._gone.clear()
        self._sent.difference_update(key for key, value in out.items() if value is None)
        self._sent.update(key for key, value in out.items() if value is not None)
        return out

    def restore(self, parts: Mapping[str, bytes]) -> None:
        """Take back everything `changes` ever said. Of sizes and values that are no longer kept nothing is taken."""
        self._pasts = {w: Past(*args) for w, args in self._make.items()}
        taken: set[str] = set()
        for window, past in self._pasts.items():
            mine = _prefix(window)
            raw = parts.get(f"{mine}at")
            mark = None if raw is None else msgspec.msgpack.decode(raw, type=_Mark)
            if mark is not None and mark.tracked == self._history.tracked:
                own = {key: part for key, part in parts.items() if key.startswith(mine)}
                _fill(past, mark.end, {key[len(mine) :]: part for key, part in own.items()})
                taken |= own.keys()
        self._sent, self._gone = taken, set(parts) - taken


def _prefix(window: WindowSpec) -> str:
    return f"{window.size_ms}-{window.hop_ms}/"


def _encode_hour(past: Past, hour: int) -> bytes:
    block = past.hours[hour]
    held = [(name, row) for name, row in past.rows.items() if row < len(block) and block[row].any()]
    sums = block[[row for _, row in held]].astype("<i8").tobytes()
    return msgspec.msgpack.encode(_Hour([name for name, _ in held], zlib.compress(sums, 1)))


def _fill(past: Past, end: int, parts: Mapping[str, bytes]) -> None:
    """Put back what was kept of one size. Hours before an entity's first one are of an earlier past of it."""
    members = msgspec.msgpack.decode(parts["members"], type=_Members) if "members" in parts else _Members([], [], [])
    for name, since, heard in zip(members.names, members.since, members.heard, strict=True):
        past.admit(name, since, heard)
    for key in parts.keys() - {"at", "members"}:
        held = msgspec.msgpack.decode(parts[key], type=_Hour)
        at = past.at(held.names)
        block = past.block(int(key))
        sums = np.frombuffer(zlib.decompress(held.sums), "<i8").reshape(len(at), block.shape[1])
        mine = (at >= 0) & (past.since[at] <= int(key)) if len(past.since) else at >= 0
        block[at[mine]] = sums[mine]
    past.end, past.moved = end, False
