"""The market domain: what investors feel about a ticker.

Per ticker and for the whole stream: seven emotion shares (EmTract labels), valence, bullishness, agreement,
disagreement, buzz, shares of panic and conviction, and two guards that show who could have faked the rest:
concentration over authors and the share of copies. Against the entity's own past: buzz z, fear-greed, shock and hype.
Sources: Vamossy and Skog (EmTract); Antweiler and Frank 2004; Cookson and Niessner 2020; the formulas of panic,
conviction, fear-greed, shock and hype are ours.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from engines.base import EngineSpec
from operators import interval
from operators.correct import corrector
from operators.domain import Derived, Domain, History, Norms, Sums, label_indexes
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

TASKS = ("emtract7", "bullbear3")
NEGATIVE = ("sadness", "anger", "disgust", "fear")
PANIC = MICRO * 7 // 10
"""A post panics where its fear is above this; one with conviction leans to a side with more than `CONVICTION`."""
CONVICTION = MICRO * 8 // 10
COUNTED = ("panic", "conviction")
"""Columns of noughts and ones: their squares are they themselves."""
SCORED = (*EMOTIONS, "bull", "bear", "valence", "leaning")
COLUMNS = (*SCORED, *COUNTED, *(f"{name}_square" for name in SCORED))
SQUARE_OF = tuple(range(len(SCORED)))
OTHERS = ("valence", "bullishness", "agreement", "disagreement", "buzz", *COUNTED, "concentration", "near_duplicates")
SIGNALS = tuple(f"market.{name}" for name in (*EMOTIONS, *OTHERS))

CONCENTRATED, COPIED = 0.25, 0.5
"""Above these, and with at least `TELLING` posts, every row of the entity says so."""
TELLING = 10
SHOCK = 3.0
LEAST_SD, LEAST_BUZZ_SD = 0.01, 0.05
"""Standard deviations of a share (or valence) and of buzz are taken as at least this: a past that never moved."""

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
    plus, fear = names.index("joy"), names.index("fear")

    def channels(batch: PostBatch) -> I64:
        emotion = batch.scores["emtract7"][:, emotion_at].astype(np.int64)
        stance = batch.scores["bullbear3"].astype(np.int64)
        valence = emotion[:, plus] - emotion[:, minus].sum(axis=1)
        bull, bear = stance[:, bull_at], stance[:, bear_at]
        panic = np.where(emotion[:, fear] > PANIC, MICRO, 0)
        conviction = np.where(np.maximum(bull, bear) > CONVICTION, MICRO, 0)
        return domain.contributions(np.column_stack((emotion, bull, bear, valence, bull - bear, panic, conviction)))

    correct = corrector(spec.head("emtract7"), list(EMOTIONS.values()), 0)
    domain = Domain("market", TASKS, COLUMNS, SIGNALS, channels, derive, SQUARE_OF, correct, HISTORY)
    return domain


def _at(name: str) -> int:
    return COLUMNS.index(name)


def derive(sums: Sums) -> Derived:
    """Window totals -> the market signals, in `SIGNALS` order."""
    out: list[Triple] = [sums.share(_at(name), _at(f"{name}_square")) for name in EMOTIONS]
    valence = sums.mean(_at("valence"))
    out.append((valence, *interval.mean(valence, sums.mean(_at("valence_square")), sums.n_eff, -1.0, 1.0)))
    bullishness = _bullishness(sums)
    out += [bullishness, _agreement(bullishness), _disagreement(sums), _buzz(sums)]
    out += [sums.share(_at(name), _at(name)) for name in COUNTED]
    n = sums.n.astype(np.float64)  # facts of the posts that came: every one of them counts, hushed or not
    out += [(sums.hhi, *interval.wilson(sums.hhi, n)), (sums.copies, *interval.wilson(sums.copies, n))]
    return replace(Derived.stack(out), notes=_notes(sums))


def _notes(sums: Sums) -> dict[int, tuple[str, ...]]:
    """What readers should know of entities that one author, or copies, could have made."""
    out: dict[int, tuple[str, ...]] = {}
    many = sums.n >= TELLING
    for k in np.flatnonzero(many & (sums.hhi > CONCENTRATED)).tolist():
        # The largest share is at least the sum of squared shares.
        out[k] = (f"one author wrote {sums.hhi[k]:.0%} of the posts or more",)
    for k in np.flatnonzero(many & (sums.copies > COPIED)).tolist():
        out[k] = (*out.get(k, ()), f"copies of known texts: {sums.copies[k]:.0%} of the posts")
    return out


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


def compare(sums: Sums, now: Derived, usual: Norms) -> Derived:
    """Totals, their values (`SIGNALS`) and what is usual (`TRACKED`) -> the signals of `HISTORY`, in its order.

    buzz_z: its sd is at least the counting noise of a window as busy as usual. fear_greed: z(joy) - z(fear), the
    interval by the method of variance estimates recovery. shock: the largest |z| of valence, fear and joy. hype: mean
    P(bull) times buzz_z where that is above 0.
    """

    def column(name: str) -> Triple:
        at = SIGNALS.index(name)
        return now.value[:, at], now.lo[:, at], now.hi[:, at]

    often = np.expm1(np.maximum(usual.mean[:, 0], 0.0))
    buzz = usual.z(0, column(TRACKED[0]), np.maximum(np.sqrt(often) / (1 + often), LEAST_BUZZ_SD))
    valence, fear, joy = (usual.z(k, column(TRACKED[k]), LEAST_SD) for k in (1, 2, 3))
    spread = joy[0] - fear[0]
    below = np.sqrt((joy[0] - joy[1]) ** 2 + (fear[2] - fear[0]) ** 2)
    above = np.sqrt((joy[2] - joy[0]) ** 2 + (fear[0] - fear[1]) ** 2)
    sizes = [_size(z) for z in (valence, fear, joy)]
    shock = np.max(np.array(sizes), axis=0)
    bull = sums.share(_at("bull"), _at("bull_square"))
    hype = (bull[0] * np.maximum(buzz[0], 0.0), bull[1] * np.maximum(buzz[1], 0.0), bull[2] * np.maximum(buzz[2], 0.0))
    remarks = {}
    for k in np.flatnonzero(shock[0] > SHOCK).tolist():
        values = [float(z[0][k]) for z in (valence, fear, joy)]
        most = int(np.argmax(np.abs(values)))
        remarks[k, 2] = f"shock: {TRACKED[most + 1]} is {values[most]:+.1f} standard deviations from its usual value"
    return replace(
        Derived.stack([buzz, (spread, spread - below, spread + above), (shock[0], shock[1], shock[2]), hype]),
        remarks=remarks,
    )


def _size(z: Triple) -> Triple:
    """|z| and the interval of it."""
    value, lo, hi = z
    near = np.where((lo <= 0) & (hi >= 0), 0.0, np.minimum(np.abs(lo), np.abs(hi)))
    return np.abs(value), near, np.maximum(np.abs(lo), np.abs(hi))


TRACKED = ("market.buzz", "market.valence", "market.fear", "market.joy")
HISTORY = History(("market.buzz_z", "market.fear_greed", "market.shock", "market.hype"), TRACKED, compare)
