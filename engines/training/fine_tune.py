"""Trains an encoder on a mixture within a budget; a killed run goes on from its last checkpoint, minutes old."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from engines.base import HeadKind
from engines.training.encoder import Encoder
from engines.training.mixture import Batch, Mixture

CHECKPOINT_S = 180.0
CURVE_STEPS = 50
_COUNTS = ("pool", "steps", "samples", "seconds", "checked", "best_check", "best_figure")
"""Where a run stands, besides its tensors."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that decides the weights besides the data. One of `samples` and `minutes` ends the run.

    With `samples` the run is the same on every machine of a kind; with `minutes` the learning rate follows the clock of
    this process (time between interruptions counts, time while it is dead does not).

    Attributes:
        average: decay of the running mean of the weights, per step (Polyak & Juditsky 1992); 0 = none, the last count.
        checks: how often in a run the weights are judged on dev, evenly; 0 = never, the last weights count.
        patience: the run stops early after so many checks in a row without a better figure.
    """

    seed: int = 7
    samples: int = 0
    minutes: float = 0.0
    rate: float = 1e-4
    head_rate: float = 1e-3
    warm_up: float = 0.04
    weight_decay: float = 0.01
    clip: float = 1.0
    average: float = 0.0
    checks: int = 0
    patience: int = 3

    def progress(self, samples: int, seconds: float) -> float:
        """How far the run is, 0..1."""
        if self.samples:
            return min(1.0, samples / self.samples)
        return min(1.0, seconds / (60.0 * self.minutes))

    def pace(self, progress: float) -> float:
        """The learning rate's factor: up over the warm-up, then straight down to nothing."""
        return min(progress / self.warm_up, (1.0 - progress) / (1.0 - self.warm_up))


@dataclass(frozen=True, slots=True)
class HeadLoss:
    """Loss of one head: columns [start, stop); `weights` float32 per label (`single`); `scale`: its share."""

    task: str
    kind: HeadKind
    start: int
    stop: int
    weights: NDArray[np.float32]
    scale: float


Judge = Callable[[Mapping[str, NDArray[np.float32]]], Mapping[str, float]]
"""Weights -> their figure on dev by head, the greater the better."""


class Run:
    """One training run in `folder`: `state.pt` (newest checkpoint) and `curve.jsonl` (losses and dev figures by head).

    `state.pt` holds tensors and numbers alone and is read with `weights_only`. With `judge` and `Plan.checks` the best
    weights seen on dev count, by the mean over the heads.
    """

    def __init__(
        self,
        folder: Path,
        encoder: Encoder,
        losses: Sequence[HeadLoss],
        plan: Plan,
        device: str,
        judge: Judge | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.encoder = encoder.to(device)
        self._losses = losses
        self._plan = plan
        self._device = device
        self._judge = judge if plan.checks else None
        self._half = device != "cpu" or bf16_is_fast()
        self._optimiser = _optimiser(encoder, plan)
        self._mean = {n: p.detach().clone() for n, p in encoder.named_parameters()} if plan.average else {}
        self.pool = 0
        self.steps = 0
        self.samples = 0
        self.seconds = 0.0
        self.checked = 0
        self.best_check = 0
        self.best_figure = float("-inf")
        self._best: dict[str, torch.Tensor] = {}
        self._resume()

    def done(self) -> bool:
        """The budget is used up, or nothing has got better on dev for long enough."""
        tired = bool(self._best) and self.checked - self.best_check >= self._plan.patience
        return tired or self._plan.progress(self.samples, self.seconds) >= 1.0

    def train(self, mixture: Mixture, step: Callable[[int, float], None]) -> None:
        """Train to the end of the budget; `step(samples, progress)` after every batch."""
        self.encoder.train()
        kept = last = time.monotonic()
        sums: dict[str, list[float]] = {}
        while not self.done():
            pool = mixture.pool(self.pool)
            for batch in pool:
                progress = self._plan.progress(self.samples, self.seconds)
                self._step(batch, progress, sums)
                now = time.monotonic()
                self.seconds, last = self.seconds + now - last, now
                self.steps += 1
                self.samples += len(batch.ids)
                step(len(batch.ids), progress)
                if self.steps % CURVE_STEPS == 0:
                    self._curve(progress, sums)
                if self.done():
                    break
            self.pool += 1
            self._check()
            if self.done() or time.monotonic() - kept > CHECKPOINT_S:
                self._keep()
                kept = time.monotonic()
            last = time.monotonic()

    def _step(self, batch: Batch, progress: float, sums: dict[str, list[float]]) -> None:
        torch.manual_seed(self._plan.seed * 1_000_003 + self.steps)
        for group in self._optimiser.param_groups:
            group["lr"] = group["top"] * self._plan.pace(progress)
        ids, mask, truth = (torch.from_numpy(x).to(self._device) for x in (batch.ids, batch.mask, batch.truth))
        with torch.autocast("cuda" if self._device != "cpu" else "cpu", torch.bfloat16, enabled=self._half):
            outputs = self.encoder(ids, mask)
        total = outputs.new_zeros((), dtype=torch.float32)
        for head in self._losses:
            loss, rows = head_loss(head, outputs.float(), truth)
            if rows:
                total = total + head.scale * loss / len(truth)
                sums.setdefault(head.task, []).append(float(loss.detach()) / rows)
        self._optimiser.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(self.encoder.parameters(), self._plan.clip)
        self._optimiser.step()
        if self._mean:
            decay = min(self._plan.average, (1.0 + self.steps) / (10.0 + self.steps))
            live = [p.detach() for p in self.encoder.parameters()]
            torch._foreach_lerp_(list(self._mean.values()), live, 1.0 - decay)

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """The weights that count: the best on dev where they were judged, else those of `_present`."""
        return arrays(self._best or self._present())

    def _present(self) -> dict[str, torch.Tensor]:
        """The running mean where the plan asks for it, else the last weights."""
        return {**self.encoder.state_dict(), **self._mean}

    def _check(self) -> None:
        """Judge the weights on dev where one more part of the run is over."""
        progress = self._plan.progress(self.samples, self.seconds)
        if self._judge is None or int(progress * self._plan.checks) <= self.checked:
            return
        self.checked = int(progress * self._plan.checks)
        figures = self._judge(arrays(self._present()))
        figure = float(np.mean(list(figures.values())))
        if figure > self.best_figure:
            self.best_figure, self.best_check = figure, self.checked
            self._best = {name: value.detach().clone() for name, value in self._present().items()}
        self._write({"samples": self.samples, "progress": round(progress, 4), "dev": dict(figures), "mean": figure})

    def _curve(self, progress: float, sums: dict[str, list[float]]) -> None:
        line = {
            "steps": self.steps,
            "samples": self.samples,
            "seconds": round(self.seconds, 1),
            "progress": round(progress, 4),
            "loss": {task: round(float(np.mean(values)), 4) for task, values in sums.items()},
        }
        sums.clear()
        self._write(line)

    def _write(self, line: Mapping[str, object]) -> None:
        with (self._folder / "curve.jsonl").open("a", encoding="utf-8") as out:
            out.write(json.dumps(line) + "\n")

    def _keep(self) -> None:
        """Write the checkpoint beside the old one, then over it."""
        state = {
            "plan": asdict(self._plan),
            "encoder": self.encoder.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "mean": self._mean,
            "best": self._best,
            "counts": {name: getattr(self, name) for name in _COUNTS},
        }
        fresh = self._folder / "state.pt.new"
        torch.save(state, fresh)
        os.replace(fresh, self._folder / "state.pt")

    def _resume(self) -> None:
        path = self._folder / "state.pt"
        if not path.exists():
            return
        state = torch.load(path, map_location=self._device, weights_only=True)
        if state["plan"] != asdict(self._plan):
            raise ValueError(
                f"{path} is of another plan: {state['plan']}, wanted {asdict(self._plan)}; give the same options, or"
                f" another --work folder"
            )
        self.encoder.load_state_dict(state["encoder"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._mean, self._best = state["mean"], state["best"]
        for name in _COUNTS:
            setattr(self, name, state["counts"][name])


def head_loss(head: HeadLoss, outputs: torch.Tensor, truth: torch.Tensor) -> tuple[torch.Tensor, int]:
    """(sum of the loss over the rows that know this head, how many they are)."""
    part, want = outputs[:, head.start : head.stop], truth[:, head.start : head.stop]
    known = ~torch.isnan(want)
    rows = known.any(1)
    count = int(rows.sum())
    if not count:
        return outputs.new_zeros(()), 0
    part, want, known = part[rows], torch.nan_to_num(want[rows]), known[rows]
    if head.kind == "single":
        weights = torch.from_numpy(head.weights).to(outputs.device)
        return nn.functional.cross_entropy(part, want.argmax(1), weight=weights, reduction="none").sum(), count
    if head.kind == "multi":
        each = nn.functional.binary_cross_entropy_with_logits(part, want, reduction="none")
    else:
        each = (part - want) ** 2
    return (each * known).sum(), count


def _optimiser(encoder: Encoder, plan: Plan) -> torch.optim.AdamW:
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in encoder.named_parameters():
        rate = plan.head_rate if name.startswith("head.") else plan.rate
        decay = 0.0 if parameter.ndim == 1 else plan.weight_decay
        groups.setdefault((rate, decay), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": p, "lr": rate, "top": rate, "weight_decay": decay} for (rate, decay), p in groups.items()],
        fused=True,
    )


def arrays(state: Mapping[str, torch.Tensor]) -> dict[str, NDArray[np.float32]]:
    """Weights as float32 arrays of their own, by name."""
    return {name: value.detach().float().cpu().numpy().copy() for name, value in state.items()}


def bf16_is_fast() -> bool:
    """Only processors with bf16 products gain by it; on others it is seven times slower (measured, AVX2)."""
    return "AVX512" in torch.backends.cpu.get_cpu_capability() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
