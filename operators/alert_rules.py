"""Alert rules as people write them: one `[[rule]]` table each in a TOML file, checked before the first row."""

from __future__ import annotations

import tomllib
from math import isfinite
from typing import Literal

import msgspec

from operators.errors import ConfigInvalid
from operators.window import parse_span

Kind = Literal["threshold", "change", "burst", "cusum"]
COUNTING: tuple[Kind, ...] = ("burst", "cusum")
"""Kinds that compare a count with its average over the windows before."""
Severity = Literal["info", "warning", "critical"]

MOST_RULES = 1_000
LONGEST_MS = 366 * 86_400_000
"""Longest window and cool-down."""


class Rule(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """One rule. `entity` is a glob; one alert state is kept for each entity it meets.

    Attributes:
        name: unique in its file.
        signal: exact name, e.g. `market.fear`. entity: glob such as `ticker:*`, `all:*` (which is itself an entity).
        window: size of the windows looked at, e.g. `5m`, whatever their hop.
        kind: `threshold` fires where the value is above `above` or below `below`; `change` where the value minus
            that of the window before (the one that ends where this begins) is beyond `by`, whose sign is the
            direction; `burst` where the Poisson z of `of` against its average over the windows before is above `z`;
            `cusum` where those z, less 0.5 each, have added up to more than `above` (S <- max(0, S + z - 0.5)): a
            rise too small for one window, that lasts.
        of: what a burst or cusum counts: `n` posts, the `value` itself (count-like, >= 0), or `share`: value times
            n_eff.
        memory: windows the average remembers (EWMA weight 2 / (memory + 1) a window). warm_up: windows that must have
            passed before a burst or cusum can fire.
        hysteresis: a rule that fired is armed again once its measure lies this far inside the limit.
        cool_down: least event time between two alerts for an entity, `0s` = none.
        status: `final` looks at final and revised rows only, `provisional` at all.

    Raises:
        ConfigInvalid: on making, for settings that cannot work; names the key.
    """

    name: str
    signal: str
    entity: str = "*"
    window: str
    kind: Kind = "threshold"
    above: float | None = None
    below: float | None = None
    by: float | None = None
    z: float | None = None
    of: Literal["n", "value", "share"] = "n"
    memory: int = 12
    warm_up: int = 6
    hysteresis: float = 0.0
    cool_down: str = "0s"
    severity: Severity = "warning"
    status: Literal["final", "provisional"] = "final"

    def __post_init__(self) -> None:
        for key in ("name", "signal", "entity"):
            text = getattr(self, key)
            if not text or len(text) > 200 or "|" in text:
                raise ConfigInvalid(f"{key}: expected 1 to 200 characters without '|', got {text!r}")
        for key in ("above", "below", "by", "z", "hysteresis"):
            number = getattr(self, key)
            if number is not None and not isfinite(number):
                raise ConfigInvalid(f"{key}: expected a finite number, got {number}")
        for key in ("window", "cool_down"):
            _span(key, getattr(self, key))
        if self.window_ms == 0:
            raise ConfigInvalid(f"window: expected above 0s, got {self.window!r}")
        if self.hysteresis < 0:
            raise ConfigInvalid(f"hysteresis: expected 0 or more, got {self.hysteresis}")
        if not 1 <= self.memory <= 10_000 or not 1 <= self.warm_up <= 10_000:
            raise ConfigInvalid(f"memory, warm_up: expected 1 to 10000 windows, got {self.memory}, {self.warm_up}")
        self._check_limits()

    def _check_limits(self) -> None:
        wanted = {"threshold": ("above", "below"), "change": ("by",), "burst": ("z",), "cusum": ("above",)}[self.kind]
        given = [key for key in ("above", "below", "by", "z") if getattr(self, key) is not None]
        if stray := [key for key in given if key not in wanted]:
            raise ConfigInvalid(f"{stray[0]}: no setting of kind {self.kind!r}, which takes {' and '.join(wanted)}")
        if not given:
            raise ConfigInvalid(f"{' or '.join(wanted)}: expected a number for kind {self.kind!r}, got none")
        if self.kind not in COUNTING and self.of != "n":
            raise ConfigInvalid(f"of: no setting of kind {self.kind!r}, only of {' and '.join(COUNTING)}")
        if self.by == 0:
            raise ConfigInvalid("by: expected a rise (above 0) or a fall (below 0), got 0")
        if self.kind == "cusum" and self.above is not None and not 0 <= self.hysteresis <= self.above > 0:
            raise ConfigInvalid(
                f"above, hysteresis: expected above > 0 and hysteresis of at most that, got {self.above} and "
                f"{self.hysteresis}; a sum is never below 0"
            )
        if self.z is not None and self.z <= 0:
            raise ConfigInvalid(f"z: expected above 0, got {self.z}")
        if self.above is not None and self.below is not None and self.above - self.below < 2 * self.hysteresis:
            raise ConfigInvalid(
                f"hysteresis: expected at most half of above - below, got {self.hysteresis} "
                f"for {self.below}..{self.above}; the rule would never be armed again"
            )

    @property
    def window_ms(self) -> int:
        return _span("window", self.window)

    @property
    def cool_down_ms(self) -> int:
        return _span("cool_down", self.cool_down)


class _File(msgspec.Struct, forbid_unknown_fields=True):
    rule: list[dict[str, object]] = []


def parse_rules(text: str, name: str = "alert rules") -> tuple[Rule, ...]:
    """The rules of a TOML file, in order. `name` is the file's, for messages.

    Raises:
        ConfigInvalid: the message names file, rule and key, what was expected and what was given.
    """
    try:
        tables = msgspec.convert(tomllib.loads(text), _File).rule
    except tomllib.TOMLDecodeError as problem:
        raise ConfigInvalid(f"{name}: not valid TOML: {problem}") from None
    except msgspec.ValidationError as problem:
        raise ConfigInvalid(f"{name}: expected [[rule]] tables only: {problem}") from None
    if not 1 <= len(tables) <= MOST_RULES:
        raise ConfigInvalid(f"{name}: expected 1 to {MOST_RULES} [[rule]] tables, got {len(tables)}")
    rules: dict[str, Rule] = {}
    for number, table in enumerate(tables, 1):
        which = f"{name}: rule {number} ({table.get('name', 'no name')!r})"
        try:
            rule = msgspec.convert(table, Rule)
        except (msgspec.ValidationError, ConfigInvalid) as problem:
            # msgspec wraps what __post_init__ raises only when it is a ValueError or TypeError.
            raise ConfigInvalid(f"{which}: {problem}") from None
        if rule.name in rules:
            raise ConfigInvalid(f"{which}: name: expected one no other rule has")
        rules[rule.name] = rule
    return tuple(rules.values())


def _span(key: str, text: str) -> int:
    if text == "0s":
        return 0
    try:
        found = parse_span(text)
    except ConfigInvalid as problem:
        raise ConfigInvalid(f"{key}: {problem}") from None
    if found > LONGEST_MS:
        raise ConfigInvalid(f"{key}: expected at most 366d, got {text!r}")
    return found
