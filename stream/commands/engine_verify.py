"""`affect engine verify`: judges the precision files of a model anew, and records the verdicts."""

from __future__ import annotations

import argparse

from engines.precisions import PRECISIONS
from stream.commands.models_build import ALL, Bar, arguments, asked, precision_builder, report, work


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the verb."""
    verify = verbs.add_parser("verify", help="judge the precision files of a model anew: scores and signals")
    arguments(verify)
    verify.add_argument(
        "--precision", choices=(*PRECISIONS, ALL), default=ALL, help=f"which (default: {ALL} there are)"
    )
    verify.set_defaults(run=run_verify)


def run_verify(args: argparse.Namespace) -> int:
    """Judge, record, print; exit 1 where a file is refused."""
    builder = precision_builder()
    with Bar() as bar:
        return report(args, builder.verify(work(args), asked(args.precision), bar.step))
