"""What the encoder does on the card of this machine, in one table; `make gpu-check`.

    python benchmarks/gpu_check.py [--texts 4096] [--seconds 1] [--device cuda]

On a card, with torch: the matrix limit (one large float16 product, measured here), texts a second for every bucket by
captured graphs with the copies in and out, the share of that limit, and agreement with float32. Everywhere:
tokenisation and posts a second through the engine server. Without a card it says why and prints the host's lines
alone. `--device cpu` tries the program itself where torch is but no card: its figures mean nothing.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.harness import cpu_seconds, machine
from engines.artefacts import read_manifest, read_packed
from engines.base import TextModel
from engines.buckets import Buckets
from engines.choice import BETTER
from engines.device import DeviceFacts, Stream
from engines.errors import AffectError
from engines.ladder import facts_here, lacking
from engines.load import encoder, load_remote
from engines.probability import probabilities
from engines.trial import moved
from stream.engine_speed import texts

LINE = "| {:44} | {:>12} | {:>8} | {:12} |"
SIDE = 8192
"""Rows and columns of the product that measures a card's limit."""
HOW = (
    "pip install 'affectstream[train]' with torch for CUDA, then GPU_PYTHON=PYTHON make gpu-check"
    " (PYTHON: the one it went into)"
)
COMPARED = 512
"""Texts whose answers are compared with float32."""
UP_S = 120.0
BURST = 20
"""Runs between two looks at the clock."""


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=4096, help="posts through tokeniser and server (default: 4096)")
    parser.add_argument("--seconds", type=float, default=1.0, help="at least so long a bucket (default: 1)")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    args = parser.parse_args()
    manifest = read_manifest(BETTER)
    packed = read_packed(manifest)
    known = encoder(manifest, packed)
    facts, why = facts_here()
    missing = lacking("torch", "onnx")
    if args.device == "cpu":
        facts, why = DeviceFacts("no card, its CPU", "0.0", 0, 0, "none", "none"), ""
    backend = "torch" if facts is not None and not missing and args.device == "cuda" else "onnx-cpu"
    print(f"{time.strftime('%Y-%m-%d')}  {manifest.spec.model_id}  {machine()}")
    if facts is None:
        print(f"no card: {why}; the host's lines alone")
        print(f"for the card's: on a machine with an NVIDIA driver, {HOW}")
    else:
        print(f"card: {facts.name}, capability {facts.capability}, driver {facts.driver}, CUDA {facts.cuda}")
    print("\n" + LINE.format("what", "value", "of limit", "unit"))
    print("|" + "|".join("-" * n for n in (46, 14, 10, 14)) + "|")
    posts = texts(args.texts, 24)
    row("tokenisation, one core", args.texts / cpu_seconds(lambda: known.featurize(posts)), "texts/core-s")
    if facts is not None and missing:
        print(f"\n{missing}: the host's lines alone; for the card's, {HOW}")
    elif facts is not None:
        on_card(args.device, args.seconds, facts, packed, known)
    served(f"{BETTER}:{backend}", posts[: max(1, args.texts if backend != "onnx-cpu" else args.texts // 8)])
    return 0


def row(what: str, value: float, unit: str, share: float | None = None) -> None:
    """One line of the table."""
    told = f"{value:,.0f}" if abs(value) >= 10 else f"{value:.4f}"
    print(LINE.format(what, told, "-" if share is None else f"{share:.1%}", unit), flush=True)


def on_card(kind: str, seconds: float, facts: DeviceFacts, packed: bytes, known: TextModel) -> None:
    """Limit, buckets, agreement."""
    from engines.derive.files import reference
    from engines.derive.operations import Operations
    from engines.encoder_weights import encoder_weights
    from engines.plan_engine import Lane, PlanEngine
    from engines.torch_cuda import TorchDevice, TorchPlan

    device = TorchDevice(facts, kind)
    limit = matrix_limit(kind, seconds)
    row(f"float16 product of {SIDE if kind == 'cuda' else 512}", limit / 1e12, "TFLOP/s", 1.0)
    operations, weights = Operations(packed), encoder_weights(packed)
    buckets = Buckets(steady=None) if kind == "cuda" else Buckets((16,), (1, 8), None)
    plan = TorchPlan(device, weights, buckets.all())
    copying, computing = device.stream(), device.stream()
    for bucket in buckets.all():
        lane = Lane(bucket, plan, device, computing, weights.outputs)
        rate = bucket.rows * runs_a_second(lane, copying, computing, seconds)
        row(f"torch FP16 graph, {bucket}", rate, "texts/s", operations(bucket.length) * rate / limit)
        lane.close()
    count = COMPARED // 4 if kind == "cuda" else 4
    sample = [text for words in (8, 20, 40, 60) for text in texts(count, words, seed=words)]
    exact = encoder(read_manifest(BETTER), reference(packed).packed, precision="fp32")
    steady = Buckets() if kind == "cuda" else Buckets(rows=(4,), steady=4)
    engine = PlanEngine(
        exact.spec, TorchPlan(device, weights, steady.all()), device, steady, weights.pieces, hot=len(steady.all())
    )
    there = TextModel(known.featurize, engine)
    one, other = exact.logits(sample).logits, there.logits(sample).logits
    for head in exact.spec.heads:
        if head.kind != "regression":
            same = probabilities(head, one[head.task]).argmax(1) == probabilities(head, other[head.task]).argmax(1)
            row(f"same label as float32, {head.task}", float(np.mean(same)), "share")
    row("probabilities moved at most", moved(exact.spec, one, other)[1], "of 1")
    rate = len(sample) / wall_seconds(lambda: there.logits(sample))
    row("texts in, logits out, one process", rate, "texts/s")
    engine.close()


def runs_a_second(lane: object, copying: Stream, computing: Stream, seconds: float) -> float:
    """Runs of one lane, slots in turn, copies included."""
    from engines.plan_engine import Lane

    assert isinstance(lane, Lane)
    runs, start = 0, time.perf_counter()
    while True:
        for _ in range(BURST):
            slot = lane.slot()
            if slot.done is not None:
                slot.done.sync()
            lane.start(slot, copying, computing)
        runs += BURST
        computing.sync()
        spent = time.perf_counter() - start
        if spent >= seconds:
            return runs / spent


def matrix_limit(kind: str, seconds: float) -> float:
    """Operations a second of a large float16 product (float32 and small on a CPU)."""
    import torch

    side, half = (SIDE, torch.float16) if kind == "cuda" else (512, torch.float32)
    a, b = (torch.randn(side, side, dtype=half, device=kind) for _ in range(2))
    wait = torch.cuda.synchronize if kind == "cuda" else lambda: None
    best, end = float("inf"), time.perf_counter() + max(seconds, 0.2)
    a @ b
    while time.perf_counter() < end:
        wait()
        start = time.perf_counter()
        for _ in range(4):
            a @ b
        wait()
        best = min(best, (time.perf_counter() - start) / 4)
    return 2.0 * side**3 / best


def wall_seconds(act: Callable[[], object]) -> float:
    """Best of three, after one that is not counted."""
    act()
    spent = []
    for _ in range(3):
        start = time.perf_counter()
        act()
        spent.append(time.perf_counter() - start)
    return min(spent)


def served(name: str, posts: list[str]) -> None:
    """Posts a second through a real engine server, tokenised here, in messages of the size the server allows."""
    if lacking("zmq"):
        print("\nno engine server: pyzmq is not installed (pip install 'affectstream[remote]')")
        return
    with tempfile.TemporaryDirectory() as folder:
        address = f"ipc://{folder}/engine"
        words = [
            sys.executable,
            "-m",
            "stream.cli",
            "engine",
            "serve",
            "--engine",
            name,
            "--bind",
            address,
            "--control",
            "",
        ]
        server = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            assert server.stdout is not None
            said = server.stdout.readline()  # it says where, once it listens
            model = load_remote(address, deadline_s=UP_S)
            rate = len(posts) / wall_seconds(lambda: model.logits(posts))
            row(f"through the engine server, {name.split(':')[1]}", rate, "posts/s")
            model.engine.close()
        except AffectError as error:
            print(f"\nno figure through the engine server: {error} {said.strip()}")
        finally:
            server.terminate()
            server.wait(30)


if __name__ == "__main__":
    sys.exit(main())
