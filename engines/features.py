"""Turns texts into the hashed bag's features: buckets of words, word pairs and character 3-5-grams, a batch at a time.

Cleaning, in this order (training and serving share it, so it is part of the model):
    first `MAX_CHARS` code points; HTML entities and literal escapes (`&amp;`, `\\n`, `\\u2019`) undone; lower case;
    links, `@handles` and `$cashtags` become one marker each (their presence counts, their name does not);
    zero-width marks, variation selectors and skin tones dropped; runs of digits (with . and , inside) become one `0`;
    a character repeated more than three times is kept three times.
Tokens: runs of letters/digits (an apostrophe between two of them stays inside), runs of punctuation (`:)`, `!!!`),
and every emoji or symbol by itself. Character n-grams stay inside ` token ` (with one blank each side).

Everything after the regular expressions is numpy over one code-point buffer for the whole batch: prefix polynomial
hashes mod 2^64, so the hash of any substring is two look-ups, whatever its length and wherever it lies. A row's buckets
depend on its text alone.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from engines.base import TensorBatch

U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]

MAX_CHARS = 4096
"""Code points read of each text: bounds time and memory, and keeps sums exact (21k features x 127 < 2^24)."""

_STEP_CHARS = 200_000  # texts are hashed in runs of about this many characters: the power table stays in the cache
_NGRAMS = (3, 4, 5)
_BLANK, _WORD, _PUNCT, _SINGLE, _DROP = 0, 1, 2, 3, 4
_LINK_MARK, _HANDLE_MARK, _CASH_MARK = "\ue000", "\ue001", "\ue002"

_LINK = re.compile(r"(?:https?://|www\.|pic\.twitter\.com/)[^\s\0]+|\bhttp\b")
_HANDLE = re.compile(r"@\w+")
_CASH = re.compile(r"\$[a-z][a-z._]{0,9}")
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})|\\[nrt]|\\([\"'])")

_BASE = 0x9E3779B97F4A7C15  # odd, so it has an inverse mod 2^64
_BASE_INVERSE = pow(_BASE, -1, 1 << 64)
_PAIR = np.uint64(0xD6E8FEB86659FD93)
_SALTS = {
    name: np.uint64(k * 0xA24BAED4963EE407 & (1 << 64) - 1) for k, name in enumerate(("word", "pair", 3, 4, 5), 1)
}


def featurize(texts: Sequence[str], bits: int) -> TensorBatch:
    """Buckets of every text.

    Returns:
        `buckets`: int32 [features], each in [0, 2^bits); `offsets`: int64 [rows + 1], row i owns
        `buckets[offsets[i]:offsets[i + 1]]` (empty for a text without a token); a repeated feature repeats.
    """
    parts = [_bag(run, bits) for run in _runs(texts)]
    if not parts:
        return TensorBatch(0, {"buckets": np.zeros(0, np.int32), "offsets": np.zeros(1, np.int64)})
    if len(parts) == 1:
        buckets, counts = parts[0]
    else:
        buckets = np.concatenate([p[0] for p in parts])
        counts = np.concatenate([p[1] for p in parts])
    return TensorBatch(len(texts), {"buckets": buckets, "offsets": _starts(counts)})


def clean(texts: Sequence[str]) -> str:
    """The cleaned texts joined by NUL; digits and repeats are still as written (the numpy half folds them)."""
    joined = "\0".join([_plain(t) for t in texts]).lower()
    joined = _LINK.sub(_LINK_MARK, joined)
    if "@" in joined:
        joined = _HANDLE.sub(_HANDLE_MARK, joined)
    if "$" in joined:
        joined = _CASH.sub(_CASH_MARK, joined)
    return joined


def _plain(text: str) -> str:
    """One text cut to length, with entities and literal escapes undone and no NUL inside."""
    if len(text) > MAX_CHARS:
        text = text[:MAX_CHARS]
    if "&" in text:
        text = html.unescape(text)
    if "\\" in text:
        text = _ESCAPE.sub(_unescape, text)
    return text.replace("\0", " ") if "\0" in text else text


def _unescape(match: re.Match[str]) -> str:
    if match[1] is not None:
        return chr(int(match[1], 16))
    return match[2] if match[2] is not None else " "


def _runs(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Cuts the batch into runs of about `_STEP_CHARS` characters; the result does not depend on where."""
    start, size = 0, 0
    for k, text in enumerate(texts):
        size += min(len(text), MAX_CHARS) + 1
        if size >= _STEP_CHARS:
            yield texts[start : k + 1]
            start, size = k + 1, 0
    if start < len(texts):
        yield texts[start:]


def _bag(texts: Sequence[str], bits: int) -> tuple[NDArray[np.int32], I64]:
    """(buckets of all rows in row order, features per row)."""
    chars, token_lengths, token_rows = _tokens(clean(texts))
    tokens = len(token_lengths)
    rows = len(texts)
    tokens_before = _starts(np.bincount(token_rows, minlength=rows))  # row r owns tokens [r, r + 1) of this
    hashes, inverse = _prefix_hashes(chars)
    blanks = _starts(token_lengths + 1)  # position of the blank before token k; the last one ends the buffer
    words = (hashes[blanks[1:]] - hashes[blanks[:-1] + 1]) * inverse[blanks[:-1] + 1]
    pairs = words[:-1] * _PAIR + words[1:]
    same_row = token_rows[:-1] == token_rows[1:]
    kinds = [
        (_mix(words + _SALTS["word"]), np.ones(tokens, np.int64)),
        (_mix(pairs[same_row] + _SALTS["pair"]), np.append(same_row, False)[:tokens].astype(np.int64)),
    ]
    # room[i]: how far the next blank lies behind character i; an n-gram from i fits in ` token ` if n - 1 <= room
    room = np.repeat(blanks[1:], token_lengths + 1) - np.arange(len(chars) - 1)
    for n in _NGRAMS:
        at = np.flatnonzero(room >= n - 1)
        kinds.append(
            (_mix((hashes[at + n] - hashes[at]) * inverse[at] + _SALTS[n]), np.maximum(token_lengths + 3 - n, 0))
        )
    shift = np.uint64(64 - bits)
    return _by_row([(h >> shift, counts) for h, counts in kinds], tokens_before)


def _by_row(kinds: list[tuple[U64, I64]], tokens_before: I64) -> tuple[NDArray[np.int32], I64]:
    """Merges features kept per kind (each in token order, with its count per token) into row order."""
    per_row = [np.diff(_starts(counts)[tokens_before]) for _, counts in kinds]
    totals: I64 = np.sum(per_row, axis=0, dtype=np.int64)
    merged = np.empty(int(totals.sum()), np.int32)
    place = _starts(totals)[:-1]
    for (buckets, _), counts in zip(kinds, per_row, strict=True):
        merged[np.repeat(place - _starts(counts)[:-1], counts) + np.arange(len(buckets))] = buckets
        place = place + counts
    return merged, totals


def _tokens(joined: str) -> tuple[U64, I64, I64]:
    """(characters as ` token token `, length of each token, row of each token) of NUL-joined cleaned texts."""
    code = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.dtype("<u4")).astype(np.int64)
    kind = _kinds(code)
    keep = kind != _DROP
    if not keep.all():
        code, kind = code[keep], kind[keep]
    code, kind = _fold(code, kind)
    inside = kind != _BLANK
    starts = inside.copy()
    starts[1:] &= (kind[1:] != kind[:-1]) | (kind[1:] == _SINGLE)
    row = np.cumsum(code == 0)
    token = np.cumsum(starts)  # 1-based index of the token a character belongs to
    chars_in = code[inside]
    buffer = np.full(len(chars_in) + int(token[-1] if len(token) else 0) + 1, ord(" "), np.uint64)
    buffer[np.arange(len(chars_in)) + token[inside]] = chars_in
    lengths: I64 = np.bincount(token[inside], minlength=1)[1:]
    return buffer, lengths, row[starts]


def _fold(code: I64, kind: U8) -> tuple[I64, U8]:
    """Joins apostrophes to their word, folds numbers to one `0` and repeats to three."""
    middle = slice(1, -1)
    code[code == 0x2019] = ord("'")
    joins = (code[middle] == ord("'")) & (kind[:-2] == _WORD) & (kind[2:] == _WORD)
    kind[middle][joins] = _WORD
    digit = (code >= ord("0")) & (code <= ord("9"))
    point = (code == ord(".")) | (code == ord(","))
    inner = np.flatnonzero(point[middle] & digit[:-2] & digit[2:]) + 1
    digit[inner] = True
    kind[inner] = _WORD
    code[digit] = ord("0")
    keep = np.ones(len(code), np.bool_)
    keep[1:] &= ~(digit[1:] & digit[:-1])
    same = code[1:] == code[:-1]
    keep[3:] &= ~(same[2:] & same[1:-1] & same[:-2] & (code[3:] != 0))
    return code[keep], kind[keep]


def _prefix_hashes(chars: U64) -> tuple[U64, U64]:
    """h with h[j] - h[i] = sum of (chars[k] + 1) * BASE^k for i <= k < j, and the powers that shift it to k = 0."""
    size = 1 << max(18, len(chars).bit_length())
    powers, inverse = _powers(size)
    hashes = np.zeros(len(chars) + 1, np.uint64)
    np.cumsum((chars + np.uint64(1)) * powers[: len(chars)], out=hashes[1:])
    return hashes, inverse


@lru_cache(maxsize=2)
def _powers(size: int) -> tuple[U64, U64]:
    """BASE^k and BASE^-k mod 2^64 for k < size."""
    both: list[U64] = []
    for base in (_BASE, _BASE_INVERSE):
        factors = np.full(size, base, np.uint64)
        factors[0] = 1
        both.append(np.cumprod(factors, dtype=np.uint64))
    return both[0], both[1]


def _mix(x: U64) -> U64:
    """Splitmix64's finaliser: every input bit reaches the top bits, which choose the bucket."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _starts(counts: I64) -> I64:
    """[0, c0, c0 + c1, ...]."""
    starts = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=starts[1:])
    return starts


def _kinds(code: I64) -> U8:
    """Character class of each code point."""
    table = _class_table()
    kind: U8 = table[np.minimum(code, 0xFFFF)]
    high = code > 0xFFFF
    if high.any():
        emoji = (code >= 0x1F000) & (code <= 0x1FAFF)
        tone = (code >= 0x1F3FB) & (code <= 0x1F3FF)
        drop = tone | (code >= 0xE0000)
        kind[high] = np.where(drop, _DROP, np.where(emoji, _SINGLE, _WORD))[high]
    return kind


@lru_cache(maxsize=1)
def _class_table() -> U8:
    """Class of every code point of the basic plane, from its Unicode category."""
    table = np.zeros(0x10000, np.uint8)
    for point in range(0x10000):
        category = unicodedata.category(chr(point))
        if category[0] in "LNM":
            table[point] = _WORD
        elif category in ("So", "Co"):
            table[point] = _SINGLE
        elif category[0] in "PS":
            table[point] = _PUNCT
        elif category in ("Cf", "Cs", "Cn"):
            table[point] = _DROP
    table[0xFE00:0xFE10] = _DROP  # variation selectors
    return table
