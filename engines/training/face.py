"""`python -m engines.training.face`: rebuild `engines/zoo/face-affect` from FER+ votes."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import torch
from tqdm import tqdm

from engines.artefacts import ZOO, DataSource
from engines.base import EngineSpec, HeadSpec
from engines.errors import AffectError
from engines.faces import CLASSES, Faces, distribution, majority, picture_facts, read_faces
from engines.media import FaceModel
from engines.onnx_media import FaceEngine
from engines.shortcuts import parts
from engines.tasks import task_spec
from engines.training.face_net import FaceNet, varied
from engines.training.media_finish import Facts, Labelled, finish
from engines.training.media_graph import face_graph
from engines.training.small_fit import Batch, Fit, Plan

INTENDED = (
    "Research on group affect: shares of expressions over many faces and seconds, with the interval the rows carry. One"
    " face in one frame is weak evidence, and an expression is not a feeling."
)
LIMITS = (
    "Reads grey faces of 48x48 pixels, near frontal, cut as OpenCV's cascade cuts them. Labels are what ten people"
    " voted that a picture shows (FER+), not what its subject felt; pictures are from a web search of 2013, with its"
    " bias of age, sex and skin. Disgust and contempt are rare and poor (see the table). Validated"
    " on FER+ alone: not on children, not on autistic people, not on masks, not on video."
    " Valence and arousal are derived from the labels by sign, not measured. Not for judging a person; unlawful at"
    " work and in education in the EU (AI Act Art. 5(1)(f))."
)
SOURCE = DataSource(
    "fer2013plus",
    "FER+ labels: MIT; FER2013 images: not stated (a web search of 2013), research use",
    "microsoft/FERPlus@ae2128ab (votes), tessav/crowd-emotion@95c07555 (pixels); Barsoum et al. 2016",
    0,
    692,
)
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
    train = read_faces(folder / "train.npz")
    fit = trained(train, plan, Path(options.work))
    notes = (
        f"{fit.samples} faces in {fit.steps} steps of {BATCH}, {fit.seconds / 60:.0f} minutes on a shared machine;"
        f" sides {SIZES}; plan `{plan}`; the running mean of the weights ships."
    )
    print(notes, flush=True)
    weights = {name: value.float().numpy() for name, value in fit.averaged.state_dict().items()}
    budget = f"--samples {plan.samples}" if plan.samples else f"--minutes {plan.minutes:g}"
    facts = Facts(
        name=options.name,
        kind="face",
        data=(msgspec.structs.replace(SOURCE, rows=int(distribution(train.votes)[1].sum())),),
        intended_use=INTENDED,
        limits=LIMITS,
        command=f"python -m engines.training.face {budget} --seed {plan.seed}",
        seed=plan.seed,
        notes=notes,
    )
    packed = face_graph(weights)
    dev = scored(packed, read_faces(folder / "dev_publictest.npz"), "fer2013plus/dev_publictest")
    held = read_faces(folder / "test_privatetest.npz")
    test = scored(packed, held, "fer2013plus/test_privatetest")
    pictures = picture_facts(held.x[majority(held.votes) >= 0])
    factors = {name: parts(values) for name, values in pictures.items()}
    print(f"wrote {finish(packed, task_spec('ferplus8'), dev, test, factors, facts, Path(options.zoo))}")
    return 0


def scored(packed: bytes, faces: Faces, where: str) -> Labelled:
    """The rows of a split on whose label the taggers agree, through the engine that ships."""
    top = majority(faces.votes)
    spec = EngineSpec("face", "0", "onnx-cpu", (HeadSpec("ferplus8", "single", task_spec("ferplus8").labels),))
    x = faces.x[top >= 0]
    logits = FaceModel(FaceEngine(spec, packed)).logits(x).logits["ferplus8"]
    return Labelled(logits, top[top >= 0], where)


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
