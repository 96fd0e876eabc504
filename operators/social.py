"""The social domain: what people feel about a topic.

Per topic and for the whole stream: shares of Parrott's six primary emotions and of "no emotion", disgust as its own
channel (Parrott puts it under anger), and valence. The head is `goemotions28`, rolled up with its mass kept.
"""

from __future__ import annotations

import numpy as np

from engines.base import EngineSpec
from operators import interval
from operators.domain import Derived, Domain, Sums, label_indexes
from operators.ontology import PRIMARIES, Ontology
from operators.records import I64, PostBatch

SHARES = (*PRIMARIES, "neutral", "disgust")
LINEAR = (*SHARES, "valence")
COLUMNS = (*LINEAR, *(f"{name}_square" for name in LINEAR))
SQUARE_OF = tuple(range(len(LINEAR)))
SIGNALS = (*(f"social.{name}" for name in SHARES), "social.valence")


def social(spec: EngineSpec) -> Domain:
    """The social domain on the head `goemotions28` of an engine.

    Raises:
        ConfigInvalid: the head is missing.
    """
    label_indexes(spec, "goemotions28", ["disgust"])
    head = spec.head("goemotions28")
    labels = head.labels if head is not None else ()
    ontology = Ontology.load()

    def channels(batch: PostBatch) -> I64:
        rolled = ontology.roll_up("goemotions28", batch.scores["goemotions28"], labels)
        return domain.contributions(
            np.column_stack((rolled.primary, rolled.none, rolled.channels["disgust"], rolled.valence))
        )

    domain = Domain("social", ("goemotions28",), COLUMNS, SIGNALS, channels, derive, SQUARE_OF)
    return domain


def derive(sums: Sums) -> Derived:
    """Window totals -> shares with Wilson intervals and valence, in `SIGNALS` order."""
    out = [sums.share(k, len(LINEAR) + k) for k in range(len(SHARES))]
    valence = sums.mean(COLUMNS.index("valence"))
    square = sums.mean(COLUMNS.index("valence_square"))
    out.append((valence, *interval.mean(valence, square, sums.n_eff, -1.0, 1.0)))
    return Derived.stack(out)
