"""`python -m engines.training`: rebuild `engines/zoo/hashed-bag` from the data sets, one thread, seed recorded.

Needs the extra `train` (torch) and the data folder (`AFFECT_DATA` or `--data`).
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from engines.artefacts import ZOO, Manifest, MetricRow, pack_weights, write_model
from engines.base import EngineSpec, HeadSpec, TextModel
from engines.errors import AffectError
from engines.features import featurize
from engines.hashed import HashedEngine
from engines.training.card import write_card
from engines.training.data import Rows, TaskData, load_all
from engines.training.measure import logits_of, measure
from engines.training.reliability import reliability_svg
from engines.training.sources import sources
from engines.training.text import Examples, HeadLoss, Recipe, integers, train

INTENDED = (
    "Shares of emotions, market stance and relief needs over many posts (rolling signals), in English. Scores of one"
    " post are weak evidence; they are meant to be averaged, with the interval the signal rows carry."
)
LIMITS = (
    "A bag of words, word pairs and character n-grams: no word order beyond pairs, no irony, little negation, no"
    " context. English only (crisislex_t26 has some Spanish, Italian, Portuguese, Tagalog). Labels come from crowd or"
    " expert raters of Reddit, Twitter, StockTwits and SMS of 2010-2020 and carry their bias. Rare labels are poor (see"
    " the tables); `child_alone` never occurs in the data and `offer` has 7 training rows: neither is usable. Not for"
    " judging a person."
)
BALANCE = {"sentiment3": 1.0, "emtract7": 0.5, "bullbear3": 0.5, "crisis_info6": 0.5}
"""Class weights are prior^-BALANCE: average recall asks for even classes, the others for something between."""
SHARE = {"sentiment3": 0.5, "emtract7": 1.5, "bullbear3": 1.5}
"""Weight of a head in the loss where it is not 1: chosen on dev (the largest set overfits first)."""


def main(argv: Sequence[str] | None = None) -> int:
    """Train, cut to integers, calibrate, measure, write."""
    options = _parser().parse_args(argv)
    if options.data is None:
        print(
            "error: no data folder; set AFFECT_DATA or give --data FOLDER (the one that holds text/)", file=sys.stderr
        )
        return 2
    torch.set_num_threads(1)  # more threads add up in another order: another artefact
    recipe = Recipe(epochs=options.epochs, seed=options.seed)
    data = load_all(Path(options.data) / "text")
    for d in data:
        print(
            f"{d.spec.data_set}: train {len(d.train.texts)}, dev {len(d.dev.texts)}, test_public {len(d.test.texts)};"
            f" {d.dropped} training rows left out: their text is a dev or test text of some set"
        )
    examples = join([d.spec.labels for d in data], [d.train for d in data], recipe.bits)
    with tqdm(total=len(examples) * recipe.epochs, unit="row", desc="training") as bar:

        def step(rows: int, loss: float) -> None:
            bar.update(rows)
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)

        net = train(examples, head_losses(data), recipe, step)
    weights = integers(net, examples)
    packed = pack_weights(weights)
    digest = hashlib.sha256(packed).hexdigest()
    bare = tuple(HeadSpec(d.spec.task, d.spec.kind, d.spec.labels) for d in data)
    engine = HashedEngine(EngineSpec(options.name, digest[:8], "numpy", bare), weights)
    found = measure(logits_of(TextModel(partial(featurize, bits=recipe.bits), engine)), data)
    metrics = found.metrics
    manifest = describe(options.name, digest, recipe, data, found.heads, metrics)
    card = write_card(manifest, found.evaluations, f"Recipe: `{recipe}`.")
    folder = write_model(manifest, packed, card, Path(options.zoo))
    (folder / "reliability.svg").write_text(reliability_svg(found.panels), encoding="utf-8")
    for m in metrics:
        print(f"{m.task}: {m.metric} {m.value:.3f} [{m.lo:.3f}, {m.hi:.3f}] on {m.rows} rows; published: {m.published}")
    print(f"wrote {folder} ({len(packed) / 1e6:.1f} MB)")
    return 0


def describe(
    name: str,
    digest: str,
    recipe: Recipe,
    data: Sequence[TaskData],
    heads: tuple[HeadSpec, ...],
    metrics: tuple[MetricRow, ...],
) -> Manifest:
    """The manifest of what was just trained."""
    return Manifest(
        name=name,
        version=digest[:8],
        backend="numpy",
        file="weights.npz",
        sha256=digest,
        heads=heads,
        settings={"bits": recipe.bits},
        data=sources(data),
        metrics=metrics,
        intended_use=INTENDED,
        limits=LIMITS,
        research_only=False,
        training_command=f"python -m engines.training --epochs {recipe.epochs} --seed {recipe.seed}",
        seed=recipe.seed,
    )


def join(labels: Sequence[tuple[str, ...]], rows: Sequence[Rows], bits: int) -> Examples:
    """All tasks' rows as one set of examples; a task's truth fills its own columns, -1 the others."""
    outputs = sum(len(names) for names in labels)
    truth: list[NDArray[np.float32]] = []
    column = 0
    for names, part in zip(labels, rows, strict=True):
        wide = np.full((len(part.texts), outputs), -1, np.float32)
        wide[:, column : column + len(names)] = part.truth
        truth.append(wide)
        column += len(names)
    bag = featurize([text for part in rows for text in part.texts], bits)
    return Examples(
        bag.tensors["buckets"].astype(np.int32), bag.tensors["offsets"].astype(np.int64), np.concatenate(truth)
    )


def head_losses(data: Sequence[TaskData]) -> list[HeadLoss]:
    """One loss per head, its class weights with mean 1 over the training rows."""
    losses = []
    column = 0
    for d in data:
        labels = len(d.spec.labels)
        weights = np.ones(labels, np.float32)
        if d.spec.kind == "single":
            prior = d.train.truth.mean(0)
            weights = prior ** -BALANCE[d.spec.task]
            weights = (weights / (weights * prior).sum()).astype(np.float32)
        losses.append(HeadLoss(column, column + labels, d.spec.kind == "multi", weights, SHARE.get(d.spec.task, 1.0)))
        column += labels
    return losses


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m engines.training", description=__doc__)
    parser.add_argument(
        "--data", default=os.environ.get("AFFECT_DATA"), help="folder that holds text/ (default: AFFECT_DATA)"
    )
    parser.add_argument("--zoo", default=str(ZOO), help="where the model folder goes")
    parser.add_argument("--name", default="hashed-bag", help="name of the model folder")
    parser.add_argument("--epochs", type=int, default=Recipe().epochs)
    parser.add_argument("--seed", type=int, default=Recipe().seed)
    return parser


if __name__ == "__main__":
    try:
        sys.exit(main())
    except AffectError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
