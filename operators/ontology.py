"""Labels of any scheme, rolled up to Parrott's three tiers in whole millionths: mass is kept, to the last unit.

Source of the tree: W. G. Parrott (2001), Emotions in Social Psychology; `operators/ontology/README.md` says how it came
here. Anger holds disgust in that tree; `disgust` is a channel of its own as well, so that the roll-up loses nothing.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files

import numpy as np

from operators.errors import ConfigInvalid
from operators.records import I32, I64, MICRO

ONTOLOGY_VERSION = "parrott-1"
PRIMARIES = ("love", "joy", "surprise", "anger", "sadness", "fear")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a label stands. `primary` is one of `PRIMARIES`, `other` or `none`; `valence` in {-1, 0, 1}."""

    primary: str
    secondary: str
    valence: int
    channel: str
    notes: str


@dataclass(frozen=True, slots=True)
class RollUp:
    """What `n` rows of one head mean in the tree, in millionths: primary.sum(axis=1) + none + other == MICRO.

    Attributes:
        primary: int64 [n, 6], columns as `PRIMARIES`.
        secondary: int64 [n, 25], columns as `Ontology.secondaries`; a primary is the sum of its secondaries.
        none: int64 [n], neutral or abstained; all of it where a row holds no mass at all.
        other: int64 [n], mass on labels that are no emotion (needs, stance, information types).
        valence: int64 [n] in [-MICRO, MICRO], positive minus negative mass.
        channels: name -> int64 [n]. `disgust` is normalised mass (a part of anger); the rest are probabilities as
            given, since needs and stances stand for themselves; several labels of one channel add up, at most MICRO.
    """

    primary: I64
    secondary: I64
    none: I64
    other: I64
    valence: I64
    channels: Mapping[str, I64]


@dataclass(frozen=True, slots=True)
class _Plan:
    """Column numbers for one (task, labels): `columns[k]` = tree column of label k; 25 = none, 26 = other."""

    columns: tuple[int, ...]
    positive: I64
    negative: I64
    channels: Mapping[str, list[int]]


def shares(micro: I32 | I64) -> I64:
    """Scale each row of masses so that it sums to MICRO exactly.

    Largest remainder: every label gets floor(mass * MICRO / total), and what is left goes, one millionth each, to the
    labels with the largest remainders, the lower label first among equals. A row that sums to MICRO stays as it is; a
    row of zeros stays zero.

    Args:
        micro: [n, L], masses of 0..MICRO.
    """
    mass = micro.astype(np.int64)
    total = mass.sum(axis=1)
    uneven = np.flatnonzero((total != MICRO) & (total != 0))
    if not len(uneven):
        return mass
    scaled = mass[uneven] * MICRO
    below = total[uneven, None]
    out = scaled // below
    rest = scaled - out * below
    left = MICRO - out.sum(axis=1)
    order = np.argsort(-rest, axis=1, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(order.shape[1])[None, :], axis=1)
    out += rank < left[:, None]
    mass[uneven] = out
    return mass


@dataclass(frozen=True)
class Ontology:
    """The map from labels to the tree.

    Example:
        >>> ontology = Ontology.load()
        >>> rolled = ontology.roll_up("emtract7", np.array([[0, 1_000_000, 0, 0, 0, 0, 0]], np.int32),
        ...     ("neutral", "happy", "sad", "anger", "disgust", "surprise", "fear"))
        >>> dict(zip(PRIMARIES, rolled.primary[0].tolist()))["joy"], rolled.valence.tolist()
        (1000000, [1000000])
    """

    tree: Mapping[str, str]
    tertiaries: Mapping[str, tuple[str, ...]]
    places: Mapping[tuple[str, str], Place]
    version: str = ONTOLOGY_VERSION
    _plans: dict[tuple[str, tuple[str, ...]], _Plan] = field(default_factory=dict, repr=False)

    @staticmethod
    def load() -> Ontology:
        """The map that ships with the package, read once."""
        return _load()

    @property
    def secondaries(self) -> tuple[str, ...]:
        """The 25 secondary emotions, in the order of the tree (grouped by primary)."""
        return tuple(self.tree)

    @property
    def schemes(self) -> tuple[str, ...]:
        """Names of the label schemes the map knows."""
        return tuple(dict.fromkeys(scheme for scheme, _ in self.places))

    def labels(self, scheme: str) -> tuple[str, ...]:
        """Labels of `scheme` in the order of the map; empty for an unknown one."""
        return tuple(label for name, label in self.places if name == scheme)

    def place(self, scheme: str, label: str) -> Place:
        """Where `label` stands.

        Raises:
            ConfigInvalid: unknown scheme or label; the message lists what there is.
        """
        found = self.places.get((scheme, label))
        if found is None:
            known = self.labels(scheme)
            raise ConfigInvalid(
                f"ontology: scheme {scheme!r} has no label {label!r}, only {', '.join(known)}; add it to label_map.csv"
                if known
                else f"ontology: no scheme {scheme!r}; expected one of {', '.join(self.schemes)}"
            )
        return found

    def roll_up(self, task: str, micro: I32, labels: Sequence[str]) -> RollUp:
        """Roll one head's probabilities up the tree.

        Args:
            task: scheme name, as in `label_map.csv`.
            micro: int32 [n, L], probabilities in millionths; rows need not sum to MICRO (multi-label heads).
            labels: the L labels of the columns.

        Raises:
            ConfigInvalid: unknown task or label, a shape that does not fit, or a negative mass.
        """
        names = tuple(labels)
        if micro.ndim != 2 or micro.shape[1] != len(names) or not names:
            raise ConfigInvalid(f"ontology: {task}: expected micro [n, {len(names)}] for its labels, got {micro.shape}")
        if micro.size and int(micro.min()) < 0:
            raise ConfigInvalid(
                f"ontology: {task}: expected masses >= 0, got {int(micro.min())}; is it a regression head?"
            )
        plan = self._plans.get((task, names))
        if plan is None:
            plan = self._plans[task, names] = self._plan(task, names)
        mass = shares(micro)
        sums = np.zeros((len(self.tree) + 2, len(mass)), np.int64)
        for k, column in enumerate(plan.columns):
            sums[column] += mass[:, k]
        secondary = sums[:-2]
        starts = [list(self.tree.values()).index(name) for name in PRIMARIES]
        none = sums[-2] + np.where(mass.any(axis=1), 0, MICRO)
        return RollUp(
            primary=np.add.reduceat(secondary, starts, axis=0).T,
            secondary=secondary.T,
            none=none,
            other=sums[-1],
            valence=mass[:, plan.positive].sum(axis=1) - mass[:, plan.negative].sum(axis=1),
            channels={
                name: np.minimum((mass if name == "disgust" else micro)[:, ks].sum(axis=1, dtype=np.int64), MICRO)
                for name, ks in plan.channels.items()
            },
        )

    def _plan(self, task: str, labels: tuple[str, ...]) -> _Plan:
        places = [self.place(task, label) for label in labels]
        order = {name: k for k, name in enumerate((*self.tree, "none", "other"))}
        channels: dict[str, list[int]] = {}
        for k, place in enumerate(places):
            if place.channel:
                channels.setdefault(place.channel, []).append(k)
        return _Plan(
            columns=tuple(order[p.secondary or p.primary] for p in places),
            positive=np.array([k for k, p in enumerate(places) if p.valence > 0], np.int64),
            negative=np.array([k for k, p in enumerate(places) if p.valence < 0], np.int64),
            channels=channels,
        )


def _rows(name: str) -> list[dict[str, str]]:
    text = files("operators").joinpath("ontology", name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


@lru_cache(maxsize=1)
def _load() -> Ontology:
    branches = _rows("parrott_tree.csv")
    tree = {row["secondary"]: row["primary"] for row in branches}
    places = {}
    for row in _rows("label_map.csv"):
        place = Place(row["primary"], row["secondary"], int(row["valence"]), row["channel"], row["notes"])
        if tree.get(place.secondary, place.primary) != place.primary or (
            not place.secondary and place.primary not in ("none", "other")
        ):
            raise ConfigInvalid(f"label_map.csv: {row['scheme']}/{row['label']}: {place} does not stand in the tree")
        places[row["scheme"], row["label"]] = place
    return Ontology(tree, {row["secondary"]: tuple(row["tertiary"].split("|")) for row in branches}, places)
