"""A tiny encoder with random weights: a real ONNX file of a few kilobytes, and the same net in plain numpy."""

from __future__ import annotations

import math

import numpy as np

from engines.base import EngineSpec, HeadSpec, TextModel
from engines.onnx import OnnxEngine
from engines.training.graph import F32, build
from engines.wordpieces import WordPieces

WORDS = "the water food happy sad stock falls hurricane love not good need http user : ! ? a b c d e ##s ##ing".split()
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]
HEADS = (
    HeadSpec("mood", "single", ("up", "flat", "down"), temperature=1.3),
    HeadSpec("needs", "multi", ("water", "food"), thresholds=(0.4, 0.6)),
    HeadSpec("vad", "regression", ("V", "A"), lo=1.0, hi=5.0),
)
OUTPUTS = 7
WIDTH, DEEP, INNER, LAYERS, ATTENTION = 16, 4, 32, 2, 4
POSITIONS = 32
EPSILON = 1e-12
_erf = np.vectorize(math.erf)


def weights(seed: int = 0) -> dict[str, F32]:
    random = np.random.default_rng(seed)

    def some(*shape: int) -> F32:
        return (random.normal(size=shape) / np.sqrt(shape[-1])).astype(np.float32)

    found = {
        "pieces.weight": random.normal(size=(len(VOCABULARY), WIDTH)).astype(np.float32),
        "positions.weight": some(POSITIONS, WIDTH),
        "norm.weight": 1 + some(WIDTH),
        "norm.bias": some(WIDTH),
        "head.weight": some(OUTPUTS, WIDTH),
        "head.bias": some(OUTPUTS),
    }
    for k in range(LAYERS):
        sizes = {"qkv": (3 * WIDTH, WIDTH), "out": (WIDTH, WIDTH), "up": (INNER, WIDTH), "down": (WIDTH, INNER)}
        for name, size in sizes.items():
            found[f"blocks.{k}.{name}.weight"] = some(*size)
            found[f"blocks.{k}.{name}.bias"] = some(size[0])
        for name in ("norm1", "norm2"):
            found[f"blocks.{k}.{name}.weight"] = 1 + some(WIDTH)
            found[f"blocks.{k}.{name}.bias"] = some(WIDTH)
    return found


def spec(heads: tuple[HeadSpec, ...] = HEADS) -> EngineSpec:
    return EngineSpec("tiny", "0", "onnx-cpu", heads, max_batch_size=8)


def packed(int8: bool = True, seed: int = 0) -> bytes:
    return build(weights(seed), ATTENTION, EPSILON, {"vocabulary": "\n".join(VOCABULARY)}, int8)


def model(int8: bool = True) -> TextModel:
    return TextModel(WordPieces(VOCABULARY, 24).featurize, OnnxEngine(spec(), packed(int8)))


def by_hand(w: dict[str, F32], ids: np.ndarray) -> np.ndarray:
    """The net on one row of ids, in float64."""

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + EPSILON) * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ w[f"{name}.weight"].T.astype(np.float64) + w[f"{name}.bias"]

    x = norm(w["pieces.weight"][ids].astype(np.float64) + w["positions.weight"][: len(ids)], "norm")
    for k in range(LAYERS):
        name = f"blocks.{k}"
        q, key, v = np.split(linear(x, f"{name}.qkv"), 3, axis=-1)
        mixed = []
        for h in range(ATTENTION):
            part = slice(h * DEEP, (h + 1) * DEEP)
            score = q[:, part] @ key[:, part].T / math.sqrt(DEEP)
            share = np.exp(score - score.max(-1, keepdims=True))
            mixed.append(share / share.sum(-1, keepdims=True) @ v[:, part])
        x = norm(x + linear(np.concatenate(mixed, -1), f"{name}.out"), f"{name}.norm1")
        up = linear(x, f"{name}.up")
        x = norm(x + linear(up * 0.5 * (1 + _erf(up / math.sqrt(2))), f"{name}.down"), f"{name}.norm2")
    return linear(x.mean(0), "head")
