"""A BERT encoder in torch, ours alone, that reads the released weights of small sentence encoders; one linear head."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from torch import nn


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of the body. `inner`: width of the feed-forward layer."""

    pieces: int
    positions: int
    width: int
    layers: int
    heads: int
    inner: int


BGE = Shape(pieces=30522, positions=512, width=384, layers=12, heads=12, inner=1536)
"""bge-small-en-v1.5 (33.2 M parameters); all-MiniLM-L6-v2 differs in `layers=6` alone."""

EPSILON = 1e-12


class Block(nn.Module):  # type: ignore[misc]
    """Attention and feed-forward, each with its residual and the norm behind it (post-LN)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.qkv = nn.Linear(shape.width, 3 * shape.width)
        self.out = nn.Linear(shape.width, shape.width)
        self.norm1 = nn.LayerNorm(shape.width, eps=EPSILON)
        self.up = nn.Linear(shape.width, shape.inner)
        self.down = nn.Linear(shape.inner, shape.width)
        self.norm2 = nn.LayerNorm(shape.width, eps=EPSILON)

    def forward(self, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        rows, length, width = x.shape
        q, k, v = self.qkv(x).view(rows, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        weight = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(width // self.heads) + bias, -1)
        mixed = (weight @ v).transpose(1, 2).reshape(rows, length, width)
        x = self.norm1(x + self.out(mixed))
        normed: torch.Tensor = self.norm2(x + self.down(nn.functional.gelu(self.up(x))))
        return normed


class Encoder(nn.Module):  # type: ignore[misc]
    """Word pieces -> mean of the last layer -> outputs of all heads, one after another."""

    def __init__(self, shape: Shape, outputs: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.shape = shape
        self.pieces = nn.Embedding(shape.pieces, shape.width)
        self.positions = nn.Embedding(shape.positions, shape.width)
        self.norm = nn.LayerNorm(shape.width, eps=EPSILON)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(shape.width, outputs)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Outputs [rows, outputs]; `ids` int64 [rows, length], `mask` float [rows, length]: 1 piece, 0 padding."""
        x = self.drop(self.norm(self.pieces(ids) + self.positions.weight[: ids.shape[1]]))
        bias = ((1.0 - mask) * -1e4)[:, None, None, :]
        for block in self.blocks:
            x = block(x, bias)
        mean = (x * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
        outputs: torch.Tensor = self.head(self.drop(mean))
        return outputs


def read_base(encoder: Encoder, file: Path) -> None:
    """Fill the body of `encoder` from a released BERT encoder as ONNX (an export of torch: matrices by node name).

    The token-type row 0, always added in BERT, is folded into the positions.

    Raises:
        ValueError: the file is not such an encoder, or of another shape.
    """
    graph = onnx.load(str(file)).graph
    found = {c.name: torch.from_numpy(numpy_helper.to_array(c).copy()) for c in graph.initializer}
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in found:
            name = node.name.strip("/").replace("/", ".").removesuffix(".MatMul")
            found[f"{name}.weight"] = found[node.input[1]].T.contiguous()
    try:
        left = encoder.load_state_dict(_state(found, encoder.shape.layers), strict=False)
    except (KeyError, RuntimeError) as error:
        raise ValueError(f"{file} does not fit {encoder.shape}: {error}") from error
    if left.unexpected_keys or set(left.missing_keys) != {"head.weight", "head.bias"}:
        raise ValueError(f"{file} does not fit {encoder.shape}: missing {left.missing_keys}")


def _state(found: Mapping[str, torch.Tensor], layers: int) -> dict[str, torch.Tensor]:
    """The body's state by our names from a BERT's by its own."""
    state = {
        "pieces.weight": found["embeddings.word_embeddings.weight"],
        "positions.weight": found["embeddings.position_embeddings.weight"]
        + found["embeddings.token_type_embeddings.weight"][0],
        "norm.weight": found["embeddings.LayerNorm.weight"],
        "norm.bias": found["embeddings.LayerNorm.bias"],
    }
    names = {
        "out": "attention.output.dense",
        "norm1": "attention.output.LayerNorm",
        "up": "intermediate.dense",
        "down": "output.dense",
        "norm2": "output.LayerNorm",
    }
    for k in range(layers):
        theirs = f"encoder.layer.{k}."
        for part in ("weight", "bias"):
            state[f"blocks.{k}.qkv.{part}"] = torch.cat(
                [found[f"{theirs}attention.self.{n}.{part}"] for n in ("query", "key", "value")]
            )
            for ours, name in names.items():
                state[f"blocks.{k}.{ours}.{part}"] = found[f"{theirs}{name}.{part}"]
    return state
