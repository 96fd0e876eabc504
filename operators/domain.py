"""What a domain is: which heads it reads, which integer columns a post adds, and how sums become signal values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from engines.base import EngineSpec
from operators import interval
from operators.errors import ConfigInvalid
from operators.records import F64, I64, MICRO, Bools, PostBatch


@dataclass(frozen=True, slots=True)
class Sums:
    """Totals of one window: row k belongs to one entity.

    Attributes:
        n: int64 [k], posts (reposts counted). n_eff: float64 [k], effective sample size.
        weight: int64 [k], sum of the weights that count, millionths; n * 10^6 where every post counts in full.
        columns: int64 [k, c], in `Domain.columns` order, weighted, millionths unless the domain says otherwise.
        whole: bool [k], true for the entity `all:*`.
        hhi: float64 [k], concentration over authors. copies: float64 [k], share of posts that repeat a text.
    """

    n: I64
    n_eff: F64
    weight: I64
    columns: I64
    whole: Bools
    hhi: F64
    copies: F64

    @staticmethod
    def plain(columns: I64, n: I64, whole: Bools) -> Sums:
        """Totals of posts that all count in full, each of an author of its own."""
        return Sums(n, n.astype(np.float64), n * MICRO, columns, whole, 1.0 / n, np.zeros(len(n)))

    @staticmethod
    def joined(parts: Sequence[Sums]) -> Sums:
        """The rows of several totals, one behind the other."""
        if len(parts) == 1:
            return parts[0]
        names = ("n", "n_eff", "weight", "columns", "whole", "hhi", "copies")
        return Sums(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def mean(self, column: int) -> F64:
        """Weighted mean per post of one column, back from millionths; NaN where no post has weight."""
        return self.ratio(self.columns[:, column])

    def ratio(self, total: I64) -> F64:
        """`total` (int64 [k], millionths) per unit of weight; NaN where no post has weight."""
        with np.errstate(invalid="ignore", divide="ignore"):
            found: F64 = np.where(self.weight > 0, total / self.weight.astype(np.float64), np.nan)
        return found

    def share(self, column: int, square: int) -> tuple[F64, F64, F64]:
        """A share with its interval, from its own column and that of its squares."""
        mean = self.mean(column)
        return mean, *interval.share(mean, self.mean(square), self.n_eff)


@dataclass(frozen=True, slots=True)
class Derived:
    """`value`, `lo`, `hi`: float64 [k, signals]; NaN where the signal is not defined for that entity.

    `notes`: entity (row) -> what a reader of any of its values should know. `remarks`: (row, column) -> the same of one
    value; None = there is no row for it at all.
    """

    value: F64
    lo: F64
    hi: F64
    notes: Mapping[int, tuple[str, ...]] = field(default_factory=dict, kw_only=True)
    remarks: Mapping[tuple[int, int], str | None] = field(default_factory=dict, kw_only=True)

    @staticmethod
    def stack(columns: Sequence[tuple[F64, F64, F64]]) -> Derived:
        """One (value, lo, hi) per signal, side by side."""
        value, lo, hi = (np.stack([c[k] for c in columns], axis=1) for k in range(3))
        return Derived(value, lo, hi)

    def rows(self, start: int, end: int) -> Derived:
        """The entities `[start, end)`."""
        notes = {row - start: self.notes[row] for row in range(start, end) if row in self.notes} if self.notes else {}
        remarks = {(r - start, c): t for (r, c), t in self.remarks.items() if start <= r < end} if self.remarks else {}
        parts = (self.value[start:end], self.lo[start:end], self.hi[start:end])
        return Derived(*parts, notes=notes, remarks=remarks)

    def beside(self, more: Derived) -> Derived:
        """These signals and, behind them, those of `more` (of the same entities); its notes are not taken."""
        width = self.value.shape[1]
        pairs = ((self.value, more.value), (self.lo, more.lo), (self.hi, more.hi))
        remarks = {**self.remarks, **{(row, width + column): text for (row, column), text in more.remarks.items()}}
        return Derived(*(np.concatenate(pair, axis=1) for pair in pairs), notes=self.notes, remarks=remarks)


@dataclass(frozen=True, slots=True)
class Norms:
    """What is usual for each entity at that hour. `mean`, `sd`: float64 [k, tracked]; NaN = no baseline yet."""

    mean: F64
    sd: F64

    def z(self, tracked: int, values: tuple[F64, F64, F64], least: F64 | float) -> tuple[F64, F64, F64]:
        """(x - mean) / sd of a value and of both ends of its interval; `least`: what the sd is at least."""
        mean, sd = self.mean[:, tracked], np.maximum(self.sd[:, tracked], least)
        value, lo, hi = values
        return (value - mean) / sd, (lo - mean) / sd, (hi - mean) / sd


@dataclass(frozen=True, slots=True)
class History:
    """Signals of a domain that compare a window with the entity's own past (`operators/trail.py`).

    Attributes:
        signals: names of the signals.
        tracked: the signals of the domain whose past is kept. The first is a count: 0 in windows without posts.
        compare: window totals, their values and what is usual -> values, NaN where there is no baseline; pure.
        least_ms: windows shorter than this have none of these signals.
    """

    signals: tuple[str, ...]
    tracked: tuple[str, ...]
    compare: Callable[[Sums, Derived, Norms], Derived]
    least_ms: int = 300_000


@dataclass(frozen=True, slots=True)
class Strand:
    """Signals with the same contributors, guarded as one set.

    Attributes:
        name: "" for the seats themselves; stands in the kept state.
        present: sums by seat, int64 [m, linear] -> bool [m], who is counted at all.
        signals: positions of its signals among the domain's.
    """

    name: str
    present: Callable[[I64], Bools]
    signals: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SeatRule:
    """How a domain of seats is told of (`operators/veil.py`): only from k seats on, and never a seat.

    Attributes:
        k: seats below which nothing is told.
        strands: every signal stands in one; the seats themselves come first.
        values: sums by seat, int64 [m, linear] -> float64 [m, signals], the number of each seat for each signal.
        told_by: the same -> bool [m, signals], who has something to say on it.
        own: signals whose mean is over those who have something to say; in the others, who has not counts as 0.
        low: where the range of each signal begins, 0 or -1; all end at 1.
        note: stands in the reasons of every row.
        flags: values told of a room, by signal -> remarks on them, by signal.
    """

    k: int
    strands: tuple[Strand, ...]
    values: Callable[[I64], F64]
    told_by: Callable[[I64], Bools]
    own: tuple[bool, ...]
    low: tuple[float, ...]
    note: str
    flags: Callable[[Mapping[int, float | None]], Mapping[int, str]]


@dataclass(frozen=True, slots=True)
class Domain:
    """One use of the engine: market, crisis, social or classroom.

    Attributes:
        name: also the prefix of its signals.
        tasks: heads it needs of the engine.
        columns: names of the integer columns a post contributes; the first `linear` of them are scores, kept by author
            so that a loud one can be hushed; the others are squares of scores, see `square_of`.
        signals: names of the signals derived, e.g. `market.valence`.
        channels: posts -> int64 [n, len(columns)]; pure.
        derive: window totals -> values; pure.
        correct: values -> the same with the model's confusions undone, NaN where that cannot be; None = not known.
        square_of: for each column behind the linear ones, the linear column it is the square of.
        history: signals that need the past, beyond `signals`; None = there are none.
        seats: values are read off single authors, and veiled; such a domain tells of sealed windows alone. None = no.
    """

    name: str
    tasks: tuple[str, ...]
    columns: tuple[str, ...]
    signals: tuple[str, ...]
    channels: Callable[[PostBatch], I64]
    derive: Callable[[Sums], Derived]
    square_of: tuple[int, ...] = ()
    correct: Callable[[Derived], Derived] | None = None
    history: History | None = None
    seats: SeatRule | None = None

    @property
    def linear(self) -> int:
        """Number of linear columns."""
        return len(self.columns) - len(self.square_of)

    def contributions(self, scores: I64) -> I64:
        """int64 [n, columns] from the linear ones (int64 [n, linear], millionths): squares appended."""
        chosen = scores[:, list(self.square_of)]
        return np.concatenate((scores, chosen * chosen // MICRO), axis=1)


def label_indexes(spec: EngineSpec, task: str, labels: Sequence[str]) -> list[int]:
    """Positions of `labels` in the head that answers `task`.

    Raises:
        ConfigInvalid: the engine has no such head, the head lacks a label, or its labels are what readers feel: signals
            are of what people write, and the two are not to be mixed.
    """
    head = spec.head(task)
    if head is None:
        have = ", ".join(h.task for h in spec.heads)
        raise ConfigInvalid(f"engine {spec.model_id!r} has no head {task!r} (it has: {have}); choose another engine")
    if head.feels == "reader":
        raise ConfigInvalid(
            f"head {task!r} of {spec.model_id!r} says what readers feel; expected what writers feel, as in signals;"
            " choose another engine, or score readers' feelings apart (affect score --task)"
        )
    missing = [label for label in labels if label not in head.labels]
    if missing:
        raise ConfigInvalid(f"head {task!r} of {spec.model_id!r} lacks the labels {missing}; got {list(head.labels)}")
    return [head.labels.index(label) for label in labels]
