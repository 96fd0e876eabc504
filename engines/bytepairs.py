"""Texts to byte pairs: RoBERTa's tokeniser, for models of the user's that read them.

Handles become `@user` and links `http`, as the social-media models of the family were
trained (Barbieri et al. 2020); nothing else is changed: bytes know every letter and emoji. `<s> ... </s>`, cut.
"""

from __future__ import annotations

from collections.abc import Sequence

from engines.base import TensorBatch
from engines.errors import ManifestInvalid
from engines.wordpieces import MAX_CHARS, masked, token_batch, tokenizers

FIRST, LAST, UNKNOWN = "<s>", "</s>", "<unk>"


class BytePairs:
    """The tokeniser of one vocabulary.

    Args:
        vocabulary: the pieces; a piece's place is its id. Has `<s>`, `</s>` and `<unk>`.
        merges: pairs of pieces that become one, `left right`, in the order they are tried.
        max_tokens: longest row, `<s>` and `</s>` included; the end of a longer text is not read.

    Raises:
        MissingExtra: the package `tokenizers` is not installed.
        ManifestInvalid: a special piece is missing, a piece is there twice, or a merge makes no piece.
    """

    def __init__(self, vocabulary: Sequence[str], merges: Sequence[str], max_tokens: int) -> None:
        library = tokenizers()
        ids = {piece: k for k, piece in enumerate(vocabulary)}
        pairs = [(left, right) for left, _, right in (merge.partition(" ") for merge in merges)]
        lacking = {FIRST, LAST, UNKNOWN} - ids.keys()
        lost = [f"{left} {right}" for left, right in pairs if not ids.keys() >= {left, right, left + right}]
        if lacking or lost or len(ids) != len(vocabulary) or max_tokens < 3:
            raise ManifestInvalid(
                f"byte pairs: expected each piece once, with {FIRST}, {LAST} and {UNKNOWN}, merges of pieces into"
                f" pieces, and at least 3 tokens a row; lacks {sorted(lacking)}, {len(vocabulary) - len(ids)} repeated,"
                f" merges that are none {lost[:3]}, {max_tokens} tokens"
            )
        self.size = len(ids)
        ends = library.processors.RobertaProcessing((LAST, ids[LAST]), (FIRST, ids[FIRST]))
        self._tokenizer = library.ByteLevelBPETokenizer(vocab=ids, merges=pairs)
        self._tokenizer._tokenizer.post_processor = ends
        self._tokenizer.enable_truncation(max_tokens)

    def featurize(self, texts: Sequence[str]) -> TensorBatch:
        """`ids` int32 [tokens], `offsets` int64 [rows + 1]: row i owns `ids[offsets[i]:offsets[i + 1]]`, 2 at least."""
        plain = [masked(t[:MAX_CHARS]).encode("utf-8", "replace").decode("utf-8").strip() for t in texts]
        return token_batch([e.ids for e in self._tokenizer.encode_batch(plain)])
