"""Texts to word pieces: the cleaning and the BERT uncased tokeniser that training and serving share.

The door of `tokenizers`.

Cleaning, in this order (it is part of the model):
    first `MAX_CHARS` code points; HTML entities undone, literal `\\n` and quote escapes undone; links -> `http`,
    `@handles` -> `@user`; every emoji -> its Unicode name in colons (the vocabulary has none of them); a run of one
    character longer than `REPEAT` is cut to `REPEAT` characters.
Then lower case, accents stripped, word pieces, `[CLS] ... [SEP]`, cut to `max_tokens`.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from types import ModuleType
from typing import Final

import numpy as np

from engines.base import TensorBatch
from engines.errors import ManifestInvalid, MissingExtra

MAX_CHARS: Final = 2048
REPEAT: Final = 8

_LINK = re.compile(r"(?:https?://|www\.|pic\.twitter\.com/)\S+", re.IGNORECASE)
_HANDLE = re.compile(r"@\w+")
_ESCAPE = re.compile(r"\\[nrt]|\\([\"'])")
_EMOJI = re.compile("[\u2600-\u27bf\u2b00-\u2bff\U0001f000-\U0001faff]")
_INVISIBLE = re.compile("[\u200b-\u200f\u2060\ufe00-\ufe0f\U0001f3fb-\U0001f3ff]")
_RUN = re.compile(rf"(.)\1{{{REPEAT},}}", re.DOTALL)


def clean(text: str) -> str:
    """One text as the tokeniser reads it.

    Examples:
        >>> clean("@ann see https://x.y &amp; smile \U0001f600")
        '@user see http & smile :grinning face:'
    """
    text = text[:MAX_CHARS]
    if "&" in text:
        text = html.unescape(text)
    if "\\" in text:
        text = _ESCAPE.sub(lambda m: m[1] or " ", text)
    text = masked(text)
    if not text.isascii():
        text = _EMOJI.sub(_named, _INVISIBLE.sub("", text))
        text = text.encode("utf-8", "replace").decode("utf-8")  # a lone surrogate becomes `?`
    return " ".join(_RUN.sub(lambda m: m[1] * REPEAT, text).split())


def masked(text: str) -> str:
    """Links -> `http`, `@handles` -> `@user`."""
    return _HANDLE.sub("@user", _LINK.sub("http", text))


def _named(match: re.Match[str]) -> str:
    return _emoji_name(match[0])


@lru_cache(maxsize=4096)
def _emoji_name(character: str) -> str:
    name = unicodedata.name(character, "")
    return f" :{name.lower()}: " if name else " "


def tokenizers() -> ModuleType:
    """The package, loaded when the first model wants it.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import tokenizers as package
    except ImportError as error:
        raise MissingExtra(
            "the package tokenizers is not installed; install it with `pip install 'affectstream[onnx]'`"
        ) from error
    module: ModuleType = package
    return module


class WordPieces:
    """The tokeniser of one vocabulary.

    Args:
        vocabulary: the word pieces; a piece's place is its id. Has `[UNK]`, `[CLS]` and `[SEP]`.
        max_tokens: longest row, `[CLS]` and `[SEP]` included; the end of a longer text is not read.

    Raises:
        MissingExtra: the package `tokenizers` is not installed.
        ManifestInvalid: a special piece is missing, or a piece is there twice.
    """

    def __init__(self, vocabulary: Sequence[str], max_tokens: int) -> None:
        library = tokenizers()
        ids = {piece: k for k, piece in enumerate(vocabulary)}
        lacking = {"[UNK]", "[CLS]", "[SEP]"} - ids.keys()
        if lacking or len(ids) != len(vocabulary) or max_tokens < 3:
            raise ManifestInvalid(
                f"vocabulary of {len(vocabulary)} pieces: expected each once, with [UNK], [CLS] and [SEP], and at least"
                f" 3 tokens a row; lacks {sorted(lacking)}, {len(vocabulary) - len(ids)} repeated, {max_tokens} tokens"
            )
        self.size = len(ids)
        self._tokenizer = library.BertWordPieceTokenizer(vocab=ids, lowercase=True)
        self._tokenizer.enable_truncation(max_tokens)

    def featurize(self, texts: Sequence[str]) -> TensorBatch:
        """`ids` int32 [tokens], `offsets` int64 [rows + 1]: row i owns `ids[offsets[i]:offsets[i + 1]]`, 2 at least."""
        found = self._tokenizer.encode_batch([clean(t) for t in texts])
        return token_batch([e.ids for e in found])


def token_batch(rows: Sequence[Sequence[int]]) -> TensorBatch:
    """Rows of ids, one behind the other, as an encoder takes them."""
    offsets = np.zeros(len(rows) + 1, np.int64)
    np.cumsum([len(r) for r in rows], out=offsets[1:])
    ids = np.concatenate([np.asarray(r, np.int32) for r in rows]) if rows else np.zeros(0, np.int32)
    return TensorBatch(len(rows), {"ids": ids, "offsets": offsets})
