"""The hashed bag in torch: a shared embedding bag, one hidden layer and linear heads, then cut to integers.

Every row teaches every head: by its label where it has one, and by what the teacher says of it
(`engines.training.teacher`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from engines.base import AnyArray
from engines.hashed import ACTIVATION_MAX
from engines.training.fine_tune import HeadLoss, head_loss


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides the weights besides the data."""

    bits: int = 16
    dims: int = 64
    hidden: int = 64
    epochs: int = 10
    batch_size: int = 512
    learning_rate: float = 4e-3
    feature_dropout: float = 0.5
    dropout: float = 0.3
    weight_decay: float = 0.0
    seed: int = 7


@dataclass(frozen=True, slots=True)
class Examples:
    """Training rows of all tasks as one ragged bag.

    Attributes:
        buckets: int32 [features]; offsets: int64 [rows + 1].
        truth: float32 [rows, outputs]; NaN where the row says nothing about the label; regressions in deviations.
        soft: float32 [rows, outputs], what the teacher says: logits, or values in deviations.
    """

    buckets: NDArray[np.int32]
    offsets: NDArray[np.int64]
    truth: NDArray[np.float32]
    soft: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.truth)

    def rows(self, picked: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """(buckets, offsets) of the picked rows, in that order."""
        counts = self.offsets[picked + 1] - self.offsets[picked]
        offsets = np.zeros(len(picked) + 1, np.int64)
        np.cumsum(counts, out=offsets[1:])
        at = np.repeat(self.offsets[picked] - offsets[:-1], counts) + np.arange(offsets[-1])
        return self.buckets[at], offsets


class BagNet(nn.Module):  # type: ignore[misc]
    """counts -> logits of all heads, one after another."""

    def __init__(self, recipe: Recipe, outputs: int) -> None:
        super().__init__()
        self.table = nn.EmbeddingBag(1 << recipe.bits, recipe.dims, mode="sum")
        nn.init.normal_(self.table.weight, std=0.05)
        self.middle = nn.Linear(recipe.dims, recipe.hidden)
        self.direct = nn.Linear(recipe.dims, outputs)
        self.deep = nn.Linear(recipe.hidden, outputs, bias=False)
        self.drop = nn.Dropout(recipe.dropout)

    def bag(self, buckets: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
        """Scaled sums [rows, dims]; `offsets` has rows + 1 entries."""
        length = torch.sqrt(torch.clamp(offsets[1:] - offsets[:-1], min=1).float())[:, None]
        summed: torch.Tensor = self.table(buckets, offsets[:-1])
        return summed / length

    def forward(self, buckets: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
        bag = self.drop(self.bag(buckets, offsets))
        hidden = self.drop(torch.relu(self.middle(bag)))
        logits: torch.Tensor = self.direct(bag) + self.deep(hidden)
        return logits


def train(
    examples: Examples,
    losses: Sequence[HeadLoss],
    recipe: Recipe,
    step: Callable[[int, float], None] | None = None,
    soft: Mapping[str, float] | None = None,
) -> BagNet:
    """Train on all rows of all tasks, shuffled together.

    Args:
        step: called after every batch with (rows done, loss); for the progress bar.
        soft: weight of the teacher's word beside a label's, by task, where it is not 1.
    """
    torch.manual_seed(recipe.seed)
    random = np.random.default_rng(recipe.seed)
    net = BagNet(recipe, examples.truth.shape[1])
    batches = -(-len(examples) // recipe.batch_size)
    optimiser = torch.optim.AdamW(
        [
            {"params": net.table.parameters(), "weight_decay": recipe.weight_decay},
            {
                "params": [*net.middle.parameters(), *net.direct.parameters(), *net.deep.parameters()],
                "weight_decay": 1e-2,
            },
        ],
        lr=recipe.learning_rate,
    )
    plan = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.learning_rate, total_steps=batches * recipe.epochs, pct_start=0.1
    )
    net.train()
    for _ in range(recipe.epochs):
        order = random.permutation(len(examples))
        for at in range(0, len(order), recipe.batch_size):
            picked = order[at : at + recipe.batch_size]
            buckets, offsets = _thin(*examples.rows(picked), recipe.feature_dropout, random)
            logits = net(torch.from_numpy(buckets), torch.from_numpy(offsets))
            truth, said = torch.from_numpy(examples.truth[picked]), torch.from_numpy(examples.soft[picked])
            loss = _loss(logits, truth, said, losses, soft or {})
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            plan.step()
            if step is not None:
                step(len(picked), float(loss.detach()))
    net.eval()
    return net


def _thin(
    buckets: NDArray[np.int32], offsets: NDArray[np.int64], share: float, random: np.random.Generator
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Drops that share of the features at random."""
    keep = random.random(len(buckets), np.float32) >= share
    before = np.zeros(len(keep) + 1, np.int64)
    np.cumsum(keep, out=before[1:])
    return buckets[keep], before[offsets]


def _loss(
    logits: torch.Tensor,
    truth: torch.Tensor,
    said: torch.Tensor,
    losses: Sequence[HeadLoss],
    soft: Mapping[str, float],
) -> torch.Tensor:
    """Labels where there are any, and the teacher's word on every row; per row."""
    total = logits.new_zeros(())
    for head in losses:
        taught = _soft_loss(head, logits[:, head.start : head.stop], said)
        total = total + head.scale * (head_loss(head, logits, truth)[0] + soft.get(head.task, 1.0) * taught)
    return total / len(logits)


def _soft_loss(head: HeadLoss, part: torch.Tensor, said: torch.Tensor) -> torch.Tensor:
    """Sum over the rows of the cross-entropy against the teacher's probabilities, or of the squared distance."""
    want = said[:, head.start : head.stop]
    if head.kind == "single":
        return nn.functional.cross_entropy(part, want.softmax(1), reduction="sum")
    if head.kind == "multi":
        return nn.functional.binary_cross_entropy_with_logits(part, want.sigmoid(), reduction="sum")
    return ((part - want) ** 2).sum()


def in_units(net: BagNet, start: int, mean: NDArray[np.float32], deviation: NDArray[np.float32]) -> None:
    """Turn the outputs from `start` on, learnt in deviations from a mean, into values."""
    part = slice(start, start + len(mean))
    wide = torch.from_numpy(deviation)
    with torch.no_grad():
        net.direct.weight[part] *= wide[:, None]
        net.deep.weight[part] *= wide[:, None]
        net.direct.bias[part] = net.direct.bias[part] * wide + torch.from_numpy(mean)


def integers(net: BagNet, examples: Examples) -> dict[str, AnyArray]:
    """The trained net as the integer arrays of `engines.hashed.WEIGHTS`; activation steps come from `examples`."""
    with torch.no_grad():
        peaks = _peaks(net, examples)
        table, table_step = _columns(net.table.weight.double().numpy(), 127)
        bag_step = 1.5 * peaks[0] / ACTIVATION_MAX
        hidden_step = 1.5 * peaks[1] / ACTIVATION_MAX
        middle, middle_step = _columns(net.middle.weight.double().numpy().T, ACTIVATION_MAX)
        direct, direct_step = _columns(net.direct.weight.double().numpy().T, ACTIVATION_MAX)
        deep, deep_step = _columns(net.deep.weight.double().numpy().T, ACTIVATION_MAX)
        return {
            "table": table.astype(np.int8),
            "table_scale": table_step / bag_step,
            "middle": middle.astype(np.int16),
            "middle_scale": middle_step * bag_step / hidden_step,
            "middle_bias": net.middle.bias.double().numpy() / hidden_step,
            "direct": direct.astype(np.int16),
            "direct_scale": direct_step * bag_step,
            "deep": deep.astype(np.int16),
            "deep_scale": deep_step * hidden_step,
            "bias": net.direct.bias.double().numpy().copy(),
        }


def _peaks(net: BagNet, examples: Examples) -> tuple[float, float]:
    """Largest |bag| and hidden value over the examples."""
    bag_peak, hidden_peak = 1e-6, 1e-6
    for at in range(0, len(examples), 2048):
        buckets, offsets = examples.rows(np.arange(at, min(at + 2048, len(examples))))
        bag = net.bag(torch.from_numpy(buckets), torch.from_numpy(offsets))
        bag_peak = max(bag_peak, float(bag.abs().max()))
        hidden_peak = max(hidden_peak, float(torch.relu(net.middle(bag)).max()))
    return bag_peak, hidden_peak


def _columns(weights: NDArray[np.float64], top: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(integers within +-top, step per column). The int8 table clips rare extremes: 6 deviations span the range."""
    peak = np.abs(weights).max(0)
    if top == 127:
        peak = np.minimum(peak, 6.0 * weights.std(0))
    step = np.maximum(peak, 1e-12) / top
    return np.clip(np.rint(weights / step), -top, top), step
