"""Roll-ups: the signals of a sector, and of the market, out of those of their members. A fold like `latest`.

For the members i of a group that have a value in a window, with n_i posts, effective n m_i and interval [lo_i, hi_i]:

    n     = sum n_i                        w_i = n_i / n
    value = sum w_i value_i                n_eff = n^2 / sum (n_i^2 / m_i)
    lo    = value - sqrt(sum (w_i (value_i - lo_i))^2)         hi = value + sqrt(sum (w_i (hi_i - value_i))^2)

`n_eff` is Kish's: n_i^2 / m_i is the sum over authors of (posts of the author)^2 that m_i was made from, and those add.
The interval is the method of variance estimates recovery for independent means (Zou and Donner 2008). `*.buzz` is no
mean: it is ln(1 + n) with the Poisson interval of n. A post about two members counts in both, and so does its author.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from math import fsum, log1p, sqrt

import msgspec

from operators.errors import ConfigInvalid
from operators.interval import Z95
from operators.records import SignalRow, Status

MARKET = "market:*"
"""The group of all members."""

MOST_WINDOWS = 32
"""Windows of a signal and size held at once: with 200 members some 50 kB each. Rows of older ones are counted only."""

_SECTOR = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


def parse_sectors(text: str, name: str = "sectors") -> dict[str, str]:
    """Entity (`ticker:AAPL`) -> group (`sector:technology`) from CSV text with the columns `ticker` and `sector`.

    Raises:
        ConfigInvalid: the message names file and line.
    """
    reader = csv.DictReader(line for line in text.splitlines() if line.strip() and not line.startswith("#"))
    if reader.fieldnames is None or not {"ticker", "sector"} <= set(reader.fieldnames):
        raise ConfigInvalid(f"{name}: expected the columns ticker,sector, got {','.join(reader.fieldnames or ())!r}")
    out: dict[str, str] = {}
    for k, line in enumerate(reader, 1):
        ticker, sector = (line["ticker"] or "").strip().upper(), (line["sector"] or "").strip().lower()
        if not ticker or _SECTOR.fullmatch(sector) is None:
            raise ConfigInvalid(f"{name}: row {k}: expected TICKER,sector (a-z 0-9 _ -), got {ticker!r},{sector!r}")
        if f"ticker:{ticker}" in out:
            raise ConfigInvalid(f"{name}: row {k}: {ticker} is there twice; a ticker has one sector")
        out[f"ticker:{ticker}"] = f"sector:{sector}"
    if not out:
        raise ConfigInvalid(f"{name}: expected at least one row, got none")
    return out


def shipped_sectors() -> dict[str, str]:
    """The sectors of the tickers that the entity linker knows."""
    text = files("operators").joinpath("ontology", "sectors.csv").read_text(encoding="utf-8")
    return parse_sectors(text, "ontology/sectors.csv")


class _Part(msgspec.Struct, frozen=True, array_like=True):
    """What a member's newest row of a window contributes."""

    revision: int
    n: int
    closed: bool
    watermark: int
    n_eff: float
    authors: int
    value: float | None
    lo: float | None
    hi: float | None
    capped: float
    sampled: float
    domain: str
    model: str
    ontology: str

    @property
    def version(self) -> tuple[int, int, bool, int]:
        return self.revision, self.n, self.closed, self.watermark


_Window = tuple[str, int, int]
"""Signal, window start, window end."""


class Rollup:
    """Members' rows in, rows of their groups out, for the newest windows of every signal and size.

    The value of a group depends on the members' newest rows alone, not on their order or repetition. Of two rows of a
    group for one window the one with the higher (revision, n) is newer, as everywhere.

    Args:
        groups: member -> group; every member also counts in `MARKET`. most_windows: of a signal and size.
    """

    def __init__(self, groups: Mapping[str, str], most_windows: int = MOST_WINDOWS) -> None:
        self._groups = dict(groups)
        self._most = most_windows
        self._windows: dict[_Window, dict[str, _Part]] = {}
        self._ends: dict[tuple[str, int], list[_Window]] = {}
        self._touched: dict[tuple[_Window, str], None] = {}
        self._changed: dict[_Window, None] = {}
        self._leaving: list[SignalRow] = []
        self.too_old = 0

    def __len__(self) -> int:
        """Windows held."""
        return len(self._windows)

    def feed(self, row: SignalRow) -> bool:
        """Take in a row; False where it says nothing new, is no member's, or of a window no longer held."""
        group = self._groups.get(row.entity)
        if group is None:
            return False
        window = (row.signal, row.window_start, row.window_end)
        part = _part(row)
        members = self._windows.get(window)
        if members is None:
            if not self._open(window):
                self.too_old += 1
                return False
            members = self._windows[window]
        known = members.get(row.entity)
        if known is not None and part.version <= known.version:
            return False
        members[row.entity] = part
        self._touched[window, group] = self._touched[window, MARKET] = None
        self._changed[window] = None
        return True

    def take(self) -> list[SignalRow]:
        """A row for every group and window that changed since the last call."""
        out = self._leaving + [self._row(window, group) for window, group in self._touched]
        self._touched.clear()
        self._leaving = []
        return out

    def newest(self) -> list[SignalRow]:
        """The row of every signal, group and size in the newest window it has, sorted."""
        out: dict[tuple[str, str, int], SignalRow] = {}
        for windows in self._ends.values():
            for window in windows:  # by their end, rising
                for group in {MARKET, *(self._groups[e] for e in self._windows[window])}:
                    out[window[0], group, window[2] - window[1]] = self._row(window, group)
        return [out[key] for key in sorted(out)]

    def snapshot(self) -> dict[str, bytes | None]:
        """What changed since the last call; None = let go."""
        out: dict[str, bytes | None] = {}
        for window in self._changed:
            members = self._windows.get(window)
            out["|".join(map(str, window))] = None if members is None else msgspec.msgpack.encode(members)
        self._changed.clear()
        return out

    def restore(self, parts: Mapping[str, bytes]) -> None:
        """Take back everything `snapshot` ever said. Members that are in no group any more are left out."""
        self._windows, self._ends, self._touched, self._changed, self._leaving = {}, {}, {}, {}, []
        for key, raw in parts.items():
            signal, start, end = key.rsplit("|", 2)
            window = (signal, int(start), int(end))
            found = msgspec.msgpack.decode(raw, type=dict[str, _Part])
            members = {entity: part for entity, part in found.items() if entity in self._groups}
            if members and self._open(window):
                self._windows[window] = members
            else:
                self._changed[window] = None

    def _open(self, window: _Window) -> bool:
        """Make room for a window; False where it is older than all that are held."""
        held = self._ends.setdefault((window[0], window[2] - window[1]), [])
        if len(held) >= self._most:
            if window[2] < held[0][2]:
                return False
            self._close(held.pop(0))
        held.append(window)
        held.sort(key=lambda w: w[2])
        self._windows[window] = {}
        return True

    def _close(self, window: _Window) -> None:
        """Let a window go; what is not yet said of it is said first."""
        for unsaid in [key for key in self._touched if key[0] == window]:
            self._leaving.append(self._row(*unsaid))
            del self._touched[unsaid]
        del self._windows[window]
        self._changed[window] = None

    def _row(self, window: _Window, group: str) -> SignalRow:
        members = self._windows[window]
        names = sorted(e for e in members if group in (MARKET, self._groups[e]))
        return combine(window, group, [members[name] for name in names])


def _part(row: SignalRow) -> _Part:
    return _Part(
        row.revision, row.n, row.status != "provisional", row.watermark, row.n_eff, row.authors, row.value, row.lo,
        row.hi, row.capped, row.sampled, row.domain, row.model, row.ontology,
    )  # fmt: skip


def combine(window: _Window, group: str, parts: Sequence[_Part]) -> SignalRow:
    """The row of `group` out of its members' (at least one), by the formulas above."""
    counted = [p for p in parts if p.value is not None and p.n > 0 and p.n_eff > 0]
    reasons: tuple[str, ...] = ()
    if len(counted) < len(parts):
        reasons = (f"{len(parts) - len(counted)} of {len(parts)} members have no value",)
    value, lo, hi = _interval(window[0], counted)
    base = counted or list(parts)
    n = sum(p.n for p in base)
    squares = fsum(p.n * p.n / p.n_eff for p in base if p.n_eff > 0)
    revision = sum(p.revision for p in parts)
    closed = all(p.closed for p in parts)
    status: Status = "provisional" if not closed else "revised" if revision else "final"
    return SignalRow(
        signal=window[0],
        domain=base[0].domain,
        entity=group,
        window_start=window[1],
        window_end=window[2],
        value=value,
        lo=lo,
        hi=hi,
        n=n,
        n_eff=n * n / squares if squares > 0 else 0.0,
        authors=sum(p.authors for p in base),
        buzz=float(n),
        status=status,
        revision=revision,
        watermark=min(p.watermark for p in parts),
        model=_one(p.model for p in base),
        ontology=_one(p.ontology for p in base),
        reasons=reasons,
        capped=fsum(p.capped * p.n for p in base) / n if n else 0.0,
        sampled=fsum(p.sampled * p.n for p in base) / n if n else 1.0,
    )


def _interval(signal: str, parts: Sequence[_Part]) -> tuple[float | None, float | None, float | None]:
    if not parts:
        return None, None, None
    n = sum(p.n for p in parts)
    if signal.endswith(".buzz"):
        half = Z95 * sqrt(n)
        return log1p(n), log1p(max(n - half, 0.0)), log1p(n + half)
    value = fsum(p.n * (p.value or 0.0) for p in parts) / n
    below, above = [], []
    for part in parts:
        if part.value is None or part.lo is None or part.hi is None:
            return value, None, None
        below.append((part.n * (part.value - part.lo)) ** 2)
        above.append((part.n * (part.hi - part.value)) ** 2)
    return value, value - sqrt(fsum(below)) / n, value + sqrt(fsum(above)) / n


def _one(names: Iterable[str]) -> str:
    return ",".join(sorted(set(names)))
