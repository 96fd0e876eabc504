"""`python -m engines.training`: rebuild `engines/zoo/hashed-bag`, a student of `text-affect`; one thread.

The teacher (`--teacher`, a model file of `make encoder`) is asked about every training text and about tweets whose
labels are not read; a quarter of an hour on a core, kept in `--work`. Needs the extra `train` (torch) and the data
folder (`AFFECT_DATA` or `--data`).
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
from tqdm import tqdm

from engines.artefacts import ZOO, DataSource, Manifest, MetricRow, pack_weights, write_model
from engines.base import EngineSpec, HeadSpec, TextModel
from engines.errors import AffectError
from engines.features import featurize
from engines.hashed import HashedEngine
from engines.training.card import write_card
from engines.training.data import TaskData, load_all
from engines.training.fine_tune import bf16_is_fast
from engines.training.finish import scaling
from engines.training.measure import bare_head, logits_of, measure
from engines.training.reliability import reliability_svg
from engines.training.sources import LICENCES, SOURCES, sources
from engines.training.teacher import UNLABELLED, told, unlabelled
from engines.training.text import Examples, Recipe, in_units, integers, train
from engines.training.text_affect import head_losses, in_training, pieces_of, started

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
SOFT = {
    "goemotions28": 0.3,
    "bullbear3": 0.1,
    "disaster_message": 0.03,
    "crisis_info6": 0.1,
}
"""Weight of the teacher's word beside a label's where it is not 1: where the teacher is hardly better than the student,
and nearly every row is of another kind (a tweet is no request for help), its word on all rows drowns the labels."""
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
    examples = taught(data, Path(options.data) / "text", Path(options.teacher), Path(options.work), recipe.bits)
    with tqdm(total=len(examples) * recipe.epochs, unit="row", desc="training") as bar:

        def step(rows: int, loss: float) -> None:
            bar.update(rows)
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)

        losses = head_losses(data, SHARE)
        net = train(examples, losses, recipe, step, SOFT)
    for d, head in zip(data, losses, strict=True):
        if head.kind == "regression":
            in_units(net, head.start, *scaling(d))
    weights = integers(net, examples)
    packed = pack_weights(weights)
    digest = hashlib.sha256(packed).hexdigest()
    bare = tuple(bare_head(d.spec) for d in data)
    engine = HashedEngine(EngineSpec(options.name, digest[:8], "numpy", bare), weights)
    found = measure(logits_of(TextModel(partial(featurize, bits=recipe.bits), engine)), data)
    metrics = found.metrics
    manifest = describe(options.name, digest, recipe, data, found.heads, metrics, _taught_by(options.teacher, examples))
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
    taught_by: tuple[DataSource, ...] = (),
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
        data=(*sources(data), *taught_by),
        metrics=metrics,
        intended_use=INTENDED,
        limits=LIMITS,
        research_only=False,
        training_command=f"python -m engines.training --epochs {recipe.epochs} --seed {recipe.seed}",
        seed=recipe.seed,
    )


def taught(data: Sequence[TaskData], root: Path, teacher: Path, work: Path, bits: int) -> Examples:
    """All tasks' training rows and the unlabelled tweets, with what the teacher says of each."""
    extra, dropped = unlabelled(root)
    print(
        f"unlabelled tweets: {len(extra)}; {dropped} left out: their text is a dev or test text of some set", flush=True
    )
    texts = [text for d in data for text in d.train.texts] + extra
    digest = hashlib.sha256(teacher.read_bytes()).hexdigest()[:8]
    soft = told(started(teacher, data), pieces_of(teacher), texts, bf16_is_fast(), work / digest)
    truth = np.full((len(texts), soft.shape[1]), np.nan, np.float32)
    row = column = 0
    for d in data:
        rows, columns = slice(row, row + len(d.train.texts)), slice(column, column + len(d.spec.labels))
        truth[rows, columns] = in_training(d)
        row, column = rows.stop, columns.stop
    bag = featurize(texts, bits)
    return Examples(
        bag.tensors["buckets"].astype(np.int32), bag.tensors["offsets"].astype(np.int64), truth, soft.astype(np.float32)
    )


def _taught_by(teacher: str, examples: Examples) -> tuple[DataSource, ...]:
    """The teacher and the tweets it alone speaks of, as the manifest keeps them."""
    digest = hashlib.sha256(Path(teacher).read_bytes()).hexdigest()[:8]
    unread = int(np.isnan(examples.truth).all(1).sum())
    tweets = f"{len(UNLABELLED)} training sets of tweeteval, texts alone"
    return (
        DataSource(tweets, LICENCES["tweeteval/emotion"], SOURCES["tweeteval/emotion"], unread, 0),
        DataSource(f"text-affect@{digest} (the teacher's word on every text)", "as its card says", "engines/zoo", 0, 0),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m engines.training", description=__doc__)
    parser.add_argument(
        "--data", default=os.environ.get("AFFECT_DATA"), help="folder that holds text/ (default: AFFECT_DATA)"
    )
    parser.add_argument("--zoo", default=str(ZOO), help="where the model folder goes")
    parser.add_argument(
        "--teacher",
        default=str(ZOO / "text-affect" / "model.onnx"),
        metavar="FILE.onnx",
        help="model file of the teacher (default: the shipped text-affect)",
    )
    parser.add_argument("--work", default="build/hashed-bag", help="where the teacher's answers are kept")
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
