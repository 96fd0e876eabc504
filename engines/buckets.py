"""Length buckets: which padded shape a row of tokens runs in on a GPU, and the padding itself. No GPU library here.

A GPU wants few, fixed shapes: one optimisation profile, one captured graph each. The length of a row's shape is the
least bucket that holds the row: its own length decides, no neighbour does. Its number of rows is

* `steady` (the default): always the same, so the shape a text runs in depends on that text alone, and with it, as far
  as the kernels add in a fixed order, every digit of its logits. What is left empty is padding.
* without: the least number that holds what is there, quicker for one text alone; the last digits may then depend on
  how many rows came together.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from engines.errors import ShapeMismatch

LENGTHS: Final = (16, 32, 48, 64, 128)
ROWS: Final = (1, 8, 32, 128)
STEADY: Final = 32
I64 = NDArray[np.int64]
F32 = NDArray[np.float32]


class Bucket(NamedTuple):
    """One shape: `rows` texts of `length` tokens each."""

    rows: int
    length: int

    def __str__(self) -> str:
        return f"{self.rows}x{self.length}"


class Buckets(msgspec.Struct, frozen=True):
    """The shapes an engine runs in.

    Attributes:
        lengths: tokens, rising.
        rows: numbers of rows, rising.
        steady: one of `rows`, taken for every run; None: the least that holds what is there.
    """

    lengths: tuple[int, ...] = LENGTHS
    rows: tuple[int, ...] = ROWS
    steady: int | None = STEADY

    def __post_init__(self) -> None:
        for name, sizes in (("lengths", self.lengths), ("rows", self.rows)):
            if not sizes or sizes[0] < 1 or list(sizes) != sorted(set(sizes)):
                raise ValueError(f"buckets: {name} expected rising whole numbers from 1 on, got {sizes}")
        if self.steady is not None and self.steady not in self.rows:
            raise ValueError(f"buckets: steady expected one of {self.rows}, got {self.steady}")

    def all(self) -> tuple[Bucket, ...]:
        """Every shape that can come up, by length and then rows: the profiles, in this order."""
        return tuple(Bucket(r, n) for n in self.lengths for r in (self.rows if self.steady is None else (self.steady,)))

    def capped(self, longest: int) -> Buckets:
        """Only the lengths that rows of at most `longest` tokens need; the last is `longest` itself if it is less."""
        if longest >= self.lengths[-1]:
            return self
        return msgspec.structs.replace(self, lengths=(*(n for n in self.lengths if n < longest), longest))

    def split(self, lengths: I64) -> Iterator[tuple[Bucket, I64]]:
        """Which rows run together: (shape, indices of the rows, at most `shape.rows`), each row exactly once.

        Args:
            lengths: tokens of every row, >= 1.

        Raises:
            ShapeMismatch: a row is longer than the longest bucket.
        """
        if len(lengths) and int(lengths.max()) > self.lengths[-1]:
            raise ShapeMismatch(
                f"a row has {int(lengths.max())} tokens, the longest bucket {self.lengths[-1]}; cut rows to that length"
                f" when they are featurised"
            )
        kind = np.searchsorted(np.asarray(self.lengths), lengths)
        most = self.rows[-1] if self.steady is None else self.steady
        for k in np.unique(kind).tolist():
            here = np.flatnonzero(kind == k)
            for at in range(0, len(here), most):
                part = here[at : at + most]
                rows = self.steady if self.steady is not None else next(r for r in self.rows if r >= len(part))
                yield Bucket(rows, self.lengths[k]), part


def fill(ids: I64, offsets: I64, chosen: I64, to_ids: I64, to_mask: NDArray[np.floating]) -> None:
    """Write the chosen rows into padded arrays [rows, length] in place.

    `to_mask` is 1 for a token and 0 for padding. A row that is not used holds one token 0, so that its mean exists.

    Args:
        ids, offsets: tokens of all rows; row i owns `ids[offsets[i]:offsets[i + 1]]`.
        chosen: indices of rows, at most `len(to_ids)`.
    """
    to_ids[:] = 0
    to_mask[:] = 0
    to_mask[len(chosen) :, 0] = 1
    counts = offsets[chosen + 1] - offsets[chosen]
    row = np.repeat(np.arange(len(chosen)), counts)
    column = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    to_ids[row, column] = ids[np.repeat(offsets[chosen], counts) + column]
    to_mask[row, column] = 1
