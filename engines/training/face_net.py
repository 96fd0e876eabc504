"""The network of `face-affect`: residual, 48x48 grey in, eight logits out; and how its training pictures are varied."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

EPSILON = 1e-5


class Block(nn.Module):  # type: ignore[misc]
    """Two 3x3 convolutions beside a shortcut (He et al. 2016); stride 2 halves both sides."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        nn.init.zeros_(self.norm2.weight)  # a block starts as its shortcut: deep nets train sooner
        self.pool = nn.AvgPool2d(2) if stride == 2 else None
        self.short = nn.Conv2d(inputs, outputs, 1, bias=False) if inputs != outputs else None
        self.short_norm = nn.BatchNorm2d(outputs) if inputs != outputs else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[n, inputs, h, w] to [n, outputs, h / stride, w / stride]."""
        y = functional.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        if self.pool is not None:
            x = self.pool(x)
        if self.short is not None and self.short_norm is not None:
            x = self.short_norm(self.short(x))
        return functional.relu(y + x)


class FaceNet(nn.Module):  # type: ignore[misc]
    """A third of a million parameters, 32 million multiplications a face."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 32, 5, 2, 2, bias=False)
        self.stem_norm = nn.BatchNorm2d(32)
        self.conv = nn.Conv2d(32, 32, 3, 1, 1, bias=False)
        self.conv_norm = nn.BatchNorm2d(32)
        self.blocks = nn.ModuleList([Block(32, 64, 2), Block(64, 64, 1), Block(64, 128, 2)])
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(128, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits [n, classes] of grey faces [n, 1, h, w] of any level and contrast (each is standardised)."""
        x = standardised(x)
        x = functional.relu(self.stem_norm(self.stem(x)))
        x = functional.relu(self.conv_norm(self.conv(x)))
        for block in self.blocks:
            x = block(x)
        logits: torch.Tensor = self.head(self.drop(x.mean((2, 3))))
        return logits


def standardised(x: torch.Tensor) -> torch.Tensor:
    """Each face with mean 0 and deviation 1: light and contrast of the camera are no emotion."""
    x = x - x.mean((1, 2, 3), keepdim=True)
    return x / (x.square().mean((1, 2, 3), keepdim=True) + 1.0).sqrt()


def varied(x: torch.Tensor, size: int, random: torch.Generator) -> torch.Tensor:
    """Each face mirrored or not, turned up to 12 degrees, scaled and shifted by a tenth, sampled at `size` pixels.

    A fifth of them lose a rectangle (random erasing, Zhong et al. 2020). `x` float [n, 1, 48, 48].
    """
    n = len(x)

    def uniform(lo: float, hi: float) -> torch.Tensor:
        return torch.rand(n, generator=random) * (hi - lo) + lo

    angle = uniform(-math.pi / 15, math.pi / 15)
    across, down = 1.0 / uniform(0.9, 1.12), 1.0 / uniform(0.9, 1.12)
    mirror = torch.where(torch.rand(n, generator=random) < 0.5, -1.0, 1.0)
    cos, sin = torch.cos(angle), torch.sin(angle)
    theta = torch.stack(
        [
            cos * across * mirror,
            -sin * down,
            uniform(-0.12, 0.12),
            sin * across * mirror,
            cos * down,
            uniform(-0.12, 0.12),
        ],
        1,
    ).view(n, 2, 3)
    grid = functional.affine_grid(theta, [n, 1, size, size], align_corners=False)
    x = functional.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)
    for k in torch.nonzero(torch.rand(n, generator=random) < 0.2)[:, 0].tolist():
        h, w = (int(v) for v in torch.randint(size // 8, size // 2, (2,), generator=random))
        top, left = (int(torch.randint(0, size - v + 1, (1,), generator=random)) for v in (h, w))
        x[k, 0, top : top + h, left : left + w] = 255.0 * torch.rand((), generator=random)
    return x
