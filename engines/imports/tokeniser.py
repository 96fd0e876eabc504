"""The tokeniser of a given directory: BERT's uncased word pieces, or RoBERTa's byte pairs; others are refused."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from engines.errors import ImportRefused
from engines.imports.files import read_json, read_text


@dataclass(frozen=True, slots=True)
class Tokeniser:
    """`pieces` in the order of their ids; `merges` in the order they are tried, "" where these are word pieces."""

    pieces: tuple[str, ...]
    merges: tuple[str, ...] = ()


class _Said(msgspec.Struct, frozen=True):
    do_lower_case: bool = True
    add_prefix_space: bool = False


class _Step(msgspec.Struct, frozen=True):
    type: str = ""
    lowercase: bool = False
    add_prefix_space: bool = False


class _Model(msgspec.Struct, frozen=True):
    type: str = ""
    vocab: msgspec.Raw = msgspec.Raw(b"{}")
    merges: list[str | tuple[str, str]] = []


class _File(msgspec.Struct, frozen=True):
    model: _Model = _Model()
    normalizer: _Step | None = None
    pre_tokenizer: _Step | None = None


def read_tokeniser(folder: Path, byte_pairs: bool) -> Tokeniser:
    """The tokeniser of `folder`: of byte pairs where its architecture reads these, else of word pieces.

    Raises:
        ImportRefused: a file is missing, malformed, or of a tokeniser that is not supported.
    """
    path = folder / "tokenizer_config.json"
    said = read_json(path, _Said) if path.exists() else _Said()
    found = _byte_pairs(folder, said) if byte_pairs else _word_pieces(folder, said)
    if any("\n" in p for p in (*found.pieces, *found.merges)) or len(set(found.pieces)) != len(found.pieces):
        raise ImportRefused(f"{folder}: the vocabulary has a piece twice, or one with a line break; repair it")
    return found


def _word_pieces(folder: Path, said: _Said) -> Tokeniser:
    cased = f"{folder}: the tokeniser keeps case; supported are uncased BERT word pieces"
    if not said.do_lower_case:
        raise ImportRefused(cased)
    if (folder / "vocab.txt").exists() or not (folder / "tokenizer.json").exists():
        return Tokeniser(tuple(_lines(folder / "vocab.txt")))
    found = read_json(folder / "tokenizer.json", _File)
    if found.model.type != "WordPiece":
        raise ImportRefused(f"{folder}/tokenizer.json: model {found.model.type!r}; supported is WordPiece")
    if found.normalizer is not None and not found.normalizer.lowercase:
        raise ImportRefused(cased)
    return Tokeniser(_in_order(folder / "tokenizer.json", bytes(found.model.vocab)))


def _byte_pairs(folder: Path, said: _Said) -> Tokeniser:
    spaced = said.add_prefix_space
    if (folder / "vocab.json").exists() or not (folder / "tokenizer.json").exists():
        pieces = _in_order(folder / "vocab.json", read_text(folder / "vocab.json").encode())
        merges = [line for line in _lines(folder / "merges.txt") if line and not line.startswith("#version")]
    else:
        found = read_json(folder / "tokenizer.json", _File)
        step = found.pre_tokenizer
        if found.model.type != "BPE" or step is None or step.type != "ByteLevel" or found.normalizer is not None:
            raise ImportRefused(
                f"{folder}/tokenizer.json: model {found.model.type!r}, {step and step.type!r} before it; supported are"
                " byte pairs as RoBERTa has them (BPE behind ByteLevel, no normalizer)"
            )
        spaced = spaced or step.add_prefix_space
        pieces = _in_order(folder / "tokenizer.json", bytes(found.model.vocab))
        merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in found.model.merges]
    if spaced:
        raise ImportRefused(f"{folder}: the tokeniser has add_prefix_space, which is not supported")
    wrong = next((m for m in merges if len(m.split(" ")) != 2), None)
    if wrong is not None or not merges:
        raise ImportRefused(f"{folder}: merges expected as two pieces with a space between, got {wrong!r}")
    return Tokeniser(pieces, tuple(merges))


def _lines(path: Path) -> list[str]:
    return read_text(path).removesuffix("\n").replace("\r\n", "\n").split("\n")


def _in_order(path: Path, packed: bytes) -> tuple[str, ...]:
    """The pieces of a vocabulary of piece -> id."""
    try:
        ids = msgspec.json.decode(packed, type=dict[str, int])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ImportRefused(f"{path}: vocab: {error}") from error
    if sorted(ids.values()) != list(range(len(ids))):
        raise ImportRefused(f"{path}: ids expected 0 to {len(ids) - 1}, each once")
    return tuple(sorted(ids, key=ids.__getitem__))
