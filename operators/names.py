"""Entity names as dense integers, so that the maths runs on arrays. Bounded: beyond the cap names share one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from operators.records import I32

OVERFLOW = "other:*"
"""Where posts of entities beyond the cap are counted; a row for it says that the cap was met."""

WHOLE = "all:*"
"""The entity every post belongs to."""


class Names:
    """A two-way map between names and ids 0, 1, 2 ... in order of first sight.

    Args:
        cap: most names held (memory: about 150 bytes a name).
    """

    __slots__ = ("_cap", "_ids", "_names")

    def __init__(self, cap: int = 500_000) -> None:
        self._cap = cap
        self._ids: dict[str, int] = {}
        self._names: list[str] = []

    def __len__(self) -> int:
        return len(self._names)

    def ids(self, names: Sequence[str]) -> I32:
        """Ids of `names`, int32 [len(names)]; new names get the next id."""
        known = self._ids
        try:
            return np.fromiter(map(known.__getitem__, names), np.int32, len(names))
        except KeyError:
            return np.fromiter((self._id(name) for name in names), np.int32, len(names))

    def _id(self, name: str) -> int:
        found = self._ids.get(name)
        if found is not None:
            return found
        if len(self._names) >= self._cap and name != OVERFLOW:
            return self._id(OVERFLOW)
        self._ids[name] = len(self._names)
        self._names.append(name)
        return len(self._names) - 1

    def get(self, ids: I32) -> list[str]:
        """The names of `ids`."""
        names = self._names
        return [names[k] for k in ids.tolist()]

    def find(self, name: str) -> int:
        """The id of `name`, -1 if it was never seen."""
        return self._ids.get(name, -1)
