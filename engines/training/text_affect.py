"""`python -m engines.training.text_affect`: rebuild `engines/zoo/text-affect`: one encoder, many heads.

Starts from the released sentence encoder, sees all sets mixed, once by each seed, and stops early where dev stops
getting better. All runs begin with the same heads, so that their weights can be averaged: those that help the average
on dev make the model.
Needs the extra `train` and the data folder (`AFFECT_DATA` or `--data`). Shows progress; killed at any time, the same
command goes on from the last checkpoint (at most three minutes old) of its seed in `--work`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from engines.artefacts import ZOO
from engines.errors import AffectError, ManifestInvalid, MissingExtra
from engines.training.data import TaskData, load_all
from engines.training.encoder import BGE, Encoder, read_base
from engines.training.fine_tune import HeadLoss, Judge, Plan, Run, bf16_is_fast
from engines.training.finish import Trained, finish, in_deviations, scaling
from engines.training.graph import read
from engines.training.mixture import BATCH, Mixture, Part
from engines.training.on_dev import MULTI_ROWS, ROWS, OnDev, averaged, mean
from engines.training.shares import SCALE, SHARE, plan
from engines.wordpieces import WordPieces

BASE = "build/bge-small"
"""Folder of the released encoder as its Maven artefact has it: `BASE_FILES`. `make encoder` fetches it."""
BASE_FILES = ("bge-small-en-v1.5.onnx", "bge-small-en-v1.5-tokenizer.json")
MAX_TOKENS = 128
TRAIN_TOKENS = {"empathy_distress": MAX_TOKENS}
"""Tokens read of a training row where it is not 64: the essays alone are long, and time goes with length."""
SAMPLES = 130_000
SEEDS = [7, 9, 11, 13]
HEADS_SEED = 7
"""Of the heads before a run, the same for all: weights of runs can be averaged if they began alike."""
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
    data = load_all(Path(options.data) / "text")
    for d in data:
        print(
            f"{d.spec.data_set}: train {len(d.train.texts)}, dev {len(d.dev.texts)}, test_public {len(d.test.texts)};"
            f" {d.dropped} training rows left out: their text is a dev or test text of some set",
            flush=True,
        )
    work = Path(options.work)
    judge = OnDev(data, word_pieces(), BGE, options.device, options.device != "cpu" or bf16_is_fast()).figures
    plans = [plan(seed, options.samples, options.minutes) for seed in options.seeds]
    weights, notes = by_seeds(plans, data, work, options.device, judge)
    trained = Trained(weights, BGE.heads, vocabulary(), MAX_TOKENS, HEADS_SEED, _command(options), " ".join(notes))
    folder = finish(trained, data, options.name, work, Path(options.zoo))
    print(f"wrote {folder}")
    return 0


def by_seeds(
    plans: Sequence[Plan], data: Sequence[TaskData], work: Path, device: str, judge: Judge
) -> tuple[dict[str, NDArray[np.float32]], list[str]]:
    """(the weights, how it went): one run by each plan from the same start, then the average of those that help it."""
    found: dict[str, dict[str, NDArray[np.float32]]] = {}
    notes = []
    for each in plans:
        weights, said = run_seed(each, new_encoder(data), data, work / f"seed-{each.seed}", device, judge)
        found[str(each.seed)] = weights
        notes.append(said)
    weights, said = soup(found, judge)
    return weights, [*notes, said]


def soup(
    found: Mapping[str, dict[str, NDArray[np.float32]]], judge: Judge
) -> tuple[dict[str, NDArray[np.float32]], str]:
    """(the weights, how it went) of the greedy soup of Wortsman et al. 2022: runs join the average one after another,
    the best on dev first, where dev gets better by it."""

    def figure(names: Sequence[str]) -> float:
        by_head = judge(averaged([found[name] for name in names]))
        said = " + ".join(names)
        told.append(f"{said} {mean(by_head):.4f}")
        print(f"seed {said} on dev: mean {mean(by_head):.4f}; {by_head}", flush=True)
        return mean(by_head)

    told: list[str] = []
    alone = {name: figure([name]) for name in found}
    first, *others = sorted(alone, key=lambda name: -alone[name])
    kept, best = [first], alone[first]
    for name in others:
        together = figure([*kept, name])
        if together > best:
            kept, best = [*kept, name], together
    return averaged([found[name] for name in kept]), (
        f"On {ROWS} dev rows a head ({MULTI_ROWS} where a text has many labels), mean headline metric by seeds"
        f" averaged: {', '.join(told)}. Kept: {' + '.join(kept)}."
    )


def run_seed(
    plan: Plan,
    encoder: Encoder,
    data: Sequence[TaskData],
    folder: Path,
    device: str,
    judge: Judge | None = None,
) -> tuple[dict[str, NDArray[np.float32]], str]:
    """(the weights after a run, how it went in a sentence); new, or on from where it was interrupted."""
    run = Run(folder, encoder, head_losses(data, SCALE), plan, device, judge)
    with tqdm(
        total=1.0,
        unit="run",
        desc=f"seed {plan.seed}",
        mininterval=5.0,
        bar_format="{l_bar}{bar}| {elapsed}{postfix}",
    ) as bar:

        def step(rows: int, progress: float) -> None:
            bar.n = round(progress, 4)
            bar.set_postfix(samples=run.samples, per_s=f"{run.samples / max(run.seconds, 1e-9):.1f}", refresh=False)
            bar.update(0)

        if not run.done():
            run.train(Mixture(tokenised(data), outputs(data), plan.seed), step)
    said = (
        f"Seed {plan.seed}: {run.samples} samples in {run.steps} steps of {BATCH}, {run.seconds / 60:.0f} minutes on a"
        f" shared machine; plan `{plan}`; shares of the mixture {SHARE}."
        + (f" Best on dev at check {run.best_check} of {plan.checks}." if run.checked else "")
    )
    print(said, flush=True)
    return run.weights(), said


def new_encoder(data: Sequence[TaskData]) -> Encoder:
    """The released body with heads that know nothing, the same ones each time."""
    torch.manual_seed(HEADS_SEED)
    encoder = Encoder(BGE, outputs(data))
    read_base(encoder, base_file(BASE_FILES[0]))
    with torch.no_grad():
        encoder.head.weight.normal_(std=0.02)
        encoder.head.bias.copy_(torch.from_numpy(first_biases(data)))
    return encoder


def started(path: Path, data: Sequence[TaskData]) -> Encoder:
    """The encoder of a model file that an earlier training left.

    Raises:
        ManifestInvalid: it does not have the shape and heads of this model.
    """
    weights = in_deviations(read(path.read_bytes(), BGE.heads), data)
    blocks = len({name.split(".")[1] for name in weights if name.startswith("blocks.")})
    shape = replace(BGE, layers=blocks)
    encoder = Encoder(shape, outputs(data))
    try:
        encoder.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    except RuntimeError as error:
        raise ManifestInvalid(f"{path}: expected a model file of {shape}, {outputs(data)} outputs: {error}") from error
    return encoder


def _command(options: argparse.Namespace) -> str:
    """What rebuilds the model."""
    budget = f"--minutes {options.minutes:g}" if options.minutes else f"--samples {options.samples}"
    return f"python -m engines.training.text_affect {budget} --seeds {' '.join(str(seed) for seed in options.seeds)}"


def base_file(name: str) -> Path:
    """A file of the released encoder.

    Raises:
        MissingExtra: it is not there.
    """
    path = Path(BASE) / name
    if not path.exists():
        raise MissingExtra(f"{path} is not there; `make encoder` fetches it with Maven, then trains")
    return path


@cache
def vocabulary() -> list[str]:
    """The word pieces of the released encoder, in the order of their ids."""
    pieces = json.loads(base_file(BASE_FILES[1]).read_bytes())["model"]["vocab"]
    return sorted(pieces, key=pieces.__getitem__)


def pieces_of(path: Path) -> WordPieces:
    """The tokeniser that a model file carries."""
    kept = {p.key: p.value for p in onnx.load(str(path)).metadata_props}
    return WordPieces(kept["vocabulary"].split("\n"), MAX_TOKENS)


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
        truth = in_training(d)
        ids, offsets = batch.tensors["ids"].astype(np.int32), batch.tensors["offsets"].astype(np.int64)
        parts.append(Part(ids, offsets, truth, column, SHARE[d.spec.task]))
        column += len(d.spec.labels)
    return parts


def in_training(d: TaskData) -> NDArray[np.float32]:
    """The training rows' truth as a net learns it: NaN for not known, regressions in deviations from their mean."""
    if d.spec.kind == "regression":
        mean, deviation = scaling(d)
        return ((d.train.truth - mean) / deviation).astype(np.float32)
    return np.where(d.train.truth < 0, np.nan, d.train.truth).astype(np.float32)


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


def head_losses(data: Sequence[TaskData], scale: Mapping[str, float]) -> list[HeadLoss]:
    """One loss per head, class weights with mean 1 over the training rows; `scale`: its share where it is not 1."""
    losses, column = [], 0
    for d in data:
        labels = len(d.spec.labels)
        weights = np.ones(labels, np.float32)
        if d.spec.kind == "single":
            prior = d.train.truth.mean(0)
            weights = prior ** -BALANCE[d.spec.task]
            weights = (weights / (weights * prior).sum()).astype(np.float32)
        losses.append(HeadLoss(d.spec.task, d.spec.kind, column, column + labels, weights, scale.get(d.spec.task, 1.0)))
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
    parser.add_argument("--samples", type=int, default=SAMPLES, help=f"rows a seed sees (default: {SAMPLES})")
    parser.add_argument("--minutes", type=float, default=0.0, help="so many minutes a seed instead: the clock decides")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help=f"one run each (default: {SEEDS})")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--threads", type=int, default=1)
    return parser


if __name__ == "__main__":
    try:
        sys.exit(main())
    except AffectError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
