"""The crisis domain: what people need, and where; how they speak of those who help; what they tell and feel.

Per place and for the whole stream: the rate of every need class, requests, offers and their balance; attitude to the
response; six information types; four emotions; a rumour cue, kept apart. For the whole stream alone the share of posts
without a place, so that nobody takes the map for the whole picture. Rates are shares of posts in [0, 1] (x 10 000 =
posts per ten thousand). Sources: need classes of the head `disaster_message`; request and offer, Purohit et al. 2014;
information types, Olteanu et al. 2015; the balance, the attitude and the cues as in docs/reference.md (ours).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from engines.base import EngineSpec
from operators import interval
from operators.correct import corrector
from operators.cues import OFFERS, RESPONDERS, RUMOURS, Cues, words_of
from operators.domain import Derived, Domain, Sums, label_indexes
from operators.ontology import PRIMARIES, Ontology
from operators.records import F64, I64, MICRO, Bools, PostBatch

NEEDS = (
    "water",
    "food",
    "shelter",
    "medical_help",
    "medical_products",
    "clothing",
    "transport",
    "electricity",
    "search_and_rescue",
    "security",
    "missing_people",
    "money",
    "tools",
)
"""Need classes that `disaster_message` has a label for."""

KINDS = ("request", "offer")
INFO = {
    "affected_people": "Affected individuals",
    "infrastructure": "Infrastructure and utilities",
    "donations": "Donations and volunteering",
    "caution": "Caution and advice",
    "sympathy": "Sympathy and support",
}
"""Signal word -> label of `crisis_info6`; the sixth, `other`, is what they leave."""
OTHER = "Other Useful Information"
EMOTIONS = ("fear", "sadness", "anger", "joy")
"""Primaries of Parrott's tree, from `goemotions28`; relief is a part of joy."""

SCORED = (*NEEDS, *KINDS, "offered", *INFO, *EMOTIONS, "positive", "negative")
"""Linear columns with a column of squares. `offered`: see `offered`; `positive`, `negative`: of posts on responders."""
COUNTED = ("response", "rumour_cue", "without_place")
"""Columns of noughts and ones: their squares are they themselves."""
COLUMNS = (*SCORED, *COUNTED, *(f"{name}_square" for name in SCORED))
SQUARE_OF = tuple(range(len(SCORED)))
TASKS = ("disaster_message", "sentiment3", "crisis_info6", "goemotions28")
SIGNALS = (
    *(f"crisis.need.{need}" for need in NEEDS),
    *(f"crisis.{kind}" for kind in KINDS),
    "crisis.without_place",
    "crisis.offered",
    "crisis.balance",
    "crisis.attitude",
    "crisis.response",
    *(f"crisis.info.{name}" for name in INFO),
    "crisis.info.other",
    *(f"crisis.{name}" for name in EMOTIONS),
    "crisis.rumour_cue",
)

Triple = tuple[F64, F64, F64]


def crisis(spec: EngineSpec) -> Domain:
    """The crisis domain on the heads `TASKS` of an engine.

    Raises:
        ConfigInvalid: a head or a label is missing.
    """
    wanted = label_indexes(spec, "disaster_message", [*NEEDS, *KINDS])
    stance = label_indexes(spec, "sentiment3", ["positive", "negative"])
    types = label_indexes(spec, "crisis_info6", [*INFO.values(), OTHER])[:-1]
    label_indexes(spec, "goemotions28", ["fear"])
    emotions = spec.head("goemotions28")
    labels = emotions.labels if emotions is not None else ()
    primaries = [PRIMARIES.index(name) for name in EMOTIONS]
    ontology = Ontology.load()
    responders, offers, rumours = (Cues(phrases) for phrases in (RESPONDERS, OFFERS, RUMOURS))

    def channels(batch: PostBatch) -> I64:
        scores, words = batch.scores, [words_of(text) for text in batch.texts]
        needs = scores["disaster_message"][:, wanted].astype(np.int64)
        named = responders.among(words)
        parts = (
            needs,
            offered(needs[:, -2], needs[:, -1], offers.among(words)),
            scores["crisis_info6"][:, types],
            ontology.roll_up("goemotions28", scores["goemotions28"], labels).primary[:, primaries],
            np.where(named[:, None], scores["sentiment3"][:, stance], 0),
            np.where(np.column_stack((named, rumours.among(words), ~_placed(batch))), MICRO, 0),
        )
        return domain.contributions(np.column_stack(parts))

    domain = Domain("crisis", TASKS, COLUMNS, SIGNALS, channels, derive, SQUARE_OF, _corrector(spec))
    return domain


def offered(request: I64, offer: I64, cue: Bools) -> I64:
    """Chance that a post offers help, millionths: the head's, or where a phrase of `OFFERS` is, 1 - P(request).

    The head's own `offer` had seven training rows and is hardly ever above 0.
    """
    return np.maximum(offer, np.where(cue, MICRO - request, 0))


def _placed(batch: PostBatch) -> Bools:
    placed = np.zeros(len(batch), np.bool_)
    links = zip(batch.link_rows.tolist(), batch.link_names, strict=True)
    placed[[row for row, name in links if name[:6] == "place:"]] = True
    return placed


def _corrector(spec: EngineSpec) -> Callable[[Derived], Derived] | None:
    """Needs, requests and offers, and the information types, each with its own head's confusions undone."""
    first = SIGNALS.index(f"crisis.info.{next(iter(INFO))}")
    both = [
        corrector(spec.head("disaster_message"), [*NEEDS, *KINDS], 0),
        corrector(spec.head("crisis_info6"), [*INFO.values(), OTHER], first),
    ]
    known = [correct for correct in both if correct is not None]
    if not known:
        return None

    def correct(values: Derived) -> Derived:
        out = known[0](values)
        for other in known[1:]:
            more = other(values)
            out = Derived(
                *(
                    np.where(np.isnan(one), two, one)
                    for one, two in ((out.value, more.value), (out.lo, more.lo), (out.hi, more.hi))
                )
            )
        return out

    return correct


def _share(sums: Sums, name: str) -> Triple:
    at = COLUMNS.index(name)
    return sums.share(at, at if name in COUNTED else COLUMNS.index(f"{name}_square"))


def derive(sums: Sums) -> Derived:
    """Window totals -> the crisis signals, in `SIGNALS` order; `without_place` only for the whole stream."""
    out: list[Triple] = [_share(sums, name) for name in (*NEEDS, *KINDS)]
    rate, lo, hi = _share(sums, "without_place")
    out.append((np.where(sums.whole, rate, np.nan), lo, hi))
    out += [_share(sums, "offered"), _balance(sums), _attitude(sums), _share(sums, "response")]
    out += [_share(sums, name) for name in INFO]
    told = sums.columns[:, [COLUMNS.index(name) for name in INFO]].sum(axis=1)
    rest = np.maximum(sums.ratio(sums.weight - told), 0.0)
    out.append((rest, *interval.wilson(rest, sums.n_eff)))  # without squares: as wide as a coin's
    out += [_share(sums, name) for name in (*EMOTIONS, "rumour_cue")]
    return Derived.stack(out)


def _balance(sums: Sums) -> Triple:
    """ln((1 + requests) / (1 + offers)) over expected posts: above 0 more is asked for than offered.

    The interval is that of a difference of logarithms, by variance estimates recovered (MOVER) from the two shares.
    """
    posts = sums.weight / MICRO
    asked, given = ([np.log1p(posts * part) for part in _share(sums, name)] for name in ("request", "offered"))
    value = asked[0] - given[0]
    below = np.sqrt((asked[0] - asked[1]) ** 2 + (given[2] - given[0]) ** 2)
    above = np.sqrt((asked[2] - asked[0]) ** 2 + (given[0] - given[1]) ** 2)
    return value, value - below, value + above


def _attitude(sums: Sums) -> Triple:
    """A = (pos - neg) / (pos + neg) over the posts that name a responder, in [-1, 1]; NaN where none has either.

    A ratio of means; its interval by linearisation: the spread of (1 - A) pos - (1 + A) neg over posts, as the sample
    size of a Wilson interval on (A + 1) / 2. A post's pos * neg is not kept; taken as 0 it only widens the interval.
    """
    positive, negative = (sums.columns[:, COLUMNS.index(name)] for name in ("positive", "negative"))
    felt = (positive + negative).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        value = np.where(felt > 0, (positive - negative) / felt, np.nan)
        mean = sums.ratio(positive + negative)
        squares = [sums.mean(COLUMNS.index(f"{name}_square")) for name in ("positive", "negative")]
        spread = (1 - value) ** 2 * squares[0] + (1 + value) ** 2 * squares[1]
        coin = np.maximum(1 - value**2, 0.0)
        size = sums.n_eff * mean**2 * (coin + 1e-12) / (np.maximum(spread, 0.0) + 1e-12)
        lo, hi = interval.wilson((value + 1) / 2, np.minimum(size * sums.n_eff / (sums.n_eff + 1), 1e9))
    return value, np.minimum(2 * lo - 1, value), np.maximum(2 * hi - 1, value)
