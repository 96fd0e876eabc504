"""Which entities a post is about: `ticker:`, `place:` or `topic:`, and `all:*` for every post.

What the user gives is taken as it is; linking runs only where nothing was given, and never invents. Where they are
asked for, the sectors of a post's tickers (`sector:`) and the community it was posted in (`source:`) are entities too,
so that their windows are counted like any other's: each post and each author once.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from importlib.resources import files
from typing import Literal, NamedTuple

import numpy as np

from operators import gazetteer
from operators.base import Emit
from operators.errors import ConfigInvalid
from operators.records import PostBatch
from operators.sent import recall

Domain = Literal["market", "crisis", "social", "classroom"]
ALL = "all:*"
MAX_ENTITIES = 32
MAX_TAGS = 5
MAX_NAME = 64
CACHE = 65_536
"""Given values whose entities are remembered; beyond it the memory starts anew."""

_CASHTAG = re.compile(r"(?<!\w)\$([A-Za-z]{1,5}(?:\.[ABCKXabckx])?)(?!\w)")
_HASHTAG = re.compile(r"(?<![\w#&])#(\w{1,64})")
_TOKEN = re.compile(r"[A-Za-z0-9][\w&'’.-]*")
_HINT = re.compile(r"[a-z0-9][\w&'’-]*")
_BAD = re.compile(r"[\x00-\x1f\x7f-\x9f|]+")
_SENTENCE_END = re.compile(r"(?:^|[.!?:\n])[\"'“‘(\s]*$")


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_BUSINESS = _set(
    """
    stock stocks share shares earnings guidance revenue dividend calls call puts options bullish bearish buy sell
    buying selling bought sold long short longs shorts rally dip dips market markets nasdaq dow investors investor
    analyst analysts upgrade downgrade upgraded downgraded price target eps quarter q1 q2 q3 q4 ipo merger
    acquisition valuation portfolio trading trader traders ceo
    """
)
_AFTER = _set(
    """
    stock stocks shares share earnings inc corp corporation options calls puts investors
    """
)


class _Company(NamedTuple):
    """One name of a company. `guarded`: the word means other things too (apple, target, visa)."""

    words: tuple[str, ...]
    ticker: str
    guarded: bool


@lru_cache(maxsize=1)
def _companies() -> dict[str, tuple[_Company, ...]]:
    """First word, lower-cased -> the names that begin with it, longest first."""
    text = files("operators").joinpath("ontology", "tickers.csv").read_text(encoding="utf-8")
    table: dict[str, list[_Company]] = {}
    for row in csv.DictReader(text.splitlines()):
        words = tuple(row["name"].replace(" & ", " and ").lower().split())
        table.setdefault(words[0], []).append(_Company(words, row["ticker"], row["guarded"] == "yes"))
    return {head: tuple(sorted(names, key=lambda c: (-len(c.words), c.ticker))) for head, names in table.items()}


@lru_cache(maxsize=1)
def _hints() -> frozenset[str]:
    """Words, lower-cased, without which a text names no company: most texts are done after one look."""
    heads = [m.group() for m in map(_HINT.match, _companies()) if m is not None]
    return frozenset(head + tail for head in heads for tail in ("", "'s", "’s", "-", "'", "’"))


def find_tickers(text: str) -> list[str]:
    """Tickers named in `text`: cashtags first, then companies by name.

    A plain name (`Nvidia`, `Goldman Sachs`) counts in any case. A guarded one (`Apple`, `Visa`, `Gap`) counts only
    capitalised, and only where a word of business follows it directly (`Apple shares`), or stands somewhere in the text
    while the name does not open a sentence.
    """
    found = [tag.upper() for tag in _CASHTAG.findall(text)]
    if _hints().isdisjoint(_HINT.findall(text.lower())):
        return found
    heads = _companies()
    text = text.replace(" & ", " and ")
    matches = list(_TOKEN.finditer(text))
    words = [_bare(m.group()) for m in matches]
    k = 0
    while k < len(words):
        for name in heads.get(words[k], ()):
            size = len(name.words)
            if tuple(words[k : k + size]) == name.words and (
                not name.guarded or _business(text, matches, words, k, size)
            ):
                found.append(name.ticker)
                k += size - 1
                break
        k += 1
    return found


def _bare(word: str) -> str:
    """Lower-cased, without a closing stop or possessive (a name that owns one, `Macy's`, keeps it)."""
    word = word.rstrip(".-'’").lower().replace("’", "'")
    return word[:-2] if word.endswith("'s") and word not in _companies() else word


def _business(text: str, matches: list[re.Match[str]], words: list[str], k: int, size: int) -> bool:
    """Whether the guarded name at word `k` is written like a company and the text is about business."""
    start = matches[k].start()
    if not text[start].isupper() or (start and text[start - 1] in "#@$"):
        return False
    following = words[k + size] if k + size < len(words) else ""
    if following in _AFTER:
        return True
    if following in ("price", "prices"):
        # "my Target price" is no shop.
        return False
    return not _BUSINESS.isdisjoint(words) and not _SENTENCE_END.search(text[max(0, start - 8) : start])


def find_tags(text: str) -> list[str]:
    """The first `MAX_TAGS` hashtags of `text`, lower-cased; those without a letter are none."""
    if "#" not in text:
        return []
    tags = (tag.lower() for tag in _HASHTAG.findall(text) if any(c.isalpha() for c in tag))
    return list(dict.fromkeys(tags))[:MAX_TAGS]


class Linker:
    """Fill `link_rows` and `link_names`. Stateless; each post links to its own entities, then to `all:*`.

    Names are cleaned: no control characters and no `|`, spaces collapsed, at most 64 characters; an empty one is none.
    At most 32 entities a post, `all:*`, sectors and source apart; what lies beyond is left out and counted in `capped`.

    Args:
        domain: `market` links tickers, `crisis` places, `social` topics (the given event, else hashtags), `classroom`
            rooms (the given event; nothing is looked for in a text).
        sectors: entity -> its group (`ticker:AAPL` -> `sector:technology`); a post counts once in each of its own.
        communities: a post counts in `source:NAME` as well, NAME its `source`.

    Raises:
        ConfigInvalid: another domain.

    Example:
        >>> Linker("market").entities("Long $aapl and Nvidia", None, None, None)
        ['ticker:AAPL', 'ticker:NVDA', 'all:*']
    """

    def __init__(self, domain: str, sectors: Mapping[str, str] | None = None, communities: bool = False) -> None:
        if domain not in ("market", "crisis", "social", "classroom"):
            raise ConfigInvalid(f"linker: expected domain market, crisis, social or classroom, got {domain!r}")
        self._domain = domain
        self._prefix = {"market": "ticker:", "crisis": "place:", "social": "topic:", "classroom": "room:"}[domain]
        finders: dict[str, Callable[[str], Iterable[str]]] = {
            "market": find_tickers,
            "crisis": gazetteer.find,
            "social": find_tags,
            "classroom": lambda text: (),
        }
        self._find = finders[domain]
        self._given: dict[tuple[str, ...] | str | None, tuple[str, ...]] = {}
        self._sectors = sectors
        self._communities = communities
        self._sources: dict[str | None, tuple[str, ...]] = {}
        self.capped = 0

    async def process(self, batch: PostBatch) -> Emit:
        """Return the batch with its links; drops nothing."""
        return Emit(self.run(batch))

    def run(self, batch: PostBatch) -> PostBatch:
        """`process` as a plain function."""
        names: list[str] = []
        counts: list[int] = []
        columns: dict[str, Sequence[tuple[str, ...] | str | None]]
        columns = {"market": batch.tickers, "crisis": batch.places, "social": batch.events}
        columns["classroom"] = batch.events
        known = self._given.get
        for value, text in zip(columns[self._domain], batch.texts, strict=True):
            # What was given before costs one look-up; None is never in there.
            own = known(value) or self._own(value, text)
            names += own
            counts.append(len(own))
        if self._communities and any(batch.sources):
            names, counts = self._with_sources(names, counts, batch.sources)
        rows = np.repeat(np.arange(len(batch), dtype=np.int32), counts)
        return replace(batch, link_rows=rows, link_names=names)

    def _with_sources(
        self, names: list[str], counts: list[int], sources: list[str | None]
    ) -> tuple[list[str], list[int]]:
        """Names and counts per post, each with the source of the post behind its own."""
        out: list[str] = []
        at = 0
        # Nobody bounds what outsiders send as a source, so the values that are remembered are cut.
        given = [None if source is None else source[: 2 * MAX_NAME] for source in sources]
        found = recall(self._sources, given, _community)
        for count, source in zip(counts, found, strict=True):
            out += names[at : at + count]
            out += source
            at += count
        return out, [count + len(source) for count, source in zip(counts, found, strict=True)]

    def entities(self, text: str, tickers: tuple[str, ...] | None, place: str | None, event: str | None) -> list[str]:
        """The entities of one post, `all:*` last."""
        given = {"market": tickers, "crisis": place, "social": event, "classroom": event}
        return list(self._own(given[self._domain], text))

    def _own(self, value: tuple[str, ...] | str | None, text: str) -> tuple[str, ...]:
        """Entities of one post: the given ones, or found in `text` where `value` is None; `all:*` last."""
        if value is None:
            return self._grouped(self._many(self._find(text)))
        names = self._many((value,) if isinstance(value, str) else value)
        own = self._grouped(names)
        if len(names) < MAX_ENTITIES:
            # Capped lists are not remembered: each use counts in `capped`.
            if len(self._given) >= CACHE:
                self._given.clear()
            self._given[value] = own
        return own

    def _grouped(self, names: list[str]) -> tuple[str, ...]:
        """The names, the sectors that they are in, each once, and `all:*`."""
        if self._sectors is None:
            return (*names, ALL)
        return (*names, *dict.fromkeys(filter(None, map(self._sectors.get, names))), ALL)

    def _many(self, names: Iterable[str]) -> list[str]:
        prefix = self._prefix
        own = list(dict.fromkeys(prefix + clean for clean in map(_clean, names) if clean))
        if len(own) > MAX_ENTITIES:
            self.capped += len(own) - MAX_ENTITIES
            del own[MAX_ENTITIES:]
        return own


def _community(source: str | None) -> tuple[str, ...]:
    name = "" if source is None else _clean(source)
    return (f"source:{name}",) if name else ()


def _clean(name: str) -> str:
    """The name as part of an entity, "" where nothing of it is left."""
    # Most names are plain words already; a name with anything else in it is rare and costs what it costs.
    if name.isalnum() and len(name) <= MAX_NAME:
        return name
    return " ".join(_BAD.sub(" ", name).split())[:MAX_NAME].strip()
