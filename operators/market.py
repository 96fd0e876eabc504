"""The market domain: what investors feel about a ticker.

Per ticker and for the whole stream: seven emotion shares (EmTract labels), valence, bullishness, agreement,
disagreement and buzz. Sources: Vamossy and Skog (EmTract); Antweiler and Frank 2004; Cookson and Niessner 2020.
"""

from __future__ import annotations

import numpy as np

from engines.base import EngineSpec
from operators import interval
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
COLUMNS = (*EMOTIONS, "bull", "bear", "valence_square", "stance_square")
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
        leaning = stance[:, bull_at] - stance[:, bear_at]
        return np.column_stack(
            (
                emotion,
                stance[:, bull_at],
                stance[:, bear_at],
                valence * valence // MICRO,
                leaning * leaning // MICRO,
            )
        )

    return Domain("market", ("emtract7", "bullbear3"), COLUMNS, SIGNALS, channels, derive)


def derive(sums: Sums) -> Derived:
    """Window totals -> the twelve market signals, in `SIGNALS` order."""
    shares = {name: sums.mean(k) for k, name in enumerate(EMOTIONS)}
    out: list[Triple] = [(share, *interval.wilson(share, sums.n_eff)) for share in shares.values()]
    totals = sums.columns
    minus = sum((totals[:, COLUMNS.index(word)] for word in NEGATIVE), np.zeros(len(totals), np.int64))
    valence = (totals[:, COLUMNS.index("joy")] - minus) / (sums.n * float(MICRO))
    square = sums.mean(COLUMNS.index("valence_square"))
    out.append((valence, *interval.mean(valence, square, sums.n_eff, -1.0, 1.0)))
    bullishness = _bullishness(sums)
    out += [bullishness, _agreement(bullishness), _disagreement(sums), _buzz(sums)]
    return Derived.stack(out)


def _bullishness(sums: Sums) -> Triple:
    """(bull - bear) / (bull + bear) over probability masses, in [-1, 1]; NaN where neither has mass."""
    bull, bear = sums.columns[:, COLUMNS.index("bull")], sums.columns[:, COLUMNS.index("bear")]
    stance = (bull + bear).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        value = np.where(stance > 0, (bull - bear) / stance, np.nan)
        weight = stance / (sums.n * float(MICRO)) * sums.n_eff
        lo, hi = interval.wilson((value + 1) / 2, weight)
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
    bull, bear = COLUMNS.index("bull"), COLUMNS.index("bear")
    lean = (sums.columns[:, bull] - sums.columns[:, bear]) / (sums.n * float(MICRO))
    lo, hi = interval.mean(lean, sums.mean(COLUMNS.index("stance_square")), sums.n_eff, -1.0, 1.0)
    near = np.where((lo <= 0) & (hi >= 0), 0.0, np.minimum(np.abs(lo), np.abs(hi)))
    far = np.maximum(np.abs(lo), np.abs(hi))

    def curve(s: F64) -> F64:
        return np.sqrt(np.maximum(1 - s * s, 0.0))

    return curve(lean), curve(far), curve(near)


def _buzz(sums: Sums) -> Triple:
    """ln(1 + n), n = posts of the window, with the Poisson interval of n."""
    n = sums.n.astype(np.float64)
    half = interval.Z95 * np.sqrt(n)
    return np.log1p(n), np.log1p(np.maximum(n - half, 0.0)), np.log1p(n + half)
