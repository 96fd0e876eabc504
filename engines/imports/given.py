"""A model directory somebody gives us, read as if it meant harm: sizes first, then text, then numbers.

Two forms: Hugging Face's (`config.json`, `model.safetensors`) or one `.onnx` file with its labels (`config.json`, or
`labels.txt`, one a line); both with `vocab.txt` or `tokenizer.json`. Nothing is ever unpickled. Door of `safetensors`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from engines.artefacts import IMPORTED_MAX_BYTES
from engines.errors import ImportRefused, MissingExtra
from engines.imports.files import read_bytes, read_json, read_text
from engines.imports.tokeniser import Tokeniser, read_tokeniser

F32 = NDArray[np.float32]
Kind = Literal["single", "multi"]
LABELS_MAX: Final = 512
TOKENS_MAX: Final = 512
DISTILBERT: Final = "DistilBertForSequenceClassification"
ROBERTA: Final = "RobertaForSequenceClassification"
ROBERTA_SKIPS: Final = 2
"""Rows of its table of positions that stand for no position: those up to the number of `<pad>`, which is 1."""
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
    pad_token_id: int | None = None
    dim: int = 0
    hidden_dim: int = 0
    n_heads: int = 0
    n_layers: int = 0
    activation: str = "gelu"


@dataclass(frozen=True, slots=True)
class Given:
    """`labels` in logit order; `kind` None = not said; `path`: weights or ONNX file."""

    folder: Path
    path: Path
    config: Config
    labels: tuple[str, ...]
    kind: Kind | None
    tokeniser: Tokeniser
    max_tokens: int


def read_given(folder: Path) -> Given:
    """Everything of a directory but the weights.

    Raises:
        ImportRefused: a file is missing, too large, not UTF-8, not what it should be, or of an unsupported kind.
    """
    path = _weights(folder)
    config = read_json(folder / "config.json", Config) if (folder / "config.json").exists() else Config()
    if config.problem_type not in _KINDS:
        raise ImportRefused(f"{folder}/config.json: problem_type {config.problem_type!r}: expected one of {_words()}")
    tokeniser = read_tokeniser(folder, config.architectures == (ROBERTA,) or (folder / "merges.txt").exists())
    config = _in_berts_words(config)
    if config.max_position_embeddings < 3:
        raise ImportRefused(f"{folder}/config.json: max_position_embeddings expected 3 or more")
    tokens = min(config.max_position_embeddings, TOKENS_MAX)
    return Given(folder, path, config, _labels(folder, config), _KINDS[config.problem_type], tokeniser, tokens)


def _in_berts_words(config: Config) -> Config:
    """DistilBERT's and RoBERTa's sizes as BERT's; any other architecture as it is."""
    if config.architectures == (ROBERTA,):
        if config.pad_token_id not in (None, ROBERTA_SKIPS - 1):
            raise ImportRefused(f"config.json: pad_token_id expected {ROBERTA_SKIPS - 1}, got {config.pad_token_id}")
        return msgspec.structs.replace(config, max_position_embeddings=config.max_position_embeddings - ROBERTA_SKIPS)
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


def _labels(folder: Path, config: Config) -> tuple[str, ...]:
    """In logit order; each once."""
    if (folder / "labels.txt").exists():
        labels = tuple(line.strip() for line in read_text(folder / "labels.txt").splitlines() if line.strip())
    else:
        labels = tuple(config.id2label.get(str(k), "") for k in range(min(len(config.id2label), LABELS_MAX + 1)))
    if not 2 <= len(labels) <= LABELS_MAX or "" in labels or len(set(labels)) != len(labels):
        raise ImportRefused(
            f"{folder}: expected 2 to {LABELS_MAX} labels, each once, in id2label of config.json (from 0 on) or"
            f" labels.txt, got {list(labels[:8])}"
        )
    return labels


def _words() -> str:
    return ", ".join(k for k in _KINDS if k)
