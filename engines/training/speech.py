"""`python -m engines.training.speech`: rebuild `engines/zoo/voice-affect` from the RAVDESS training speakers."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from engines.artefacts import ZOO
from engines.errors import AffectError
from engines.training.recordings import EMOTIONS, Recording, read_recordings, spectra
from engines.training.small_fit import Batch, Fit, Plan
from engines.training.voice_net import VoiceNet, cut, logarithm, varied

BATCH = 16
SPEEDS = (0.87, 0.93, 1.0, 1.07, 1.15)
MIX = 0.1
"""How many batches mix each spectrum's clip with another's (mixup, Zhang et al. 2018)."""


def main(argv: Sequence[str] | None = None) -> int:
    """Train every seed, average their logits, export, calibrate, measure, write."""
    options = _parser().parse_args(argv)
    if options.data is None:
        print("error: no data folder; set AFFECT_DATA or give --data FOLDER (the one that holds av/)", file=sys.stderr)
        return 2
    torch.set_num_threads(options.threads)
    folder = Path(options.data) / "av" / "ravdess-speech"
    recordings = read_recordings(folder, "train")
    plan = Plan(samples=options.samples, rate=0.03, weight_decay=5e-4, average=0.995)
    for seed in range(options.seed, options.seed + options.seeds):
        trained(recordings, replace(plan, seed=seed), Path(options.work) / f"seed{seed}")
    return 0


def trained(recordings: Sequence[Recording], plan: Plan, work: Path) -> Fit:
    """The run of one seed in `work`, new or where it was interrupted, to its end."""
    torch.manual_seed(plan.seed)
    fit = Fit(work, VoiceNet(len(EMOTIONS)), plan)
    if fit.progress >= 1.0:
        return fit
    variants = spectra(recordings, SPEEDS)
    labels = np.eye(len(EMOTIONS), dtype=np.float32)[[EMOTIONS.index(r.emotion) for r in recordings]]
    # The figure that counts is the mean of the recalls, and neutral has half as many clips as the others.
    pool = np.array([k for k, r in enumerate(recordings) for _ in range(2 if r.emotion == "neutral" else 1)])
    per_pass = len(pool) // BATCH

    def batch(step: int, progress: float, random: torch.Generator) -> Batch:
        order = np.random.default_rng((plan.seed, step // per_pass)).permutation(pool)
        draw = np.random.default_rng((plan.seed, 1, step))
        rows = order[step % per_pass * BATCH :][:BATCH]
        frames = int(draw.integers(70, 120))
        x = np.stack([varied(cut(variants[k][draw.integers(len(SPEEDS))], frames, draw), draw) for k in rows])
        y = labels[rows]
        inputs = logarithm(torch.from_numpy(x))
        if draw.random() < MIX:
            other = draw.permutation(len(rows))
            share = float(draw.beta(0.4, 0.4))
            inputs = share * inputs + (1 - share) * inputs[torch.from_numpy(other)]
            y = (share * y + (1 - share) * y[other]).astype(np.float32)
        return inputs, torch.from_numpy(y)

    with tqdm(
        total=1.0, unit="run", desc=f"seed {plan.seed}", mininterval=5.0, bar_format="{l_bar}{bar}| {elapsed}{postfix}"
    ) as bar:

        def step(progress: float, loss: float) -> None:
            bar.n = round(progress, 4)
            bar.set_postfix(
                loss=f"{loss:.3f}",
                clips=fit.samples,
                per_s=f"{fit.samples / max(fit.seconds, 1e-9):.0f}",
                refresh=False,
            )
            bar.update(0)

        fit.train(batch, step)
    return fit


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m engines.training.speech", description=__doc__)
    parser.add_argument(
        "--data", default=os.environ.get("AFFECT_DATA"), help="folder that holds av/ (default: AFFECT_DATA)"
    )
    parser.add_argument("--zoo", default=str(ZOO), help="where the model folder goes")
    parser.add_argument("--name", default="voice-affect", help="name of the model folder")
    parser.add_argument("--work", default="build/voice-affect", help="where checkpoints and curves go")
    parser.add_argument("--samples", type=int, default=40_000, help="clips a seed trains on (default: 40000)")
    parser.add_argument("--seeds", type=int, default=3, help="networks whose logits are averaged (default: 3)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=7, help="the first seed (default: 7)")
    return parser


if __name__ == "__main__":
    try:
        sys.exit(main())
    except AffectError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
