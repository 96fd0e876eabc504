"""`affect models build`: derives the precision files of a model, judges each, and records both."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import msgspec
from tqdm import tqdm

from engines.artefacts import Manifest, models_home, read_manifest
from engines.choice import ALIASES, BETTER
from engines.errors import MissingExtra, UnknownModel
from engines.precisions import PRECISIONS, Precision, Verdict
from operators import crisis, market, social
from stream.errors import UsageError

if TYPE_CHECKING:
    from stream.precision_build import Work

ALL = "all"


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the verb."""
    parser = verbs.add_parser("build", help="derive precision files of a model; each is judged before it may be used")
    arguments(parser)
    parser.add_argument("--precision", choices=(*PRECISIONS, ALL), default=ALL, help=f"which (default: {ALL})")
    parser.set_defaults(run=run_build)


def arguments(parser: argparse.ArgumentParser) -> None:
    """What every verb that judges takes."""
    parser.add_argument("name", nargs="?", default=BETTER, help=f"model of the zoo (default: {BETTER})")
    parser.add_argument("--from", dest="source", type=Path, metavar="FILE.onnx", help="float32 file left by training")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder of the files (default: AFFECT_MODELS, or cache)"
    )
    parser.add_argument("--data", metavar="DIR", help="folder that holds text/ (default: AFFECT_DATA)")
    parser.add_argument(
        "--rows", type=int, default=2000, metavar="N", help="rows of each head that judge (default: 2000)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a file")


def run_build(args: argparse.Namespace) -> int:
    """Derive, judge, record; exit 1 where a file was refused."""
    return build(args, asked(args.precision))


def build(args: argparse.Namespace, precisions: tuple[Precision, ...]) -> int:
    """As `run_build`, for these precisions."""
    builder = precision_builder()
    with Bar() as bar:
        return report(args, builder.build(work(args), precisions, bar.step))


def asked(precision: str) -> tuple[Precision, ...]:
    """The precisions that `--precision` names."""
    return PRECISIONS if precision == ALL else tuple(p for p in PRECISIONS if p == precision)


def precision_builder() -> ModuleType:
    """`stream.precision_build`, loaded when it is needed: onnx and the whole pipeline are a second of imports.

    Raises:
        MissingExtra: a package is not installed.
    """
    try:
        from stream import precision_build
    except ImportError as error:
        raise MissingExtra(
            f"precision files need the package {error.name}; pip install 'affectstream[import]'"
        ) from error
    return precision_build


def work(args: argparse.Namespace) -> Work:
    """What was asked for.

    Raises:
        UsageError, UnknownModel.
    """
    if not 3 <= args.rows <= 100_000:
        raise UsageError(f"--rows: expected 3 to 100000, got {args.rows}")
    from stream.precision_build import Work
    from stream.signal_gate import plays

    home = models_home() if args.out is None else args.out
    data = args.data or os.environ.get("AFFECT_DATA")
    return Work(encoder_manifest(args.name), args.source, data, args.rows, plays(), home)


def report(args: argparse.Namespace, found: Iterable[tuple[Precision, Verdict]]) -> int:
    """Print each verdict as it comes; 1 where a file was refused."""
    from stream.precision_gate import table

    refused = False
    for precision, verdict in found:
        refused |= not verdict.passed
        if args.json:
            line = {"model": args.name, "precision": precision, **msgspec.to_builtins(verdict)}
            print(msgspec.json.encode(line).decode(), flush=True)
        else:
            tqdm.write(table(args.name, [(precision, verdict)]), file=sys.stdout)
    return 1 if refused else 0


def encoder_manifest(name: str) -> Manifest:
    """The manifest of a model that has precision files.

    Raises:
        UnknownModel: no such model, one of a kind with one precision, or without the heads whose signals judge it.
    """
    manifest = read_manifest(ALIASES.get(name, name))
    if manifest.backend != "onnx-cpu":
        raise UnknownModel(f"{manifest.name} has one precision, that of its integers; expected an encoder ({BETTER})")
    wanted = dict.fromkeys((*market.TASKS, *crisis.TASKS, *social.TASKS))
    lacking = [task for task in wanted if task not in {head.task for head in manifest.heads}]
    if lacking:
        raise UnknownModel(
            f"{manifest.name}: a precision file is judged by the signals of three scenarios, and the model lacks their"
            f" heads {', '.join(lacking)}; expected an encoder that has them all ({BETTER})"
        )
    return manifest


class Bar:
    """What is being done, and how many rows of it; nothing where nobody watches."""

    def __init__(self) -> None:
        self._bar = tqdm(unit="row", disable=not sys.stderr.isatty(), leave=False)
        self._what = ""

    def step(self, what: str, rows: int) -> None:
        if what != self._what:
            self._what = what
            self._bar.reset()
            self._bar.set_description(what)
        self._bar.update(rows)

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
