"""The crisis domain: what people need, and where.

Per place and for the whole stream: the rate of every need class, requests, offers; for the whole stream the share of
posts without a place, so that nobody takes the map for the whole picture. Rates are shares of posts in [0, 1]
(x 10 000 = posts per ten thousand); need classes derive from the head `disaster_message`.
"""

from __future__ import annotations

import numpy as np

from engines.base import EngineSpec
from operators.correct import corrector
from operators.domain import Derived, Domain, Sums, label_indexes
from operators.records import I64, MICRO, PostBatch

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
LINEAR = (*NEEDS, *KINDS, "without_place")
COLUMNS = (*LINEAR, *(f"{name}_square" for name in LINEAR))
SQUARE_OF = tuple(range(len(LINEAR)))
SIGNALS = (
    *(f"crisis.need.{need}" for need in NEEDS),
    *(f"crisis.{kind}" for kind in KINDS),
    "crisis.without_place",
)


def crisis(spec: EngineSpec) -> Domain:
    """The crisis domain on the head `disaster_message` of an engine.

    Raises:
        ConfigInvalid: the head or a label is missing.
    """
    wanted = label_indexes(spec, "disaster_message", [*NEEDS, *KINDS])

    def channels(batch: PostBatch) -> I64:
        out = np.zeros((len(batch), len(LINEAR)), np.int64)
        out[:, :-1] = batch.scores["disaster_message"][:, wanted]
        placed = np.zeros(len(batch), np.bool_)
        rows = [
            row for row, name in zip(batch.link_rows.tolist(), batch.link_names, strict=True) if name[:6] == "place:"
        ]
        placed[rows] = True
        out[:, -1] = np.where(placed, 0, MICRO)
        return domain.contributions(out)

    correct = corrector(spec.head("disaster_message"), [*NEEDS, *KINDS], 0)
    domain = Domain("crisis", ("disaster_message",), COLUMNS, SIGNALS, channels, derive, SQUARE_OF, correct)
    return domain


def derive(sums: Sums) -> Derived:
    """Window totals -> rates with Wilson intervals, in `SIGNALS` order; `without_place` only for the whole stream."""
    out = []
    for k, name in enumerate(LINEAR):
        rate, lo, hi = sums.share(k, len(LINEAR) + k)
        if name == "without_place":
            rate = np.where(sums.whole, rate, np.nan)
        out.append((rate, lo, hi))
    return Derived.stack(out)
