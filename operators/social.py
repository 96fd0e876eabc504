"""The social domain: what people feel about a topic, and whether that is new.

Per topic, community and for the whole stream: shares of Parrott's six primary emotions and of "no emotion", of the
secondary emotions the head can tell apart, disgust as its own channel (Parrott puts it under anger), valence, how mixed
the feelings are (entropy) and how far they have moved from the usual (drift). The head is `goemotions28`, rolled up
with its mass kept: what writers express, as raters read it.
"""

from __future__ import annotations

import numpy as np

from engines.base import EngineSpec
from operators import interval
from operators.domain import Derived, Domain, History, Norms, Sums, label_indexes
from operators.ontology import PRIMARIES, Ontology
from operators.records import F64, I64, MICRO, PostBatch

TASKS = ("goemotions28",)
SHARES = (*PRIMARIES, "neutral", "disgust")
SECONDARIES = (
    "affection", "lust", "cheerfulness", "contentment", "zest", "optimism", "pride", "relief", "irritation", "rage",
    "disappointment", "neglect", "shame", "horror", "nervousness",
)  # fmt: skip
"""Those with a label in `goemotions28`; surprise and sadness are their own only one, disgust is a channel already."""

LINEAR = (*SHARES, "valence", *SECONDARIES)
SQUARED = (*SHARES, "valence")
COLUMNS = (*LINEAR, *(f"{name}_square" for name in SQUARED))
SQUARE_OF = tuple(range(len(SQUARED)))
SIGNALS = (
    *(f"social.{name}" for name in SHARES),
    "social.valence",
    "social.entropy",
    "social.buzz",
    *(f"social.secondary.{name}" for name in SECONDARIES),
)
MIXED = (*PRIMARIES, "neutral")
"""What entropy and drift are about: shares that exclude each other."""

Triple = tuple[F64, F64, F64]


def social(spec: EngineSpec) -> Domain:
    """The social domain on the head `goemotions28` of an engine.

    Raises:
        ConfigInvalid: the head is missing.
    """
    label_indexes(spec, "goemotions28", ["disgust"])
    head = spec.head("goemotions28")
    labels = head.labels if head is not None else ()
    ontology = Ontology.load()
    at = [ontology.secondaries.index(name) for name in SECONDARIES]

    def channels(batch: PostBatch) -> I64:
        rolled = ontology.roll_up("goemotions28", batch.scores["goemotions28"], labels)
        whole = (rolled.primary, rolled.none, rolled.channels["disgust"], rolled.valence, rolled.secondary[:, at])
        return domain.contributions(np.column_stack(whole))

    domain = Domain("social", TASKS, COLUMNS, SIGNALS, channels, derive, SQUARE_OF, history=HISTORY)
    return domain


def derive(sums: Sums) -> Derived:
    """Window totals -> the social signals, in `SIGNALS` order."""
    shares = [sums.share(k, len(LINEAR) + k) for k in range(len(SHARES))]
    valence = sums.mean(COLUMNS.index("valence"))
    square = sums.mean(COLUMNS.index("valence_square"))
    out = [*shares, (valence, *interval.mean(valence, square, sums.n_eff, -1.0, 1.0))]
    out.append(_entropy([shares[SHARES.index(name)] for name in MIXED]))
    out.append(interval.count(sums.weight / MICRO))
    for name in SECONDARIES:  # without squares of their own: Wilson's interval, which is never too narrow
        share = sums.mean(COLUMNS.index(name))
        out.append((share, *interval.wilson(share, sums.n_eff)))
    return Derived.stack(out)


def _entropy(shares: list[Triple]) -> Triple:
    """-sum p ln p / ln K: 0 = all feel the same, 1 = evenly mixed. Interval by linearisation over the shares' own."""
    p = _mix([share[0] for share in shares])
    logs = np.log(np.maximum(p, 1e-12))
    value = -(p * logs).sum(axis=0) / np.log(len(shares))
    slope = np.abs(logs + 1) / np.log(len(shares))
    return _spread(value, slope, shares)


def _mix(shares: list[F64]) -> F64:
    """float64 [K, k], columns that sum to one; NaN where nothing has mass."""
    p = np.array(shares)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(p / p.sum(axis=0), np.float64)


def _spread(value: F64, slope: F64, shares: list[Triple]) -> Triple:
    """`value` with the interval that shares moving within theirs give it, cut to [0, 1]."""
    half = np.array([(hi - lo) / 2 for _, lo, hi in shares])
    room = np.sqrt(((slope * half) ** 2).sum(axis=0))
    return np.clip(value, 0.0, 1.0), np.clip(value - room, 0.0, 1.0), np.clip(value + room, 0.0, 1.0)


def compare(sums: Sums, now: Derived, usual: Norms) -> Derived:
    """Drift: Jensen-Shannon divergence, in bits, between the mix now and the usual one (Lin 1991); 0 = as ever."""
    del sums
    at = [SIGNALS.index(f"social.{name}") for name in MIXED]
    shares = [(now.value[:, k], now.lo[:, k], now.hi[:, k]) for k in at]
    p, q = _mix([share[0] for share in shares]), _mix([usual.mean[:, k] for k in range(1, len(TRACKED))])
    middle = np.maximum((p + q) / 2, 1e-12)
    with np.errstate(invalid="ignore", divide="ignore"):
        one = np.where(p > 0, p * np.log2(np.maximum(p, 1e-300) / middle), 0.0 * p)
        two = np.where(q > 0, q * np.log2(np.maximum(q, 1e-300) / middle), 0.0 * q)
        slope = np.abs(np.log2(np.maximum(p, 1e-12) / middle)) / 2
    value = (one.sum(axis=0) + two.sum(axis=0)) / 2
    return Derived.stack([_spread(value, slope, shares)])


TRACKED = ("social.buzz", *(f"social.{name}" for name in MIXED))
HISTORY = History(("social.drift",), TRACKED, compare)
