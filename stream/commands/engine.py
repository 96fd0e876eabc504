"""`affect engine VERB`: what is done to and with an engine apart from scoring.

Each verb is a file `stream/commands/engine_VERB.py` with `add(verbs)`, listed in `MEMBERS`.
"""

from __future__ import annotations

import argparse

from stream.commands import engine_bench, engine_build, engine_serve, engine_verify

MEMBERS = (engine_bench, engine_build, engine_serve, engine_verify)


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the group."""
    engine = verbs.add_parser("engine", help="measure and judge engines, and serve them to other processes")
    below = engine.add_subparsers(dest="engine_verb", metavar="VERB", required=True)
    for member in MEMBERS:
        member.add(below)
