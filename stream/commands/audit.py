"""`affect audit shortcuts`: does a face or voice score follow the person, the prompt or the picture?"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

import msgspec

from engines.shortcuts import Audit, audit
from stream.commands import media

WHAT: Final = {"SHORTCUT": "follows it", "some": "moves with it", "none": "-"}


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the group."""
    group = subparsers.add_parser("audit", help="audit a model: what its scores follow besides the emotion")
    kinds = group.add_subparsers(dest="what", metavar="shortcuts", required=True)
    shortcuts = kinds.add_parser("shortcuts", help="variance explained by speaker, prompt or picture, beside chance")
    shortcuts.add_argument("--task", required=True, choices=media.TASKS, help="ferplus8 (faces) or ravdess8 (voices)")
    shortcuts.add_argument("--data", type=Path, help="as for eval; default: the public test half")
    shortcuts.add_argument("--engine", default="auto", help="model of the zoo")
    shortcuts.add_argument("--json", action="store_true", help="one JSON object")
    shortcuts.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the audit."""
    scored = media.labelled_scores(args)
    found = audit(args.task, scored.logits, scored.emotion, scored.factors())
    print(msgspec.json.encode(found).decode() if args.json else table(found, scored.where))
    return 0


def table(found: Audit, where: str) -> str:
    """The audit in words and columns."""
    lines = [
        f"{found.task}: {where}, {found.rows} rows",
        f"the emotion explains {found.emotion:.1%} of the variance of the scores; within emotions:",
        f"  {'factor':12} values  explained (chance)   p      told (chance)    of emotion  verdict",
    ]
    lines += [
        f"  {f.factor:12} {f.values:6d}  {f.explained:8.1%} ({f.chance:6.1%})  {f.p:.3f}  {f.told:6.1%}"
        f" ({f.told_chance:6.1%})  {f.ratio:9.1%}  {f.verdict}: {WHAT[f.verdict]}"
        for f in found.factors
    ]
    return "\n".join(lines)
