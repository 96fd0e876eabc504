"""`python -m engines.training.face`: rebuild `engines/zoo/face-affect` from FER+ votes."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from engines.artefacts import ZOO
from engines.errors import AffectError
from engines.faces import CLASSES, Faces, distribution, read_faces
from engines.training.face_net import FaceNet, varied
from engines.training.small_fit import Batch, Fit, Plan

BATCH = 64
SIZES = ((0.45, 32), (0.75, 40), (1.01, 48))
"""Pixels a side the faces are sampled at, until that progress: small pictures teach most, and cost a third."""


def main(argv: Sequence[str] | None = None) -> int:
    """Train, export, calibrate, measure, write."""
    options = _parser().parse_args(argv)
    if options.data is None:
        print("error: no data folder; set AFFECT_DATA or give --data FOLDER (the one that holds av/)", file=sys.stderr)
        return 2
    torch.set_num_threads(options.threads)
    folder = Path(options.data) / "av" / "fer2013plus"
    plan = Plan(seed=options.seed, samples=options.samples, minutes=0.0 if options.samples else options.minutes)
    fit = trained(read_faces(folder / "train.npz"), plan, Path(options.work))
    print(f"{fit.samples} faces in {fit.steps} steps, {fit.seconds / 60:.0f} minutes", flush=True)
    return 0


def trained(faces: Faces, plan: Plan, work: Path) -> Fit:
    """The run in `work`, new or where it was interrupted, to its end."""
    torch.manual_seed(plan.seed)
    fit = Fit(work, FaceNet(CLASSES), plan)
    wanted, fit_rows = distribution(faces.votes)
    x = torch.from_numpy(faces.x[fit_rows])
    y = torch.from_numpy(wanted[fit_rows])
    per_pass = len(x) // BATCH
    print(f"{len(x)} faces train, {(~fit_rows).sum()} left out (unknown, no face, no votes left)", flush=True)

    def batch(step: int, progress: float, random: torch.Generator) -> Batch:
        order = np.random.default_rng((plan.seed, step // per_pass)).permutation(len(x))
        rows = torch.from_numpy(order[step % per_pass * BATCH :][:BATCH])
        size = next(pixels for until, pixels in SIZES if progress < until)
        pictures = varied(x[rows].unsqueeze(1).float(), size, random)
        return pictures.contiguous(memory_format=torch.channels_last), y[rows]

    with tqdm(
        total=1.0, unit="run", desc="training", mininterval=5.0, bar_format="{l_bar}{bar}| {elapsed}{postfix}"
    ) as bar:

        def step(progress: float, loss: float) -> None:
            bar.n = round(progress, 4)
            bar.set_postfix(
                loss=f"{loss:.3f}",
                faces=fit.samples,
                per_s=f"{fit.samples / max(fit.seconds, 1e-9):.0f}",
                refresh=False,
            )
            bar.update(0)

        fit.train(batch, step)
    return fit


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m engines.training.face", description=__doc__)
    parser.add_argument(
        "--data", default=os.environ.get("AFFECT_DATA"), help="folder that holds av/ (default: AFFECT_DATA)"
    )
    parser.add_argument("--zoo", default=str(ZOO), help="where the model folder goes")
    parser.add_argument("--name", default="face-affect", help="name of the model folder")
    parser.add_argument("--work", default="build/face-affect", help="where checkpoints and curves go")
    parser.add_argument("--minutes", type=float, default=60.0, help="wall-clock budget of the training (default: 60)")
    parser.add_argument("--samples", type=int, default=0, help="train on so many faces instead: no clock decides")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=7)
    return parser


if __name__ == "__main__":
    try:
        sys.exit(main())
    except AffectError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
