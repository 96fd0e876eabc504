"""`affect engine build`: the TensorRT plan of an encoder for the card of this machine, with a progress bar."""

from __future__ import annotations

import argparse
import sys

import msgspec
from tqdm import tqdm

from engines.choice import BETTER
from engines.errors import BackendRefused
from engines.load import ladder
from engines.plan_cache import PlanCache, cache_folder

DESCRIPTION = """TensorRT builds a plan for one card, driver and version; it takes minutes, so it is done once and kept
(AFFECT_PLANS, else ~/.cache/affectstream/plans). Needs TensorRT 11, a card, and the fp16 file of the model
(`affect models build NAME --precision fp16`). A worker that finds no plan builds one itself and serves from
onnxruntime meanwhile; this command does it before.
"""


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the verb."""
    raw = argparse.RawDescriptionHelpFormatter
    build = verbs.add_parser(
        "build",
        help="build the TensorRT plan of an encoder for this machine",
        description=DESCRIPTION,
        formatter_class=raw,
    )
    build.add_argument("name", nargs="?", default=BETTER, help=f"model of the zoo (default: {BETTER})")
    build.add_argument("--list", action="store_true", help="list the plans that are there, used last first")
    build.set_defaults(run=run_build)


def run_build(args: argparse.Namespace) -> int:
    """Build, or list."""
    if args.list:
        for header in PlanCache(cache_folder()).headers():
            print(msgspec.json.encode(header).decode())
        return 0
    with Bar() as bar:
        reason = ladder(args.name).build(bar)
    if reason:
        raise BackendRefused(f"no plan was built for {args.name!r}: {reason}")
    print(f"the plan of {args.name} is in {cache_folder()}")
    return 0


class Bar:
    """The builder's phases on one bar: its total grows as phases tell how many steps they have."""

    def __init__(self) -> None:
        self._bar = tqdm(total=0, unit="step", desc="building", disable=not sys.stderr.isatty(), leave=False)

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def __call__(self, phase: str, steps: int | None, step: int | None) -> None:
        """What `engines.plans.build_plan` tells."""
        if steps is not None:
            self._bar.total += steps
            self._bar.set_description(phase[:40])
        if step is not None:
            self._bar.update(1)
