"""Models alone: texts per CPU-second by engine, precision and length bucket; what the pipeline around them costs; and
what batching would buy an encoder.

    python benchmarks/bench_engine.py [--texts 200] [--part length|ends|batching]

Featurising is included everywhere but in the last table, which runs the encoder's own file five ways on texts of mixed
length. Only one row a run, how the engine does it, gives a text the same bytes whatever its neighbours (decision 13).
fp16 is emulated on a CPU, and qdq-int8 is made for a GPU: their figures here say what judging them costs, no more.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.harness import cpu_seconds, table
from engines.artefacts import ZOO, Manifest, names, read_manifest, read_packed
from engines.base import TextModel
from engines.choice import BETTER
from engines.errors import MissingExtra
from engines.load import encoder, load_text_model
from engines.precisions import PRECISIONS
from stream.engine_speed import BUCKETS, WORDS, texts
from stream.memory import MemoryLog
from stream.replaying import replay, replay_config

PARTS = ("length", "ends", "batching")
START_MS = 1_790_000_000_000


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
    """Every engine and precision at every length bucket, featurising included."""
    rows = []
    for name, model in models.items():
        many = count if model.spec.backend == "onnx-cpu" else 10 * count
        kinds = [*(texts(many, n - 2) for n in BUCKETS), mixed(many)]
        rows.append([name, *(rate(many, lambda m=model, k=kind: m.logits(k)) for kind in kinds)])
    table("texts per CPU-second", ["engine", *(f"{n} tokens" for n in BUCKETS), "mixed"], rows)


def precisions(manifest: Manifest) -> dict[str, TextModel]:
    """The encoder as it ships and in every precision that can be derived; speed alone, so nothing is judged here."""
    shipped = read_packed(manifest)
    found = {f"{manifest.name} (ships)": encoder(manifest, shipped)}
    try:
        from engines.derive.files import derive, reference
    except ImportError as error:
        print(f"precisions left out: {error}")
        return found
    whole = reference(shipped)
    calibration = [found[f"{manifest.name} (ships)"].featurize(mixed(20))]
    for precision in PRECISIONS:
        packed = derive(precision, whole, calibration).packed
        found[f"{manifest.name}:{precision}"] = encoder(manifest, packed, precision=precision)
    return found


def end_to_end(models: dict[str, TextModel], count: int) -> None:
    """The whole pipeline (decode, language, link, score, windows, rows) against the model alone, on the same posts.

    No two texts are the same: nothing comes out of the score cache. The two are measured in turn; the median of three.
    """
    rows = []
    for name, model in models.items():
        many = 3 * count if model.spec.backend == "onnx-cpu" else 60 * count
        posts = [
            {"id": f"p{k}", "text": f"{text} {k}", "created_at": START_MS + 200 * k, "tickers": ["AAPL"]}
            for k, text in enumerate(mixed(many))
        ]
        said = [str(post["text"]) for post in posts]
        bare, whole = [], []
        replayed(model, posts[:20])  # what is loaded once: word lists, schemas
        for _ in range(3):
            bare.append(cpu_seconds(lambda m=model, t=said: m.logits(t), 1))
            whole.append(cpu_seconds(lambda m=model, p=posts: replayed(m, p), 1))
        alone, through = many / statistics.median(bare), many / statistics.median(whole)
        rows.append([name, f"{alone:,.0f}", f"{through:,.0f}", f"{through / alone:.3f}"])
    table("end to end, posts per CPU-second", ["engine", "model alone", "replay", "replay / model"], rows)


def replayed(model: TextModel, posts: Sequence[dict[str, object]]) -> None:
    """A replay of the posts in memory."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "posts.jsonl"
        path.write_bytes(b"".join(msgspec.json.encode(post) + b"\n" for post in posts))

        async def run() -> None:
            log = MemoryLog()
            await replay(log, replay_config("market", windows=("1m", "5m")), path, model=model)
            await log.close()

        asyncio.run(run())


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
    ways = {
        "32, in order of arrival": lambda: run(arrival, 32),
        "8, in order of arrival": lambda: run(arrival, 8),
        "32, sorted by length": lambda: run(sorted_, 32),
        "8, sorted by length": lambda: run(sorted_, 8),
        "one row a run (the engine)": lambda: model.engine.infer(batch),
    }
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for act in ways.values():
        act()
    for _ in range(3):  # in turn, so that a busy minute falls on all of them
        for name, act in ways.items():
            spent[name].append(cpu_seconds(act, 1))
    rates = {name: count / statistics.median(s) for name, s in spent.items()}
    first, second = (rates[name] for name in list(ways)[:2])
    rows = [[name, f"{r:,.0f}", f"{r / first:.2f}", f"{r / second:.2f}"] for name, r in rates.items()]
    columns = ["batches", "texts/core-s", "x of 32 arrival", "x of 8 arrival"]
    table(f"{model.spec.model_id}: texts per CPU-second by batching", columns, rows)


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=200, help="texts a measurement of an encoder takes (default 200)")
    parser.add_argument("--part", choices=("all", *PARTS), default="all", help="only this table (default all)")
    options = parser.parse_args()
    parts = PARTS if options.part == "all" else (options.part,)
    models = {name: load_text_model(name) for name in ("stub", "hashed")}
    ends = {"hashed": models["hashed"]}
    if BETTER in names(ZOO):
        try:
            ends[BETTER] = load_text_model(BETTER)
            if "length" in parts:
                models.update(precisions(read_manifest(BETTER)))
        except MissingExtra as error:
            print(f"{BETTER} left out: {error}")
    if "length" in parts:
        by_length(models, options.texts)
    if "ends" in parts:
        end_to_end(ends, options.texts)
    if "batching" in parts and BETTER in ends:
        by_batching(ends[BETTER], options.texts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
