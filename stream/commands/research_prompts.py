"""`affect research prompts`: does another wording of the question make a chat endpoint's answers better?"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from engines.base import TextModel
from engines.endpoint_prompt import STIMULI, EndpointOptions
from engines.evaluate import Measured, drop, evaluate
from engines.load import load_endpoint
from engines.probability import decided, millionths
from engines.tasks import TaskSpec, task_spec
from stream.commands.models import labelled
from stream.config import secret
from stream.errors import UsageError

Truth = NDArray[np.float32]


class Compared(msgspec.Struct, frozen=True):
    """One variant: its metric, and by how much it beats the first one, each with a 95 % interval on the same rows.

    A row the endpoint gave no usable answer to is `abstained`, and wrong.
    """

    variant: str
    rows: int
    abstained: int
    measured: Measured
    delta: float | None = None
    lo: float | None = None
    hi: float | None = None


def add(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the verb."""
    prompts = kinds.add_parser("prompts", help="wordings of the question to a chat endpoint, compared on labelled rows")
    prompts.add_argument("--data", required=True, type=Path, metavar="FILE.jsonl[.gz]", help="labelled rows")
    prompts.add_argument("--task", required=True, help="a head whose labels the rows have")
    prompts.add_argument("--variant", action="append", choices=tuple(STIMULI), help="may be repeated (default: all)")
    prompts.add_argument("--address", required=True, metavar="URL", help="of the endpoint")
    prompts.add_argument("--model", required=True, help="as the endpoint calls it")
    prompts.add_argument("--key-env", default="", metavar="NAME", help="environment variable that holds the key")
    prompts.add_argument("--rows", type=int, default=200, help="the first so many (default: 200)")
    for name in ("batch", "requests", "tokens", "per-minute"):
        default = getattr(EndpointOptions(), name.replace("-", "_"))
        prompts.add_argument(f"--{name}", type=int, default=default, help=f"of each variant (default: {default})")
    prompts.add_argument("--json", action="store_true", help="one JSON object a line")
    prompts.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print each variant, the first being what the others are compared with."""
    if args.rows < 3:
        raise UsageError(f"--rows: expected at least 3, got {args.rows}")
    spec = task_spec(args.task)
    if spec.kind == "regression":
        raise UsageError(f"--task {args.task}: expected a task with labels, this one has values")
    texts, truth, _ = labelled(spec, args.data)
    texts, truth = texts[: args.rows], truth[: args.rows]
    if len(texts) < 3:
        raise UsageError(f"--data {args.data}: expected at least 3 rows with a label of {args.task}, got {len(texts)}")
    first = None
    for variant in dict.fromkeys(args.variant or STIMULI):
        model = load_endpoint(args.address, _options(args, variant), (args.task,), _key(args))
        try:
            said, abstained = _decided(model, spec, texts)
        finally:
            model.engine.close()
        first = said if first is None else first
        one = _compared(spec, truth, variant, said, abstained, None if said is first else first)
        print(msgspec.json.encode(one).decode() if args.json else _line(one, args.task), flush=True)
    return 0


def _key(args: argparse.Namespace) -> str:
    return secret(args.key_env, "--key-env") or ""


def _options(args: argparse.Namespace, variant: str) -> EndpointOptions:
    tree = {
        "model": args.model,
        "prompt": variant,
        **{name: getattr(args, name) for name in ("batch", "requests", "tokens", "per_minute")},
    }
    try:
        return msgspec.convert(tree, EndpointOptions)
    except msgspec.ValidationError as error:
        raise UsageError(f"affect research prompts: {error}") from None


def _decided(model: TextModel, spec: TaskSpec, texts: Sequence[str]) -> tuple[NDArray[np.bool_], int]:
    """What holds of each text (nothing where the endpoint abstained), and how often it did."""
    head, raw = model.spec.heads[0], model.logits(texts)
    said = decided(head, millionths(head, raw.logits[spec.task]))
    said[list(raw.abstained)] = False
    return said, len(raw.abstained)


def _compared(
    spec: TaskSpec,
    truth: Truth,
    variant: str,
    said: NDArray[np.bool_],
    abstained: int,
    first: NDArray[np.bool_] | None,
) -> Compared:
    measured = evaluate(spec, truth, said, said.astype(np.float64)).metrics[0]
    if first is None:
        return Compared(variant, len(truth), abstained, measured)
    gain, loss = drop(spec, truth, first, said), drop(spec, truth, said, first)
    return Compared(variant, len(truth), abstained, measured, gain.second - gain.first, gain.lower, -loss.lower)


def _line(one: Compared, task: str) -> str:
    m = one.measured
    out = f"{one.variant:9} {task} {m.metric} {m.value:.4f} [{m.lo:.4f}, {m.hi:.4f}] over {one.rows} rows"
    if one.abstained:
        out += f", {one.abstained} of them abstained (counted as wrong)"
    if one.delta is not None and one.lo is not None and one.hi is not None:
        sure = "" if one.lo > 0 or one.hi < 0 else ": no difference shown"
        out += f"; against the first {one.delta:+.4f} [{one.lo:+.4f}, {one.hi:+.4f}]{sure}"
    return out
