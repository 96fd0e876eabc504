"""Pane blocks in, signal rows out: the second half of the hot path."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from operators.cell_messages import read_message
from operators.cells import Progress
from operators.clock import BEGINNING, Lateness
from operators.codec import Codec
from operators.domain import Derived, Domain
from operators.records import SignalRow, Status
from operators.rolling import FOREVER, Rolling, SignalFrame
from operators.window import WindowSpec
from stream.base import CommitUnit, Output, Record
from stream.topics import PANES, SIGNALS


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


class WindowStage:
    """Folds the pane topic into rows. Holds no state of its own: it is rebuilt by reading the topic again.

    Args:
        parts: settings.
        sealed_only: emit each row once, when no late post can change it (replay).
    """

    def __init__(self, parts: WindowParts, sealed_only: bool) -> None:
        self._parts = parts
        self._sealed_only = sealed_only
        self.rolling = Rolling(parts.domain, parts.windows, parts.lateness)
        self.offset = 0
        self.rows_emitted = 0

    @property
    def done(self) -> bool:
        """Every source partition has closed and every row is out."""
        return self.rolling.watermark_ms == FOREVER

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
        """Forget what could be emitted now: it was, before a restart."""
        self.rolling.emit(provisional=True, sealed_only=self._sealed_only)

    def emit(self, provisional: bool) -> list[SignalRow]:
        """Rows of windows that closed, were revised or moved."""
        frames = self.rolling.emit(provisional=provisional, sealed_only=self._sealed_only)
        rows = [row for frame in frames for row in frame_rows(frame, self._parts)]
        self.rows_emitted += len(rows)
        return rows

    def unit(self, rows: Sequence[SignalRow], now_ms: int, generation: int | None = None) -> CommitUnit:
        """Rows and the pane offset they were made at, as one commit."""
        encode = self._parts.codec.encode
        outputs = [Output(SIGNALS, 0, row.row_id.encode(), encode(row), now_ms) for row in rows]
        return CommitUnit(self._parts.group, {(PANES, 0): self.offset}, outputs=outputs, generation=generation)


def frame_rows(frame: SignalFrame, parts: WindowParts) -> Iterator[SignalRow]:
    """The rows of a frame: one per entity and signal defined for it, null below the minimum."""
    start, end = frame.end_ms - frame.window.size_ms, frame.end_ms
    value, lo, hi = frame.derived.value, frame.derived.lo, frame.derived.hi
    known = np.isfinite(value)
    enough = (frame.n_eff >= parts.minimum).tolist()
    values, los, his = value.tolist(), lo.tolist(), hi.tolist()
    fixed = _corrected(parts.domain, frame.derived)
    columns = zip(
        frame.names,
        frame.n.tolist(),
        frame.n_eff.tolist(),
        frame.authors.tolist(),
        frame.revision.tolist(),
        frame.capped.tolist(),
        frame.sampled.tolist(),
        frame.buzz.tolist(),
        strict=True,
    )
    watermark = frame.watermark_ms if frame.watermark_ms > BEGINNING else start
    for k, (entity, n, n_eff, authors, revision, capped, sampled, buzz) in enumerate(columns):
        status: Status = "provisional" if not frame.closed else "revised" if revision else "final"
        reasons = () if enough[k] else (f"n_eff {n_eff:.4g} below the minimum {parts.minimum:g}",)
        for s, signal in enumerate(parts.domain.signals):
            if not known[k, s]:
                if not _defined(signal, entity):
                    continue
                shown, why = False, (*reasons, "no mass to compare")
            else:
                shown, why = enough[k], reasons
            yield SignalRow(
                signal=signal,
                domain=parts.domain.name,
                entity=entity,
                window_start=start,
                window_end=end,
                value=values[k][s] if shown else None,
                lo=los[k][s] if shown else None,
                hi=his[k][s] if shown else None,
                n=n,
                n_eff=n_eff,
                authors=authors,
                buzz=buzz,
                status=status,
                revision=revision,
                watermark=watermark,
                model=parts.model,
                ontology=parts.ontology,
                reasons=why,
                capped=capped,
                sampled=sampled,
                corrected=fixed[0][k][s] if fixed and shown else None,
                corrected_lo=fixed[1][k][s] if fixed and shown else None,
                corrected_hi=fixed[2][k][s] if fixed and shown else None,
            )


def _corrected(domain: Domain, derived: Derived) -> tuple[list[list[float | None]], ...]:
    """Corrected value, lo and hi by entity and signal, None where there is none; empty where the domain has none."""
    if domain.correct is None:
        return ()
    found = domain.correct(derived)
    parts = (found.value, found.lo, found.hi)
    return tuple(np.where(np.isfinite(part), part, None).tolist() for part in parts)


def _defined(signal: str, entity: str) -> bool:
    """False for signals that speak of the whole stream only."""
    return not signal.endswith(".without_place") or entity == "all:*"
