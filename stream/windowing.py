"""Pane blocks in, signal rows out: the second half of the hot path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from operators.cell_messages import read_message
from operators.cells import Progress
from operators.clock import BEGINNING, Lateness
from operators.codec import Codec
from operators.domain import Derived, Domain
from operators.frames import SignalFrame
from operators.records import F64, Bools, SignalRow, Status
from operators.rolling import FOREVER, Rolling
from operators.trail import Trail
from operators.veil import Veil
from operators.window import WindowSpec
from stream.base import CommitUnit, Output, Record
from stream.topics import PANES, SIGNALS

FAST_NOTE = "cascade {share:.0%}"
"""A reason of rows some of whose posts a cascade answered without its better model: their share."""
MOST_ROWS = 50_000
"""Rows of one commit: what is held of an emission at a time."""


@dataclass(frozen=True, slots=True)
class WindowParts:
    """What the window stage is made of. `minimum`: effective sample below which a value is null."""

    group: str
    domain: Domain
    codec: Codec
    lateness: Lateness
    windows: tuple[WindowSpec, ...]
    minimum: float
    model: str
    ontology: str
    lane: str
    unread: str = ""


class WindowStage:
    """Folds the pane topic into rows. Its state is rebuilt by reading the topic again, but for the trail: what is
    usual for an entity reaches further back than the topic, and is kept with the commits.

    Args:
        parts: settings.
        sealed_only: emit each row once, when no late post can change it (replay; always where there are seats).
    """

    def __init__(self, parts: WindowParts, sealed_only: bool) -> None:
        self._parts = parts
        seats = parts.domain.seats
        self._veil = None if seats is None else Veil(seats)
        self._sealed_only = sealed_only or seats is not None
        self.rolling = Rolling(parts.domain, parts.windows, parts.lateness)
        history = parts.domain.history
        self._trail = None if history is None else Trail(history, parts.windows, parts.lateness, sealed_only)
        self._tracked = [] if history is None else [parts.domain.signals.index(name) for name in history.tracked]
        self.kept = f"{parts.lane}/trail/" if seats is None else f"{parts.lane}/veil/"
        """What the keys of this stage's state begin with."""
        self.offset = 0
        self.rows_emitted = 0

    @property
    def done(self) -> bool:
        """Every source partition has closed and every row is out."""
        return self.rolling.watermark_ms == FOREVER

    def restore(self, state: Mapping[str, bytes]) -> None:
        """Take back the state committed under `kept`, before the first record is taken in."""
        if self._veil is not None:
            self._veil.restore({key[len(self.kept) :]: value for key, value in state.items()})
        if self._trail is not None:
            self._trail.restore({key[len(self.kept) :]: value for key, value in state.items()})
            self.rolling.resume(self._trail.ends())

    def ingest(self, records: Sequence[Record]) -> None:
        """Take in pane records in order; those of other lanes pass by."""
        mine = f"{self._parts.lane}/".encode()
        for record in records:
            self.offset = record.offset + 1
            if record.key is None or not record.key.startswith(mine):
                continue
            item = read_message(self._parts.codec.decode_panes(record.value), self._parts.domain)
            if isinstance(item, Progress):
                self.rolling.mark(item)
            else:
                self.rolling.ingest(item)

    def skip(self) -> None:
        """Forget what could be emitted now: it was, before a restart. A log from before there was a trail makes one."""
        for frame in self.rolling.emit(provisional=True, sealed_only=self._sealed_only, silent=True):
            self._fold(frame)

    def units(
        self, provisional: bool, now_ms: int, generation: int | None = None
    ) -> Iterator[tuple[list[SignalRow], CommitUnit]]:
        """Rows of windows that closed, were revised or moved, at most `MOST_ROWS` at a time, as commits in order.

        Only the last one moves the position and the state, so after a crash between two all rows come again, under the
        same ids. Nothing may be taken in before the last one has been asked for.
        """
        frames = self.rolling.emit(provisional=provisional, sealed_only=self._sealed_only)
        told = (self._compared(frame) for frame in frames)
        if self._veil is not None:
            told = (self._veil.tell(frame) for frame in told)
        rows: list[SignalRow] = []
        for row in chain.from_iterable(frame_rows(frame, self._parts) for frame in told if frame.told):
            if len(rows) == MOST_ROWS:
                yield rows, self._unit(rows, now_ms, generation)
                rows = []
            rows.append(row)
        unit = self._unit(rows, now_ms, generation)
        keeper = self._trail or self._veil
        kept = {} if keeper is None else keeper.changes()
        state = {self.kept + key: value for key, value in kept.items()}
        yield rows, replace(unit, offsets={(PANES, 0): self.offset}, state=state)

    def _unit(self, rows: Sequence[SignalRow], now_ms: int, generation: int | None) -> CommitUnit:
        self.rows_emitted += len(rows)
        encode = self._parts.codec.encode
        outputs = [Output(SIGNALS, 0, row.row_id.encode(), encode(row), now_ms) for row in rows]
        return CommitUnit(self._parts.group, outputs=outputs, generation=generation)

    def _fold(self, frame: SignalFrame) -> None:
        if frame.sealed and self._trail is not None:
            values, published = frame.derived.value[:, self._tracked], frame.n_eff >= self._parts.minimum
            self._trail.fold(frame.window, frame.end_ms, frame.names, values, published)

    def _compared(self, frame: SignalFrame) -> SignalFrame:
        """The frame with the signals that need the past, where its windows are long enough to have them."""
        self._fold(frame)
        trail, history = self._trail, self._parts.domain.history
        if trail is None or history is None or not frame.told or not trail.covers(frame.window):
            return frame
        usual = trail.norms(frame.window, frame.end_ms, frame.names)
        more = history.compare(frame.sums, frame.derived, usual)
        return replace(frame, derived=frame.derived.beside(more))


def frame_rows(frame: SignalFrame, parts: WindowParts) -> Iterator[SignalRow]:
    """The rows of a frame: one per entity and signal defined for it, null below the minimum."""
    start, end = frame.end_ms - frame.window.size_ms, frame.end_ms
    derived, domain = frame.derived, parts.domain.name
    signals = _signals(parts.domain, derived)
    known = np.isfinite(derived.value)
    enough: Bools = frame.n_eff >= parts.minimum
    shown = enough[:, None] & known
    columns = [_lists(part, shown) for part in (derived.value, derived.lo, derived.hi)]
    columns += _corrected(frame.corrected, shown)
    odd = _odd(frame, parts.domain, signals, known, enough.tolist())
    facts = (frame.n, frame.n_eff, frame.authors, frame.revision, frame.capped, frame.sampled, frame.buzz)
    watermark = frame.watermark_ms if frame.watermark_ms > BEGINNING else start
    model, ontology = ",".join(frame.models) or parts.model, parts.ontology
    entities = zip(frame.names, *(fact.tolist() for fact in facts), strict=True)
    for k, (entity, n, n_eff, authors, revision, capped, sampled, buzz) in enumerate(entities):
        status: Status = "provisional" if not frame.closed else "revised" if revision else "final"
        few = () if n_eff >= parts.minimum else (f"n_eff {n_eff:.4g} below the minimum {parts.minimum:g}",)
        unread = (parts.unread.format(share=1 - sampled),) if parts.unread and sampled < 1 else ()
        share = 0.0 if frame.fast is None else float(frame.fast[k])
        quick = (FAST_NOTE.format(share=share),) if share else ()
        why = (*few, *unread, *quick, *derived.notes.get(k, ()))
        mine = odd.get(k, {})
        for s, (signal, value, lo, hi, corrected, below, above) in enumerate(
            zip(signals, *(column[k] for column in columns), strict=True)
        ):
            more = mine.get(s, ())
            if more is None:
                continue
            yield SignalRow(
                signal=signal,
                domain=domain,
                entity=entity,
                window_start=start,
                window_end=end,
                value=value,
                lo=lo,
                hi=hi,
                n=n,
                n_eff=n_eff,
                authors=authors,
                buzz=buzz,
                status=status,
                revision=revision,
                watermark=watermark,
                model=model,
                ontology=ontology,
                reasons=why + more,
                capped=capped,
                sampled=sampled,
                corrected=corrected,
                corrected_lo=below,
                corrected_hi=above,
            )


def _signals(domain: Domain, derived: Derived) -> tuple[str, ...]:
    """Names of the columns of a frame's values."""
    if domain.history is None or derived.value.shape[1] == len(domain.signals):
        return domain.signals
    return domain.signals + domain.history.signals


def _corrected(found: Derived | None, shown: Bools) -> list[list[list[float | None]]]:
    """Corrected value, lo and hi by entity and signal, None where there is none or `shown` (bool [k, s]) is false."""
    if found is None:
        return [[[None] * shown.shape[1]] * len(shown)] * 3
    wide = [np.full(shown.shape, np.nan) for _ in range(3)]  # signals of the past stand behind the others
    for out, part in zip(wide, (found.value, found.lo, found.hi), strict=True):
        out[:, : part.shape[1]] = part
    return [_lists(part, shown & np.isfinite(part)) for part in wide]


def _lists(values: F64, shown: Bools) -> list[list[float | None]]:
    """Values by entity and signal, None where they are not shown."""
    out = values.astype(object)
    out[~shown] = None
    found: list[list[float | None]] = out.tolist()
    return found


def _odd(
    frame: SignalFrame, domain: Domain, signals: Sequence[str], known: Bools, enough: list[bool]
) -> dict[int, dict[int, tuple[str, ...] | None]]:
    """What is to be said of single values, by row and column; None = there is no such row."""
    out: dict[int, dict[int, tuple[str, ...] | None]] = {}
    for k, s in np.argwhere(~known).tolist():
        if s < len(domain.signals):
            found = ("no mass to compare",) if _defined(signals[s], frame.names[k]) else None
        else:  # neither a past nor enough posts now: there is nothing these signals could be about
            found = ("no baseline yet",) if enough[k] else None
        out.setdefault(k, {})[s] = found
    for (k, s), remark in frame.derived.remarks.items():
        out.setdefault(k, {})[s] = None if remark is None else (remark,)
    return out


def _defined(signal: str, entity: str) -> bool:
    """False for signals that speak of the whole stream only."""
    return not signal.endswith(".without_place") or entity == "all:*"
