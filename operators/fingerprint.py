"""Fingerprints of strings, a batch at a time in numpy: 64-bit hashes for equality, MinHash sketches for likeness.

The hash is multilinear over bytes (sum of byte * a fixed pseudo-random 64-bit weight of its position, then mixed): the
same string gives the same number in every process and on every machine, and two different ones meet with chance of at
most 2^-57. It is no shield against somebody who builds collisions on purpose; ids are opaque names, not secrets.

Likeness of texts follows Broder's MinHash (1997) with banding, on the set of words of four letters and more, so that a
changed little word, number, link, handle or `RT @x:` in front leaves a text what it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from operators.records import I64, U64

U8 = NDArray[np.uint8]
BANDS = 4
ROWS = 4
SKETCH = BANDS * ROWS
MIN_WORDS = 3
"""Below this many words a text is too short to be called a near-duplicate of anything but itself."""
MIN_CONTENT = 6
"""Fewer long words than this are too few to call two texts alike that differ in one of them."""
LONG_WORD = 4

_END = "\x01"
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_SPACE, _LETTER, _OTHER = 0, 1, 2


def _tables() -> tuple[bytes, bytes]:
    """(lower-casing, character class) of each byte; bytes of multi-byte UTF-8 characters count as letters."""
    lower = bytes(range(256)).lower()
    kind = bytes(_SPACE if c <= 32 else _LETTER if c >= 128 or bytes((c,)).isalpha() else _OTHER for c in range(256))
    return lower, kind


_LOWER, _KIND = _tables()


def mix(x: U64) -> U64:
    """SplitMix64's finaliser (Steele et al. 2014): every output bit hangs on every input bit."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@lru_cache(maxsize=32)
def _weights(size: int) -> U64:
    """`size` odd 64-bit weights, the same in every process; a longer table begins with the shorter one."""
    return mix((np.arange(size, dtype=np.uint64) + np.uint64(1)) * _GOLDEN) | np.uint64(1)


@lru_cache(maxsize=32)
def _powers(size: int) -> tuple[U64, U64]:
    """b^0 .. b^(size-1) modulo 2^64 for one odd b, and their inverses."""
    base = int(_weights(1)[0])
    up, down = np.full(size, base, np.uint64), np.full(size, pow(base, -1, 1 << 64), np.uint64)
    up[0] = down[0] = 1
    return np.multiply.accumulate(up), np.multiply.accumulate(down)


_SALT = _weights(64)
_AT = ord("@")
_PERM = _weights(64 + SKETCH)[64:]


@dataclass(frozen=True, slots=True)
class Packed:
    """Strings laid end to end: `raw`, each string closed by one end byte; string k is [starts[k], starts[k+1])."""

    raw: bytes
    starts: I64


def pack(strings: Sequence[str]) -> Packed:
    """Lay `strings` end to end as UTF-8. Lone surrogates pass, so that no decoded text can break it."""
    text = _END.join((*strings, ""))
    starts = np.zeros(len(strings) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, strings), np.int64, len(strings)) + 1, out=starts[1:])
    raw = text.encode("utf-8", "surrogatepass")
    if len(raw) > len(text):
        # Characters counted, bytes wanted: where each character begins.
        firsts = np.flatnonzero((np.frombuffer(raw, np.uint8) & 0xC0) != 0x80)
        starts = np.append(firsts, len(raw))[starts]
    return Packed(raw, starts)


def hash64(packed: Packed, salt: int = 0) -> U64:
    """One 64-bit hash per string, never 0 (0 means "no key"); another `salt` (0..63) is another hash function."""
    starts = packed.starts
    if len(starts) == 1:
        return np.zeros(0, np.uint64)
    lengths = np.diff(starts)
    weights = _weights(1 << int(lengths.max() - 1).bit_length())
    place = np.arange(len(packed.raw), dtype=np.int64)
    place -= np.repeat(starts[:-1], lengths)
    sums = np.add.reduceat(np.frombuffer(packed.raw, np.uint8) * weights[place], starts[:-1])
    return mix(sums + _SALT[salt]) | np.uint64(1)


@dataclass(frozen=True, slots=True)
class Likeness:
    """What near-duplicates share, per text.

    Attributes:
        words: uint64 [n], hash of the multiset of words without links, handles, numbers, punctuation, case and a
            leading RT; 0 = fewer than `MIN_WORDS` words.
        bands: uint64 [n, BANDS], texts with word sets of Jaccard likeness s share a band with chance
            1 - (1 - s^ROWS)^BANDS; 0 = fewer than `MIN_CONTENT` content words.
        sketch: uint8 [n, SKETCH], low byte of each MinHash; the share of equal bytes estimates s.
    """

    words: U64
    bands: U64
    sketch: U8


@dataclass(frozen=True, slots=True)
class _Words:
    """Words kept, in text order, with their length in letters; those of text k are `[edges[k], edges[k + 1])`."""

    hashes: U64
    letters: I64
    edges: I64


def _words(packed: Packed) -> _Words:
    """Cut at white space, keep letters only, drop handles, links and a leading RT."""
    raw = packed.raw.translate(_LOWER)
    data = np.frombuffer(raw, np.uint8)
    kind = np.frombuffer(raw.translate(_KIND), np.uint8)
    begins = np.empty(len(data), np.bool_)
    begins[0] = True
    np.equal(kind[:-1], _SPACE, out=begins[1:])
    begins &= kind != _SPACE
    letters = np.flatnonzero(kind == _LETTER)
    if not len(letters):
        return _Words(np.zeros(0, np.uint64), np.zeros(0, np.int64), np.zeros(len(packed.starts), np.int64))
    word_of = np.cumsum(begins, dtype=np.int32)[letters]
    opens = np.empty(len(letters), np.bool_)
    opens[0] = True
    np.not_equal(word_of[1:], word_of[:-1], out=opens[1:])
    firsts = np.flatnonzero(opens)
    # A word is a polynomial in an odd 64-bit base, cut out of one running sum and shifted back to its own place.
    powers, inverse = _powers(1 << len(letters).bit_length())
    running = np.zeros(len(letters) + 1, np.uint64)
    np.cumsum(data[letters] * powers[: len(letters)], out=running[1:])
    ends = np.append(firsts[1:], len(letters))
    hashes = mix((running[ends] - running[firsts]) * inverse[firsts])
    counts = ends - firsts
    head = np.flatnonzero(begins)[word_of[firsts] - 1]
    edges = np.searchsorted(head, packed.starts)
    keep = data[head] != _AT
    _drop_links(data, head, keep)
    opening = edges[:-1][edges[:-1] < edges[1:]]
    keep[opening[(hashes[opening] == _RT) & (counts[opening] == 2)]] = False
    before = np.zeros(len(head) + 1, np.int64)
    np.cumsum(keep, out=before[1:])
    return _Words(hashes[keep], counts[keep], before[edges])


def _drop_links(data: U8, head: I64, keep: NDArray[np.bool_]) -> None:
    """Clear `keep` where the word at `head` begins with `http` or `www.`; `data` is lower-cased."""
    last = len(data) - 1
    initial = data[head]
    for word in (b"http", b"www."):
        hit = np.flatnonzero(initial == word[0])
        for k in range(1, 4):
            hit = hit[data[np.minimum(head[hit] + k, last)] == word[k]]
        keep[hit] = False


_RT = mix(np.array([ord("r"), ord("t")], np.uint64) @ _powers(2)[0] + np.zeros(1, np.uint64))[0]


def likeness(packed: Packed) -> Likeness:
    """Fingerprint every text for near-duplicate search. Each row depends on its own text alone."""
    n = len(packed.starts) - 1
    words = np.zeros(n, np.uint64)
    bands = np.zeros((n, BANDS), np.uint64)
    sketch = np.zeros((n, SKETCH), np.uint8)
    if not n:
        return Likeness(words, bands, sketch)
    kept = _words(packed)
    edges = kept.edges
    total = np.zeros(len(kept.hashes) + 1, np.uint64)
    np.cumsum(kept.hashes, out=total[1:])
    enough = np.diff(edges) >= MIN_WORDS
    words[enough] = (mix(total[edges[1:]] - total[edges[:-1]] + _SALT[1]) | np.uint64(1))[enough]

    long = kept.letters >= LONG_WORD
    before = np.zeros(len(long) + 1, np.int64)
    np.cumsum(long, out=before[1:])
    counts = np.diff(before[edges])
    full = counts >= MIN_CONTENT
    if not full.any():
        return Likeness(words, bands, sketch)
    hashes = kept.hashes[long][np.repeat(full, counts)]
    sizes = counts[full]
    high = ((hashes[:, None] * _PERM) >> np.uint64(32)).astype(np.uint32)
    mins = np.minimum.reduceat(high, np.cumsum(sizes) - sizes, axis=0)
    groups = (mins * _SALT[8 : 8 + SKETCH]).reshape(-1, BANDS, ROWS).sum(axis=2, dtype=np.uint64)
    bands[full] = mix(groups + _SALT[32 : 32 + BANDS]) | np.uint64(1)
    sketch[full] = mins.astype(np.uint8)
    return Likeness(words, bands, sketch)
