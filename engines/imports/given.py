"""A model directory somebody gives us, read as if it meant harm: sizes first, then text, then numbers.

Two forms: Hugging Face's (`config.json`, `model.safetensors`) or one `.onnx` file with its labels (`config.json`, or
`labels.txt`, one a line); both with `vocab.txt` or `tokenizer.json`. Nothing is ever unpickled. Door of `safetensors`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from engines.artefacts import IMPORTED_MAX_BYTES
from engines.errors import ImportRefused, MissingExtra

F32 = NDArray[np.float32]
Kind = Literal["single", "multi"]
TEXT_MAX_BYTES: Final = 32 << 20
LABELS_MAX: Final = 512
TOKENS_MAX: Final = 512
DISTILBERT: Final = "DistilBertForSequenceClassification"
_PICKLES: Final = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")
_KINDS: Final[dict[str | None, Kind | None]] = {
    None: None, "single_label_classification": "single", "multi_label_classification": "multi",
}  # fmt: skip


class Config(msgspec.Struct, frozen=True):
    """What is read of `config.json`; all of it is a claim until the weights have these shapes.

    The last five are DistilBERT's own names for sizes.
    """

    architectures: tuple[str, ...] = ()
    id2label: dict[str, str] = {}
    hidden_size: int = 0
    num_hidden_layers: int = 0
    num_attention_heads: int = 0
    intermediate_size: int = 0
    max_position_embeddings: int = 128
    hidden_act: str = "gelu"
    position_embedding_type: str | None = "absolute"
    layer_norm_eps: float = 1e-12
    problem_type: str | None = None
    dim: int = 0
    hidden_dim: int = 0
    n_heads: int = 0
    n_layers: int = 0
    activation: str = "gelu"


class _TokenizerConfig(msgspec.Struct, frozen=True):
    do_lower_case: bool = True


class _Normalizer(msgspec.Struct, frozen=True):
    type: str = ""
    lowercase: bool = False


class _Pieces(msgspec.Struct, frozen=True):
    type: str = ""
    vocab: msgspec.Raw = msgspec.Raw(b"{}")


class _Tokenizer(msgspec.Struct, frozen=True):
    model: _Pieces = _Pieces()
    normalizer: _Normalizer | None = None


@dataclass(frozen=True, slots=True)
class Given:
    """`labels` in logit order; `kind` None = not said; `pieces`: the vocabulary; `path`: weights or ONNX file."""

    folder: Path
    path: Path
    config: Config
    labels: tuple[str, ...]
    kind: Kind | None
    pieces: tuple[str, ...]
    max_tokens: int


def read_given(folder: Path) -> Given:
    """Everything of a directory but the weights.

    Raises:
        ImportRefused: a file is missing, too large, not UTF-8, not what it should be, or of an unsupported kind.
    """
    path = _weights(folder)
    config = _json(folder / "config.json", Config) if (folder / "config.json").exists() else Config()
    if config.problem_type not in _KINDS:
        raise ImportRefused(f"{folder}/config.json: problem_type {config.problem_type!r}: expected one of {_words()}")
    pieces = _pieces(folder)
    if any("\n" in p for p in pieces) or len(set(pieces)) != len(pieces):
        raise ImportRefused(f"{folder}: the vocabulary has a piece twice, or one with a line break; repair it")
    if config.max_position_embeddings < 3:
        raise ImportRefused(f"{folder}/config.json: max_position_embeddings expected 3 or more")
    config = _in_berts_words(config)
    tokens = min(config.max_position_embeddings, TOKENS_MAX)
    return Given(folder, path, config, _labels(folder, config), _KINDS[config.problem_type], pieces, tokens)


def _in_berts_words(config: Config) -> Config:
    """DistilBERT's sizes under BERT's names; any other architecture as it is."""
    if config.architectures != (DISTILBERT,):
        return config
    return msgspec.structs.replace(
        config,
        hidden_size=config.dim,
        intermediate_size=config.hidden_dim,
        num_attention_heads=config.n_heads,
        num_hidden_layers=config.n_layers,
        hidden_act=config.activation,
        layer_norm_eps=1e-12,  # written into their code, not into config.json
    )


def read_tensors(path: Path) -> dict[str, F32]:
    """The tensors of a safetensors file as float32, by name; no more memory than the file has bytes, twice.

    Raises:
        ImportRefused: its header lies, its numbers are of another kind, or not finite. MissingExtra.
    """
    try:
        from safetensors.numpy import load
    except ImportError as error:
        raise MissingExtra("an import needs the package safetensors; pip install 'affectstream[import]'") from error
    packed = read_bytes(path, IMPORTED_MAX_BYTES)
    header = int.from_bytes(packed[:8], "little")
    if len(packed) < 8 or header > len(packed) - 8:
        raise ImportRefused(f"{path}: claims a header of {header} bytes, the file has {len(packed)}; it is damaged")
    try:
        found = load(packed)
    except Exception as error:  # safetensors raises its own kind, and KeyError or TypeError for a dtype numpy lacks
        raise ImportRefused(
            f"{path}: {type(error).__name__} {error}; expected whole float32 or float16 tensors, save it anew as these"
        ) from error
    wide = {k: v.astype(np.float32) for k, v in found.items() if v.dtype.kind == "f"}
    bad = [k for k, v in wide.items() if not bool(np.isfinite(v).all())]
    if bad:
        raise ImportRefused(f"{path}: {bad[0]} holds numbers that are not finite; train it anew")
    return wide


def read_bytes(path: Path, most: int) -> bytes:
    """A whole file, of at most `most` bytes. Raises ImportRefused."""
    try:
        size = path.stat().st_size if path.is_file() else -1
        packed = path.read_bytes() if 0 <= size <= most else b""
    except OSError as error:
        raise ImportRefused(f"cannot read {path}: {error.strerror}") from error
    if size < 0:
        raise ImportRefused(f"{path}: there is no such file; a directory to import needs it")
    if size > most:
        raise ImportRefused(f"{path}: {size} bytes, at most {most} are read")
    return packed


def _weights(folder: Path) -> Path:
    if not folder.is_dir():
        raise ImportRefused(f"{folder}: expected a directory with config.json, vocab.txt and model.safetensors")
    if (folder / "model.safetensors").exists():
        return folder / "model.safetensors"
    graphs = sorted(folder.glob("*.onnx"))
    if len(graphs) == 1:
        return graphs[0]
    pickles = [p.name for pattern in _PICKLES for p in sorted(folder.glob(pattern))]
    if pickles and not graphs:
        raise ImportRefused(
            f"{folder}: {pickles[0]} is a pickle, which runs code when it is read, and is never opened; convert it to"
            " safetensors (`model.save_pretrained(DIR, safe_serialization=True)`) where you trust it"
        )
    raise ImportRefused(f"{folder}: expected model.safetensors (in one file), or one .onnx file, got {len(graphs)}")


def _text(path: Path) -> str:
    try:
        return read_bytes(path, TEXT_MAX_BYTES).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ImportRefused(
            f"{path}: expected UTF-8, got byte {error.object[error.start]:#x} at {error.start}"
        ) from error


_T = TypeVar("_T")


def _json(path: Path, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(_text(path), type=kind)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ImportRefused(f"{path}: {error}") from error


def _labels(folder: Path, config: Config) -> tuple[str, ...]:
    """In logit order; each once."""
    if (folder / "labels.txt").exists():
        labels = tuple(line.strip() for line in _text(folder / "labels.txt").splitlines() if line.strip())
    else:
        labels = tuple(config.id2label.get(str(k), "") for k in range(min(len(config.id2label), LABELS_MAX + 1)))
    if not 2 <= len(labels) <= LABELS_MAX or "" in labels or len(set(labels)) != len(labels):
        raise ImportRefused(
            f"{folder}: expected 2 to {LABELS_MAX} labels, each once, in id2label of config.json (from 0 on) or"
            f" labels.txt, got {list(labels[:8])}"
        )
    return labels


def _pieces(folder: Path) -> tuple[str, ...]:
    """The vocabulary in the order of its ids, of an uncased BERT tokeniser."""
    cased = f"{folder}: the tokeniser keeps case; supported are uncased BERT word pieces"
    said = folder / "tokenizer_config.json"
    if said.exists() and not _json(said, _TokenizerConfig).do_lower_case:
        raise ImportRefused(cased)
    if (folder / "vocab.txt").exists() or not (folder / "tokenizer.json").exists():
        return tuple(_text(folder / "vocab.txt").removesuffix("\n").replace("\r\n", "\n").split("\n"))
    found = _json(folder / "tokenizer.json", _Tokenizer)
    if found.model.type != "WordPiece":
        raise ImportRefused(f"{folder}/tokenizer.json: model {found.model.type!r}; supported is WordPiece")
    if found.normalizer is not None and not found.normalizer.lowercase:
        raise ImportRefused(cased)
    try:
        ids = msgspec.json.decode(found.model.vocab, type=dict[str, int])
    except msgspec.MsgspecError as error:
        raise ImportRefused(f"{folder}/tokenizer.json: vocab: {error}") from error
    if sorted(ids.values()) != list(range(len(ids))):
        raise ImportRefused(f"{folder}/tokenizer.json: ids expected 0 to {len(ids) - 1}, each once")
    return tuple(sorted(ids, key=ids.__getitem__))


def _words() -> str:
    return ", ".join(k for k in _KINDS if k)
