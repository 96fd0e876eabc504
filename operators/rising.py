"""Words and emoji that rose from one window to the next: log-odds with an informative prior.

Source: Monroe, Colaresi and Quinn 2008, "Fightin' Words". A word counts once for each who wrote it, so that neither a
bot nor a copied text makes a word rise, and one that fewer than `LEAST` wrote is never shown: what only one or two
people say may be who they are.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from operators.masking import mask
from operators.records import F64, PostBatch

LEAST = 3
"""Different authors a word needs (posts without an author count by their words: copies are one)."""
SURE = 2.0
"""Standard errors the log-odds must be above 0."""
PRIOR = 100.0
"""Weight of the prior, in uses: the words of both windows together."""
MOST_CHARS = 2_000

EMPTY = frozenset(
    """
    a about after again all also am an and any are as at be because been but by can could did do does for from get got
    had has have he her here him his how i i'm if in into is it it's its just me more my no not now of off on one or our
    out over own she so some such than that that's the their them then there these they this those to too up us very was
    we were what when where which who why will with would you your rt via amp
    """.split()
)
"""English words that carry no content: they rise and fall by chance, and tell nothing."""

_PLACEHOLDER = re.compile(r"@user\b|\bhttp\b|<mail>|<phone>")
_EMOJI = (
    "(?:[\\U0001F1E6-\\U0001F1FF]{2}|[\\U0001F300-\\U0001FAFF\\u2600-\\u27BF\\u2B50\\u2B55]"
    "(?:\\uFE0F|[\\U0001F3FB-\\U0001F3FF])?(?:\\u200D[\\U0001F300-\\U0001FAFF\\u2600-\\u27BF]\\uFE0F?)*)"
)
_WORD = re.compile(_EMOJI + r"|[$#]?[^\W\d_][\w'’]*[^\W_]", re.UNICODE)


class Rise(NamedTuple):
    """A word that rose. `now`, `before`: how many wrote it; `z`: standard errors its log-odds are above 0."""

    word: str
    now: int
    before: int
    z: float


def words_of(text: str) -> set[str]:
    """The words, tags and emoji of a text, lower-case, without handles, links, addresses, numbers and `EMPTY`."""
    shown = _PLACEHOLDER.sub(" ", mask(text, MOST_CHARS))
    return {found.lower().replace("’", "'") for found in _WORD.findall(shown)} - EMPTY


def rising(before: Iterable[PostBatch], now: Iterable[PostBatch], top: int = 8, least: int = LEAST) -> list[Rise]:
    """The words that rose most surely, surest first.

    Args:
        before, now: the posts of two windows. top: words at most. least: different authors a word needs.
    """
    was, uses_before = _uses(before)
    told, uses = _uses(now)
    words = sorted(word for word, count in told.items() if count >= least)
    if not words or not uses_before:
        return []
    y1, y0 = (np.array([count[word] for word in words], np.float64) for count in (told, was))
    z = _log_odds(y1, y0, float(uses), float(uses_before))
    order = sorted((k for k in range(len(words)) if z[k] >= SURE), key=lambda k: (-z[k], words[k]))
    return [Rise(words[k], int(y1[k]), int(y0[k]), float(z[k])) for k in order[:top]]


def _log_odds(y1: F64, y0: F64, n1: float, n0: float) -> F64:
    """z of the difference of log-odds of words used y1 of n1 and y0 of n0 times; the prior is their pooled rate."""
    alpha = PRIOR * (y1 + y0) / (n1 + n0)
    odds1 = (y1 + alpha) / np.maximum(n1 + PRIOR - y1 - alpha, 1e-9)
    odds0 = (y0 + alpha) / np.maximum(n0 + PRIOR - y0 - alpha, 1e-9)
    found: F64 = (np.log(odds1) - np.log(odds0)) / np.sqrt(1 / (y1 + alpha) + 1 / (y0 + alpha))
    return found


def _uses(posts: Iterable[PostBatch]) -> tuple[Counter[str], int]:
    """How many wrote each word, and the sum of that over words."""
    seen: set[tuple[int, int, str]] = set()
    for batch in posts:
        for text, who in zip(batch.texts, _voices(batch), strict=True):
            seen.update((*who, word) for word in words_of(text))
    found = Counter(word for _, _, word in seen)
    return found, len(seen)


def _voices(batch: PostBatch) -> Sequence[tuple[int, int]]:
    """Who wrote each post: the author, or where none is known, the words themselves."""
    authors = batch.authors.tolist()
    if len(batch.text_keys):
        keys = batch.text_keys.tolist()
        return [(author, 0 if author else key) for author, key in zip(authors, keys, strict=True)]
    return [(author, 0 if author else hash(text)) for author, text in zip(authors, batch.texts, strict=True)]
