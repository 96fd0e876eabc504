"""Rules on signal rows: a pure fold, rows in, alerts out. The same in every place that runs it."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from fnmatch import fnmatchcase
from math import sqrt

import msgspec

from operators.alert_rules import COUNTING, Rule, parse_rules
from operators.records import Alert, SignalRow

MOST_KEYS = 100_000
"""(rule, entity) pairs held at once: some 500 bytes each. Beyond it the one not fed for the longest is forgotten."""

_PULSE = "@began"
SLACK = 0.5
"""What each window's z must be above on average for a cusum to grow (Page 1954; the half of a shift by one)."""
FULL = 2.0
"""A cusum stops growing at so many times its limit: however long a burst lasted, the rule is armed again soon."""


class _Seen(msgspec.Struct, array_like=True):
    """A window of an entity as its newest row says. `count`: what a burst or cusum counts, None = unknown."""

    end: int
    revision: int
    n: int
    value: float | None
    count: float | None


class _State(msgspec.Struct, array_like=True):
    """What a rule remembers of an entity.

    Attributes:
        since: window end the entity is known from; windows without a row since then had no post.
        newest: largest window end seen. head: the newest window a verdict was given on.
        seen: windows that end from `newest - 2 * size` on, in order of their end.
        total, weight: average count a window is total / weight, over windows that end up to `folded`.
        active: fired and not yet clear. alerted: end of the window last alerted.
        grown: sum of a cusum over windows that end up to `folded`.
    """

    since: int
    newest: int
    folded: int
    head: int | None = None
    alerted: int | None = None
    active: bool = False
    total: float = 0.0
    weight: float = 0.0
    seen: list[_Seen] = []
    grown: float = 0.0


class _Began(msgspec.Struct, array_like=True):
    """First window end any entity of a rule was seen at; `evicted`: some entity has been forgotten."""

    at: int
    evicted: bool


class Rules:
    """Alert rules and their state: `feed` rows in the order they come, take the alerts.

    Deterministic: the same rows in the same order give the same alerts, however they are cut into batches and across
    `snapshot` and `restore`. A row whose (revision, n) is not above what is known of its window changes nothing. A
    verdict uses windows that end where the judged one begins, or earlier; windows older than the newest one judged
    raise nothing any more. A null value never alerts and never clears. A window raises one alert of a rule at most.

    Args:
        rules: as `parse_rules` gives them. most_keys: (rule, entity) pairs held at once.

    Example:
        >>> rules = Rules.parse('[[rule]]\\nname = "fear"\\nsignal = "market.fear"\\nwindow = "1m"\\nabove = 0.5')
        >>> row = SignalRow(signal="market.fear", domain="market", entity="all:*", window_start=0, window_end=60_000,
        ...     value=0.7, lo=0.6, hi=0.8, n=90, n_eff=80.0, authors=80, buzz=90.0, status="final", revision=0,
        ...     watermark=60_000, model="m@1", ontology="o1")
        >>> [alert.rule for alert in rules.feed(row)], rules.feed(row)
        (['fear'], [])
    """

    def __init__(self, rules: Sequence[Rule], most_keys: int = MOST_KEYS) -> None:
        self.rules = tuple(rules)
        self._most = most_keys
        self._by_signal: dict[tuple[str, int], list[tuple[str, Rule]]] = {}
        for rule in self.rules:
            # The definition is in the key: a rule that was changed starts anew, its old state is not its own.
            mark = f"{rule.name}|{zlib.crc32(msgspec.json.encode(rule)):08x}"
            self._by_signal.setdefault((rule.signal, rule.window_ms), []).append((mark, rule))
        self._states: dict[str, _State] = {}
        self._began: dict[str, _Began] = {}
        self._changed: dict[str, None] = {}

    @staticmethod
    def parse(text: str, name: str = "alert rules") -> Rules:
        """Rules from TOML text. `name` is the file's, for messages.

        Raises:
            ConfigInvalid: the message names file, rule and key.
        """
        return Rules(parse_rules(text, name))

    def __len__(self) -> int:
        """(rule, entity) pairs held."""
        return len(self._states)

    def feed(self, row: SignalRow) -> list[Alert]:
        """Take in one row; the alerts it raises, in order of the rules."""
        out = []
        for mark, rule in self._by_signal.get((row.signal, row.window_end - row.window_start), ()):
            if row.status == "provisional" and rule.status == "final":
                continue
            if fnmatchcase(row.entity, rule.entity):
                state = self._state(mark, row)
                if _note(state, rule, row):
                    self._changed[f"{mark}|{row.entity}"] = None
                    alert = _judge(state, rule, row)
                    if alert is not None:
                        out.append(alert)
        return out

    def snapshot(self) -> dict[str, bytes | None]:
        """What changed since the last call (see `KeyedState`)."""
        out: dict[str, bytes | None] = {}
        for key in self._changed:
            held: _State | _Began | None = self._states.get(key) or self._began.get(key)
            out[key] = None if held is None else msgspec.msgpack.encode(held)
        self._changed.clear()
        return out

    def restore(self, parts: dict[str, bytes]) -> None:
        """Take back everything `snapshot` ever said. State of rules that are gone or changed is let go."""
        self._states, self._began, self._changed = {}, {}, {}
        known = {mark for rules in self._by_signal.values() for mark, _ in rules}
        states = []
        for key, raw in parts.items():
            name, digest, entity = key.split("|", 2)
            mark = f"{name}|{digest}"
            if mark not in known:
                self._changed[key] = None
            elif entity == _PULSE:
                self._began[key] = msgspec.msgpack.decode(raw, type=_Began)
            else:
                states.append((key, msgspec.msgpack.decode(raw, type=_State)))
        # Whatever order the parts come in, the one forgotten first is the same.
        self._states = dict(sorted(states, key=lambda item: (item[1].newest, item[0])))

    def _state(self, mark: str, row: SignalRow) -> _State:
        key, pulse = f"{mark}|{row.entity}", f"{mark}|{_PULSE}"
        state = self._states.get(key)
        if state is not None:
            return state
        began = self._began.get(pulse)
        if began is None:
            began = self._began[pulse] = _Began(row.window_end, False)
            self._changed[pulse] = None
        if len(self._states) >= self._most:
            self._forget()
        # An entity that was never heard of had no posts so far; once some were forgotten nobody can tell.
        since = row.window_end if began.evicted else min(began.at, row.window_end)
        state = self._states[key] = _State(
            since=since, newest=row.window_end, folded=since - (row.window_end - row.window_start)
        )
        return state

    def _forget(self) -> None:
        """Let a tenth of the entities go: those whose newest window is the oldest; of equals the first names."""
        keys = sorted(self._states, key=lambda k: (self._states[k].newest, k))[: max(1, self._most // 10)]
        for key in keys:
            del self._states[key]
            self._changed[key] = None
        for pulse, began in self._began.items():
            if not began.evicted and any(key.startswith(pulse[: -len(_PULSE)]) for key in keys):
                began.evicted = True
                self._changed[pulse] = None


def _note(state: _State, rule: Rule, row: SignalRow) -> bool:
    """Write the row down; False when it says nothing new of its window, or the window is long past."""
    size, end = rule.window_ms, row.window_end
    if end < state.newest - 2 * size:
        return False
    at = len(state.seen)
    while at and state.seen[at - 1].end > end:
        at -= 1
    window = _Seen(end, row.revision, row.n, row.value, _count(rule, row))
    if at and (known := state.seen[at - 1]).end == end:
        if (row.revision, row.n) <= (known.revision, known.n):
            return False
        state.seen[at - 1] = window
    else:
        state.seen.insert(at, window)
    state.newest = max(state.newest, end)
    oldest = state.newest - 2 * size
    past = sum(1 for window in state.seen if window.end < oldest)
    for window in state.seen[:past]:
        _fold(state, rule, window.end, window.count)
    del state.seen[:past]
    return True


def _count(rule: Rule, row: SignalRow) -> float | None:
    """What a burst or cusum counts in a window; None = unknown (a null or negative value)."""
    if rule.of == "n":
        return float(row.n)
    if row.value is None or row.value < 0:
        return None
    return row.value if rule.of == "value" else row.value * row.n_eff


def _fold(state: _State, rule: Rule, end: int, count: float | None) -> None:
    """Take a window into the average. Time without a row counts as windows without posts; an unknown one not at all.

    Hops overlap, so a window weighs by how much later it ends than the last one; one window size is one step.
    """
    gap, size = end - state.folded, rule.window_ms
    if rule.kind not in COUNTING or gap <= 0:
        return
    if rule.kind == "cusum":
        state.grown = _grown(state, rule, max(gap - size, 0) / size, 0.0, end - size)
    keep = 1.0 - 2.0 / (rule.memory + 1)
    silent = keep ** (max(gap - size, 0) / size)
    state.total *= silent
    state.weight += (1.0 - silent) * (1.0 - state.weight)
    state.folded = end
    if end < state.since + size:  # it may have begun before anything was read: a part of a window is no usual one
        count = None
    if count is not None:
        if rule.kind == "cusum":
            state.grown = _grown(state, rule, min(gap, size) / size, count, end)
        share = 1.0 - keep ** (min(gap, size) / size)
        state.total += share * (count - state.total)
        state.weight += share * (1.0 - state.weight)


def _judge(state: _State, rule: Rule, row: SignalRow) -> Alert | None:
    """The verdict on a row just noted."""
    end = row.window_end
    if row.value is None or end < state.newest - rule.window_ms or (state.head is not None and end < state.head):
        return None
    state.head = end
    found = _measure(state, rule, row, row.value)
    if found is None:
        return None
    beyond, measure, reference, words = found
    if state.active:
        state.active = beyond > -rule.hysteresis
        return None
    if beyond <= 0:
        return None
    if state.alerted is not None and (end == state.alerted or end - state.alerted < rule.cool_down_ms):
        return None
    state.active, state.alerted = True, end
    return Alert(
        rule=rule.name,
        kind=rule.kind,
        severity=rule.severity,
        row_id=row.row_id,
        signal=row.signal,
        domain=row.domain,
        entity=row.entity,
        window_start=row.window_start,
        window_end=end,
        value=row.value,
        lo=row.lo,
        hi=row.hi,
        n=row.n,
        measure=measure,
        reference=reference,
        status=row.status,
        revision=row.revision,
        message=f"{row.signal} of {row.entity}, {rule.window}: {words} (n {row.n})",
    )


def _measure(state: _State, rule: Rule, row: SignalRow, value: float) -> tuple[float, float, float, str] | None:
    """(how far beyond the limit, what was measured, what it is compared with, in words); None = cannot be told."""
    if rule.kind == "threshold":
        limits = []
        if rule.above is not None:
            limits.append((value - rule.above, value, rule.above, f"{value:.4g} is above {rule.above:g}"))
        if rule.below is not None:
            limits.append((rule.below - value, value, rule.below, f"{value:.4g} is below {rule.below:g}"))
        return max(limits, key=lambda found: found[0])
    if rule.kind == "change":
        before = next((seen.value for seen in state.seen if seen.end == row.window_start), None)
        if before is None or rule.by is None:
            return None
        moved = value - before
        beyond = moved - rule.by if rule.by > 0 else rule.by - moved
        return beyond, moved, before, f"{before:.4g} to {value:.4g}, a move of {moved:+.4g}"
    return _against_average(state, rule, row)


def _against_average(state: _State, rule: Rule, row: SignalRow) -> tuple[float, float, float, str] | None:
    """A burst's z, or a cusum, against windows that ended before this one began."""
    start = row.window_start
    before = [seen for seen in state.seen if seen.end <= start]
    for seen in before:
        _fold(state, rule, seen.end, seen.count)
    _fold(state, rule, start, 0.0)  # does nothing where the window that ended at `start` had a row
    count = _count(rule, row)
    if count is None or state.weight == 0 or not _warm(state, rule, row.window_end):
        return None
    mean, z = _compared(state, count)
    what = " posts" if rule.of == "n" else " posts of it" if rule.of == "share" else ""
    words = f"{count:.4g}{what} where {mean:.4g} {'is' if what == '' else 'are'} usual, z {z:.3g}"
    if rule.kind == "cusum" and rule.above is not None:
        grown = _grown(state, rule, 1.0, count, row.window_end)
        return grown - rule.above, grown, mean, f"{words}, sum {grown:.3g} above {rule.above:g}"
    return None if rule.z is None else (z - rule.z, z, mean, words)


def _warm(state: _State, rule: Rule, end: int) -> bool:
    """Whether enough windows have passed before the one that ends at `end`."""
    return end - state.since >= rule.warm_up * rule.window_ms


def _compared(state: _State, count: float) -> tuple[float, float]:
    """The usual count and the Poisson z = (count - usual) / sqrt(usual), usual at least 1 in the root."""
    mean = state.total / state.weight
    return mean, (count - mean) / sqrt(max(mean, 1.0))


def _grown(state: _State, rule: Rule, windows: float, count: float, end: int) -> float:
    """The cusum after `windows` more windows of `count` each, the last of which ends at `end`."""
    if state.weight == 0 or rule.above is None or not _warm(state, rule, end):
        return state.grown
    _, z = _compared(state, count)
    return min(max(0.0, state.grown + windows * (z - SLACK)), FULL * rule.above)
