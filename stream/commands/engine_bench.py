"""`affect engine bench`: texts per CPU-second by length bucket and precision, and the share of the matrix limit."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import sys
from collections.abc import Callable

import msgspec
from tqdm import tqdm

from engines.artefacts import Manifest, read_manifest, read_packed
from engines.choice import ALIASES, BETTER
from engines.errors import MissingExtra
from engines.load import load_text_model
from engines.precisions import read_record
from stream.engine_speed import BUCKETS, Speed, machine, matrix_limit, measure
from stream.errors import UsageError


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the verb."""
    bench = verbs.add_parser("bench", help="texts a CPU-second by length, and the share of the matrix limit")
    bench.add_argument("name", nargs="?", default=BETTER, help=f"model of the zoo (default: {BETTER})")
    bench.add_argument("--texts", type=int, default=64, metavar="N", help="texts a measurement (default: 64)")
    bench.add_argument("--json", action="store_true", help="one JSON object a line")
    bench.set_defaults(run=run_bench)


def run_bench(args: argparse.Namespace) -> int:
    """Measure and print."""
    if not 1 <= args.texts <= 100_000:
        raise UsageError(f"--texts: expected 1 to 100000, got {args.texts}")
    manifest = read_manifest(ALIASES.get(args.name, args.name))
    limit = matrix_limit()
    found = _measured([manifest.name, *_precisions(manifest)], manifest, args.texts, limit)
    where = f"{machine(_versions())}, load {os.getloadavg()[0]:.1f}"
    if args.json:
        for speed in found:
            line = {**msgspec.to_builtins(speed), "matrix_limit_gflops": round(limit / 1e9, 1), "machine": where}
            print(msgspec.json.encode(line).decode())
        return 0
    print(f"{where}\nmatrix limit (numpy float32 product, this run): {limit / 1e9:.1f} GFLOP a CPU-second\n")
    print(f"{'engine':28} {'bucket':>6} {'tokens':>7} {'texts/core-s':>13} {'of limit':>9}")
    for s in found:
        share = "-" if s.share is None else f"{s.share:.0%}"
        tokens = f"{s.tokens:.0f}" if s.tokens else "-"
        print(f"{s.engine:28} {s.bucket:6d} {tokens:>7} {s.texts_per_s:13,.0f} {share:>9}")
    return 0


def _precisions(manifest: Manifest) -> list[str]:
    """The precision files that were built and passed the gate."""
    files = read_record(manifest).files
    return [f"{manifest.name}:{f.precision}" for f in files if f.verdict is not None and f.verdict.passed]


def _measured(names: list[str], manifest: Manifest, count: int, limit: float) -> list[Speed]:
    operations = _operations(manifest)
    found = []
    with tqdm(total=len(names) * len(BUCKETS), unit="bucket", disable=not sys.stderr.isatty(), leave=False) as bar:
        for name in names:
            bar.set_description(name)
            model = load_text_model(name)
            for bucket in BUCKETS:
                found.append(measure(model, bucket, count, limit, operations))
                bar.update()
            model.engine.close()
    return found


def _operations(manifest: Manifest) -> Callable[[int], float] | None:
    """What one row takes in products; None for a model without, or where onnx is not installed (said aloud)."""
    if manifest.backend != "onnx-cpu":
        return None
    # Half a second of imports that no other verb should wait for.
    from engines.derive.operations import Operations

    try:
        return Operations(read_packed(manifest))
    except MissingExtra as error:
        sys.stderr.write(f"no share of the limit: {error}\n")
        return None


def _versions() -> list[str]:
    found = []
    for package in ("numpy", "onnxruntime"):
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"no {package}")
    return found
