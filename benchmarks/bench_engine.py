"""Models alone: texts per CPU-second by engine and length, featurising included; what batching would buy an encoder.

    python benchmarks/bench_engine.py [--texts 200]

Lengths are in words of a fixed vocabulary. The last table runs the encoder's file three ways on texts of mixed length:
one row a run (how the engine does it), batches of 8 sorted by length, batches of 32 in order of arrival. Only the first
gives every text the same bytes whatever its neighbours.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.harness import cpu_seconds, table
from engines.artefacts import ZOO, names, read_manifest, read_packed
from engines.base import TextModel
from engines.choice import BETTER
from engines.errors import MissingExtra
from engines.load import load_text_model

WORDS = (
    "we need water and food here the market falls again buy the dip so happy today not good at all please help my "
    "family stuck in flood power is out love this launch best update ever terrible lag refund now great earnings"
).split()
LENGTHS = (8, 16, 32, 64)


def texts(count: int, words: int, seed: int = 1) -> list[str]:
    """Texts of so many words."""
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS, words)) for _ in range(count)]


def mixed(count: int) -> list[str]:
    """Texts whose lengths are spread as tweets' are: 3 to 40 words, most about 18."""
    random = np.random.default_rng(2)
    lengths = np.clip(random.normal(18, 9, count), 3, 40).astype(int).tolist()
    return [" ".join(random.choice(WORDS, n)) for n in lengths]


def rate(count: int, act: Callable[[], object]) -> str:
    """Texts per CPU-second."""
    act()
    return f"{count / cpu_seconds(act):,.0f}"


def by_length(models: dict[str, TextModel], count: int) -> None:
    """Every engine at every length."""
    rows = []
    for name, model in models.items():
        many = count if model.spec.backend == "onnx-cpu" else 10 * count
        kinds = [*(texts(many, n) for n in LENGTHS), mixed(many)]
        rows.append([name, *(rate(many, lambda m=model, k=kind: m.logits(k)) for kind in kinds)])
    table("texts per CPU-second", ["engine", *(f"{n} words" for n in LENGTHS), "mixed"], rows)


def by_batching(model: TextModel, count: int) -> None:
    """The encoder's file, run three ways."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(read_packed(read_manifest(BETTER)), options, providers=["CPUExecutionProvider"])
    batch = model.featurize(mixed(count))
    ids, offsets = batch.tensors["ids"].astype(np.int64), batch.tensors["offsets"].astype(np.int64)
    lengths = np.diff(offsets)

    def run(order: np.ndarray, size: int) -> None:
        for at in range(0, len(order), size):
            rows = order[at : at + size]
            wide = np.zeros((len(rows), int(lengths[rows].max())), np.int64)
            mask = np.zeros(wide.shape, np.float32)
            for k, row in enumerate(rows):
                wide[k, : lengths[row]] = ids[offsets[row] : offsets[row + 1]]
                mask[k, : lengths[row]] = 1.0
            session.run(None, {"ids": wide, "mask": mask})

    arrival, sorted_ = np.arange(count), np.argsort(lengths, kind="stable")
    rows = [
        ["one row a run", rate(count, lambda: model.engine.infer(batch))],
        ["8, sorted by length", rate(count, lambda: run(sorted_, 8))],
        ["32, in order of arrival", rate(count, lambda: run(arrival, 32))],
    ]
    table(f"{model.spec.model_id}: texts per CPU-second by batching", ["batches", "texts/core-s"], rows)


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=200, help="texts a measurement of an encoder takes (default 200)")
    options = parser.parse_args()
    models = {name: load_text_model(name) for name in ("stub", "hashed")}
    if BETTER in names(ZOO):
        try:
            models[BETTER] = load_text_model(BETTER)
        except MissingExtra as error:
            print(f"{BETTER} left out: {error}")
    by_length(models, options.texts)
    if BETTER in models:
        by_batching(models[BETTER], options.texts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
