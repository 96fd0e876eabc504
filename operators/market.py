"""The market domain: what investors feel about a ticker.

Per ticker and for the whole stream: seven emotion shares (EmTract labels), valence, bullishness, agreement,
disagreement and buzz. Sources: Vamossy and Skog (EmTract); Antweiler and Frank 2004; Cookson and Niessner 2020.
"""

from __future__ import annotations

import numpy as np

from engines.base import EngineSpec
from operators import interval
from operators.correct import corrector
from operators.domain import Derived, Domain, Sums, label_indexes
from operators.records import F64, I64, MICRO, PostBatch

EMOTIONS = {
    "neutral": "neutral",
    "joy": "happy",
    "sadness": "sad",
    "anger": "anger",
    "disgust": "disgust",
    "surprise": "surprise",
    "fear": "fear",
}
"""Signal word -> EmTract label (EmTract reads investor enthusiasm in `happy`)."""

NEGATIVE = ("sadness", "anger", "disgust", "fear")
LINEAR = (*EMOTIONS, "bull", "bear", "valence", "leaning")
COLUMNS = (*LINEAR, *(f"{name}_square" for name in LINEAR))
SQUARE_OF = tuple(range(len(LINEAR)))
OTHERS = ("valence", "bullishness", "agreement", "disagreement", "buzz")
SIGNALS = tuple(f"market.{name}" for name in (*EMOTIONS, *OTHERS))

Triple = tuple[F64, F64, F64]


def market(spec: EngineSpec) -> Domain:
    """The market domain on the heads `emtract7` and `bullbear3` of an engine.

    Raises:
        ConfigInvalid: a head or label is missing.
    """
    emotion_at = label_indexes(spec, "emtract7", list(EMOTIONS.values()))
    bull_at, bear_at = label_indexes(spec, "bullbear3", ["bullish", "bearish"])
    names = list(EMOTIONS)
    minus = [names.index(word) for word in NEGATIVE]
    plus = names.index("joy")

    def channels(batch: PostBatch) -> I64:
        emotion = batch.scores["emtract7"][:, emotion_at].astype(np.int64)
        stance = batch.scores["bullbear3"].astype(np.int64)
        valence = emotion[:, plus] - emotion[:, minus].sum(axis=1)
        bull, bear = stance[:, bull_at], stance[:, bear_at]
        return domain.contributions(np.column_stack((emotion, bull, bear, valence, bull - bear)))

    correct = corrector(spec.head("emtract7"), list(EMOTIONS.values()), 0)
    domain = Domain("market", ("emtract7", "bullbear3"), COLUMNS, SIGNALS, channels, derive, SQUARE_OF, correct)
    return domain


def _at(name: str) -> int:
    return COLUMNS.index(name)


def derive(sums: Sums) -> Derived:
    """Window totals -> the twelve market signals, in `SIGNALS` order."""
    out: list[Triple] = [sums.share(_at(name), _at(f"{name}_square")) for name in EMOTIONS]
    valence = sums.mean(_at("valence"))
    out.append((valence, *interval.mean(valence, sums.mean(_at("valence_square")), sums.n_eff, -1.0, 1.0)))
    bullishness = _bullishness(sums)
    out += [bullishness, _agreement(bullishness), _disagreement(sums), _buzz(sums)]
    return Derived.stack(out)


def _bullishness(sums: Sums) -> Triple:
    """(bull - bear) / (bull + bear) over probability masses, in [-1, 1]; NaN where neither has mass.

    A ratio of means; its interval by linearisation (delta method): the spread of (bull - bear) - B (bull + bear) over
    posts, as an effective sample size of a Wilson interval on (B + 1) / 2.
    """
    bull, bear = sums.columns[:, _at("bull")], sums.columns[:, _at("bear")]
    stance = (bull + bear).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        value = np.where(stance > 0, (bull - bear) / stance, np.nan)
        mean = stance / sums.weight
        bulls, bears = sums.mean(_at("bull_square")), sums.mean(_at("bear_square"))
        leaning = sums.mean(_at("leaning_square"))
        spread = leaning - 2 * value * (bulls - bears) + value**2 * (2 * (bulls + bears) - leaning)
        coin = np.maximum(1 - value**2, 0.0)
        size = sums.n_eff * mean**2 * (coin + 1e-12) / (np.maximum(spread, 0.0) + 1e-12)
        lo, hi = interval.wilson((value + 1) / 2, np.minimum(size * sums.n_eff / (sums.n_eff + 1), 1e9))
    return value, np.minimum(2 * lo - 1, value), np.maximum(2 * hi - 1, value)


def _agreement(bullishness: Triple) -> Triple:
    """1 - sqrt(1 - B^2), Antweiler and Frank 2004; rises with |B|, so the interval follows |B|'s."""
    value, lo, hi = bullishness
    near = np.where((lo <= 0) & (hi >= 0), 0.0, np.minimum(np.abs(lo), np.abs(hi)))
    far = np.maximum(np.abs(lo), np.abs(hi))

    def curve(b: F64) -> F64:
        return 1 - np.sqrt(np.maximum(1 - b * b, 0.0))

    return curve(value), curve(near), curve(far)


def _disagreement(sums: Sums) -> Triple:
    """sqrt(1 - s^2) with s = mean over posts of (bull - bear), neutral posts included (Cookson and Niessner 2020)."""
    lean = sums.mean(_at("leaning"))
    lo, hi = interval.mean(lean, sums.mean(_at("leaning_square")), sums.n_eff, -1.0, 1.0)
    near = np.where((lo <= 0) & (hi >= 0), 0.0, np.minimum(np.abs(lo), np.abs(hi)))
    far = np.maximum(np.abs(lo), np.abs(hi))

    def curve(s: F64) -> F64:
        return np.sqrt(np.maximum(1 - s * s, 0.0))

    return curve(lean), curve(far), curve(near)


def _buzz(sums: Sums) -> Triple:
    """ln(1 + weighted posts), with their Poisson interval; a bot's ten thousand posts are not ten thousand voices."""
    n = sums.weight / MICRO
    half = interval.Z95 * np.sqrt(n)
    return np.log1p(n), np.log1p(np.maximum(n - half, 0.0)), np.log1p(n + half)
