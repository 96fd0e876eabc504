"""BertForSequenceClassification: its weights by our names, and its forward pass in plain numpy, to compare with.

Devlin et al. 2019: post-norm blocks, GELU by erf, first token -> dense, tanh -> classifier. Token type 0 is added.
DistilBERT and RoBERTa come told in BERT's words (`engines.imports.distilbert`, `roberta`); the first has ReLU for tanh.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engines.errors import ImportRefused
from engines.imports import distilbert, roberta
from engines.imports.given import DISTILBERT, F32, ROBERTA, Config, Given

F64 = NDArray[np.float64]
RETOLD: Final = {DISTILBERT: distilbert.tensors_of, ROBERTA: roberta.tensors_of}
"""Architecture -> its tensors under BERT's names."""
SUPPORTED: Final = ("BertForSequenceClassification", *RETOLD)
_BLOCK: Final = {
    "out": "attention.output.dense",
    "norm1": "attention.output.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "norm2": "output.LayerNorm",
}
_erf = np.vectorize(math.erf, otypes=[np.float64])


def require(given: Given) -> None:
    """Raises ImportRefused where the config is of anything but what is supported."""
    config = given.config
    names, positions = config.architectures, config.position_embedding_type or "absolute"
    if len(names) != 1 or names[0] not in SUPPORTED or (config.hidden_act, positions) != ("gelu", "absolute"):
        raise ImportRefused(
            f"{given.folder}/config.json: architecture {', '.join(names) or 'not said'}, {config.hidden_act},"
            f" {positions} positions; supported are {', '.join(SUPPORTED)} (MiniLM and bge too) with gelu and"
            " absolute positions; export others to ONNX and import that file"
        )
    if config.num_attention_heads < 1 or config.hidden_size % config.num_attention_heads or config.layer_norm_eps <= 0:
        raise ImportRefused(f"{given.folder}/config.json: heads must divide hidden_size, layer_norm_eps be above 0")


def checked(given: Given, tensors: Mapping[str, F32]) -> dict[str, F32]:
    """The tensors of the architecture by BERT's short names, every shape as the config says.

    Raises:
        ImportRefused: one is missing or of another shape.
    """
    for architecture in given.config.architectures:
        tensors = RETOLD[architecture](given.config, tensors) if architecture in RETOLD else tensors
    short = {
        k.removeprefix("bert.")
        .replace("LayerNorm.gamma", "LayerNorm.weight")
        .replace("LayerNorm.beta", "LayerNorm.bias"): v
        for k, v in tensors.items()
    }
    found, pieces = {}, len(given.tokeniser.pieces)
    for name, shape in _shapes(given.config, len(given.labels)):
        value = short.get(name)
        got = None if value is None else value.shape
        table = name.endswith("word_embeddings.weight")
        fits = got == shape or (table and got is not None and got[1:] == shape[1:] and got[0] >= pieces)
        if value is None or not fits:
            expected = [f">= {pieces}", shape[1]] if table else list(shape)
            raise ImportRefused(
                f"{given.path}: {name} expected {expected} by config.json, labels and vocabulary, got"
                f" {'nothing' if got is None else list(got)}"
            )
        found[name] = value
    return found


def ours(config: Config, theirs: Mapping[str, F32], pieces: int) -> dict[str, F32]:
    """By the names of `engines.training.graph`."""
    state = {
        "pieces.weight": theirs["embeddings.word_embeddings.weight"][:pieces],
        "positions.weight": theirs["embeddings.position_embeddings.weight"]
        + theirs["embeddings.token_type_embeddings.weight"][0],
    }
    for part in ("weight", "bias"):
        state[f"norm.{part}"] = theirs[f"embeddings.LayerNorm.{part}"]
        state[f"{'pooler' if _tanh(config) else 'pre'}.{part}"] = theirs[f"pooler.dense.{part}"]
        state[f"head.{part}"] = theirs[f"classifier.{part}"]
        for k in range(config.num_hidden_layers):
            layer = f"encoder.layer.{k}."
            state[f"blocks.{k}.qkv.{part}"] = np.concatenate(
                [theirs[f"{layer}attention.self.{n}.{part}"] for n in ("query", "key", "value")]
            )
            for own, name in _BLOCK.items():
                state[f"blocks.{k}.{own}.{part}"] = theirs[f"{layer}{name}.{part}"]
    return state


def forward(config: Config, theirs: Mapping[str, F32], ids: Sequence[int]) -> F64:
    """Logits of one row in float64, from their names alone: nothing of this is shared with the graph."""

    def dense(x: F64, name: str) -> F64:
        return x @ theirs[f"{name}.weight"].T.astype(np.float64) + theirs[f"{name}.bias"]

    def norm(x: F64, name: str) -> F64:
        middle, spread = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        scaled: F64 = (x - middle) / np.sqrt(spread + config.layer_norm_eps)
        return scaled * theirs[f"{name}.weight"] + theirs[f"{name}.bias"]

    parts = [theirs[f"embeddings.{n}_embeddings.weight"].astype(np.float64) for n in ("word", "position", "token_type")]
    x = norm(parts[0][list(ids)] + parts[1][: len(ids)] + parts[2][0], "embeddings.LayerNorm")
    heads = config.num_attention_heads
    for k in range(config.num_hidden_layers):
        at = f"encoder.layer.{k}.attention"
        q, key, v = (dense(x, f"{at}.self.{n}").reshape(len(ids), heads, -1) for n in ("query", "key", "value"))
        scores = np.einsum("ihd,jhd->hij", q, key) / math.sqrt(q.shape[-1])
        share = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = np.einsum("hij,jhd->ihd", share / share.sum(-1, keepdims=True), v).reshape(len(ids), -1)
        x = norm(x + dense(mixed, f"{at}.output.dense"), f"{at}.output.LayerNorm")
        up = dense(x, f"encoder.layer.{k}.intermediate.dense")
        down = dense(up * 0.5 * (1 + _erf(up / math.sqrt(2))), f"encoder.layer.{k}.output.dense")
        x = norm(x + down, f"encoder.layer.{k}.output.LayerNorm")
    first = dense(x[0], "pooler.dense")
    return dense(np.tanh(first) if _tanh(config) else np.maximum(first, 0), "classifier")


def _tanh(config: Config) -> bool:
    return config.architectures != (DISTILBERT,)


def _shapes(config: Config, labels: int) -> list[tuple[str, tuple[int, ...]]]:
    """(name, shape) of every tensor. `word_embeddings` may have more rows than pieces."""
    wide, inner = config.hidden_size, config.intermediate_size
    found: list[tuple[str, tuple[int, ...]]] = [
        ("embeddings.word_embeddings.weight", (0, wide)),
        ("embeddings.position_embeddings.weight", (config.max_position_embeddings, wide)),
        ("embeddings.token_type_embeddings.weight", (2, wide)),
    ]
    dense = {"pooler.dense": (wide, wide), "classifier": (labels, wide)}
    norms = ["embeddings.LayerNorm"]
    if not 1 <= config.num_hidden_layers <= 64:
        raise ImportRefused(f"config.json: num_hidden_layers expected 1 to 64, got {config.num_hidden_layers}")
    for k in range(config.num_hidden_layers):
        layer = f"encoder.layer.{k}."
        dense |= {f"{layer}attention.self.{n}": (wide, wide) for n in ("query", "key", "value")}
        dense |= {f"{layer}{_BLOCK['out']}": (wide, wide), f"{layer}{_BLOCK['up']}": (inner, wide)}
        dense[layer + _BLOCK["down"]] = (wide, inner)
        norms += [layer + _BLOCK["norm1"], layer + _BLOCK["norm2"]]
    found += [(f"{name}.weight", size) for name, size in dense.items()]
    found += [(f"{name}.bias", size[:1]) for name, size in dense.items()]
    return found + [(f"{name}.{part}", (wide,)) for name in norms for part in ("weight", "bias")]
