"""Trains a small network within a budget by one learning-rate cycle; a killed run goes on from its last checkpoint."""

from __future__ import annotations

import copy
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

CHECKPOINT_S = 120.0
CURVE_STEPS = 50
Batch = tuple[torch.Tensor, torch.Tensor]
"""(inputs, wanted share of each label, float [n, labels])."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that decides the weights besides the data. One of `samples` and `minutes` ends the run.

    With `samples` the run is the same on every machine of a kind; with `minutes` the learning rate follows the clock of
    this process (time between interruptions counts, time while it is dead does not).
    """

    seed: int = 7
    samples: int = 0
    minutes: float = 0.0
    rate: float = 0.1
    warm_up: float = 0.12
    weight_decay: float = 5e-4
    momentum: float = 0.9
    average: float = 0.998
    clip: float = 5.0

    def progress(self, samples: int, seconds: float) -> float:
        """How far the run is, 0..1."""
        if self.samples:
            return min(1.0, samples / self.samples)
        return min(1.0, seconds / (60.0 * self.minutes))

    def pace(self, progress: float) -> float:
        """The learning rate's factor: up over the warm-up, then half a cosine down to nothing (Smith & Topin 2018)."""
        if progress < self.warm_up:
            return 0.05 + 0.95 * progress / self.warm_up
        return 0.5 + 0.5 * math.cos(math.pi * (progress - self.warm_up) / (1.0 - self.warm_up))


class Fit:
    """One run in `folder`: `state.pt` (newest checkpoint) and `curve.jsonl` (mean loss every 50 steps).

    `averaged` is the running mean of the weights, which is what ships. `state.pt` holds tensors and numbers alone and
    is read with `weights_only`. `adaptive`: AdamW (small data, few steps) instead of momentum.
    """

    def __init__(self, folder: Path, net: nn.Module, plan: Plan, *, adaptive: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._plan = plan
        self.net = net.to(memory_format=torch.channels_last)
        self.averaged = copy.deepcopy(self.net).eval()
        groups = _groups(net, plan)
        self._optimiser = (
            torch.optim.AdamW(groups, lr=plan.rate)
            if adaptive
            else torch.optim.SGD(groups, lr=plan.rate, momentum=plan.momentum, nesterov=True)
        )
        self.steps = 0
        self.samples = 0
        self.seconds = 0.0
        self._losses: list[float] = []
        self._resume()

    @property
    def progress(self) -> float:
        """How far the run is, 0..1."""
        return self._plan.progress(self.samples, self.seconds)

    def train(
        self, batch: Callable[[int, float, torch.Generator], Batch], step: Callable[[float, float], None]
    ) -> None:
        """Train to the end of the budget.

        Args:
            batch: the batch of a step, from (step, progress, random numbers of that step).
            step: told (progress, loss) after every batch.
        """
        self.net.train()
        kept = last = time.monotonic()
        while self.progress < 1.0:
            random = torch.Generator().manual_seed(self._plan.seed * 1_000_003 + self.steps)
            torch.manual_seed(self._plan.seed * 1_000_003 + self.steps)  # dropout
            progress = self.progress
            x, wanted = batch(self.steps, progress, random)
            loss = self._step(x, wanted, progress)
            now = time.monotonic()
            self.seconds, last = self.seconds + now - last, now
            self.steps += 1
            self.samples += len(x)
            step(progress, loss)
            if self.steps % CURVE_STEPS == 0:
                self._curve(progress)
            if now - kept > CHECKPOINT_S:
                self._keep()
                kept = time.monotonic()
        self._keep()

    def _step(self, x: torch.Tensor, wanted: torch.Tensor, progress: float) -> float:
        for group in self._optimiser.param_groups:
            group["lr"] = self._plan.rate * self._plan.pace(progress)
        loss = functional.cross_entropy(self.net(x), wanted)
        self._optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), self._plan.clip)
        self._optimiser.step()
        keep = min(self._plan.average, self.steps / (self.steps + 10))
        with torch.no_grad():
            for mean, now in zip(self.averaged.state_dict().values(), self.net.state_dict().values(), strict=True):
                if mean.is_floating_point():
                    mean.lerp_(now, 1.0 - keep)
        self._losses.append(float(loss.detach()))
        return self._losses[-1]

    def _curve(self, progress: float) -> None:
        line = {
            "steps": self.steps,
            "samples": self.samples,
            "seconds": round(self.seconds, 1),
            "progress": round(progress, 4),
            "loss": round(sum(self._losses) / len(self._losses), 4),
        }
        self._losses.clear()
        with (self._folder / "curve.jsonl").open("a", encoding="utf-8") as out:
            out.write(json.dumps(line) + "\n")

    def _keep(self) -> None:
        """Write the checkpoint beside the old one, then over it."""
        state = {
            "plan": asdict(self._plan),
            "net": self.net.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "counts": {"steps": self.steps, "samples": self.samples, "seconds": self.seconds},
        }
        fresh = self._folder / "state.pt.new"
        torch.save(state, fresh)
        os.replace(fresh, self._folder / "state.pt")

    def _resume(self) -> None:
        path = self._folder / "state.pt"
        if not path.exists():
            return
        state = torch.load(path, map_location="cpu", weights_only=True)
        if state["plan"] != asdict(self._plan):
            raise ValueError(
                f"{path} is of another plan: {state['plan']}, wanted {asdict(self._plan)}; give the same options, or"
                f" another --work folder"
            )
        self.net.load_state_dict(state["net"])
        self.averaged.load_state_dict(state["averaged"])
        self._optimiser.load_state_dict(state["optimiser"])
        counts = state["counts"]
        self.steps, self.samples = int(counts["steps"]), int(counts["samples"])
        self.seconds = float(counts["seconds"])


def _groups(net: nn.Module, plan: Plan) -> list[dict[str, object]]:
    """Weight decay for matrices alone: norms and biases have nothing to shrink."""
    matrices = [p for p in net.parameters() if p.ndim > 1]
    vectors = [p for p in net.parameters() if p.ndim <= 1]
    return [{"params": matrices, "weight_decay": plan.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
